//! Calls into a service, whose panic costs its own connection or job and nothing else.
//!
//! To let go of what is a service's is such a call too: a [`Guarded`] value may be dropped by any thread, at any time.
#![forbid(unsafe_code)]

use std::{
    any::Any,
    cell::Cell,
    fmt, mem,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    /// What the first panic on this thread said that nobody has asked for yet.
    static SAID: Cell<Option<String>> = const { Cell::new(None) };
    /// This thread is in a call into a service.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `service`; `None` if it panicked, and then nothing may be asked of its state again.
#[inline]
pub fn call<T>(service: impl FnOnce() -> T) -> Option<T> {
    let outer = INSIDE.replace(true);
    let done = catch(service);
    INSIDE.set(outer);
    done.map_err(|said| SAID.set(Some(SAID.take().unwrap_or(said)))).ok()
}

/// Calls what may panic; what the panic said, if it does.
#[inline]
pub fn catch<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(action)).map_err(|payload| {
        let said = words(&*payload);
        // What was thrown is the service's as well. If even that cannot be dropped, it is left where it is.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(another);
        }
        said
    })
}

/// Whether this thread is in a call into a service: then it must not wait for a loop, which may wait for the call.
pub fn is_inside() -> bool {
    INSIDE.get()
}

/// What the first panic on this thread said since this was asked last. The simulator fails a run for it.
pub fn take() -> Option<String> {
    SAID.take()
}

/// The words of a panic.
pub fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned).unwrap_or("a panic that said nothing").to_owned()
}

/// What is a service's and is kept by the engine. A panic of its drop ends here.
#[derive(Clone)]
pub struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    /// Keeps `value`.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, whose drop is the caller's concern from now on.
    pub fn into_inner(mut self) -> T {
        self.0.take().unwrap_or_else(|| unreachable!("only its end takes the value"))
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().unwrap_or_else(|| unreachable!("only its end takes the value"))
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap_or_else(|| unreachable!("only its end takes the value"))
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take()
            && call(|| drop(value)).is_none()
        {
            tracing::error!("a service panicked while something of its own was dropped");
        }
    }
}

impl<T> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }

    #[test]
    fn neither_a_drop_that_panics_nor_what_it_throws_ends_the_thread() {
        drop(Guarded::new(Bomb));
        assert_eq!(call(|| panic_any(Bomb)), None::<()>);
        assert_eq!(take().as_deref(), Some("a panic that said nothing"));
    }

    #[test]
    fn a_value_that_was_taken_out_is_whose_it_is() {
        let mut value = Guarded::new(vec![1]);
        value.push(2);
        assert_eq!(value.into_inner(), [1, 2]);
        assert_eq!(take(), None);
    }
}
