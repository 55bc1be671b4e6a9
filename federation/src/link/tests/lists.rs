//! Revocation lists that go from node to node.
use super::*;
use crate::{pki::Reason, testbed::NOW, tls::Revocations};
use std::path::Path;

/// A holder whose list nobody brings: what it learns, it learns from its peers.
fn apart(bed: &Testbed, who: &str) -> Holder {
    let mut holder = bed.holder(&node(who));
    let at = |end: &str| {
        let name = format!("{}.{end}", who.replace('/', "-"));
        bed.dir.path().join(name)
    };
    holder.paths.crl = at("crl");
    holder.paths.received = Some(at("received"));
    std::fs::copy(bed.ca.crl_path(), &holder.paths.crl).unwrap();
    holder
}

fn edge_of(bed: &Testbed, holder: &Holder, to: SocketAddr) -> (Edge, Arc<ReloadingTls>) {
    let here = holder.identity.place().unwrap().to_string();
    let outbox = Arc::new(MemOutbox::new(&here, US));
    let audit = Arc::new(MemGate::default());
    let tls = bed.tls(holder);
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        audit: Arc::clone(&audit) as _,
        tls: Arc::clone(&tls),
        ..parts(bed, holder, to, US)
    })
    .unwrap();
    let (state, stop) = (uplink.state(), CancellationToken::new());
    let running = tokio::spawn(uplink.run(stop.clone()));
    let edge = Edge {
        outbox,
        state,
        audit,
        stop,
        running,
    };
    (edge, tls)
}

/// The authority's newest list is put at one node alone.
fn bring(bed: &Testbed, crl: &Path, tls: &ReloadingTls) {
    std::fs::copy(bed.ca.crl_path(), crl).unwrap();
    assert!(tls.look().unwrap());
}

#[tokio::test]
async fn what_is_revoked_is_known_at_every_node_and_open_links_end_wherever_the_list_came_in() {
    let bed = Testbed::new();
    let us = apart(&bed, US);
    let mut facilities = ["us-f1", "us-f2", "us-f3"].map(|name| {
        let who = format!("edge/us/us/{name}");
        apart(&bed, &who)
    });
    let region = region(&bed, &us).await;
    let [f1, f2, f3] = &mut facilities;
    let (mut first, one) = edge_of(&bed, f1, region.address);
    let (mut second, two) = edge_of(&bed, f2, region.address);
    let (mut third, three) = edge_of(&bed, f3, region.address);
    for edge in [&mut first, &mut second, &mut third] {
        edge.up().await;
    }
    // Up and down: the list comes in at a facility.
    let revoked = one.me().serial;
    bed.ca.revoke(&revoked, Reason::KeyCompromise, NOW).unwrap();
    let begun = std::time::Instant::now();
    bring(&bed, &f2.paths.crl, &two);
    first.down().await;
    let knows = |tls: &ReloadingTls| tls.revocations().borrow().contains(&revoked);
    eventually("the region knows", || knows(&region.tls)).await;
    eventually("the other facility knows", || knows(&three)).await;
    println!(
        "revoked, cut off and known everywhere after {:.2?}",
        begun.elapsed()
    );
    first.outbox.add(Priority::Live, 10);
    third.outbox.add(Priority::Live, 10);
    third.drained().await;
    assert_eq!(first.outbox.waiting(), 1);
    // Down: it comes in at the region, and whoever connects later hears it too.
    bed.ca
        .revoke(&three.me().serial, Reason::KeyCompromise, NOW)
        .unwrap();
    bring(&bed, &us.paths.crl, &region.tls);
    third.down().await;
    let all = |tls: &ReloadingTls| Revocations::len(&tls.revocations().borrow()) == 2;
    eventually("the facility that stays knows", || all(&two)).await;
    let (mut later, tls) = edge_of(&bed, &apart(&bed, "edge/us/us/us-f4"), region.address);
    later.up().await;
    eventually("who comes later knows", || all(&tls)).await;
}
