//! What is stored of studies, in a store on real files: nothing is answered twice, and what is over costs nothing.
use super::*;
use fl::{
    order::{Aim, RoundOrder},
    secagg::Member,
};
use std::collections::BTreeMap;
use store::{Store, testbed as of_store};

const NOW: Timestamp = Timestamp(1_767_225_600_000);
const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, features = [{ name = "age", unit = "a", missing = "zero", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;

fn key(round: u32) -> RoundKey {
    RoundKey {
        study: "heart-1".parse().unwrap(),
        round,
        attempt: 1,
    }
}

fn order(round: u32) -> RoundOrder {
    RoundOrder {
        key: key(round),
        text: STUDY.into(),
        aim: Aim::Train,
        model: vec![0.0; 2],
        large: None,
        code: None,
        signature: None,
    }
}

fn asked(ask: Ask) -> (Asked, Vec<u8>) {
    let message = wire::ask(&order(1), Member(2), &ask);
    let body = message.encode_to_vec();
    (wire::read_ask(message).unwrap(), body)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(of_store::options(dir.path(), of_store::hand())).unwrap();
    (dir, store)
}

#[tokio::test]
async fn a_facility_that_comes_back_when_its_round_is_over_neither_trains_nor_pays() {
    let (_dir, store) = store();
    let left = store
        .in_commit(|commit| {
            for ask in [Ask::Keys, Ask::Train(BTreeMap::new()), Ask::Over] {
                let (asked, body) = asked(ask);
                add(commit.tx(), &asked, &body)?;
            }
            pending(commit.tx(), 0, true)
        })
        .await
        .unwrap();
    let left: Vec<_> = left.into_iter().map(|pending| pending.asked.ask).collect();
    assert_eq!(left, [Ask::Over]);
}

#[tokio::test]
async fn a_round_that_runs_is_over_or_was_paid_for_is_never_begun_again() {
    let (_dir, store) = store();
    let found = store
        .in_commit(|commit| {
            let tx = commit.tx();
            let aggregator = "regional/us/us".parse().unwrap();
            let round = MemberRound::begin(order(1), &aggregator, Member(2), [1; 32]).unwrap();
            let mut found = vec![is_answered(tx, &key(1))?];
            put(tx, &key(1), Some(&round), NOW)?;
            found.push(is_answered(tx, &key(1))?);
            done(tx, &key(1), NOW)?;
            put(tx, &key(1), None, NOW)?;
            found.push(is_answered(tx, &key(1))?);
            found.push(is_answered(tx, &key(2))?);
            let budget = Budget {
                epsilon: 3.0,
                delta: fl::privacy::Delta::new(1e-5).unwrap(),
            };
            let mut ledger = ledger(tx, budget)?;
            let event = Event::new(0.1, 4.0, 3).unwrap();
            ledger.debit("heart-1/3/1", event).unwrap();
            let paid = Debit {
                entry: ledger.entries()[0].clone(),
                delta: 1e-5,
                before: 0,
            };
            debit(tx, &paid, NOW)?;
            found.push(is_answered(tx, &key(3))?);
            Ok(found)
        })
        .await
        .unwrap();
    assert_eq!(found, [false, true, true, false, true]);
}

#[tokio::test]
async fn what_a_facility_keeps_of_its_update_is_that_of_the_round_before_also_when_a_round_begins_anew()
 {
    let (_dir, store) = store();
    let kept = |value: f32| Memory {
        control: vec![value, f32::MIN_POSITIVE],
        residual: Vec::new(),
    };
    let found = store
        .in_commit(move |commit| {
            let tx = commit.tx();
            let mut found = vec![memory(tx, &key(1))?];
            keep(tx, &key(1), &kept(1.0), NOW)?;
            keep(tx, &key(2), &kept(2.0), NOW)?;
            found.push(memory(tx, &key(2))?);
            found.push(memory(tx, &key(3))?);
            keep(tx, &key(2), &kept(2.5), NOW)?;
            found.push(memory(tx, &key(3))?);
            keep(tx, &key(3), &kept(3.0), NOW)?;
            found.push(memory(tx, &key(2))?);
            found.push(memory(tx, &key(3))?);
            Ok(found)
        })
        .await
        .unwrap();
    let expected = [None, Some(1.0), Some(2.0), Some(2.5), None, Some(2.5)];
    assert_eq!(found, expected.map(|value| value.map(kept)));
}

#[tokio::test]
async fn nothing_is_spent_while_what_is_missing_after_a_restore_is_not_acknowledged() {
    let (_dir, store) = store();
    let found = store
        .in_commit(|commit| {
            let tx = commit.tx();
            let (me, region) = (
                "edge/us/us/us-f1".parse().unwrap(),
                "regional/us/us".parse().unwrap(),
            );
            let budget = Budget {
                epsilon: 3.0,
                delta: fl::privacy::Delta::new(1e-5).unwrap(),
            };
            let mut found = vec![ledger_to_spend(tx, budget)?.is_doubted()];
            let cause = federation::meet::Cause::SenderRestored.as_str();
            let loss = federation::wire::Loss::default();
            let mut ledger = ledger_to_spend(tx, budget)?;
            ledger
                .debit("heart-1/1/1", Event::new(0.1, 4.0, 3).unwrap())
                .unwrap();
            // Worked out before the gap was found.
            let paid = Debit {
                entry: ledger.entries().last().unwrap().clone(),
                delta: budget.delta.get(),
                before: 0,
            };
            gap::declare(tx, (&me, &region), cause, &loss, NOW)?;
            found.push(ledger_to_spend(tx, budget)?.is_doubted());
            found.push(debit(tx, &paid, NOW).is_err());
            gap::acknowledge(tx, &me, NOW)?;
            found.push(ledger_to_spend(tx, budget)?.is_doubted());
            found.push(debit(tx, &paid, NOW).is_err());
            Ok(found)
        })
        .await
        .unwrap();
    assert_eq!(found, [false, true, true, false, false]);
}
