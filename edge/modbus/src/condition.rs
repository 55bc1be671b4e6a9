//! Which devices do not answer, by name: what a person reads in the log and in `/ready`, and counts in `/metrics`.
//!
//! Metrics have no device's name as a label; the log and `/ready` have it, and say it once when it begins and once when
//! it ends.
use super::notice::Notice;
use node::health::Check;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use types::DeviceId;

/// Names in `/ready` at most; the count is in the metric.
const MAX_NAMES: usize = 100;
/// A device's requests without an answer are said in the log when there are so many, and each time they are ten times
/// as many.
const FIRST_SAID: u64 = 10;

/// The devices of a facility's lines that do not answer.
pub struct Conditions {
    check: Check,
    dead: Mutex<BTreeSet<DeviceId>>,
}

impl Conditions {
    /// All devices are taken to answer until it is seen that they do not.
    #[must_use]
    pub fn new(check: Check) -> Self {
        check.pass();
        Self {
            check,
            dead: Mutex::default(),
        }
    }

    /// Whether a device does not answer.
    #[must_use]
    pub fn is_dead(&self, device: &DeviceId) -> bool {
        self.dead.lock().contains(device)
    }

    fn set(&self, device: &DeviceId, is_dead: bool) {
        let mut dead = self.dead.lock();
        if is_dead {
            dead.insert(device.clone());
        } else {
            dead.remove(device);
        }
        metrics::gauge!("medmesh_modbus_dead_devices").set(dead.len() as f64);
        if dead.is_empty() {
            self.check.pass();
        } else {
            let names = dead.iter().take(MAX_NAMES).map(ToString::to_string);
            self.check.fail_for("dead", names.collect());
        }
    }
}

/// What is known of one device.
#[derive(Debug, Default)]
pub(super) struct Condition {
    timed_out: u64,
    broken: u64,
    said: u64,
    /// The last exception code, since it was seen last.
    exception: Option<u8>,
    dead: bool,
    frozen: bool,
}

impl Condition {
    /// Something was seen of the device. The first of a kind is logged, and told to the others.
    pub(super) fn note(&mut self, device: &DeviceId, notice: Notice, all: &Conditions) {
        let counted = (self.timed_out, self.broken);
        match notice {
            Notice::TimedOut => self.timed_out += 1,
            Notice::Broken => self.broken += 1,
            Notice::Exception(code) => self.exception = Some(code),
            Notice::Dead if !self.dead => {
                self.dead = true;
                all.set(device, true);
                let (timed_out, broken, exception) = (self.timed_out, self.broken, self.exception);
                tracing::warn!(%device, timed_out, broken, exception, "device does not answer, or only with refusals");
            }
            Notice::Frozen if !self.frozen => {
                self.frozen = true;
                tracing::warn!(%device, "device answers, but its heart and clock stand still");
            }
            Notice::Seen => self.answers(device, all),
            Notice::Refused(code, exception) => {
                tracing::warn!(%device, %code, exception, "device refuses a register; its reading is absent");
            }
            _ => {}
        }
        if counted != (self.timed_out, self.broken) {
            self.say_count(device);
        }
    }

    fn answers(&mut self, device: &DeviceId, all: &Conditions) {
        if self.dead {
            all.set(device, false);
            tracing::info!(%device, "device answers again");
        } else if self.frozen {
            tracing::info!(%device, "the heart or clock of the device moves again");
        }
        (self.dead, self.frozen, self.exception) = (false, false, None);
    }

    /// Says the device's time-outs and broken connections when they have become many, also when good answers came
    /// between.
    fn say_count(&mut self, device: &DeviceId) {
        let next = self.said.saturating_mul(10).max(FIRST_SAID);
        if self.timed_out + self.broken >= next {
            self.said = next;
            tracing::warn!(
                %device,
                timed_out = self.timed_out,
                broken = self.broken,
                "requests to a device were not answered since this start"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::health::Health;

    #[test]
    fn a_dead_device_is_in_ready_by_name_until_it_answers() {
        let health = Health::new();
        let all = Conditions::new(health.optional("devices"));
        let (first, second): (DeviceId, DeviceId) = ("m1".parse().unwrap(), "m2".parse().unwrap());
        let (mut one, mut two) = (Condition::default(), Condition::default());
        let names = || {
            let degraded = health.degraded();
            degraded
                .into_iter()
                .flat_map(|it| it.names)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), Vec::<String>::new());
        for _ in 0..2 {
            one.note(&first, Notice::TimedOut, &all);
            one.note(&first, Notice::Dead, &all);
            two.note(&second, Notice::Dead, &all);
            assert_eq!(names(), ["m1", "m2"]);
            one.note(&first, Notice::Seen, &all);
            assert_eq!(names(), ["m2"]);
            two.note(&second, Notice::Seen, &all);
            assert_eq!(health.degraded(), []);
        }
    }

    #[test]
    fn time_outs_and_breaks_are_counted_also_when_good_answers_come_between() {
        let all = Conditions::new(Health::new().optional("devices"));
        let device = "m1".parse().unwrap();
        let mut one = Condition::default();
        let mut said = Vec::new();
        for count in 1..=2_000 {
            let notice = if count % 3 == 0 {
                Notice::Broken
            } else {
                Notice::TimedOut
            };
            one.note(&device, notice, &all);
            one.note(&device, Notice::Seen, &all);
            if said.last() != Some(&one.said) {
                said.push(one.said);
            }
        }
        assert_eq!((one.timed_out, one.broken), (1_334, 666));
        assert_eq!(said, [0, 10, 100, 1_000]);
    }
}
