//! How the system's sockets are set up.
#![forbid(unsafe_code)]

/// What is asked of the system for every connection of TCP, accepted and outgoing: socket(7), tcp(7). A Unix socket is as
/// the system makes it. Of sockets of UDP the sizes are asked for too.
///
/// ```
/// # use roadstead_proto as roadstead;
/// use roadstead::Tuning;
/// let mut tuning = Tuning::default();
/// tuning.send_buffer = Some(64 << 10);
/// assert!(tuning.nodelay && tuning.receive_buffer.is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// What is sent leaves at once instead of waiting for a segment to fill (`TCP_NODELAY`). Default true: the engine
    /// sends whole answers.
    pub nodelay: bool,
    /// Bytes that the system may hold of what was sent and not acknowledged (`SO_SNDBUF`; Linux doubles it). Default
    /// none: the system sizes it to the road, up to `net.ipv4.tcp_wmem`.
    pub send_buffer: Option<usize>,
    /// The same for what was received and not read (`SO_RCVBUF`). Default none.
    pub receive_buffer: Option<usize>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { nodelay: true, send_buffer: None, receive_buffer: None }
    }
}
