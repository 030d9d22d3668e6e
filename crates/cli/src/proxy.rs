//! `roadstead serve proxy`: where it goes to, through what, and what it has come to.

use std::{fmt::Write, path::PathBuf, sync::Arc, time::Duration};

use clap::error::ErrorKind;

use roadstead::{
    Budget, Layers,
    tls::{Connector, Expect, Keys},
};
use roadstead_services::proxy::{Counts, Proxy};

use crate::{
    addresses::{self, Place, place},
    log::CLOSING,
    numbers::seconds,
    outcome::Result,
};

/// Where a proxy goes to.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of `proxy`")]
pub(crate) struct Targets {
    /// Where to go: the target with the fewest connections, of those that could be reached of late. Every address of a
    /// name is a target, and so may a Unix socket be (unix:PATH, unix:@NAME)
    #[arg(long, value_name = "ADDR[,ADDR]", value_delimiter = ',', value_parser = place, required_if_eq("service", "proxy"))]
    to: Vec<Place>,
    /// Speak TLS 1.3 with the targets, with the keys in this directory: see `roadstead keys`
    #[arg(long, value_name = "DIR", requires = "to")]
    to_keys: Option<PathBuf>,
    /// The name in the targets' certificate [default: any of the keys' authority]
    #[arg(long, value_name = "NAME", requires = "to_keys")]
    to_name: Option<String>,
    /// Time for a target to answer a connection, before the next is tried [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "to")]
    connect: Option<Duration>,
}

impl Targets {
    /// Ends the program if they were given to a service that goes nowhere.
    pub(crate) fn refuse(&self) {
        if !self.to.is_empty() {
            clap::Error::raw(ErrorKind::ArgumentConflict, "only the service `proxy` goes --to somewhere\n")
                .exit();
        }
    }

    pub(crate) fn apply(&self, mut budget: Budget) -> Budget {
        budget.connect = self.connect.unwrap_or(budget.connect);
        budget
    }

    pub(crate) fn proxy(&self) -> Result<Proxy> {
        let expect = self.to_name.clone().map_or(Expect::Known, Expect::Name);
        let connector = match &self.to_keys {
            Some(dir) => Some(Arc::new(Connector::new(Some(&Keys::load(dir)?), expect)?) as Arc<dyn Layers>),
            None => None,
        };
        Ok(Proxy::new(&addresses::all(&self.to)?, connector))
    }
}

/// Says what a proxy has come to.
pub(crate) fn close(counts: &Counts) {
    let Counts { up, down, unserved, targets } = counts;
    let mut each = String::new();
    for target in targets {
        let comma = if each.is_empty() { "" } else { ", " };
        let _ = write!(each, "{comma}{} served={} failed={}", target.address, target.served, target.failed);
    }
    tracing::info!(target: CLOSING, up, down, unserved, targets = %each, "proxied");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use roadstead_services::proxy::TargetCounts;

    use super::*;
    use crate::output::tests::logged;

    #[derive(Parser)]
    struct Given {
        service: String,
        #[command(flatten)]
        targets: Targets,
    }

    #[test]
    fn a_proxy_goes_somewhere_and_to_each_of_several() {
        let given = |line: &str| Given::try_parse_from(["serve"].into_iter().chain(line.split(' ')));
        let to = |line: &str| given(line).map(|given| given.targets.to);
        let [one, other] = ["192.0.2.1:7", "[2001:db8::1]:7"].map(|text| place(text).unwrap());
        assert_eq!(to(&format!("proxy --to {one}")).unwrap(), std::slice::from_ref(&one));
        assert_eq!(to(&format!("proxy --to {one},{other}")).unwrap(), [one.clone(), other.clone()]);
        assert_eq!(to(&format!("proxy --to {one} --to {other}")).unwrap(), [one.clone(), other]);
        for wrong in ["proxy", "proxy --to nowhere", "proxy --to", "echo --connect 1", "echo --to-keys x"] {
            assert!(given(wrong).is_err(), "{wrong}");
        }
        let limited =
            given(&format!("proxy --to {one} --connect 3")).unwrap().targets.apply(Budget::default());
        assert_eq!(limited, Budget::default().connect(Duration::from_secs(3)));
    }

    #[test]
    fn what_a_proxy_has_come_to_is_said_target_by_target() {
        let target = |port, served, failed| TargetCounts {
            address: ([192, 0, 2, 1], port).into(),
            open: 0,
            served,
            failed,
        };
        let counts = Counts { up: 1, down: 2, unserved: 3, targets: vec![target(4, 5, 6), target(7, 8, 9)] };
        let said = logged(|| close(&counts));
        let line = "INFO roadstead::closing: proxied up=1 down=2 unserved=3 \
                    targets=192.0.2.1:4 served=5 failed=6, 192.0.2.1:7 served=8 failed=9";
        assert_eq!(said.trim(), line);
    }
}
