//! What a process begins with is its own, and its programs know nothing of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    io::{self, Write},
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
    process::{self, Command, Output, Stdio},
};

use roadstead_os::{activation, sockets};

/// Says, in a process without other threads, what that was started with, twice, and what a program that it starts finds.
#[test]
#[ignore = "is played in processes of their own"]
fn started() {
    // SAFETY: the other threads of this process wait for this one, and hold nothing that the child needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        if env::var_os("FOR_US").is_some() {
            // SAFETY: the child has one thread.
            unsafe { env::set_var("LISTEN_PID", process::id().to_string()) };
        }
        [(); 2].iter().for_each(|()| say());
        // SAFETY: ends the child without running what its parent has registered for its own end.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call, and the child is this test's own.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
}

fn say() {
    let said = match activation::sockets() {
        Ok(sockets) => {
            let addresses: Vec<_> = sockets.iter().map(|it| sockets::local_address(it).unwrap()).collect();
            let script = "echo finds \"$LISTEN_PID$LISTEN_FDS$LISTEN_FDNAMES\"; ls -l /proc/self/fd";
            let inside = Command::new("sh").args(["-c", script]).output().unwrap();
            let inside = String::from_utf8(inside.stdout).unwrap();
            let finds = inside.lines().next().unwrap();
            format!("has {addresses:?}\n{finds}, sockets: {}\n", inside.contains("socket:"))
        }
        Err(error) => format!("fails: {error}\n"),
    };
    // Not by the harness, which holds on to what tests print.
    io::stdout().write_all(said.as_bytes()).unwrap();
}

/// Runs that in a process that begins with `socket` as its third descriptor, and with `variables`.
fn start(socket: OwnedFd, variables: &str) -> String {
    let program = env::current_exe().unwrap();
    let script = format!("export {variables}; exec \"$@\" 3<&0 </dev/null");
    let Output { stdout, .. } = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(program)
        .args(["started", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::from(socket))
        .output()
        .unwrap();
    let said = String::from_utf8(stdout).unwrap();
    // The harness does not end its own line before.
    let lines = said.lines().map(|line| line.trim_start_matches("test started ... "));
    let ours = lines.filter(|line| ["has", "finds", "fails:"].iter().any(|word| line.starts_with(word)));
    ours.collect::<Vec<_>>().join("\n")
}

#[test]
fn sockets_are_handed_out_once_and_programs_inherit_nothing_of_them() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let said = start(socket.into(), "FOR_US=1 LISTEN_FDS=1 LISTEN_FDNAMES=web");
    let once = "finds , sockets: false";
    assert_eq!(said, format!("has [{address}]\n{once}\nhas []\n{once}"));
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap().into();
    let said = start(socket(), "LISTEN_PID=1 LISTEN_FDS=1");
    assert!(said.starts_with("has []\nfinds 11, sockets: true\n"), "{said}");
    assert!(start(socket(), "LISTEN_FDS=1").starts_with("has []\n"));
    assert!(start(socket(), "FOR_US=1").starts_with("has []\n"));
}

#[test]
fn what_cannot_be_listened_on_is_named() {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap().into();
    let two = start(socket(), "FOR_US=1 LISTEN_FDS=2");
    assert!(
        two.starts_with("fails: descriptor 4, one of the 2 of LISTEN_FDS, cannot be listened on: "),
        "{two}"
    );
    for count in ["x", "-1", "65536", "''"] {
        let said = start(socket(), &format!("FOR_US=1 LISTEN_FDS={count}"));
        assert!(said.starts_with("fails: LISTEN_FDS is to say"), "{said}");
    }
    let udp = start(UdpSocket::bind("127.0.0.1:0").unwrap().into(), "FOR_US=1 LISTEN_FDS=1");
    assert!(udp.contains("it is no stream socket"), "{udp}");
}
