//! Quotes that show nothing, each made as an adversary would.
use super::*;
use crate::contract::machine::{Machine, Parts};

const NONCE: [u8; 32] = [9; 32];

fn pcrs(text: &str) -> Pcrs {
    text.parse().unwrap()
}

fn good(machine: &Machine) -> Quote {
    machine.quote(&Parts::of(pcrs("0,7"), &NONCE))
}

#[test]
fn the_machine_that_was_measured_shows_it_for_the_nonce_that_it_was_given() {
    let machine = Machine::booted("our image");
    let measured = machine.measured(pcrs("0,7"));
    assert_eq!(measured.is_shown_by(&good(&machine), &NONCE), Ok(()));
}

#[test]
fn a_quote_that_is_old_altered_of_other_registers_or_of_another_machine_or_image_shows_nothing() {
    let machine = Machine::booted("our image");
    let measured = machine.measured(pcrs("0,7"));
    let parts = Parts::of(pcrs("0,7"), &NONCE);
    let other = Machine::booted("our image");
    let says = |quote: &Quote| measured.is_shown_by(quote, &NONCE).unwrap_err();
    // Replayed: it was made for another challenge.
    let old = machine.quote(&Parts::of(pcrs("0,7"), &[8; 32]));
    assert_eq!(says(&old), NotAttested::OtherChallenge);
    for nonce in [&NONCE[..31], &[], &[9; 33]] {
        let cut = machine.quote(&Parts {
            nonce: nonce.to_vec(),
            ..parts.clone()
        });
        assert_eq!(says(&cut), NotAttested::OtherChallenge);
    }
    assert_eq!(says(&good(&other)), NotAttested::OtherMachine);
    // The key of the machine that is expected, on what another one signed.
    let borrowed = Quote {
        key: machine.public(),
        ..good(&other)
    };
    assert_eq!(says(&borrowed), NotAttested::Signature);
    let less = machine.quote(&Parts::of(pcrs("0"), &NONCE));
    assert_eq!(says(&less), NotAttested::OtherRegisters);
    let booted = good(&machine.boots("another image"));
    assert_eq!(says(&booted), NotAttested::BootedOtherwise);
}

#[test]
fn every_byte_that_is_changed_or_left_out_makes_a_quote_worth_nothing() {
    let machine = Machine::booted("our image");
    let measured = machine.measured(pcrs("0,7"));
    let good = good(&machine);
    let parts: [fn(&mut Quote) -> &mut Vec<u8>; 3] = [
        |it| &mut it.key,
        |it| &mut it.quoted,
        |it| &mut it.signature,
    ];
    for part in parts {
        for at in 0..part(&mut good.clone()).len() {
            let mut changed = good.clone();
            part(&mut changed)[at] ^= 1;
            assert!(measured.is_shown_by(&changed, &NONCE).is_err(), "byte {at}");
            let mut cut = good.clone();
            part(&mut cut).truncate(at);
            assert!(measured.is_shown_by(&cut, &NONCE).is_err(), "{at} bytes");
        }
    }
    let long = Quote {
        signature: vec![0; MAX_PART_BYTES + 1],
        ..good
    };
    assert_eq!(
        measured.is_shown_by(&long, &NONCE),
        Err(NotAttested::NoQuote)
    );
}

#[test]
fn what_no_tpm_says_of_itself_is_no_quote_though_the_key_signed_it() {
    let machine = Machine::booted("our image");
    let measured = machine.measured(pcrs("0,7"));
    let parts = Parts::of(pcrs("0,7"), &NONCE);
    let (mut magic, mut kind, mut more) = (parts.clone(), parts.clone(), parts);
    magic.magic = 1;
    kind.kind = 0x8017;
    more.more = vec![0];
    for parts in [magic, kind, more] {
        let quote = machine.quote(&parts);
        assert_eq!(
            measured.is_shown_by(&quote, &NONCE),
            Err(NotAttested::NoQuote)
        );
    }
}

#[test]
fn a_key_that_may_sign_anything_is_no_attestation_key() {
    let machine = Machine::booted("our image");
    let mut quote = good(&machine);
    // Not `restricted`: what is pinned is this key, and it still counts for nothing.
    quote.key[4 + 1] &= !1;
    let pinned = Measured {
        key: name(&quote.key),
        ..machine.measured(pcrs("0,7"))
    };
    assert_eq!(
        pinned.is_shown_by(&quote, &NONCE),
        Err(NotAttested::NoQuote)
    );
}

#[test]
fn registers_are_written_as_numbers_each_once() {
    for text in ["0", "0,2,4,7", "22", "0,8,15"] {
        assert_eq!(pcrs(text).to_string(), text);
    }
    assert_eq!(pcrs("7, 0").to_string(), "0,7");
    for text in ["", "24", "-1", "0,0", "0,", "x", "0;1", "256"] {
        assert_eq!(text.parse::<Pcrs>(), Err(NoRegisters::Unread), "{text}");
    }
}

#[test]
fn a_register_that_the_running_system_may_reset_is_refused_and_named() {
    for (text, register) in [("16", 16), ("0,7,23", 23)] {
        let said = text.parse::<Pcrs>().unwrap_err();
        assert_eq!(said, NoRegisters::Resettable(register), "{text}");
        assert!(said.to_string().contains(&format!("register {register} ")));
    }
}

#[test]
fn a_register_into_which_nothing_was_measured_is_known_by_what_it_holds() {
    let (zeros, ones) = ([0; 32], [0xff; 32]);
    for (register, is_reset, holds) in [
        (0, true, zeros),
        (15, true, zeros),
        (15, false, ones),
        (17, true, ones),
        (22, true, ones),
        (22, false, zeros),
        (7, false, [1; 32]),
    ] {
        let machine = Machine::booted("our image").boots(holds);
        let measured = machine.measured(pcrs(&register.to_string()));
        assert_eq!(measured.is_as_reset(register), is_reset, "{register}");
    }
}

#[test]
fn what_was_measured_is_read_as_it_was_written_and_what_is_wrong_is_named() {
    let measured = Machine::booted("our image").measured(pcrs("0,7"));
    let text = serde_json::to_string(&measured).unwrap();
    assert_eq!(serde_json::from_str::<Measured>(&text).unwrap(), measured);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, wrong) in [("key", "00"), ("pcrs", "99"), ("digest", "xyz")] {
        let mut bad = value.clone();
        bad[key] = wrong.into();
        let said = serde_json::from_value::<Measured>(bad).unwrap_err();
        assert!(said.to_string().contains(&format!("{key}:")), "{said}");
    }
}
