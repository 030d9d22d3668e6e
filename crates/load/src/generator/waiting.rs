//! How a load waits: for sockets, until the next message of the open loop is due, and never long without a look at all.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

use super::load::LoadError;

/// Events taken from the system at once.
pub(super) const EVENTS: usize = 256;
/// How often deadlines are looked at and progress is told.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// The token of the timer.
const TIMER: u64 = u64::MAX;

/// Waits for sockets. All times are nanoseconds since it was started.
pub(super) struct Waiting {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// The due time that the timer is set to.
    timer_set: Option<u64>,
    pub(super) started: Instant,
}

impl Waiting {
    pub(super) fn new() -> Result<Self, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("epoll_create"))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed("timerfd_create"))?;
        let waiting = Self { epoll, timer, timer_set: None, started: Instant::now() };
        waiting.watch(&waiting.timer, TIMER)?;
        Ok(waiting)
    }

    /// Has events of this token tell of what is to be read there.
    pub(super) fn watch(&self, socket: &impl AsFd, token: u64) -> Result<(), LoadError> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).map_err(failed("epoll_ctl"))
    }

    /// Has them tell of room to write as well, or no more.
    pub(super) fn watch_room(&self, socket: &impl AsFd, token: u64, wanted: bool) -> Result<(), LoadError> {
        let room = if wanted { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(token);
        epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN | room).map_err(failed("epoll_ctl"))
    }

    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    /// Waits no longer than until `due`.
    pub(super) fn set_timer(&mut self, due: u64, now: u64) -> Result<(), LoadError> {
        if self.timer_set.replace(due) == Some(due) {
            return Ok(());
        }
        let after = Duration::from_nanos(due - now);
        let seconds = after.as_secs().try_into().unwrap_or(i64::MAX);
        let value = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: seconds, tv_nsec: after.subsec_nanos().into() },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)
            .map_err(failed("timerfd_settime"))?;
        Ok(())
    }

    /// Waits for so long at most. What has happened to the sockets is added to `events`.
    pub(super) fn wait(&self, events: &mut Vec<epoll::Event>, at_most: u64) -> Result<(), LoadError> {
        // Whole milliseconds, upwards: every kernel can wait for those, and none returns too early.
        let millis = at_most.div_ceil(1_000_000);
        let timeout =
            Timespec { tv_sec: (millis / 1_000) as i64, tv_nsec: (millis % 1_000 * 1_000_000) as i64 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("epoll_wait")(errno)),
        }
        events.retain(|event| {
            // Copied out: the system's structure is packed.
            let is_timer = event.data.u64() == TIMER;
            if is_timer {
                // Only to be rearmed: that it may have been read already does not matter.
                let _ = rustix::io::read(&self.timer, &mut [0; 8]);
            }
            !is_timer
        });
        Ok(())
    }
}

/// How often to look at what nobody has answered for `timeout`.
pub(super) fn tick(timeout: Duration) -> u64 {
    nanoseconds(TICK.min(timeout / 4)).max(1)
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn failed(call: &'static str) -> impl Fn(Errno) -> LoadError {
    move |errno| LoadError::System { call, source: errno.into() }
}
