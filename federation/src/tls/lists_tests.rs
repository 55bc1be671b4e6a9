//! Revocation lists that come from elsewhere than the node's own file.
use super::*;
use crate::pki::Reason;
use crate::testbed::{Holder, NOW, Testbed, node, place};
use std::path::Path;

const US: &str = "regional/us/us";
const EDGE: &str = "edge/us/us/us-f1";

/// A node with a list of its own, which nobody renews, and what peers sent beside it.
fn node_apart(bed: &Testbed, who: &str, dir: &Path) -> Holder {
    let mut holder = bed.holder(&node(who));
    let name = who.replace('/', "-");
    holder.paths.crl = dir.join(format!("{name}.crl"));
    std::fs::copy(bed.ca.crl_path(), &holder.paths.crl).unwrap();
    holder.paths.received = Some(dir.join(format!("{name}.received")));
    holder
}

/// What a node shows its peers.
fn shown(tls: &ReloadingTls) -> Vec<Vec<u8>> {
    let revocations = tls.revocations().borrow().clone();
    revocations.lists().map(|der| der.to_vec()).collect()
}

#[test]
fn a_newer_list_of_a_peer_counts_at_once_and_after_a_restart_and_an_older_one_never() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let region = node_apart(&bed, US, dir.path());
    let edge = bed.holder(&node(EDGE));
    let (tls, edge) = (bed.tls(&region), bed.tls(&edge));
    let older = shown(&tls);
    assert!(!tls.take_lists(&older).unwrap(), "the same list is no news");
    bed.ca
        .revoke(&edge.me().serial, Reason::Unspecified, NOW)
        .unwrap();
    edge.look().unwrap();
    let newer = shown(&edge);
    assert!(!tls.revocations().borrow().contains(&edge.me().serial));
    assert!(tls.take_lists(&newer).unwrap());
    assert!(tls.revocations().borrow().contains(&edge.me().serial));
    assert!(!tls.take_lists(&older).unwrap());
    assert!(!tls.take_lists(&newer).unwrap());
    // Its own file still holds the old list.
    let again = bed.tls(&region);
    assert!(again.revocations().borrow().contains(&edge.me().serial));
    let until = |paths: &TlsPaths| {
        let ends = ends(paths).unwrap();
        ends.iter().find(|end| end.key == "tls.crl").unwrap().until
    };
    let late = NOW.plus_days(9);
    bed.ca.crl_pem(late).unwrap();
    edge.look().unwrap();
    let before = until(&region.paths);
    assert!(tls.take_lists(&shown(&edge)).unwrap());
    assert_eq!(until(&region.paths), before.plus_days(9));
}

#[test]
fn a_list_of_a_peer_counts_where_the_nodes_own_certificate_cannot_be_read() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let region = node_apart(&bed, US, dir.path());
    let (tls, edge) = (bed.tls(&region), bed.tls(&bed.holder(&node(EDGE))));
    bed.ca
        .revoke(&edge.me().serial, Reason::Unspecified, NOW)
        .unwrap();
    edge.look().unwrap();
    std::fs::remove_file(&region.paths.cert).unwrap();
    assert!(tls.take_lists(&shown(&edge)).unwrap());
    assert!(tls.revocations().borrow().contains(&edge.me().serial));
}

#[test]
fn what_no_authority_of_the_node_signed_is_no_list_whoever_sends_it() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let region = node_apart(&bed, US, dir.path());
    let tls = bed.tls(&region);
    let foreign = Testbed::new();
    for _ in 0..9 {
        foreign.ca.crl_pem(NOW).unwrap();
    }
    let foreign = foreign.tls(&foreign.holder(&node(US)));
    let mut bent = shown(&tls);
    if let Some(last) = bent[0].last_mut() {
        *last ^= 1;
    }
    for lists in [
        shown(&foreign),
        bent,
        vec![b"no list".to_vec()],
        vec![Vec::new()],
        Vec::new(),
    ] {
        assert!(!tls.take_lists(&lists).unwrap());
    }
    assert!(!region.paths.received.as_ref().unwrap().exists());
    // A good one among bad ones is taken.
    let edge = bed.tls(&bed.holder(&node(EDGE)));
    bed.ca
        .revoke(&edge.me().serial, Reason::Unspecified, NOW)
        .unwrap();
    edge.look().unwrap();
    let lists = [shown(&foreign), vec![b"no list".to_vec()], shown(&edge)].concat();
    assert!(tls.take_lists(&lists).unwrap());
    assert!(tls.revocations().borrow().contains(&edge.me().serial));
}

#[test]
fn what_was_received_and_is_damaged_is_left_out_and_comes_again() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let region = node_apart(&bed, US, dir.path());
    let edge = bed.tls(&bed.holder(&node(EDGE)));
    bed.ca
        .revoke(&edge.me().serial, Reason::Unspecified, NOW)
        .unwrap();
    edge.look().unwrap();
    let received = region.paths.received.clone().unwrap();
    for damaged in [
        "",
        "nonsense",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ] {
        std::fs::write(&received, damaged).unwrap();
        let tls = bed.tls(&region);
        assert!(!tls.revocations().borrow().contains(&edge.me().serial));
        assert!(tls.take_lists(&shown(&edge)).unwrap());
        assert!(tls.revocations().borrow().contains(&edge.me().serial));
    }
}

#[test]
fn a_list_of_an_authority_that_is_gone_is_not_missed_and_one_of_each_is_kept() {
    let (bed, other, dir) = (Testbed::new(), Testbed::new(), tempfile::tempdir().unwrap());
    let mut region = node_apart(&bed, US, dir.path());
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let (ours, theirs) = (read(&bed.ca.ca_path()), read(&other.ca.ca_path()));
    for _ in 0..5 {
        bed.ca.crl_pem(NOW).unwrap();
    }
    region.paths.ca = dir.path().join("both.pem");
    std::fs::write(&region.paths.ca, format!("{ours}{theirs}")).unwrap();
    let lists = format!("{}{}", read(&bed.ca.crl_path()), read(&other.ca.crl_path()));
    std::fs::write(&region.paths.crl, lists).unwrap();
    let tls = bed.tls(&region);
    assert_eq!(shown(&tls).len(), 2);
    // The other authority's next list has a lower number than ours has.
    let edge = other.tls(&other.holder(&node(EDGE)));
    other
        .ca
        .revoke(&edge.me().serial, Reason::Unspecified, NOW)
        .unwrap();
    edge.look().unwrap();
    assert!(tls.take_lists(&shown(&edge)).unwrap());
    assert!(tls.revocations().borrow().contains(&edge.me().serial));
    assert_eq!(shown(&tls).len(), 2);
    // Rolled: the other one goes, and its list with it.
    std::fs::write(&region.paths.ca, ours).unwrap();
    std::fs::copy(bed.ca.crl_path(), &region.paths.crl).unwrap();
    assert!(tls.look().unwrap());
    assert_eq!(shown(&tls).len(), 1);
}

#[test]
fn what_the_authority_beside_a_node_revokes_counts_without_a_copy() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let mut region = node_apart(&bed, US, dir.path());
    region.paths = region.paths.beside(bed.ca.ca_path().parent());
    let tls = bed.tls(&region);
    let edge = bed.tls(&bed.holder(&node(EDGE))).me().serial;
    bed.ca.revoke(&edge, Reason::Unspecified, NOW).unwrap();
    assert!(tls.look().unwrap());
    assert!(tls.revocations().borrow().contains(&edge));
    assert!(tls.client_mtls(&place(US)).is_ok());
}
