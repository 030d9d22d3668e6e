//! Any bytes begin with a request of RESP2, with too few bytes of one, or with none; the verdict stands when more bytes
//! come, nobody is asked to wait beyond a request's end, and a request survives being written and read again.

use crate::request::{ARGUMENTS, Malformed, Parsed, REQUEST, parse};

/// The longest line with a length, which may begin where the longest request has to end.
const LINE: usize = 10;
/// Beginnings of a request that are tried at its start and at its end each; all of a short one.
const CUTS: usize = 100;

pub(crate) fn check(data: &[u8]) {
    let mut rest = data;
    while let Ok(Parsed::Request(request)) = judge(rest) {
        rest = &rest[request.len..];
    }
}

/// A request as clients write it.
pub(crate) fn encode(arguments: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        wire.extend(format!("${}\r\n", argument.len()).as_bytes());
        wire.extend([argument, b"\r\n"].concat());
    }
    wire
}

fn judge(data: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let parsed = parse(data);
    let longer = [data, b"\r\n$*1"].concat();
    match &parsed {
        Err(error) => assert_eq!(parse(&longer), Err(*error), "more bytes make it no better"),
        Ok(Parsed::Need(need)) => {
            assert!(*need > data.len(), "what is there is asked for");
            assert!(*need < REQUEST + LINE, "more is asked for than is accepted");
        }
        Ok(Parsed::Request(request)) => {
            assert_eq!(parse(&longer), parsed, "it ends where it says");
            assert!(request.len <= REQUEST && request.arguments.len() <= ARGUMENTS);
            for cut in (0..request.len).filter(|cut| *cut < CUTS || request.len - cut < CUTS) {
                let Ok(Parsed::Need(need)) = parse(&data[..cut]) else {
                    panic!("a part is taken for a whole")
                };
                assert!(cut < need && need <= request.len, "{need} bytes are waited for");
            }
            let wire = encode(&request.arguments);
            let Ok(Parsed::Request(again)) = parse(&wire) else { panic!("what was read cannot be written") };
            assert_eq!((again.arguments, again.len), (request.arguments.clone(), wire.len()));
        }
    }
    parsed
}
