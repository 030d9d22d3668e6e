//! `roadstead keys`: make the certificates of a cluster and its clients.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use roadstead::tls::Keys;
use roadstead_keys::{Authority, Role};
use roadstead_load::report::Destination;

use crate::{
    numbers::within,
    outcome::{Outcome, Result},
    output::NewDirectories,
};

/// Make the keys of a cluster: an authority, and what it issues to servers and clients
///
/// Every server and client gets a directory of its own with three files: cert.pem (its certificate), key.pem (its
/// private key) and ca.pem (the authority's certificate, by which it knows the others). Copy each directory to its
/// machine and nowhere else. Whoever has authority/key.pem can make members of the cluster: keep it off the servers.
///
/// Run again, it makes what is missing and changes nothing that is there: a certificate is made anew together with its
/// private key, and the authority is never. A key that others may read is refused, here and by servers and clients.
/// Certificates are valid for ten years; keys are ECDSA P-256.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of the cluster's keys; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many servers: server-1 to server-N
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(0..=999_u16))]
    servers: u16,
    /// Another client, in client-NAME; may be given more than once. Without it there is one, in client
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let _new = NewDirectories::before(&args.out)?;
    let mut out = String::new();
    let authority = authority(&args.out.join("authority"), &mut out)?;
    for number in 1..=args.servers {
        member(&authority, &args.out, &format!("server-{number}"), Role::Server, &mut out)?;
    }
    if args.client.is_empty() {
        member(&authority, &args.out, "client", Role::Client, &mut out)?;
    }
    for name in &args.client {
        member(&authority, &args.out, &format!("client-{name}"), Role::Client, &mut out)?;
    }
    writeln!(out, "give each server and client its own directory, and nobody the authority's")?;
    Destination::Stdout.write(&out)?;
    Ok(Outcome::Done)
}

/// Keys for a measurement in the directories server-1 to server-3 and client of `dir`. Their authority is forgotten.
pub(crate) fn passing(dir: &Path) -> Result<()> {
    let authority = Authority::new("measurement")?;
    for number in 1..=3 {
        let name = format!("server-{number}");
        authority.issue(&name, Role::Server)?.write(&dir.join(name))?;
    }
    Ok(authority.issue("client", Role::Client)?.write(&dir.join("client"))?)
}

fn authority(dir: &Path, out: &mut impl Write) -> Result<Authority> {
    let _new = NewDirectories::before(dir)?;
    if dir.exists() {
        let authority = Authority::load(dir)?;
        writeln!(out, "kept  {}", dir.display())?;
        return Ok(authority);
    }
    let authority = Authority::new("roadstead-cluster")?;
    authority.write(dir)?;
    writeln!(out, "made  {}  keep it secret", dir.display())?;
    Ok(authority)
}

fn member(authority: &Authority, out_dir: &Path, name: &str, role: Role, out: &mut impl Write) -> Result<()> {
    let dir = out_dir.join(name);
    let _new = NewDirectories::before(&dir)?;
    let existed = dir.exists();
    let made = authority.complete(&dir, name, role)?;
    let keys = Keys::load(&dir).map_err(|error| {
        format!(
            "the keys in {} cannot be read; delete what is broken, and it is made again: {error}",
            dir.display()
        )
    })?;
    let (verb, what) = match made.as_slice() {
        [] => ("kept", String::new()),
        made if existed => ("made", format!("  new: {}", made.join(", "))),
        _ => ("made", String::new()),
    };
    Ok(writeln!(out, "{verb}  {}  pin {}{what}", dir.display(), keys.pin())?)
}
