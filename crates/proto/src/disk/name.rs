//! The name of a file, which cannot lead out of the directory that it is meant in.
#![forbid(unsafe_code)]

use std::fmt;

/// The longest part between two slashes, in bytes: what file systems have room for.
const PART: usize = 255;
/// The longest name, in bytes: what the system takes, without the zero behind it.
const WHOLE: usize = 4095;

/// A relative name: parts of text between slashes, none of which is empty, `.`, `..`, longer than 255 bytes, or has a
/// NUL in it.
///
/// ```
/// # use roadstead_proto as roadstead;
/// use roadstead::disk::Name;
///
/// let name = Name::new("rooms/harbour.log")?;
/// assert_eq!((name.parent(), name.last()), (Some(Name::new("rooms")?), "harbour.log"));
/// assert!(Name::new("../harbour.log").is_err());
/// # Ok::<(), roadstead::disk::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It begins with a slash.
    #[error("a name is relative: it does not begin with a slash")]
    Absolute,
    /// There is nothing, or nothing between two slashes or behind the last.
    #[error("a name, or a part of one, is empty")]
    Empty,
    /// A part is `.` or `..`.
    #[error("a part of a name is `.` or `..`")]
    Dots,
    /// There is a NUL in it.
    #[error("a NUL is in a name")]
    Nul,
    /// There is a slash in what is to be a single part.
    #[error("a slash is in a part of a name")]
    Slash,
    /// It, or a part of it, is longer than a system takes.
    #[error("a name has more than {WHOLE} bytes, or a part of it more than {PART}")]
    Long,
}

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError`] if that is no name.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.starts_with('/') {
            return Err(NameError::Absolute);
        }
        if text.len() > WHOLE {
            return Err(NameError::Long);
        }
        text.split('/').try_for_each(check)?;
        Ok(Self(text))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that it lies in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Its last part.
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The name of something beside it: its own with more at the end.
    ///
    /// # Errors
    /// [`NameError`] if that is no name any more.
    pub fn beside(&self, more: &str) -> Result<Self, NameError> {
        Self::new(format!("{}{more}", self.0))
    }

    /// The name of something that lies in the directory `dir`; `None` is the root.
    ///
    /// # Errors
    /// [`NameError`] if `part` is no single part of a name, or too much.
    pub fn within(dir: Option<&Self>, part: &str) -> Result<Self, NameError> {
        if part.contains('/') {
            return Err(NameError::Slash);
        }
        match dir {
            Some(dir) => Self::new(format!("{dir}/{part}")),
            None => Self::new(part),
        }
    }
}

fn check(part: &str) -> Result<(), NameError> {
    match part {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if part.contains('\0') => Err(NameError::Nul),
        _ if part.len() > PART => Err(NameError::Long),
        _ => Ok(()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        let long = "x".repeat(PART);
        for (text, expected) in [
            ("", Err(NameError::Empty)),
            ("a//b", Err(NameError::Empty)),
            ("a/", Err(NameError::Empty)),
            ("/", Err(NameError::Absolute)),
            ("/etc/passwd", Err(NameError::Absolute)),
            (".", Err(NameError::Dots)),
            ("..", Err(NameError::Dots)),
            ("a/../b", Err(NameError::Dots)),
            ("a/.", Err(NameError::Dots)),
            ("a\0b", Err(NameError::Nul)),
            (&format!("{long}x"), Err(NameError::Long)),
            (&format!("{}x", format!("{long}/").repeat(16)), Err(NameError::Long)),
            (&format!("{}x", format!("{long}/").repeat(15)), Ok(())),
            (&long, Ok(())),
            ("...", Ok(())),
            (".hidden/ä b\\c", Ok(())),
        ] {
            assert_eq!(Name::new(text).map(drop), expected, "{text:?}");
        }
        assert_eq!(Name::within(None, "a/b"), Err(NameError::Slash));
        assert_eq!(Name::within(None, ".."), Err(NameError::Dots));
    }

    proptest! {
        /// A name that is walked part by part stays below where the walk began, and parent and last part are its own.
        #[test]
        fn a_name_stays_below(text in "[a./\0]{0,12}") {
            let Ok(name) = Name::new(text.clone()) else { return Ok(()) };
            prop_assert!(!text.contains('\0'));
            let depths = name.as_str().split('/').scan(0i32, |depth, part| {
                *depth += match part { ".." => -1, "." | "" => 0, _ => 1 };
                Some(*depth)
            });
            prop_assert!(depths.enumerate().all(|(index, depth)| depth == index as i32 + 1));
            prop_assert_eq!(Name::within(name.parent().as_ref(), name.last()), Ok(name));
        }
    }
}
