//! What a connection is called within its loop.
#![forbid(unsafe_code)]

/// Names a connection within its loop; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

impl Token {
    /// Connections are named below; above, the few names that loops have for what is neither.
    const LISTENERS: u64 = 1 << 63;

    /// Names a listener of the loop by its number.
    pub fn of_listener(number: usize) -> Self {
        Self(Self::LISTENERS + number as u64)
    }

    /// Which listener it names, if it names one.
    pub fn listener(self) -> Option<usize> {
        self.0.checked_sub(Self::LISTENERS).map(|number| number as usize)
    }
}
