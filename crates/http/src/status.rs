//! What an answer begins with.

use std::{error::Error, fmt};

/// How a request went: a number of three digits, and what it is called (RFC 9110, section 15).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

macro_rules! statuses {
    ($($name:ident = $number:literal $reason:literal, $doc:literal;)*) => {
        impl Status {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*

            /// What its number is called.
            pub fn reason(self) -> &'static str {
                match self.0 {
                    $($number => $reason,)*
                    _ => "",
                }
            }
        }
    };
}

statuses! {
    CONTINUE = 100 "Continue", "The body of the request is wanted.";
    OK = 200 "OK", "It is done.";
    CREATED = 201 "Created", "Something is there that was not.";
    NO_CONTENT = 204 "No Content", "It is done, and there is nothing to be said.";
    PARTIAL_CONTENT = 206 "Partial Content", "The parts that were asked for.";
    MOVED_PERMANENTLY = 301 "Moved Permanently", "It is somewhere else.";
    NOT_MODIFIED = 304 "Not Modified", "Whoever asks has it already.";
    BAD_REQUEST = 400 "Bad Request", "It is no request, or none that can be understood in one way only.";
    UNAUTHORIZED = 401 "Unauthorized", "Nobody knows who asks.";
    FORBIDDEN = 403 "Forbidden", "Whoever asks may not.";
    NOT_FOUND = 404 "Not Found", "There is nothing of that name.";
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed", "That cannot be done with it.";
    REQUEST_TIMEOUT = 408 "Request Timeout", "The rest of the request did not come.";
    CONFLICT = 409 "Conflict", "It is not as whoever asks believes.";
    LENGTH_REQUIRED = 411 "Length Required", "How long the body is has to be said first.";
    PRECONDITION_FAILED = 412 "Precondition Failed", "It is not as was asked for.";
    CONTENT_TOO_LARGE = 413 "Content Too Large", "The body is longer than one may be here.";
    URI_TOO_LONG = 414 "URI Too Long", "The target is longer than one may be here.";
    RANGE_NOT_SATISFIABLE = 416 "Range Not Satisfiable", "It has no such part.";
    EXPECTATION_FAILED = 417 "Expectation Failed", "Something is expected that is not known here.";
    FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large", "The fields are more, or longer, than here may be (RFC 6585).";
    INTERNAL = 500 "Internal Server Error", "The fault is not whoever asks'.";
    NOT_IMPLEMENTED = 501 "Not Implemented", "A method or a coding that is not known.";
    UNAVAILABLE = 503 "Service Unavailable", "Not now.";
    VERSION = 505 "HTTP Version Not Supported", "Another version than 1.0 and 1.1.";
    INSUFFICIENT_STORAGE = 507 "Insufficient Storage", "There is no room for it (RFC 4918).";
}

impl Status {
    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A request that is refused is refused with one.
impl Error for Status {}
