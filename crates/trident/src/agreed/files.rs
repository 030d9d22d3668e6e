//! Files that only their owner may read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What the system said, and about which file.
#[derive(Debug, Error)]
#[error("{}: {error}", path.display())]
pub struct FileError {
    /// Which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl FileError {
    /// Names the file of an error.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { path: path.into(), error }
    }
}

/// Opens a file to read it. What is no regular file is refused: who opens a pipe may wait for ever.
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            Err(FileError { path: path.into(), error })
        }
        // The system says best why a file cannot be opened.
        _ => File::open(path).map_err(FileError::at(path)),
    }
}

/// Makes a directory, and those above it, that only the owner may enter.
pub(crate) fn create_dir(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(FileError::at(path))?;
    // One that was there already may be open to others.
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(FileError::at(path))?;
    Ok(())
}

/// Makes a file, which must not exist, that only the owner may read.
pub(crate) fn create(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(FileError::at(path))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_directory_is_its_owners_alone_also_if_it_was_there_and_open_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let (above, below) = (dir.path().join("a"), dir.path().join("a/b"));
        create_dir(&below).unwrap();
        assert_eq!([&above, &below].map(|path| mode(path)), [0o700; 2]);
        fs::set_permissions(&below, fs::Permissions::from_mode(0o755)).unwrap();
        create_dir(&below).unwrap();
        assert_eq!(mode(&below), 0o700);
    }

    #[test]
    fn a_file_is_its_owners_alone_and_one_that_is_there_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "a secret").unwrap();
        let refused = create(&path).unwrap_err();
        assert_eq!((refused.error.kind(), refused.path), (io::ErrorKind::AlreadyExists, path.clone()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a secret");
    }
}
