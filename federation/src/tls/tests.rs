//! TLS between real sockets, with certificates of a real authority and a clock that the test sets.
use super::*;
use crate::{
    pki,
    testbed::{Holder, NOW, Testbed, device, eventually, node, place, uri},
};
use std::{io, path::PathBuf, sync::atomic::Ordering};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const US: &str = "regional/us/us";

/// What each side of one handshake says: the server whom it sees, the client whether it was let in.
async fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (io::Result<Peer>, io::Result<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(server).accept(tcp).await?;
        let cert = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        stream.write_all(b"x").await?;
        stream.shutdown().await?;
        Ok(Peer::from_cert(&cert).unwrap())
    };
    let dial = async {
        let tcp = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(client);
        let mut stream = connector.connect(ReloadingTls::server_name(), tcp).await?;
        // With TLS 1.3 a client learns only by reading that its certificate was refused.
        stream.read_exact(&mut [0]).await?;
        Ok(())
    };
    tokio::join!(serve, dial)
}

struct Pair {
    bed: Testbed,
    server: Arc<ReloadingTls>,
    region: Holder,
    edge: Holder,
}

fn pair() -> Pair {
    let bed = Testbed::new();
    let region = bed.holder(&node(US));
    let edge = bed.holder(&node("edge/us/us/us-f1"));
    Pair {
        server: bed.tls(&region),
        bed,
        region,
        edge,
    }
}

impl Pair {
    /// The edge's or another holder's handshake with the region.
    async fn dial(&self, client: &Holder) -> (io::Result<Peer>, io::Result<()>) {
        let client = self.bed.tls(client).client_mtls(&place(US)).unwrap();
        shake(self.server.server_mtls().unwrap(), client).await
    }

    /// The edge's handshake with another server.
    async fn meet(&self, server: &Holder) -> (io::Result<Peer>, io::Result<()>) {
        let client = self.bed.tls(&self.edge).client_mtls(&place(US)).unwrap();
        let server = self.bed.tls(server).server_mtls().unwrap();
        shake(server, client).await
    }
}

#[track_caller]
fn certificate_error<T: fmt::Debug>(result: io::Result<T>) -> String {
    let error = result.expect_err("refused");
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!("{why:?}"),
        other => panic!("not about the certificate: {other:?} ({error})"),
    }
}

#[tokio::test]
async fn two_nodes_of_the_mesh_know_each_other_by_their_certificates() {
    let pair = pair();
    let (seen, in_) = pair.dial(&pair.edge).await;
    in_.unwrap();
    let seen = seen.unwrap();
    assert_eq!(seen.identity, pair.edge.identity);
    assert_eq!(seen.key, Some(pair.edge.key.verifying_key()));
}

#[tokio::test]
async fn a_peer_of_another_authority_is_refused_by_both_sides() {
    let pair = pair();
    let other = Testbed::new();
    let stranger = other.holder(&node("edge/us/us/us-f1"));
    let trusting = {
        // It trusts our authority, so that the refusal is the server's.
        let mut paths = stranger.clone();
        paths.paths.ca = pair.bed.ca.ca_path();
        paths.paths.crl = pair.bed.ca.crl_path();
        paths
    };
    let (seen, in_) = pair.dial(&trusting).await;
    assert!(certificate_error(seen).contains("UnknownIssuer"));
    in_.unwrap_err();
    let region = other.holder(&node(US));
    let (_, in_) = pair.meet(&region).await;
    assert!(certificate_error(in_).contains("UnknownIssuer"));
}

#[tokio::test]
async fn a_certificate_before_or_after_its_time_is_refused_by_both_sides() {
    let pair = pair();
    let hour = 3_600_000;
    for (from, until, expected) in [
        (NOW.plus_ms(-2 * hour), NOW.plus_ms(-hour), "Expired"),
        (NOW.plus_ms(hour), NOW.plus_ms(2 * hour), "NotValidYet"),
    ] {
        let edge = pair
            .bed
            .odd(vec![uri("spiffe://medmesh/edge/us/us/us-f1")], from, until);
        let (seen, _) = pair.dial(&edge).await;
        assert!(certificate_error(seen).contains(expected));
        let region = pair
            .bed
            .odd(vec![uri("spiffe://medmesh/regional/us/us")], from, until);
        let (_, in_) = pair.meet(&region).await;
        assert!(certificate_error(in_).contains(expected));
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_name_one_node_of_the_mesh_is_refused() {
    let pair = pair();
    let good = "spiffe://medmesh/edge/us/us/us-f1";
    let (from, until) = (NOW, NOW.plus_days(1));
    for (names, expected) in [
        (vec![], "UriCount { found: 0 }"),
        (
            vec![uri(good), uri("spiffe://medmesh/global")],
            "UriCount { found: 2 }",
        ),
        (vec![uri(good), uri(good)], "UriCount { found: 2 }"),
        (
            vec![uri(good), uri("https://example.org/")],
            "UriCount { found: 2 }",
        ),
        (vec![uri("spiffe://elsewhere/global")], "Foreign"),
        (
            vec![uri("spiffe://medmesh/device/us/us/us-f1/lab-1")],
            "a node",
        ),
    ] {
        let client = pair.bed.tls(&pair.edge).client_mtls(&place(US)).unwrap();
        let odd = pair.bed.odd(names, from, until);
        // Such a node cannot even read its own files, so only its certificate and key are used.
        let mut config = ClientConfig::clone(&client);
        config.client_auth_cert_resolver = Arc::new(Fixed::load(&odd));
        let (seen, _) = shake(pair.server.server_mtls().unwrap(), Arc::new(config)).await;
        let error = certificate_error(seen);
        assert!(error.contains(expected), "{error}");
    }
}

/// A certificate whatever it says.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl Fixed {
    fn load(holder: &Holder) -> Self {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let chain = vec![CertificateDer::from_pem_file(&holder.paths.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&holder.paths.key).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        Self(Arc::new(
            CertifiedKey::from_der(chain, key, &provider).unwrap(),
        ))
    }
}

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let pair = pair();
    let client = pair.bed.tls(&pair.edge).client_mtls(&place(US)).unwrap();
    let mut config = ClientConfig::clone(&client);
    config.client_auth_cert_resolver =
        Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(
            Arc::clone(&Fixed::load(&pair.edge).0),
        ));
    let (seen, _) = shake(pair.server.server_mtls().unwrap(), Arc::new(config)).await;
    seen.unwrap_err();
}

#[tokio::test]
async fn a_server_that_is_another_node_is_refused_and_named() {
    let pair = pair();
    for other in [
        "regional/eu/eu",
        "regional/us/west",
        "global",
        "edge/us/us/us-f1",
    ] {
        let server = pair.bed.holder(&node(other));
        let (_, in_) = pair.meet(&server).await;
        let error = in_.unwrap_err();
        let tls = error.get_ref().unwrap().downcast_ref().unwrap();
        let expected = UnexpectedPeer::Other {
            expected: US.into(),
            found: node(other),
        };
        assert_eq!(UnexpectedPeer::from_tls(tls), Some(&expected));
    }
}

#[tokio::test]
async fn a_revoked_peer_is_refused_by_both_sides_once_the_list_is_read() {
    let pair = pair();
    pair.dial(&pair.edge).await.1.unwrap();
    pair.bed.revoke(&pair.edge);
    assert!(pair.server.look().unwrap());
    let (seen, in_) = pair.dial(&pair.edge).await;
    assert_eq!(certificate_error(seen), "Revoked");
    in_.unwrap_err();
    let other = pair.bed.holder(&node("edge/us/us/us-f2"));
    pair.dial(&other).await.1.unwrap();
    pair.bed.revoke(&pair.region);
    let (_, in_) = pair.meet(&pair.region).await;
    assert_eq!(certificate_error(in_), "Revoked");
}

#[tokio::test]
async fn an_open_connection_is_cut_when_its_peer_is_revoked_or_expires() {
    let pair = pair();
    let edge = pair.bed.tls(&pair.edge).me();
    let cut = tokio::spawn(pair.server.cut(&edge));
    let other = tokio::spawn(pair.server.cut(&pair.server.me()));
    pair.bed.revoke(&pair.edge);
    assert!(!cut.is_finished());
    pair.server.look().unwrap();
    assert_eq!(cut.await.unwrap(), Cut::Revoked);
    assert!(!other.is_finished());
    other.abort();
    let end = pair.server.me().not_after;
    pair.bed.now.store(end.0 + 1, Ordering::SeqCst);
    assert_eq!(pair.server.cut(&pair.server.me()).await, Cut::Expired);
}

#[tokio::test]
async fn a_rotated_certificate_is_shown_by_the_configuration_handed_out_before() {
    let pair = pair();
    let server = pair.server.server_mtls().unwrap();
    let edge = pair.bed.tls(&pair.edge);
    let client = edge.client_mtls(&place(US)).unwrap();
    let before = edge.me().serial;
    let (seen, _) = shake(Arc::clone(&server), Arc::clone(&client)).await;
    assert_eq!(seen.unwrap().serial, before);
    pair.bed.renew(&pair.edge);
    pair.bed.renew(&pair.region);
    assert!(edge.look().unwrap() && pair.server.look().unwrap());
    let (seen, in_) = shake(server, client).await;
    in_.unwrap();
    let after = seen.unwrap().serial;
    assert_ne!(after, before);
    assert_eq!(after, edge.me().serial);
}

#[tokio::test]
async fn the_watch_takes_new_files_over_and_ends_when_told() {
    let pair = pair();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&pair.server).watch(stop.clone()));
    let before = pair.server.me().serial;
    pair.bed.renew(&pair.region);
    eventually("the new certificate", || pair.server.me().serial != before).await;
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn files_that_are_broken_or_of_another_holder_are_refused_and_the_former_stay() {
    let pair = pair();
    let paths = &pair.region.paths;
    let serial = pair.server.me().serial;
    let other = pair.bed.holder(&node("regional/eu/eu"));
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    let (cert, key) = (read(&paths.cert), read(&paths.key));
    let write = |path: &PathBuf, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    for (bad_cert, bad_key) in [
        (&b"nonsense"[..], &key[..]),
        (b"", &key),
        (&cert, b"nonsense"),
        (&cert, &read(&other.paths.key)),
        (&read(&other.paths.cert), &read(&other.paths.key)),
    ] {
        write(&paths.cert, bad_cert);
        write(&paths.key, bad_key);
        pair.server.look().unwrap_err();
        assert!(!pair.server.look().unwrap(), "tried once");
        assert_eq!(pair.server.me().serial, serial);
        pair.dial(&pair.edge).await.1.unwrap();
    }
    std::fs::remove_file(&paths.cert).unwrap();
    assert!(matches!(pair.server.look(), Err(TlsError::Io { .. })));
    write(&paths.cert, &cert);
    write(&paths.key, &key);
    pair.server.look().unwrap();
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_keeps_no_list_from_counting() {
    let pair = pair();
    let other = pair.bed.holder(&node("edge/us/us/us-f2"));
    pair.dial(&other).await.1.unwrap();
    let (paths, serial) = (&pair.region.paths, pair.server.me().serial);
    std::fs::write(&paths.cert, "nonsense").unwrap();
    pair.server.look().unwrap_err();
    pair.bed.revoke(&other);
    pair.server.look().unwrap_err();
    let (seen, _) = pair.dial(&other).await;
    assert_eq!(certificate_error(seen), "Revoked");
    pair.dial(&pair.edge).await.1.unwrap();
    assert_eq!(pair.server.me().serial, serial);
    // Another pair is taken as ever.
    pair.bed.renew(&pair.region);
    assert!(pair.server.look().unwrap());
    assert_ne!(pair.server.me().serial, serial);
}

#[tokio::test]
async fn a_pair_that_cannot_be_read_keeps_no_list_from_counting() {
    let pair = pair();
    let other = pair.bed.holder(&node("edge/us/us/us-f2"));
    std::fs::remove_file(&pair.region.paths.key).unwrap();
    let is_said = || matches!(pair.server.look(), Err(TlsError::Io { .. }));
    assert!(is_said() && is_said(), "as long as it cannot be read");
    pair.bed.revoke(&other);
    assert!(is_said());
    let (seen, _) = pair.dial(&other).await;
    assert_eq!(certificate_error(seen), "Revoked");
    pair.dial(&pair.edge).await.1.unwrap();
    pair.bed.renew(&pair.region);
    assert!(pair.server.look().unwrap());
}

#[tokio::test]
async fn a_list_that_is_older_or_of_another_authority_is_refused() {
    let pair = pair();
    let mut region = pair.region.clone();
    region.paths.crl = pair.bed.dir.path().join("delivered.pem");
    let older = std::fs::read(pair.bed.ca.crl_path()).unwrap();
    pair.bed.revoke(&pair.edge);
    std::fs::copy(pair.bed.ca.crl_path(), &region.paths.crl).unwrap();
    let tls = pair.bed.tls(&region);
    let edge = pair.bed.tls(&pair.edge).me().serial;
    assert!(tls.revocations().borrow().contains(&edge));
    std::fs::write(&region.paths.crl, older).unwrap();
    assert!(matches!(tls.look(), Err(TlsError::OlderList { .. })));
    std::fs::copy(Testbed::new().ca.crl_path(), &region.paths.crl).unwrap();
    assert!(matches!(tls.look(), Err(TlsError::ListSignature { .. })));
    assert!(tls.revocations().borrow().contains(&edge));
}

/// A holder that trusts the authorities of both, and has their lists.
fn trusting_both(bed: &Testbed, other: &Testbed, holder: &Holder) -> Holder {
    let both = |of: fn(&Testbed) -> PathBuf, name: &str| {
        let texts = [bed, other].map(|it| std::fs::read_to_string(of(it)).unwrap());
        let path = bed.dir.path().join(name);
        std::fs::write(&path, texts.concat()).unwrap();
        path
    };
    let mut holder = holder.clone();
    holder.paths.ca = both(|it| it.ca.ca_path(), "both-ca.pem");
    holder.paths.crl = both(|it| it.ca.crl_path(), "both-crl.pem");
    holder
}

#[tokio::test]
async fn who_trusts_two_authorities_takes_the_holders_of_both_and_refuses_what_either_revoked() {
    let (pair, other) = (pair(), Testbed::new());
    let both = |holder: &Holder| trusting_both(&pair.bed, &other, holder);
    let region = pair.bed.tls(&both(&pair.region));
    let shakes = async |holder: &Holder| {
        let client = pair.bed.tls(&both(holder)).client_mtls(&place(US)).unwrap();
        shake(region.server_mtls().unwrap(), client).await.0
    };
    let former = pair.edge.clone();
    let rolled = other.holder(&node("edge/us/us/us-f2"));
    for holder in [&former, &rolled] {
        assert_eq!(shakes(holder).await.unwrap().identity, holder.identity);
    }
    for (bed, holder) in [(&pair.bed, &former), (&other, &rolled)] {
        bed.revoke(holder);
        both(holder);
        assert!(region.look().unwrap());
        assert_eq!(certificate_error(shakes(holder).await), "Revoked");
    }
}

#[tokio::test]
async fn the_broker_takes_devices_alone_and_goes_on_with_an_old_list() {
    let pair = pair();
    let lab = pair.bed.holder(&device());
    let broker = || pair.server.server_mqtt(false).unwrap();
    let client = |holder: &Holder| {
        let mut config =
            ClientConfig::clone(&pair.bed.tls(holder).client_mtls(&place(US)).unwrap());
        config.alpn_protocols.clear();
        Arc::new(config)
    };
    let (seen, in_) = shake(broker(), client(&lab)).await;
    in_.unwrap();
    assert_eq!(seen.unwrap().identity, device());
    let (seen, _) = shake(broker(), client(&pair.edge)).await;
    assert!(certificate_error(seen).contains("a device"));
    let (seen, _) = pair.dial(&lab).await;
    assert!(certificate_error(seen).contains("a node"));
    let late = NOW.plus_days(pki::CRL_DAYS + 1);
    pair.bed.now.store(late.0, Ordering::SeqCst);
    // The device cannot check the broker against an old list either, so only the broker's side is looked at.
    let (_, in_) = pair.dial(&pair.edge).await;
    assert!(certificate_error(in_).contains("ExpiredRevocationList"));
    pair.bed.revoke(&lab);
    pair.server.look().unwrap();
    pair.bed.now.store(NOW.0, Ordering::SeqCst);
    let (seen, _) = shake(broker(), client(&lab)).await;
    assert_eq!(certificate_error(seen), "Revoked");
}

/// A TLS 1.2 ClientHello as an old client sends it: version 3.3, one ECDHE suite, no supported_versions.
const TLS12_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x49, 0x01, 0x00, 0x00, 0x45, 0x03, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    0x00, 0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00, 0x00, 0x1a, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00,
    0x17, 0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03, 0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, 0x00,
    0x17, 0x00, 0x00,
];

#[tokio::test]
async fn a_client_of_tls_1_2_gets_a_protocol_version_alert() {
    let pair = pair();
    for server in [
        pair.server.server_mtls().unwrap(),
        pair.server.server_https().unwrap(),
        pair.server.server_mqtt(false).unwrap(),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(TLS12_HELLO).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(server).accept(tcp).await.unwrap_err();
        let mut alert = [0; 7];
        client.read_exact(&mut alert).await.unwrap();
        // RFC 8446 §6: alert (21), fatal (2), protocol_version (70).
        assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70));
    }
}

#[test]
fn session_secrets_are_logged_in_a_local_mesh_alone() {
    let asked = Some(OsStr::new("/nowhere/keys"));
    assert!(matches!(key_log(false, asked), Err(TlsError::KeyLog)));
    assert!(key_log(true, asked).is_ok());
    assert!(key_log(false, None).is_ok());
}
