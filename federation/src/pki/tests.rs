//! The authority: who gets a certificate, and who does not.
use super::*;
use ed25519_dalek::SigningKey;
use rand::{SeedableRng, rngs::StdRng};
use std::os::unix::fs::PermissionsExt;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const TTL: Duration = Duration::from_secs(60);

struct Setting {
    dir: tempfile::TempDir,
    ca: Ca,
    rng: StdRng,
}

fn setting() -> Setting {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::init(&dir.path().join("ca"), NOW).unwrap();
    let rng = StdRng::seed_from_u64(7);
    Setting { dir, ca, rng }
}

fn node(text: &str) -> Identity {
    Identity::Node(text.parse().unwrap())
}

fn device() -> Identity {
    "spiffe://medmesh/device/us/us/us-f1/lab-1".parse().unwrap()
}

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

impl Setting {
    fn code(&mut self, identity: &Identity) -> Secret<String> {
        let names = match identity {
            Identity::Node(_) => &LOCAL_NAMES[..],
            Identity::Device { .. } => &[],
        };
        self.ca
            .invite(identity, names, TTL, NOW, &mut self.rng)
            .unwrap()
    }

    fn enrol(&mut self, identity: &Identity) -> (NewKey, String) {
        let code = self.code(identity);
        let key = identity.place().map(|_| signing(1));
        let new = new_key_and_csr(identity, key.as_ref()).unwrap();
        let pem = self.ca.enrol(&code, &new.csr_pem, NOW, &mut self.rng);
        (new, pem.unwrap())
    }
}

fn peer(pem: &str) -> Peer {
    Peer::from_cert(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

#[test]
fn an_invited_node_gets_its_identity_its_node_key_and_ninety_days() {
    let mut s = setting();
    let identity = node("edge/us/us/us-f1");
    let (_, pem) = s.enrol(&identity);
    let peer = peer(&pem);
    assert_eq!(peer.identity, identity);
    assert_eq!(peer.key, Some(signing(1).verifying_key()));
    assert_eq!(peer.not_after, NOW.plus_days(NODE_DAYS));
    let listed = s.ca.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].serial, peer.serial);
    assert_eq!(listed[0].pem, pem);
}

#[test]
fn a_device_may_be_a_client_only_and_has_no_node_key() {
    let mut s = setting();
    let (_, pem) = s.enrol(&device());
    assert!(peer(&pem).key.is_none());
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    let usage = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    assert!(!cert.is_ca());
}

#[test]
fn a_code_works_once() {
    let mut s = setting();
    let identity = device();
    let code = s.code(&identity);
    let new = new_key_and_csr(&identity, None).unwrap();
    s.ca.enrol(&code, &new.csr_pem, NOW, &mut s.rng).unwrap();
    let again = s.ca.enrol(&code, &new.csr_pem, NOW, &mut s.rng);
    assert!(matches!(again, Err(PkiError::CodeUsed)));
    assert_eq!(s.ca.list().unwrap().len(), 1);
}

#[test]
fn a_code_that_is_unknown_or_expired_is_refused() {
    let mut s = setting();
    let code = s.code(&device());
    let new = new_key_and_csr(&device(), None).unwrap();
    let unknown =
        s.ca.enrol(&Secret::new("00".into()), &new.csr_pem, NOW, &mut s.rng);
    assert!(matches!(unknown, Err(PkiError::CodeUnknown)));
    let late = NOW.plus_ms(60_000);
    let expired = s.ca.enrol(&code, &new.csr_pem, late, &mut s.rng);
    assert!(matches!(expired, Err(PkiError::CodeExpired { .. })));
}

#[test]
fn a_code_is_not_in_the_authoritys_files() {
    let mut s = setting();
    let code = s.code(&device());
    let file = std::fs::read(s.dir.path().join("ca/ca.db")).unwrap();
    let raw = hex::decode(code.reveal()).unwrap();
    for secret in [code.reveal().as_bytes(), &raw] {
        assert!(!file.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_request_of_another_identity_key_or_signature_is_refused_and_keeps_the_code() {
    let mut s = setting();
    let identity = node("edge/us/us/us-f1");
    let code = s.code(&identity);
    let key = signing(1);
    let other = new_key_and_csr(&node("edge/us/us/us-f2"), Some(&key)).unwrap();
    let keyless = new_key_and_csr(&identity, None).unwrap();
    let good = new_key_and_csr(&identity, Some(&key)).unwrap();
    let mut der =
        rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(good.csr_pem.as_bytes())
            .unwrap()
            .to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let forged = pem_of(&der);
    let p384 = {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let params = rcgen::CertificateParams::default();
        params.serialize_request(&pair).unwrap().pem().unwrap()
    };
    for csr in [&other.csr_pem, &keyless.csr_pem, &forged, &p384, ""] {
        let refused = s.ca.enrol(&code, csr, NOW, &mut s.rng);
        assert!(matches!(refused, Err(PkiError::Request(_))), "{refused:?}");
    }
    s.ca.enrol(&code, &good.csr_pem, NOW, &mut s.rng).unwrap();
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn a_node_key_that_did_not_sign_this_request_is_refused() {
    let mut s = setting();
    let identity = node("edge/us/us/us-f1");
    let code = s.code(&identity);
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut content = vec![0x04, 96];
    content.extend(signing(9).verifying_key().as_bytes());
    content.extend([7; 64]);
    let mut params = rcgen::CertificateParams::default();
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(
        &crate::identity::NODE_KEY_OID,
        content,
    )];
    let csr = params.serialize_request(&pair).unwrap().pem().unwrap();
    let refused = s.ca.enrol(&code, &csr, NOW, &mut s.rng);
    assert!(matches!(refused, Err(PkiError::Request(_))));
}

#[test]
fn the_holder_rotates_and_keeps_identity_and_names() {
    let mut s = setting();
    let identity = node("regional/eu/eu");
    let (old, old_pem) = s.enrol(&identity);
    let new = new_key_and_csr(&identity, Some(&signing(1))).unwrap();
    let proof = rotation_proof(&old.key_pem, &new.csr_pem).unwrap();
    let later = NOW.plus_days(60);
    let pem =
        s.ca.rotate(&old_pem, &new.csr_pem, &proof, later, &mut s.rng)
            .unwrap();
    let listed = s.ca.list().unwrap();
    assert_eq!(listed[1].serial, peer(&pem).serial);
    assert_eq!(listed[1].identity, identity);
    assert_eq!(listed[1].names, listed[0].names);
    assert_eq!(listed[1].not_after, later.plus_days(NODE_DAYS));
}

#[test]
fn nobody_rotates_a_certificate_whose_key_they_do_not_have() {
    let mut s = setting();
    let identity = node("regional/eu/eu");
    let (_, pem) = s.enrol(&identity);
    let thief = new_key_and_csr(&identity, Some(&signing(2))).unwrap();
    let proof = rotation_proof(&thief.key_pem, &thief.csr_pem).unwrap();
    for proof in [&proof[..], &[], &[0; 70]] {
        let refused = s.ca.rotate(&pem, &thief.csr_pem, proof, NOW, &mut s.rng);
        assert!(matches!(refused, Err(PkiError::NotTheHolder(_))));
    }
}

#[test]
fn a_certificate_that_is_revoked_expired_or_foreign_does_not_rotate() {
    let mut s = setting();
    let identity = node("regional/eu/eu");
    let (old, pem) = s.enrol(&identity);
    let new = new_key_and_csr(&identity, Some(&signing(1))).unwrap();
    let proof = rotation_proof(&old.key_pem, &new.csr_pem).unwrap();
    let late = NOW.plus_days(NODE_DAYS).plus_ms(1_000);
    let expired = s.ca.rotate(&pem, &new.csr_pem, &proof, late, &mut s.rng);
    assert!(matches!(expired, Err(PkiError::NotValidNow(_))));
    let mut elsewhere = setting();
    let foreign = elsewhere
        .ca
        .rotate(&pem, &new.csr_pem, &proof, NOW, &mut s.rng);
    assert!(matches!(foreign, Err(PkiError::NotIssued(_))));
    let serial = peer(&pem).serial;
    s.ca.revoke(&serial, Reason::KeyCompromise, NOW).unwrap();
    let revoked = s.ca.rotate(&pem, &new.csr_pem, &proof, NOW, &mut s.rng);
    assert!(matches!(revoked, Err(PkiError::IsRevoked(_))));
    elsewhere.enrol(&identity);
}

#[test]
fn nobody_is_certified_by_the_word_of_one_whose_certificate_holds_no_longer() {
    let mut s = setting();
    let facility = node("edge/us/us/us-f1");
    let (_, pem) = s.enrol(&facility);
    let by = peer(&pem).serial;
    let new = new_key_and_csr(&device(), None).unwrap();
    let mut certify = |by: &Serial, now| {
        let asked = (by, &device());
        s.ca.certify_if(asked, &new.csr_pem, now, &mut s.rng, |_| true)
    };
    certify(&by, NOW).unwrap();
    let over = certify(&by, NOW.plus_days(NODE_DAYS + 1));
    assert!(matches!(over, Err(PkiError::NotValidNow(_))), "{over:?}");
    let foreign = certify(&Serial::new(&[1; 20]), NOW);
    assert!(
        matches!(foreign, Err(PkiError::NotIssued(_))),
        "{foreign:?}"
    );
    let place = facility.place().unwrap();
    s.ca.revoke_place(place, Reason::KeyCompromise, NOW)
        .unwrap();
    let revoked =
        s.ca.certify_if((&by, &device()), &new.csr_pem, NOW, &mut s.rng, |_| true);
    assert!(
        matches!(revoked, Err(PkiError::IsRevoked(_))),
        "{revoked:?}"
    );
    assert_eq!(s.ca.list().unwrap().len(), 2);
}

#[test]
fn revoking_writes_a_list_with_a_higher_number_and_is_one_step_when_repeated() {
    let mut s = setting();
    let (_, pem) = s.enrol(&device());
    let serial = peer(&pem).serial;
    let before = numbered(&std::fs::read(s.ca.crl_path()).unwrap());
    s.ca.revoke(&serial, Reason::Superseded, NOW).unwrap();
    s.ca.revoke(&serial, Reason::KeyCompromise, NOW.plus_ms(5))
        .unwrap();
    let after = numbered(&std::fs::read(s.ca.crl_path()).unwrap());
    assert!(after.0 > before.0);
    assert_eq!((before.1, after.1), (vec![], vec![serial.clone()]));
    let listed = s.ca.list().unwrap();
    let revoked = Revoked {
        at: NOW,
        reason: Reason::Superseded,
    };
    assert_eq!(listed[0].revoked, Some(revoked));
    let unknown = s.ca.revoke(&Serial::new(&[5]), Reason::Unspecified, NOW);
    assert!(matches!(unknown, Err(PkiError::NotIssued(_))));
}

fn numbered(pem: &[u8]) -> (u64, Vec<Serial>) {
    let der = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(pem).unwrap();
    let (_, list) =
        x509_parser::revocation_list::CertificateRevocationList::from_der(&der).unwrap();
    let number = list.crl_number().unwrap().to_u64_digits();
    let serials = list
        .iter_revoked_certificates()
        .map(|entry| Serial::new(entry.raw_serial()))
        .collect();
    (number.first().copied().unwrap_or(0), serials)
}

#[test]
fn an_authority_is_made_once_and_an_interrupted_one_is_completed() {
    let s = setting();
    let dir = s.dir.path().join("ca");
    assert!(matches!(Ca::init(&dir, NOW), Err(PkiError::Exists { .. })));
    let key = std::fs::read(dir.join("ca.key")).unwrap();
    std::fs::remove_file(dir.join("ca.pem")).unwrap();
    Ca::init(&dir, NOW).unwrap();
    assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), key);
}

#[test]
fn an_authority_of_which_a_part_is_lost_or_anothers_does_nothing() {
    let (s, other) = (setting(), setting());
    let at = |name: &str| s.dir.path().join("ca").join(name);
    let (key, pem) = (at("ca.key"), at("ca.pem"));
    let own = std::fs::read(&key).unwrap();
    std::fs::copy(other.dir.path().join("ca/ca.key"), &key).unwrap();
    let apart = || matches!(Ca::open(&at("")), Err(PkiError::NotTogether { .. }));
    assert!(apart(), "another's key");
    std::fs::write(&key, own).unwrap();
    let own = std::fs::read(&pem).unwrap();
    std::fs::write(&pem, "no certificate").unwrap();
    assert!(apart(), "no certificate");
    std::fs::write(&pem, own).unwrap();
    Ca::open(&at("")).unwrap();
    std::fs::remove_file(at("ca.db")).unwrap();
    // It would begin again with nothing revoked.
    let lost =
        || matches!(Ca::open(&at("")), Err(PkiError::Io { path, .. }) if path == at("ca.db"));
    assert!(lost());
    let made = Ca::init(&at(""), NOW);
    assert!(matches!(made, Err(PkiError::Exists { .. })));
    assert!(!at("ca.db").exists());
    std::fs::write(at("ca.db"), "").unwrap();
    assert!(lost(), "as a full disk leaves it");
}

#[test]
fn private_keys_are_readable_by_their_owner_alone_and_refused_otherwise() {
    let mut s = setting();
    let path = s.dir.path().join("node.key");
    let made = signing_key(&path, &mut s.rng).unwrap();
    let again = signing_key(&path, &mut s.rng).unwrap();
    assert_eq!(made.to_bytes(), again.to_bytes());
    for key in [&path, &s.dir.path().join("ca/ca.key")] {
        let mode = std::fs::metadata(key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    let exposed = load_signing_key(&path);
    assert!(matches!(exposed, Err(PkiError::KeyExposed { .. })));
    let exposed = Ca::open(&s.dir.path().join("ca"));
    assert!(matches!(exposed, Err(PkiError::KeyExposed { .. })));
}

#[test]
fn two_processes_enrol_with_one_code_and_one_of_them_gets_a_certificate() {
    let mut s = setting();
    let code = s.code(&device());
    let dir = s.dir.path().join("ca");
    let tries: Vec<_> = (0..4)
        .map(|seed| {
            let (dir, code) = (dir.clone(), code.clone());
            std::thread::spawn(move || {
                let ca = Ca::open(&dir).unwrap();
                let new = new_key_and_csr(&device(), None).unwrap();
                let mut rng = StdRng::seed_from_u64(seed);
                ca.enrol(&code, &new.csr_pem, NOW, &mut rng).is_ok()
            })
        })
        .collect();
    let got = tries.into_iter().map(|t| t.join().unwrap());
    assert_eq!(got.filter(|ok| *ok).count(), 1);
}

#[test]
fn an_invitation_without_an_end_or_with_an_impossible_host_name_is_refused() {
    let mut s = setting();
    for ttl in [Duration::ZERO, MAX_INVITATION + Duration::from_secs(1)] {
        let refused = s.ca.invite(&device(), &[], ttl, NOW, &mut s.rng);
        assert!(matches!(refused, Err(PkiError::InvitationTime)));
    }
    for name in ["", "a b", "*", "ä"] {
        let refused = s.ca.invite(&device(), &[name], TTL, NOW, &mut s.rng);
        assert!(matches!(refused, Err(PkiError::HostName(_))), "{name}");
    }
}

#[test]
fn a_client_key_is_a_pkcs8_and_a_public_pem() {
    let key = new_client_key().unwrap();
    assert!(
        key.private_pem
            .reveal()
            .starts_with("-----BEGIN PRIVATE KEY-----")
    );
    assert!(key.public_pem.starts_with("-----BEGIN PUBLIC KEY-----"));
}

#[test]
fn a_facility_is_revoked_with_its_devices_and_its_open_invitations_and_no_other() {
    let mut s = setting();
    let place: Place = "edge/us/us/us-f1".parse().unwrap();
    let (node_of_it, other) = (node("edge/us/us/us-f1"), node("edge/us/us/us-f2"));
    let ours = [&node_of_it, &node_of_it, &device()].map(|it| peer(&s.enrol(it).1).serial);
    let theirs = peer(&s.enrol(&other).1).serial;
    let (open, kept) = (s.code(&node_of_it), s.code(&other));
    s.ca.revoke(&ours[0], Reason::Superseded, NOW).unwrap();
    let later = NOW.plus_ms(1_000);
    let revoked = s.ca.revoke_place(&place, Reason::KeyCompromise, later);
    let revoked: Vec<_> = revoked.unwrap().into_iter().map(|it| it.serial).collect();
    assert_eq!(revoked, ours[1..]);
    let list = s.ca.list().unwrap();
    for issued in &list {
        assert_eq!(issued.revoked.is_some(), issued.serial != theirs);
    }
    // What was revoked before stays as it was.
    assert_eq!(list[0].revoked.unwrap().reason, Reason::Superseded);
    let new = new_key_and_csr(&node_of_it, Some(&signing(1))).unwrap();
    let late = s.ca.enrol(&open, &new.csr_pem, later, &mut s.rng);
    assert!(matches!(late, Err(PkiError::CodeExpired { .. })));
    let new = new_key_and_csr(&other, Some(&signing(1))).unwrap();
    s.ca.enrol(&kept, &new.csr_pem, later, &mut s.rng).unwrap();
    let again = s.ca.revoke_place(&place, Reason::Unspecified, later);
    assert!(again.unwrap().is_empty());
    // A name that was written wrong.
    let nobody = "edge/us/us/us-f9".parse().unwrap();
    let none = s.ca.revoke_place(&nobody, Reason::Unspecified, later);
    assert!(matches!(none, Err(PkiError::NothingOf(name)) if name == "edge/us/us/us-f9"));
    let _open = s.code(&node("edge/us/us/us-f9"));
    let invited = s.ca.revoke_place(&nobody, Reason::Unspecified, later);
    assert!(invited.unwrap().is_empty());
}

#[test]
fn a_list_is_renewed_when_half_of_its_time_is_over_or_it_is_gone() {
    let s = setting();
    let half = CRL_DAYS / 2;
    assert!(!s.ca.renew_list(NOW).unwrap());
    assert!(!s.ca.renew_list(NOW.plus_days(half - 1)).unwrap());
    assert!(s.ca.renew_list(NOW.plus_days(half)).unwrap());
    assert!(!s.ca.renew_list(NOW.plus_days(half)).unwrap());
    for damaged in ["", "nonsense"] {
        std::fs::write(s.ca.crl_path(), damaged).unwrap();
        assert!(s.ca.renew_list(NOW).unwrap());
    }
    std::fs::remove_file(s.ca.crl_path()).unwrap();
    assert!(s.ca.renew_list(NOW).unwrap());
}
