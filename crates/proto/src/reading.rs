//! When a session is given what its peer sends.
#![forbid(unsafe_code)]

/// When a session is given what its peer sends: [`Context::read`](crate::Context::read).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// While its output is below the high-water mark: who does not take answers is not to ask for more.
    #[default]
    WithRoom,
    /// However full its output is: what comes is not answered here, but passed on elsewhere.
    Always,
    /// Not at all. The peer is held back, and while it is nothing is waited for from it.
    Never,
}
