//! Nothing is carried out twice, whatever is replayed, reordered, altered or killed, and whatever the clock does.
use super::*;
use crate::{Command, Table, Value};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};
use types::{DeviceKind, Place};

/// A store that outlives its device, and the power that can go at any write.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<(Held, Option<usize>)>>);

#[derive(Debug, PartialEq, Eq)]
struct PowerLoss;

impl Marks for Disk {
    type Error = PowerLoss;

    fn keep(&mut self, held: &Held) -> Result<(), PowerLoss> {
        let mut disk = self.0.borrow_mut();
        match &mut disk.1 {
            Some(0) => return Err(PowerLoss),
            Some(left) => *left -= 1,
            None => {}
        }
        disk.0 = held.clone();
        Ok(())
    }
}

const DEVICE: CatalogId = CatalogId::from_bytes([7; 16]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn facility() -> Place {
    "edge/us/us/us-f1".parse().unwrap()
}

fn command(sequence: u64, issued: i64) -> Command {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&sequence.to_be_bytes());
    Command {
        id: Id128::from_bytes(id),
        facility: facility(),
        device: DEVICE,
        sequence,
        name: "set-interval".parse().unwrap(),
        parameters: BTreeMap::from([("interval".into(), Value::Text("5s".into()))]),
        issued: Timestamp(issued),
        expires: Timestamp(issued + 60_000),
        by: "operator".into(),
        approved_by: None,
    }
}

struct World {
    disk: Disk,
    taker: Taker<Disk>,
    /// Commands that were carried out, by sequence.
    executed: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let disk = Disk::default();
        Self {
            taker: Taker::new(disk.clone(), Held::default()),
            disk,
            executed: Vec::new(),
        }
    }

    fn restart(&mut self) {
        self.disk.0.borrow_mut().1 = None;
        let held = self.disk.0.borrow().0.clone();
        self.taker = Taker::new(self.disk.clone(), held);
    }

    fn offer(&mut self, signed: &Signed, now: i64) -> Result<Answer, Unsettled<PowerLoss>> {
        let (facility, key) = (facility(), key().verifying_key());
        let table = Table::built_in(DeviceKind::BedsideMonitor);
        let acceptor = Acceptor {
            facility: &facility,
            device: DEVICE,
            key: &key,
            table: &table,
            has: None,
        };
        let executed = &mut self.executed;
        self.taker
            .take(&acceptor, signed, Timestamp(now), |command| {
                executed.push(command.sequence);
                Outcome::Done
            })
    }

    fn reason(&mut self, signed: &Signed, now: i64) -> Option<Reason> {
        self.offer(signed, now).unwrap().reason
    }
}

fn changed(change: impl FnOnce(&mut Command)) -> Signed {
    let mut command = command(5, 100_000);
    change(&mut command);
    command.sign(&key())
}

/// Commands of somebody else, for somebody else, or at another time; offered at 100 s.
fn misdirected() -> Vec<(Signed, Reason)> {
    let other = SigningKey::from_bytes(&[4; 32]);
    let place = |text: &str| text.parse().unwrap();
    let from = |issued: i64, expires: i64| {
        changed(|it| (it.issued, it.expires) = (Timestamp(issued), Timestamp(expires)))
    };
    vec![
        (command(5, 100_000).sign(&other), Reason::Forged),
        (
            changed(|it| it.facility = place("edge/us/us/us-f2")),
            Reason::Foreign,
        ),
        (
            changed(|it| it.facility = place("edge/eu/eu/us-f1")),
            Reason::Foreign,
        ),
        (
            changed(|it| it.device = CatalogId::from_bytes([8; 16])),
            Reason::OtherDevice,
        ),
        (changed(|it| it.sequence = 3), Reason::Reordered),
        (changed(|it| it.sequence = 4), Reason::Replayed),
        (from(40_000, 100_000), Reason::Stale),
        (from(300_000, 360_000), Reason::NotYet),
        (from(100_000, i64::MAX), Reason::TooLong),
        (from(100_000, 100_000), Reason::TooLong),
    ]
}

/// Commands that the device does not take as they are.
fn misshapen() -> Vec<(Signed, Reason)> {
    let with =
        |name: &str, value: Value| changed(|it| drop(it.parameters.insert(name.into(), value)));
    vec![
        (
            changed(|it| it.name = "explode".parse().unwrap()),
            Reason::UnknownCommand,
        ),
        (
            with("interval", Value::Text("9d".into())),
            Reason::OverRange,
        ),
        (with("more", Value::Flag(true)), Reason::WrongParameters),
        (with("interval", Value::Flag(true)), Reason::WrongType),
    ]
}

#[test]
fn each_kind_of_wrong_command_is_refused_with_its_reason_and_changes_nothing() {
    let mut world = World::new();
    let good = command(4, 100_000).sign(&key());
    assert_eq!(world.reason(&good, 100_000), None);
    let held = world.taker.held().clone();
    for (signed, reason) in misdirected().into_iter().chain(misshapen()) {
        assert_eq!(world.reason(&signed, 100_000), Some(reason));
        assert_eq!(*world.taker.held(), held, "{reason}");
    }
    assert_eq!(world.executed, [4]);
}

#[test]
fn what_is_of_safety_needs_another_client() {
    let of = |approved_by: Option<&str>| {
        Command {
            name: "set-alarm-limits".parse().unwrap(),
            parameters: BTreeMap::from([(
                "heart-rate-high".into(),
                Value::Number("130".parse().unwrap()),
            )]),
            approved_by: approved_by.map(Into::into),
            ..command(1, 0)
        }
        .sign(&key())
    };
    let mut world = World::new();
    assert_eq!(world.reason(&of(None), 0), Some(Reason::Unapproved));
    assert_eq!(
        world.reason(&of(Some("operator")), 0),
        Some(Reason::Unapproved)
    );
    assert_eq!(world.reason(&of(Some("approver")), 0), None);
}

#[test]
fn a_clock_that_is_set_back_revives_nothing() {
    let mut world = World::new();
    assert_eq!(
        world.reason(&command(2, 500_000).sign(&key()), 500_000),
        None
    );
    // Signed long before the latest command, with a higher number, while the clock says that it is still good.
    let old = command(3, 10_000).sign(&key());
    assert_eq!(world.reason(&old, 20_000), Some(Reason::Stale));
}

#[test]
fn a_lost_answer_is_given_again_and_nothing_is_done_again() {
    let mut world = World::new();
    let signed = command(1, 0).sign(&key());
    let first = world.offer(&signed, 5).unwrap();
    world.restart();
    assert_eq!(world.offer(&signed, 9), Ok(first.clone()));
    assert_eq!(world.taker.resume(DEVICE, Timestamp(9)), Ok(Some(first)));
    assert_eq!(world.executed, [1]);
}

#[test]
fn a_power_loss_at_any_step_carries_out_once_at_most_and_says_what_it_cannot_tell() {
    for writes in 0..3 {
        let mut world = World::new();
        let signed = command(1, 0).sign(&key());
        world.disk.0.borrow_mut().1 = Some(writes);
        let answered = world.offer(&signed, 5);
        world.restart();
        let resumed = world.taker.resume(DEVICE, Timestamp(6)).unwrap();
        let again = world.offer(&signed, 7).unwrap();
        assert!(world.executed.len() <= 1, "after {writes} writes");
        let (said, executed) = match writes {
            0 => ((None, State::Acknowledged), 1),
            1 => ((Some(Reason::Interrupted), State::Failed), 1),
            _ => ((None, State::Acknowledged), 1),
        };
        assert_eq!((again.reason, again.state), said, "after {writes} writes");
        assert_eq!(world.executed.len(), executed, "after {writes} writes");
        assert_eq!(resumed.is_none(), writes == 0);
        assert_eq!(answered.is_ok(), writes == 2);
    }
}

/// What an adversary does with the commands that were ever signed.
#[derive(Clone, Debug)]
enum Step {
    Offer(usize),
    Restart,
    PowerLossAfter(usize),
    Clock(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..12).prop_map(Step::Offer),
        1 => Just(Step::Restart),
        1 => (0_usize..3).prop_map(Step::PowerLossAfter),
        1 => (-200_000_i64..400_000).prop_map(Step::Clock),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn nothing_is_carried_out_twice_or_out_of_order(steps in steps()) {
        let commands: Vec<_> = (0_u32..12)
            .map(|n| command(u64::from(n) + 1, i64::from(n) * 20_000).sign(&key()))
            .collect();
        let mut world = World::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Offer(index) => drop(world.offer(&commands[index], now)),
                Step::Restart => world.restart(),
                Step::PowerLossAfter(writes) => world.disk.0.borrow_mut().1 = Some(writes),
                Step::Clock(to) => now = to,
            }
        }
        prop_assert!(world.executed.is_sorted_by(|one, next| one < next), "{:?}", world.executed);
    }
}

/// 10^4 replays of commands that were taken, across restarts and jumps of the clock: none is carried out again.
#[test]
fn ten_thousand_replays_across_restarts_and_clock_jumps_carry_out_nothing() {
    let mut world = World::new();
    let commands: Vec<_> = (1..=20_u32)
        .map(|n| command(u64::from(n), i64::from(n) * 1_000).sign(&key()))
        .collect();
    for signed in &commands {
        assert_eq!(world.reason(signed, 1_000), None);
    }
    let executed = world.executed.clone();
    for turn in 0_i64..10_000 {
        if turn % 7 == 0 {
            world.restart();
        }
        let now = (turn * 7_919) % 10_000_000 - 5_000_000;
        let index = usize::try_from(turn).unwrap() % commands.len();
        let reason = world.reason(&commands[index], now);
        // The last one is answered as it was before; every other is refused.
        let is_last = index + 1 == commands.len();
        assert_eq!(reason.is_none(), is_last);
    }
    assert_eq!(world.executed, executed);
}
