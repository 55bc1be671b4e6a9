//! Who gets a next certificate, who does not, and what is written down of it.
use super::*;
use crate::{
    audit::{Decision, Log, Signer},
    identity::Peer,
    pki::{write_private, write_public},
    policy::Rules,
    tls::paths,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use std::time::Duration;

const HERE: &str = "regional/us/us";
const FACILITY: &str = "edge/us/us/us-f1";

/// An authority with a clock to set.
struct Bed {
    dir: tempfile::TempDir,
    ca: Ca,
    authority: Authority,
    now: Arc<Mutex<Timestamp>>,
}

/// What a node has: certificate, key, and the key with which it signs.
struct Holder {
    identity: Identity,
    cert: String,
    key: types::Secret<String>,
    signing: SigningKey,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let begin = Timestamp(1_800_000_000_000);
    let ca = Ca::init(&path, begin).unwrap();
    let here: Place = HERE.parse().unwrap();
    let signer = Signer::new(&here, SigningKey::from_bytes(&[7; 32]));
    let now = Arc::new(Mutex::new(begin));
    let time: TimeSource = {
        let now = now.clone();
        Arc::new(move || *now.lock())
    };
    let (file, rules) = (dir.path().join("ledger.db"), Rules::builtin().unwrap());
    let ledger = Ledger::open(&file, here.clone(), rules, signer, time.clone()).unwrap();
    let authority = Authority::new(path, here, time, ledger);
    Bed {
        dir,
        ca,
        authority,
        now,
    }
}

impl Bed {
    fn holder(&self, place: &str, key: u8) -> Holder {
        let identity = Identity::Node(place.parse().unwrap());
        let signing = SigningKey::from_bytes(&[key; 32]);
        let (now, mut rng) = (*self.now.lock(), rand::rng());
        let ttl = Duration::from_secs(60);
        let code = self.ca.invite(&identity, &[], ttl, now, &mut rng).unwrap();
        let new = pki::new_key_and_csr(&identity, Some(&signing)).unwrap();
        let cert = self.ca.enrol(&code, &new.csr_pem, now, &mut rng).unwrap();
        Holder {
            identity,
            cert,
            key: new.key_pem,
            signing,
        }
    }

    async fn ask(&self, who: &str, asked: Renewal) -> Result<String, NotRenewed> {
        self.authority.renew(&who.parse().unwrap(), asked).await
    }

    fn later(&self) {
        let mut now = self.now.lock();
        *now = now.plus_ms(EVERY_MS);
    }

    fn rows(&self) -> Vec<Entry> {
        let log = Log::open(&self.dir.path().join("ledger.db")).unwrap();
        let rows = log.list(0, 100).unwrap().into_iter();
        rows.map(|(_, entry)| entry)
            .filter(|entry| entry.decision() == Decision::Enrolled)
            .collect()
    }
}

impl Holder {
    fn serial(&self) -> Serial {
        let der = CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap();
        Peer::from_cert(&der).unwrap().serial
    }

    fn asks(&self) -> Renewal {
        let new = pki::new_key_and_csr(&self.identity, Some(&self.signing)).unwrap();
        Renewal {
            certificate: self.cert.clone(),
            proof: pki::rotation_proof(&self.key, &new.csr_pem).unwrap().into(),
            request: new.csr_pem,
        }
    }
}

#[tokio::test]
async fn a_facility_gets_its_next_certificate_once_a_minute_and_the_log_has_each() {
    let bed = bed();
    let holder = bed.holder(FACILITY, 1);
    let pem = bed.ask(FACILITY, holder.asks()).await.unwrap();
    let rows = bed.rows();
    let who = holder.identity.to_uri();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].from(), rows[0].reason()), (&*who, "renewed"));
    assert!(
        bed.ca
            .list()
            .unwrap()
            .iter()
            .any(|issued| issued.pem == pem)
    );
    let again = bed.ask(FACILITY, holder.asks()).await;
    assert!(matches!(again, Err(NotRenewed::Later)), "{again:?}");
    bed.later();
    bed.ask(FACILITY, holder.asks()).await.unwrap();
    assert_eq!(bed.rows().len(), 2);
}

#[tokio::test]
async fn nobody_gets_a_certificate_by_what_is_not_its_own_or_no_longer_holds() {
    let bed = bed();
    let (holder, other) = (bed.holder(FACILITY, 1), bed.holder("edge/us/us/us-f2", 2));
    let issued = bed.ca.list().unwrap().len();
    let mut stolen = other.asks();
    stolen.certificate.clone_from(&holder.cert);
    let mut unproven = holder.asks();
    unproven.proof = vec![0; 64].into();
    let mut foreign = holder.asks();
    foreign.request = other.asks().request;
    foreign.proof = pki::rotation_proof(&holder.key, &foreign.request)
        .unwrap()
        .into();
    let broken = Renewal::default();
    // One that the link brought as another place than its certificate names.
    let anothers = other.asks();
    for asked in [stolen, unproven, foreign, broken, anothers] {
        let refused = bed.ask(FACILITY, asked).await;
        assert!(refused.is_err(), "{refused:?}");
        bed.later();
    }
    let serial = bed.ca.list().unwrap()[0].serial.clone();
    let now = *bed.now.lock();
    bed.ca
        .revoke(&serial, pki::Reason::KeyCompromise, now)
        .unwrap();
    let revoked = bed.ask(FACILITY, holder.asks()).await;
    assert!(
        matches!(revoked, Err(NotRenewed::Refused(_))),
        "{revoked:?}"
    );
    assert_eq!(bed.ca.list().unwrap().len(), issued);
    assert_eq!(bed.rows().len(), 0);
}

/// Files of the node itself.
fn own(bed: &Bed) -> Own {
    let holder = bed.holder(HERE, 3);
    let at = |name: &str| bed.dir.path().join(name);
    write_public(&at("node.pem"), &holder.cert).unwrap();
    write_private(&at("node.key"), &holder.key).unwrap();
    let files = TlsFiles {
        ca: bed.ca.ca_path(),
        cert: at("node.pem"),
        key: at("node.key"),
        signing_key: at("signing.key"),
        crl: bed.ca.crl_path(),
    };
    let time = bed.authority.now.clone();
    Own {
        authority: bed.authority.clone(),
        tls: ReloadingTls::open(paths(&files), false, time).unwrap(),
        files,
        signing: holder.signing,
    }
}

fn serial(own: &Own) -> Serial {
    let der = CertificateDer::from_pem_file(&own.files.cert).unwrap();
    Peer::from_cert(&der).unwrap().serial
}

#[tokio::test]
async fn a_nodes_own_certificate_is_replaced_once_a_third_of_its_life_is_left_and_not_before() {
    let bed = bed();
    let own = own(&bed);
    let before = serial(&own);
    let begin = *bed.now.lock();
    let (tls, files) = (own.tls.clone(), own.files.clone());
    let again = || Own {
        authority: bed.authority.clone(),
        tls: tls.clone(),
        files: files.clone(),
        signing: SigningKey::from_bytes(&[3; 32]),
    };
    let once = CancellationToken::new();
    once.cancel();
    *bed.now.lock() = begin.plus_days(59);
    own.keep(once.clone()).await;
    assert_eq!(serial(&again()), before);
    assert_eq!(bed.rows().len(), 0);
    *bed.now.lock() = begin.plus_days(61);
    again().keep(once.clone()).await;
    assert_ne!(serial(&again()), before);
    assert!(tls.look().unwrap(), "the new pair is taken");
    assert_eq!(tls.me().serial, serial(&again()));
    assert_eq!(bed.rows().len(), 1);
    // It holds for a while, and is left alone.
    again().keep(once).await;
    assert_eq!(bed.rows().len(), 1);
}

#[tokio::test]
async fn a_facility_gets_so_many_for_its_devices_a_week_however_slowly_and_what_is_refused_is_none()
{
    let bed = bed();
    let (who, by) = (FACILITY.parse().unwrap(), bed.holder(FACILITY, 1).serial());
    let certify = async |device: &Identity| {
        let asked = DeviceRequest {
            device: "lab-1".into(),
            request: pki::new_key_and_csr(device, None).unwrap().csr_pem,
        };
        bed.authority.certify((&who, &by), asked).await
    };
    let device = |name: &str| -> Identity {
        let uri = format!("spiffe://medmesh/device/us/us/us-f1/{name}");
        uri.parse().unwrap()
    };
    for given in 0..LONG_DEVICES - 1 {
        if given % DEVICES == 0 {
            bed.later();
        }
        bed.authority.has_room(&who).unwrap();
    }
    bed.later();
    let said = certify(&device("lab-2")).await;
    assert!(matches!(said, Err(NotRenewed::Refused(_))), "{said:?}");
    certify(&device("lab-1")).await.unwrap();
    let said = certify(&device("lab-1")).await;
    assert!(
        matches!(said, Err(NotRenewed::Enough(LONG_DEVICES))),
        "{said:?}"
    );
    let other = "edge/us/us/us-f2".parse().unwrap();
    assert!(bed.authority.has_room(&other).is_ok());
    {
        let mut now = bed.now.lock();
        *now = now.plus_ms(LONG_MS);
    }
    certify(&device("lab-1")).await.unwrap();
}

#[test]
fn an_entry_of_a_revocation_list_is_as_small_as_it_was_counted() {
    let bed = bed();
    let now = *bed.now.lock();
    let length = || {
        let pem = bed.ca.crl_pem(now).unwrap();
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes());
        der.unwrap().len()
    };
    for key in 0..16 {
        bed.holder(FACILITY, key);
    }
    let before = length();
    let reason = pki::Reason::CessationOfOperation;
    let revoked = bed.ca.revoke_place(&FACILITY.parse().unwrap(), reason, now);
    let added = length() - before;
    assert!(added <= revoked.unwrap().len() * ENTRY_BYTES, "{added}");
}

#[tokio::test]
async fn a_facility_gets_certificates_for_its_own_devices_each_in_the_log_and_so_many_a_minute() {
    let bed = bed();
    let device: Identity = "spiffe://medmesh/device/us/us/us-f1/lab-1".parse().unwrap();
    let asks = |name: &str| DeviceRequest {
        device: name.into(),
        request: pki::new_key_and_csr(&device, None).unwrap().csr_pem,
    };
    let facility = bed.holder(FACILITY, 4);
    let by = facility.serial();
    let certify = async |who: &str, asked| {
        let who = who.parse().unwrap();
        bed.authority.certify((&who, &by), asked).await
    };
    let pem = certify(FACILITY, asks("lab-1")).await.unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(Peer::from_cert(&der).unwrap().identity, device);
    let rows = bed.rows();
    assert_eq!(rows.len(), 1);
    let found = (rows[0].from(), rows[0].reason());
    assert_eq!(found, (&*device.to_uri(), "device"));
    // What names another facility's device, or is no facility's to ask.
    for (who, name) in [
        ("edge/us/us/us-f2", "lab-1"),
        (FACILITY, "lab-2"),
        (FACILITY, "no device!"),
        ("regional/us/us", "lab-1"),
        ("global", "lab-1"),
    ] {
        let said = certify(who, asks(name)).await;
        assert!(
            matches!(said, Err(NotRenewed::Refused(_))),
            "{who}: {said:?}"
        );
    }
    let as_node = DeviceRequest {
        device: "lab-1".into(),
        request: facility.asks().request,
    };
    assert!(certify(FACILITY, as_node).await.is_err());
    assert_eq!(bed.rows().len(), 1);
    // Those that got this far, given or refused, were counted: one, and two for another holder.
    let mut later = 0;
    for _ in 0..DEVICES {
        let said = certify(FACILITY, asks("lab-1")).await;
        later += u32::from(matches!(said, Err(NotRenewed::Later)));
    }
    assert_eq!(later, 3);
    // Another facility has its own.
    let another: Identity = "spiffe://medmesh/device/us/us/us-f3/lab-1".parse().unwrap();
    let asked = DeviceRequest {
        device: "lab-1".into(),
        request: pki::new_key_and_csr(&another, None).unwrap().csr_pem,
    };
    certify("edge/us/us/us-f3", asked).await.unwrap();
    bed.later();
    assert!(certify(FACILITY, asks("lab-1")).await.is_ok());
    let place = FACILITY.parse().unwrap();
    let now = *bed.now.lock();
    let reason = pki::Reason::KeyCompromise;
    bed.ca.revoke_place(&place, reason, now).unwrap();
    let said = certify(FACILITY, asks("lab-1")).await;
    assert!(matches!(said, Err(NotRenewed::Refused(_))), "{said:?}");
}
