//! Work on rows that a signal ends.

use std::{io, path::PathBuf};

use roadstead_trident::data::{DataError, Rows};

use crate::signals;

/// Rows that cannot be read any more when a signal has come: the sharing then fails, and deletes what it has written,
/// which lies together and would tell every row.
pub(crate) struct UntilSignal(pub(crate) Box<dyn Rows>);

impl Rows for UntilSignal {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        if signals::interrupted() {
            let error = io::ErrorKind::Interrupted.into();
            return Err(DataError::Io { path: PathBuf::new(), error });
        }
        self.0.read(first, out)
    }
}
