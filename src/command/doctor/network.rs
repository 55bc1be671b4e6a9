//! The network: who holds a node's ports, which version answers there, and the tier above with its clock.
use super::{
    super::{local_api::reachable, nodes::Node},
    finding::{Finding, Level},
};
use crate::{https::Https, up::metrics::Snapshot};
use federation::{
    link::look,
    tls::{ReloadingTls, paths},
};
use node::clock::Clock;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};
use types::{Place, Timestamp};

/// Certificates are dated back by as much: clocks that differ by more refuse each other's.
const CLOCKS_MS: i64 = federation::pki::BACKDATE_MS;
/// What differs by more is not kept by a time server. An answer says the time to the second.
const CLOCKS_SOON_MS: i64 = 3_000;

/// Who holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Nobody.
    Nobody,
    /// Somebody.
    Somebody,
    /// It is no address of this machine, or one that this user may not listen on.
    Unusable(io::ErrorKind),
}

fn holder(address: SocketAddr) -> Holder {
    match TcpListener::bind(address) {
        Ok(_) => Holder::Nobody,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Holder::Somebody,
        Err(error) => Holder::Unusable(error.kind()),
    }
}

/// The ports of a node: free while it does not run, its own while it does.
pub async fn ports(node: &Node) -> Vec<Finding> {
    let version = answers(node).await;
    let held = node.listeners.iter();
    let held: Vec<_> = held
        .filter(|(_, address)| address.port() != 0)
        .map(|(key, address)| (*key, *address, holder(*address)))
        .collect();
    let mut findings = judge_ports(version.is_some(), &held);
    if let Some(Some(version)) = &version {
        findings.push(judge_version(version, env!("CARGO_PKG_VERSION")));
    }
    findings
}

/// Whether the node itself answers at its HTTPS listener, by its own certificate, and of which version it says it is.
async fn answers(node: &Node) -> Option<Option<String>> {
    let https = Https::of_node(&node.tls.cert).ok()?;
    let address = reachable(node.https.listen).ok()?;
    let live = https.get(&format!("https://{address}/live")).await.ok()?;
    if live.0 != 200 {
        return None;
    }
    let metrics = node.metrics.and_then(|address| reachable(address).ok());
    let version = match metrics {
        None => None,
        Some(address) => version(&https, address).await,
    };
    Some(version)
}

async fn version(https: &Https, address: SocketAddr) -> Option<String> {
    let said = https
        .get(&format!("https://{address}/metrics"))
        .await
        .ok()?;
    let mut snapshot = Snapshot::default();
    snapshot.add(&said.1);
    snapshot.label("medmesh_build_info", "version")
}

fn judge_ports(runs: bool, held: &[(&'static str, SocketAddr, Holder)]) -> Vec<Finding> {
    let one = |(key, address, holder): &(&str, SocketAddr, Holder)| {
        let port = address.port();
        match (holder, runs) {
            (Holder::Somebody, true) => {
                Finding::good("ports", format!("{key} {address}: the node listens"))
            }
            (Holder::Nobody, false) => Finding::good(
                "ports",
                format!("{key} {address}: free; the node does not run"),
            ),
            (Holder::Somebody, false) => Finding::bad(
                "ports",
                format!(
                    "{key} {address}: another program listens there, or the node does not answer"
                ),
                &format!("see who it is: ss -ltnp sport = :{port}"),
            ),
            (Holder::Nobody, true) => Finding::bad(
                "ports",
                format!("{key} {address}: the node runs and does not listen there"),
                "the configuration has changed since it started: restart it",
            ),
            (Holder::Unusable(kind), _) => Finding::bad(
                "ports",
                format!("{key} {address}: {kind}"),
                "name an address of this machine, and a port that the node's user may listen on",
            ),
        }
    };
    held.iter().map(one).collect()
}

fn judge_version(running: &str, installed: &str) -> Finding {
    if running == installed {
        return Finding::good("version", format!("{running} runs, as installed"));
    }
    Finding::warning(
        "version",
        format!("{running} runs, this program is {installed}"),
        "systemctl reload medmesh@TIER: the node goes on as the installed version",
    )
}

/// The tier above: whether it is there, the right one, takes this node's certificate, and what time it is there.
pub async fn above(node: &Node) -> Vec<Finding> {
    let Some((urls, there)) = &node.uplink else {
        return Vec::new();
    };
    let time = Arc::new(|| Clock::new(None).real());
    // Its own check says what is wrong with the certificates.
    let Ok(tls) = ReloadingTls::open(paths(&node.tls).keeping(&node.data_dir), false, time) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for url in urls {
        let found = one_above(url, there, &tls).await;
        if found.iter().any(|it| it.level == Level::Good) {
            // Of the nodes of a region one answers.
            return found;
        }
        findings.extend(found);
    }
    findings
}

async fn one_above(url: &str, there: &Place, tls: &ReloadingTls) -> Vec<Finding> {
    const CHECK: &str = "above";
    match look(url, there, tls).await {
        Ok(said) => {
            let mut findings = vec![Finding::good(CHECK, format!("{there} answers at {url}"))];
            // What was looked at before may have taken seconds.
            let now = Clock::new(None).real();
            findings.extend(said.map(|said| judge_clocks(now, said)));
            findings
        }
        Err(error) => vec![Finding::new(
            CHECK,
            // The facility stores and alarms without it; what is measured waits.
            Level::Warning,
            format!("{there} at {url}: {error}"),
            "look whether it runs (medmesh status), at the network between, at its certificate and time, and whether this \
             node's was revoked (medmesh pki list)",
        )],
    }
}

fn judge_clocks(here: Timestamp, there: Timestamp) -> Finding {
    let apart = here.since(there);
    let (seconds, tenths) = (apart.abs() / 1_000, apart.abs() % 1_000 / 100);
    let says = format!("differs by {seconds}.{tenths} s from the tier above");
    let advice = "set both clocks by a time server: timedatectl set-ntp true";
    if apart.abs() <= CLOCKS_SOON_MS {
        Finding::good("clock", says)
    } else if apart.abs() <= CLOCKS_MS {
        Finding::warning("clock", says, advice)
    } else {
        Finding::bad("clock", says, advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_holds_or_that_the_node_lacks_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(holder(address), Holder::Somebody);
        // TEST-NET-1 (RFC 5737 §3) is nobody's address.
        let nowhere: SocketAddr = "192.0.2.1:1".parse().unwrap();
        assert!(matches!(holder(nowhere), Holder::Unusable(_)));
        use Holder::{Nobody, Somebody, Unusable};
        use Level::{Bad, Good};
        for (runs, holder, level) in [
            (true, Somebody, Good),
            (true, Nobody, Bad),
            (false, Nobody, Good),
            (false, Somebody, Bad),
            (false, Unusable(io::ErrorKind::PermissionDenied), Bad),
        ] {
            let found = judge_ports(runs, &[("https.listen", address, holder)]);
            assert_eq!(found[0].level, level, "{found:?}");
            assert_eq!(found[0].advice.is_empty(), level == Good);
        }
    }

    #[test]
    fn clocks_that_are_apart_and_another_version_are_found() {
        let levels = [0, 2_000, -4_000, 6 * 60_000, -6 * 60_000]
            .map(|ms| judge_clocks(Timestamp(0), Timestamp(ms)).level);
        use Level::{Bad, Good, Warning};
        assert_eq!(levels, [Good, Good, Warning, Bad, Bad]);
        assert_eq!(judge_version("1.0.0", "1.0.0").level, Good);
        assert_eq!(judge_version("1.0.0", "1.1.0").level, Warning);
    }
}
