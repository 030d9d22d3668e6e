//! Who receives and sends: the loop, or its workers.
#![forbid(unsafe_code)]

/// Who receives and sends, of a server on `Model::Epoll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Io {
    /// The I/O thread; worker threads run deferred jobs, if there are any.
    #[default]
    Loop,
    /// Worker threads, which run their connections' sessions and jobs too. The I/O thread only tells them of readiness.
    Workers,
}
