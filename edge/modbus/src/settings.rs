//! What a device has of what commands set: the registers are read back by themselves, after the device was away, after each
//! command, and every half minute, so that what somebody sets at the bedside, or what is gone with the power, is seen.
use super::{
    notice::Notice,
    plan::{Place, Plan, Read},
    profile::Profile,
    talk::Answer,
};
use commands::Write;
use std::time::{Duration, Instant};
use types::DeviceId;

/// Settings are read at least this often while the device is seen (real time).
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What a device showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The device.
    pub device: DeviceId,
    /// The number in what each write sets; none where the device refuses to show it.
    pub numbers: Vec<(Write, Option<u64>)>,
    /// Whether the device may have been away since it showed something last: what cannot be read back is then unknown.
    pub afresh: bool,
}

impl Shown {
    /// The number in what a write sets.
    #[must_use]
    pub fn number(&self, write: &Write) -> Option<u64> {
        let same = |own: &Write| (own.address, own.words) == (write.address, write.words);
        let found = self.numbers.iter().find(|(own, _)| same(own));
        found.and_then(|(_, number)| *number)
    }
}

/// When the settings of a device are read, and where they are.
#[derive(Debug)]
pub(super) struct Settings {
    writes: Vec<Write>,
    plan: Plan,
    /// When they are read; never while the device is not seen.
    due: Option<Instant>,
    afresh: bool,
}

impl Settings {
    pub(super) fn of(profile: &Profile) -> Self {
        let (writes, plan) = profile.settings();
        Self {
            writes,
            plan,
            due: None,
            afresh: true,
        }
    }

    /// Something was seen of the device.
    pub(super) fn note(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Seen => self.due = self.due.or(Some(now)),
            // One request that is not answered in time says nothing of the device's power.
            Notice::Dead | Notice::Broken => {
                self.due = None;
                self.afresh = true;
            }
            _ => {}
        }
    }

    /// A command was carried out, or was not: they are read at once if the device is seen.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due = self.due.map(|_| now);
    }

    /// When they are to be read.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be read.
    pub(super) fn reads(&self) -> Vec<Read> {
        self.plan.reads.clone()
    }

    /// What the answers to the reads show, in their order; none for one that the device refuses.
    pub(super) fn shown(&self, device: &DeviceId, answers: &[Option<Vec<u16>>]) -> Shown {
        let writes = self.writes.iter().zip(&self.plan.places);
        let numbers = writes.map(|(write, place)| (write.clone(), number(answers, *place)));
        Shown {
            device: device.clone(),
            numbers: numbers.collect(),
            afresh: self.afresh,
        }
    }

    /// They were read, and whether what they show was handed on.
    pub(super) fn looked(&mut self, was_told: bool, now: Instant) {
        self.afresh &= !was_told;
        self.due = self.due.map(|_| now + LOOK_EVERY);
    }
}

/// What an answer to a read says of the registers, which may be that the device has none of them (Modbus Application Protocol
/// 1.1b3, §7: an illegal function, address or value). None where it says nothing: one that is busy still has its settings.
pub(super) fn said(answer: Answer) -> Option<Option<Vec<u16>>> {
    match answer {
        Answer::Registers(words) => Some(Some(words)),
        Answer::Refused(1..=3) => Some(None),
        Answer::Refused(_)
        | Answer::Written
        | Answer::TimedOut
        | Answer::Broken
        | Answer::Malformed => None,
    }
}

/// Words, the most significant first, or a bit, as a number.
fn number(answers: &[Option<Vec<u16>>], place: Place) -> Option<u64> {
    let answer = answers.get(place.read)?.as_ref()?;
    let words = answer.get(place.offset..place.offset + place.count)?;
    Some(
        words
            .iter()
            .fold(0, |sum, word| sum << 16 | u64::from(*word)),
    )
}

/// Returns when it is time; never when it is not to be.
pub(super) async fn wait(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::BUILT_IN;

    #[test]
    fn a_device_that_is_busy_has_not_lost_its_settings() {
        for (answer, expected) in [
            (Answer::Registers(vec![7]), Some(Some(vec![7]))),
            (Answer::Refused(2), Some(None)),
            (Answer::Refused(4), None),
            (Answer::Refused(6), None),
            (Answer::TimedOut, None),
        ] {
            assert_eq!(said(answer.clone()), expected, "{answer:?}");
        }
    }

    #[test]
    fn settings_are_read_when_the_device_is_seen_again_after_a_command_and_every_half_minute() {
        let profile: Profile = toml::from_str(BUILT_IN[0].1).unwrap();
        let mut settings = Settings::of(&profile);
        let device: DeviceId = "m1".parse().unwrap();
        let start = Instant::now();
        assert_eq!(settings.due(), None, "nothing was seen of it");
        settings.note(Notice::Seen, start);
        assert_eq!(settings.due(), Some(start));
        let [read] = settings.reads()[..] else {
            panic!("one request carries them all");
        };
        assert_eq!((read.address, read.count), (64, 5));
        let barrier = profile.barrier(&profile.plan().unwrap()).unwrap();
        assert!(
            !barrier.counts.contains(&read.count),
            "nor is it taken for another"
        );
        let answers = [Some(vec![0, 7_000, 50, 150, 0])];
        let shown = settings.shown(&device, &answers);
        let numbers: Vec<_> = shown.numbers.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, [Some(7_000), Some(50), Some(150), Some(0)]);
        assert!(shown.afresh);
        assert_eq!(settings.shown(&device, &[None]).numbers[0].1, None);
        settings.looked(false, start);
        assert!(settings.shown(&device, &answers).afresh, "nobody took it");
        settings.looked(true, start);
        settings.note(Notice::Seen, start);
        assert_eq!(settings.due(), Some(start + LOOK_EVERY));
        assert!(!settings.shown(&device, &answers).afresh);
        settings.changed(start);
        assert_eq!(settings.due(), Some(start));
        settings.note(Notice::Broken, start);
        settings.changed(start);
        assert_eq!(settings.due(), None, "it is away");
        settings.note(Notice::Seen, start);
        assert!(settings.shown(&device, &answers).afresh);
    }
}
