//! Calls into a service, whose panic costs its own connection or job and nothing else.
#![forbid(unsafe_code)]

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    /// What the first panic on this thread said that nobody has asked for yet.
    static SAID: Cell<Option<String>> = const { Cell::new(None) };
    /// This thread is in a call into a service.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `service`; `None` if it panicked, and then nothing may be asked of its state again.
pub(crate) fn call<T>(service: impl FnOnce() -> T) -> Option<T> {
    let outer = INSIDE.replace(true);
    let done = catch_unwind(AssertUnwindSafe(service));
    INSIDE.set(outer);
    done.inspect_err(|payload| {
        let first = SAID.take().unwrap_or_else(|| words(&**payload));
        SAID.set(Some(first));
    })
    .ok()
}

/// Whether this thread is in a call into a service: then it must not wait for a loop, which may wait for the call.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// What the first panic on this thread said since this was asked last. The simulator fails a run for it.
pub(crate) fn take() -> Option<String> {
    SAID.take()
}

/// The words of a panic.
pub(crate) fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned).unwrap_or("a panic that said nothing").to_owned()
}
