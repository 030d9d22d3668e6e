//! Those who serve the connections of one process, and the thread that accepts.
#![forbid(unsafe_code)]

use std::{sync::mpsc, thread};

use roadstead_proto::{budget::Budget, host::Shared};

use super::*;
use crate::{
    accept::Listener,
    blocking::{
        iterative::Iterative,
        server::{BlockingServer, LiveConnection, Spawner},
        server_handle::ServerHandle,
    },
    net::REST,
    orders::Order,
};

/// What is done with each connection.
enum Serving {
    Keep(Mutex<Vec<LiveConnection<Scripted>>>),
    /// The server is ordered to drain while it is at work.
    Drain(Mutex<Option<Arc<BlockingServer<Scripted>>>>, Scripted),
    Refuse,
}

impl Spawner<Scripted> for Arc<Serving> {
    fn serve(&self, connection: LiveConnection<Scripted>) -> io::Result<()> {
        match &**self {
            Serving::Keep(kept) => kept.lock().unwrap().push(connection),
            Serving::Drain(server, net) => {
                if let Some(server) = server.lock().unwrap().take() {
                    server.raise(Order::Drain);
                    assert_eq!(
                        net.world().left,
                        [(0, 0), (1, 0)],
                        "nobody comes any more, though this one stays"
                    );
                }
                connection.run();
            }
            Serving::Refuse => return Err(io::ErrorKind::OutOfMemory.into()),
        }
        Ok(())
    }
}

struct Scene {
    net: Scripted,
    shared: Arc<Shared>,
    /// What everybody hears, one after the other.
    heard: Heard,
    server: Arc<BlockingServer<Scripted>>,
    wake_queues: Arc<Mutex<Vec<Arc<WakeQueue>>>>,
}

/// Those who come are served by `spawner`; each that is served closes when it was opened.
fn scene(spawner: impl Spawner<Scripted> + 'static) -> Scene {
    scene_on(Scripted::default(), spawner)
}

fn scene_on(net: Scripted, spawner: impl Spawner<Scripted> + 'static) -> Scene {
    let (shared, wake_queues) = (Shared::new(Budget::default()), Arc::default());
    let (lent, made) = (Arc::clone(&shared), Arc::<Mutex<Vec<_>>>::clone(&wake_queues));
    let host = Box::new(move || {
        let host = Host::alone(Arc::clone(&lent), 1);
        made.lock().unwrap().push(Arc::clone(&host.wake_queue));
        host
    });
    let server = BlockingServer::new(net.clone(), host, Box::new(spawner), Box::new(Iterative)).unwrap();
    Scene { net, shared, heard: Heard::default(), server, wake_queues }
}

impl Scene {
    /// Accepts from so many listeners until anything else is ordered.
    fn accept(&self, listeners: usize) -> io::Result<()> {
        self.listen(listeners);
        self.server.accept()
    }

    fn listen(&self, count: usize) {
        let (heard, shared) = (Arc::clone(&self.heard), Arc::clone(&self.shared));
        let open = Arc::new(move |_, permit| {
            let shared = Arc::clone(&shared);
            let (mut puppet, _) = Puppet::new(move |heard, wishes, _| {
                if heard == "opened" {
                    assert!(shared.snapshot().accepted > 0, "it is counted as long as it lives");
                    wishes.close();
                }
            });
            (puppet.heard, puppet._permit) = (Arc::clone(&heard), Some(permit));
            puppet as Box<dyn Endpoint>
        });
        let open: Arc<crate::accept::Open> = open;
        let door = |number| Door { number, net: self.net.clone() };
        let listeners = (0..count).map(|number| Listener { socket: door(number), open: Arc::clone(&open) });
        self.server.listen(listeners.collect());
    }

    /// Somebody comes to a listener, or fails to.
    fn comes(&self, listener: usize, who: impl IntoIterator<Item = Option<Failure>> + Send + 'static) {
        self.net.then(move |net| net.world().backlogs[listener].extend(who));
    }

    /// Whoever accepts is ordered this while it waits.
    fn ordered(&self, orders: Order) {
        let server = Arc::clone(&self.server);
        self.net.then(move |_| server.raise(orders));
    }

    /// Nobody is left to be waited for.
    fn ends(&self) {
        let (server, (sender, ended)) = (Arc::clone(&self.server), mpsc::channel());
        thread::spawn(move || {
            server.end();
            sender.send(()).is_ok()
        });
        ended.recv_timeout(Duration::from_secs(5)).expect("somebody who has gone is waited for");
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn at_listeners(count: usize) -> Wait {
    Wait::AtListeners(count, None)
}

const RESTS: Wait = Wait::AtListeners(0, Some(REST));

#[test]
fn one_that_broke_while_it_waited_costs_nobody_anything() {
    let scene = scene(Iterative);
    scene.net.world().backlogs[0].extend([Some(Failure::Passing), None]);
    scene.comes(0, []);
    scene.comes(0, []);
    scene.ordered(Order::Drain);
    scene.accept(1).unwrap();
    assert_eq!(scene.heard(), ["opened"]);
    assert_eq!(scene.net.world().waits, [at_listeners(1); 3]);
    let counted = scene.shared.snapshot();
    assert_eq!((counted.accepted, counted.refused, counted.open), (1, 0, 0));
}

#[test]
fn a_listener_without_room_rests_and_keeps_no_other_from_being_asked() {
    for failure in [Failure::NoRoom, Failure::Other, Failure::NoDescriptors] {
        let scene = scene(Iterative);
        scene.net.world().cramped = true;
        scene.net.world().backlogs[0].extend([Some(failure), None]);
        scene.net.world().backlogs[1].extend([None]);
        scene.comes(0, []);
        scene.net.then(|net| assert_eq!(net.world().closed, [false], "the other was served"));
        scene.comes(0, []);
        scene.ordered(Order::Drain);
        scene.accept(2).unwrap();
        assert_eq!(
            scene.net.world().waits,
            [at_listeners(2), RESTS, at_listeners(2), at_listeners(2)],
            "{failure}"
        );
        assert_eq!(scene.heard(), ["opened", "opened"]);
    }
}

#[test]
fn who_is_turned_away_for_want_of_descriptors_is_counted_and_nobody_rests() {
    let scene = scene(Iterative);
    scene.comes(0, [Some(Failure::NoDescriptors), None]);
    scene.comes(0, []);
    scene.ordered(Order::Drain);
    scene.accept(1).unwrap();
    assert_eq!(scene.net.world().waits, [at_listeners(1); 3]);
    let counted = scene.shared.snapshot();
    assert_eq!((counted.accepted, counted.refused, scene.net.world().shed), (1, 1, 1));
}

#[test]
fn who_waits_when_a_drain_begins_is_let_in_and_told_and_who_waits_when_a_stop_does_is_refused() {
    for (orders, heard, accepted, refused) in
        [(Order::Drain, &["drain", "opened", "drain", "opened"][..], 2, 0), (Order::Stop, &[], 0, 2)]
    {
        let scene = scene(Iterative);
        let server = Arc::clone(&scene.server);
        scene.net.then(move |net| {
            net.world().backlogs = [VecDeque::from([None]), VecDeque::from([None])];
            server.raise(orders);
            assert_eq!(net.world().left, [], "the thread that accepts is still at them");
        });
        scene.accept(2).unwrap();
        assert_eq!(scene.heard(), heard);
        assert_eq!(scene.net.world().left, [(0, 0), (1, 0)], "nobody waits when they are closed");
        let counted = scene.shared.snapshot();
        assert_eq!((counted.accepted, counted.refused, counted.open), (accepted, refused, 0));
    }
}

#[test]
fn listeners_are_closed_although_the_thread_that_accepts_is_serving_and_who_waits_there_is_served_next() {
    let net = Scripted::default();
    let serving = Arc::new(Serving::Drain(Mutex::default(), net.clone()));
    let scene = scene_on(net, Arc::clone(&serving));
    let Serving::Drain(server, _) = &*serving else { unreachable!() };
    *server.lock().unwrap() = Some(Arc::clone(&scene.server));
    scene.comes(0, [None, None]);
    scene.net.world().backlogs[1].extend([None]);
    scene.accept(2).unwrap();
    assert_eq!(scene.heard(), ["drain", "opened", "drain", "opened", "drain", "opened"]);
    assert_eq!((scene.shared.snapshot().accepted, scene.net.world().waits.len()), (3, 1));
}

#[test]
fn no_order_is_taken_back() {
    let scene = scene(Iterative);
    scene.server.raise(Order::Stop);
    scene.server.raise(Order::Drain);
    assert_eq!(scene.server.order(), Order::Stop);
}

#[test]
fn an_order_that_comes_before_the_wait_is_heard_without_one() {
    let scene = scene(Iterative);
    scene.listen(1);
    scene.server.raise(Order::Drain);
    scene.server.accept().unwrap();
    scene.accept(1).unwrap();
    let world = scene.net.world();
    assert_eq!((&world.waits[..], &world.left[..]), (&[][..], &[(0, 0), (0, 0)][..]));
}

#[test]
fn who_has_ceded_its_listeners_sleeps_until_the_drain() {
    let scene = scene(Iterative);
    scene.ordered(Order::Cede);
    scene.ordered(Order::Drain);
    scene.accept(2).unwrap();
    assert_eq!(scene.net.world().waits, [at_listeners(2), at_listeners(0)]);
    assert_eq!(scene.net.world().rung, 1, "the drain is for those who serve too");
}

#[test]
fn everybody_who_lives_is_called_when_something_is_ordered_and_who_has_gone_is_not_waited_for() {
    let serving = Arc::new(Serving::Keep(Mutex::default()));
    let scene = scene(Arc::clone(&serving));
    scene.comes(0, [None]);
    let (shared, server, wake_queues) =
        (Arc::clone(&scene.shared), Arc::clone(&scene.server), Arc::clone(&scene.wake_queues));
    scene.comes(0, []);
    scene.net.then(move |_| {
        assert_eq!((shared.snapshot().accepted, shared.snapshot().open), (1, 1), "it is known at once");
        server.raise(Order::Drain);
        let wake_queues = wake_queues.lock().unwrap();
        let woken = wake_queues.iter().filter(|wake_queue| !wake_queue.begin_sleep()).count();
        assert_eq!((wake_queues.len(), woken), (2, 1), "the one that lives, not the host of who accepts");
    });
    scene.accept(1).unwrap();
    let Serving::Keep(kept) = &*serving else { unreachable!() };
    drop(std::mem::take(&mut *kept.lock().unwrap()));
    scene.ends();
    assert_eq!(scene.shared.snapshot().open, 0);
}

#[test]
fn who_finds_nobody_to_serve_it_is_neither_waited_for_nor_counted_as_open() {
    let scene = scene(Arc::new(Serving::Refuse));
    scene.comes(0, [None]);
    scene.ordered(Order::Drain);
    scene.accept(1).unwrap();
    scene.ends();
    assert_eq!(scene.shared.snapshot().open, 0);
}

#[test]
fn who_dials_is_counted_and_needs_nobody_of_those_who_serve() {
    let scene = scene(Arc::new(Serving::Refuse));
    let (puppet, heard) = Puppet::new(|heard, wishes, _| {
        if heard == "opened" {
            wishes.close();
        }
    });
    scene.net.then(|net| net.world().decided.push_back(Ok(())));
    Arc::clone(&scene.server).connect(puppet);
    assert_eq!((&heard.lock().unwrap()[..], scene.shared.snapshot().connected), (&["opened".into()][..], 1));
}

#[test]
fn when_accepting_fails_everybody_stops_and_whoever_holds_the_server_knows_why() {
    let scene = scene(Iterative);
    let mut ended = None;
    scene.net.then(|net| net.world().unable.push_back(Err(io::ErrorKind::InvalidInput.into())));
    scene.listen(1);
    scene.server.run(|accept| ended.insert(accept()).is_ok());
    assert_eq!((scene.server.order(), &scene.net.world().left[..]), (Order::Stop, &[(0, 0)][..]));
    assert!(matches!(ended, Some(Err(_))));
}
