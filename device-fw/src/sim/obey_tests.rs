//! What the simulated MQTT device refuses by itself, and that it carries nothing out twice, over its real files.
use super::*;
use commands::{State as Became, Value};
use ed25519_dalek::SigningKey;
use std::{collections::BTreeMap, path::Path};
use types::{DeviceKind, Id128};

const NOW: Timestamp = Timestamp(1_000_000);
const DEVICE: CatalogId = CatalogId::from_bytes([7; 16]);
fn region() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn device(dir: &Path) -> Arc<Obedient> {
    device_of(dir, DeviceKind::LabAnalyser)
}

fn device_of(dir: &Path, kind: DeviceKind) -> Arc<Obedient> {
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    let commanded = Commanded {
        facility: "edge/us/us/us-f1".into(),
        region_key: region().verifying_key().to_bytes(),
        state: dir.join("state"),
    };
    let device = SimDevice {
        id: "lab-1".parse().unwrap(),
        kind,
        bed: None,
        listen: None,
        pty: None,
        unit_id: 1,
        cert: None,
        key: None,
    };
    Obedient::of(&commanded, &device, key.as_ref()).unwrap()
}

fn command(sequence: u64, name: &str, interval: Option<&str>) -> Command {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&sequence.to_be_bytes());
    let interval = interval.map(|span| ("interval".to_owned(), Value::Text(span.into())));
    Command {
        id: Id128::from_bytes(id),
        facility: "edge/us/us/us-f1".parse().unwrap(),
        device: DEVICE,
        sequence,
        name: name.parse().unwrap(),
        parameters: interval.into_iter().collect::<BTreeMap<_, _>>(),
        issued: NOW,
        expires: NOW.plus_ms(60_000),
        by: "operator".into(),
        approved_by: None,
    }
}

fn told(device: &Obedient, signed: &Signed, now: Timestamp) -> Answer {
    let (answer, _) = device.take(signed.to_json().to_string().as_bytes(), now);
    Answer::from_json(&answer.expect("an answer")).unwrap().0
}

#[test]
fn a_device_refuses_by_itself_what_is_altered_replayed_reordered_stale_foreign_or_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let device = device(dir.path());
    let first = command(5, "set-interval", Some("5s")).sign(&region());
    assert_eq!(told(&device, &first, NOW).state, Became::Acknowledged);
    assert_eq!(device.interval_ms(), 5_000);
    let changed = |change: fn(&mut Command)| {
        let mut command = command(6, "set-interval", Some("9s"));
        change(&mut command);
        command.sign(&region())
    };
    let by_another = command(6, "set-interval", Some("9s")).sign(&SigningKey::from_bytes(&[4; 32]));
    for (signed, reason) in [
        (by_another, Reason::Forged),
        (
            changed(|it| it.facility = "edge/us/us/us-f2".parse().unwrap()),
            Reason::Foreign,
        ),
        (
            changed(|it| it.device = CatalogId::from_bytes([8; 16])),
            Reason::OtherDevice,
        ),
        (changed(|it| it.sequence = 4), Reason::Reordered),
        (changed(|it| it.sequence = 5), Reason::Replayed),
        (
            changed(|it| (it.issued, it.expires) = (Timestamp(0), NOW)),
            Reason::Stale,
        ),
    ] {
        let answer = told(&device, &signed, NOW);
        assert_eq!(
            (answer.state, answer.reason),
            (Became::Refused, Some(reason))
        );
    }
    for (name, interval) in [
        ("set-interval", Some("2d")),
        ("set-alarm-limits", None),
        ("set-interval", None),
    ] {
        let answer = told(&device, &command(6, name, interval).sign(&region()), NOW);
        assert_eq!(
            answer.state,
            Became::Refused,
            "{name} {interval:?}: {:?}",
            answer.reason
        );
    }
    let mut altered = first.to_json();
    altered["parameters"]["interval"] = "9s".into();
    let altered = Signed::from_json(altered.to_string().as_bytes()).unwrap();
    assert_eq!(told(&device, &altered, NOW).reason, Some(Reason::Forged));
    assert_eq!(device.take(b"{}", NOW), (None, false));
    assert_eq!(device.interval_ms(), 5_000, "none of it was carried out");
}

#[test]
fn a_device_that_is_switched_off_keeps_its_settings_and_says_again_what_it_did_without_doing_it_again()
 {
    let dir = tempfile::tempdir().unwrap();
    let signed = command(5, "set-interval", Some("5s")).sign(&region());
    let first = told(&device(dir.path()), &signed, NOW);
    let again = device(dir.path());
    assert_eq!(again.interval_ms(), 5_000);
    let resumed = again.resume(NOW.plus_ms(9)).expect("it says it again");
    assert_eq!(Answer::from_json(&resumed).unwrap().0, first);
    let later = command(6, "set-interval", Some("7s")).sign(&region());
    assert_eq!(told(&again, &later, NOW).state, Became::Acknowledged);
    // The answer to the first was lost and the edge hands it over once more.
    assert_eq!(told(&again, &signed, NOW).reason, Some(Reason::Reordered));
    assert_eq!(told(&again, &later, NOW).state, Became::Acknowledged);
    assert_eq!(again.interval_ms(), 7_000);
}

#[test]
fn what_was_begun_when_a_device_was_switched_off_has_failed_and_is_not_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let signed = command(5, "set-interval", Some("5s")).sign(&region());
    told(&device(dir.path()), &signed, NOW);
    let path = dir.path().join("state").join("lab-1.commands.json");
    let mut held: Held = get(&path).unwrap();
    held.done = None;
    put(&path, &held).unwrap();
    let device = device(dir.path());
    let resumed = device.resume(NOW).expect("it says so");
    let answer = Answer::from_json(&resumed).unwrap().0;
    assert_eq!(
        (answer.state, answer.reason),
        (Became::Failed, Some(Reason::Interrupted))
    );
    assert_eq!(told(&device, &signed, NOW).state, Became::Failed);
}

#[test]
fn a_device_refuses_by_itself_a_limit_that_is_not_in_order_with_those_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut sequence = 0;
    let mut set = |limits: &[(&str, i64)]| {
        sequence += 1;
        let limits = limits.iter().map(|(name, limit)| {
            let limit = types::Decimal::from_parts(*limit, 0);
            ((*name).to_owned(), Value::Number(limit))
        });
        let command = Command {
            parameters: limits.collect(),
            approved_by: Some("second".into()),
            ..command(sequence, "set-alarm-limits", None)
        };
        // Each comes after a start: what the device has is in its file.
        let device = device_of(dir.path(), DeviceKind::External);
        let answer = told(&device, &command.sign(&region()), NOW);
        (answer.state, answer.reason)
    };
    let (done, over) = (
        (Became::Acknowledged, None),
        (Became::Refused, Some(Reason::OverRange)),
    );
    let (low, high) = ("heart-rate-low", "heart-rate-high");
    assert_eq!(set(&[(low, 150)]), done, "it has no limit yet");
    assert_eq!(set(&[(high, 150)]), over);
    assert_eq!(set(&[(high, 151)]), done);
    assert_eq!(set(&[(low, 151)]), over);
    assert_eq!(set(&[(low, 180), (high, 200)]), done, "both are replaced");
    assert_eq!(set(&[(high, 180)]), over);
    assert_eq!(set(&[("spo2-low", 95)]), done);
}
