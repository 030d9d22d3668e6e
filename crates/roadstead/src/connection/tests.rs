//! A connection without sockets, under every order of events.
