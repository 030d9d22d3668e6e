//! Requests with their bodies are read the same, whether the bytes come at once or in pieces; no more than a head or a
//! line is ever left unread; and behind what is refused nothing is read.
//!
//! The first byte is how long the pieces are, less one; the rest is what comes.

use roadstead_http::{Body, Head, LONGEST, LONGEST_LINE, LONGEST_TRAILER, Room, Status, Taken, read};

pub(crate) fn check(data: &[u8]) {
    let Some((piece, sent)) = data.split_first() else { return };
    assert_eq!(
        listen(sent, 1 + usize::from(*piece)),
        listen(sent, usize::MAX),
        "it matters how the bytes came"
    );
}

/// The requests that came, each with as much of its body as has come; and why nothing is read any more.
pub(crate) type Heard = (Vec<(String, Vec<u8>)>, Option<Status>);

/// What is heard of bytes that come in pieces of this length.
pub(crate) fn listen(sent: &[u8], piece: usize) -> Heard {
    let (mut requests, mut body, mut unread) = (Vec::new(), None, Vec::new());
    for piece in sent.chunks(piece.min(1 << 14)) {
        unread.extend_from_slice(piece);
        match read_on(&mut requests, &mut body, &unread) {
            Ok(used) => _ = unread.drain(..used),
            Err(status) => return (requests, Some(status)),
        }
        let most = if body.is_some() { LONGEST_LINE.max(LONGEST_TRAILER) } else { LONGEST };
        assert!(unread.len() < most, "{} bytes are left unread", unread.len());
    }
    (requests, None)
}

fn read_on(
    requests: &mut Vec<(String, Vec<u8>)>,
    body: &mut Option<Body>,
    bytes: &[u8],
) -> Result<usize, Status> {
    let mut used = 0;
    loop {
        match body {
            None => {
                let mut room = Room::new();
                match read(&bytes[used..], &mut room) {
                    Head::Partial => return Ok(used),
                    Head::Wrong(status) => return Err(status),
                    Head::Whole(length, request) => {
                        let said = format!("{} {} {}", request.method, request.target, request.stays);
                        requests.push((said, Vec::new()));
                        *body = Some(Body::new(request.body));
                        used += length;
                    }
                }
            }
            Some(reader) if reader.is_over() => *body = None,
            Some(reader) => {
                let Taken { used: more, data } = reader.take(&bytes[used..])?;
                requests.last_mut().expect("a body is of a request").1.extend_from_slice(data);
                used += more;
                if more == 0 {
                    return Ok(used);
                }
            }
        }
    }
}
