//! A machine that was measured joins when it shows it, and nobody in its place.
use super::*;
use crate::{
    contract::machine::{Machine, Parts},
    identity::Identity,
    pki::{Ca, Shown, code_hash, new_key_and_csr},
    tpm::quote::NotAttested,
};
use ed25519_dalek::SigningKey;
use std::time::Duration;
use types::Secret;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const TTL: Duration = Duration::from_secs(3_600);

struct Bed {
    dir: tempfile::TempDir,
    ca: Ca,
    machine: Machine,
    code: Secret<String>,
    csr: String,
}

fn holder() -> Identity {
    Identity::Node("edge/us/us/us-f1".parse().unwrap())
}

fn request() -> String {
    let key = SigningKey::from_bytes(&[1; 32]);
    new_key_and_csr(&holder(), Some(&key)).unwrap().csr_pem
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::init(&dir.path().join("ca"), NOW).unwrap();
    let machine = Machine::booted("our image");
    let mut bed = Bed {
        dir,
        ca,
        machine,
        code: Secret::new(String::new()),
        csr: request(),
    };
    bed.code = bed.another_code();
    bed
}

impl Bed {
    fn another_code(&self) -> Secret<String> {
        let measured = Some(self.machine.measured("0,7".parse().unwrap()));
        let rng = &mut rand::rng();
        let invited = self
            .ca
            .invite_measured(&holder(), &[], TTL, measured, NOW, rng);
        invited.unwrap()
    }

    fn ask(&self, attestation: Option<&Attestation>, now: Timestamp) -> Result<String, PkiError> {
        let shown = Shown {
            code: &self.code,
            csr_pem: &self.csr,
            attestation,
        };
        let always = (|_: &Identity| true, |_: &crate::pki::Issued| true);
        self.ca.enrol_if(&shown, now, &mut rand::rng(), always)
    }

    fn challenge(&self) -> String {
        match self.ask(None, NOW).unwrap_err() {
            PkiError::ToBeAttested { challenge, pcrs } => {
                assert_eq!(pcrs.to_string(), "0,7");
                challenge
            }
            other => panic!("{other}"),
        }
    }

    fn answer(&self, machine: &Machine, challenge: &str, csr: &str) -> Attestation {
        let nonce = nonce(challenge, csr).unwrap();
        let parts = Parts::of("0,7".parse().unwrap(), &nonce);
        Attestation::new(challenge.to_owned(), &machine.quote(&parts))
    }
}

#[test]
fn a_measured_machine_is_certified_when_it_shows_it_and_its_code_is_good_once() {
    let bed = bed();
    let challenge = bed.challenge();
    let answer = bed.answer(&bed.machine, &challenge, &bed.csr);
    assert!(bed.ask(Some(&answer), NOW.plus_ms(1_000)).is_ok());
    let again = bed.ask(Some(&answer), NOW.plus_ms(1_000));
    assert!(matches!(again, Err(PkiError::CodeUsed)), "{again:?}");
}

#[test]
fn nobody_joins_with_the_code_of_a_measured_machine_by_the_code_alone() {
    let bed = bed();
    let by_hand = bed.ca.enrol(&bed.code, &bed.csr, NOW, &mut rand::rng());
    assert!(matches!(by_hand, Err(PkiError::ToBeAttested { .. })));
    assert!(bed.ca.list().unwrap().is_empty());
}

#[test]
fn another_machine_and_another_image_get_nothing_and_the_code_stays_good() {
    let bed = bed();
    let challenge = bed.challenge();
    let stranger = bed.answer(&Machine::booted("our image"), &challenge, &bed.csr);
    let said = bed.ask(Some(&stranger), NOW);
    assert!(
        matches!(said, Err(PkiError::NotAttested(NotAttested::OtherMachine))),
        "{said:?}"
    );
    let bed = Bed {
        machine: bed.machine.boots("another image"),
        ..bed
    };
    let answer = bed.answer(&bed.machine, &challenge, &bed.csr);
    let said = bed.ask(Some(&answer), NOW);
    assert!(
        matches!(
            said,
            Err(PkiError::NotAttested(NotAttested::BootedOtherwise))
        ),
        "{said:?}"
    );
    let bed = Bed {
        machine: bed.machine.boots("our image"),
        ..bed
    };
    let answer = bed.answer(&bed.machine, &challenge, &bed.csr);
    assert!(bed.ask(Some(&answer), NOW).is_ok());
}

#[test]
fn a_quote_counts_for_its_own_request_its_own_code_and_two_minutes() {
    let mut bed = bed();
    let challenge = bed.challenge();
    let answer = bed.answer(&bed.machine, &challenge, &bed.csr);
    // As long as the code is good.
    for late in [CHALLENGE_MS, -CLOCKS_MS - 1, 3_600_000 - 1] {
        let said = bed.ask(Some(&answer), NOW.plus_ms(late));
        assert!(matches!(said, Err(PkiError::Challenge)), "{late}: {said:?}");
    }
    // Overheard, and shown with a key of somebody else.
    let own = std::mem::replace(&mut bed.csr, request());
    let said = bed.ask(Some(&answer), NOW);
    assert!(
        matches!(
            said,
            Err(PkiError::NotAttested(NotAttested::OtherChallenge))
        ),
        "{said:?}"
    );
    bed.csr = own;
    let other = bed.another_code();
    let own = std::mem::replace(&mut bed.code, other);
    let said = bed.ask(Some(&answer), NOW);
    assert!(matches!(said, Err(PkiError::Challenge)), "{said:?}");
    bed.code = own;
    assert!(
        bed.ask(Some(&answer), NOW.plus_ms(CHALLENGE_MS - 1))
            .is_ok()
    );
}

#[test]
fn a_challenge_is_answered_at_a_node_whose_clock_is_some_seconds_behind() {
    let bed = bed();
    let answer = bed.answer(&bed.machine, &bed.challenge(), &bed.csr);
    bed.ask(Some(&answer), NOW.plus_ms(-CLOCKS_MS)).unwrap();
}

#[test]
fn a_challenge_that_no_authority_gave_or_that_was_altered_is_none() {
    let bed = bed();
    let good = bed.challenge();
    let stranger = Challenger::new(b"another key").give(&code_hash(&bed.code), NOW);
    let mut altered = vec![
        stranger,
        String::new(),
        "zz".repeat(40),
        good[2..].to_owned(),
    ];
    for at in 0..good.len() {
        let digit = if good.as_bytes()[at] == b'0' {
            "1"
        } else {
            "0"
        };
        altered.push([&good[..at], digit, &good[at + 1..]].concat());
    }
    for challenge in altered {
        let mut answer = bed.answer(&bed.machine, &good, &bed.csr);
        if let Ok(nonce) = nonce(&challenge, &bed.csr) {
            let parts = Parts::of("0,7".parse().unwrap(), &nonce);
            answer = Attestation::new(challenge.clone(), &bed.machine.quote(&parts));
        }
        answer.challenge.clone_from(&challenge);
        let said = bed.ask(Some(&answer), NOW);
        assert!(
            matches!(said, Err(PkiError::Challenge)),
            "{challenge}: {said:?}"
        );
    }
}

#[test]
fn an_authority_of_the_first_version_goes_on_and_asks_nothing_of_its_older_invitations() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    let ca = Ca::init(&path, NOW).unwrap();
    let code = ca
        .invite(&holder(), &[], TTL, NOW, &mut rand::rng())
        .unwrap();
    drop(ca);
    let db = rusqlite::Connection::open(path.join("ca.db")).unwrap();
    db.execute_batch("ALTER TABLE invitation DROP COLUMN measured; PRAGMA user_version = 1;")
        .unwrap();
    drop(db);
    let ca = Ca::open(&path).unwrap();
    assert!(ca.enrol(&code, &request(), NOW, &mut rand::rng()).is_ok());
}

#[test]
fn what_cannot_be_read_of_a_measured_machine_certifies_nobody() {
    let bed = bed();
    let db = rusqlite::Connection::open(bed.dir.path().join("ca/ca.db")).unwrap();
    db.execute_batch("UPDATE invitation SET measured = '{}'")
        .unwrap();
    let said = bed.ask(None, NOW);
    assert!(matches!(said, Err(PkiError::State(_))), "{said:?}");
}

#[test]
fn what_cannot_be_a_quote_is_told_by_the_part_that_is_none() {
    let bed = bed();
    let good = bed.answer(&bed.machine, &bed.challenge(), &bed.csr);
    assert_eq!(good.shape(), Ok(()));
    let longest = "ab".repeat(MAX_PART_BYTES);
    let with = |part: &str, text: &str| {
        let mut shown = good.clone();
        let field = match part {
            "challenge" => &mut shown.challenge,
            "key" => &mut shown.key,
            "quoted" => &mut shown.quoted,
            _ => &mut shown.signature,
        };
        text.clone_into(field);
        shown
    };
    let too_long = format!("{longest}ab");
    for part in ["challenge", "key", "quoted", "signature"] {
        for bad in ["", "abc", "xy", "äö", &too_long] {
            let says = with(part, bad).shape().unwrap_err();
            let named = format!("attestation.{part}: ");
            assert!(says.starts_with(&named), "{part} {bad}: {says}");
        }
        let fits = with(part, &longest).shape().is_ok();
        assert_eq!(fits, part != "challenge", "{part}");
    }
}
