//! What to do next with one device: a state machine that gets what came of the last step, the time and a random number,
//! and says the next step. Pure.
//!
//! A sample is acknowledged to its device only after the journal said that it is durable. A sample that the journal
//! cannot take now is kept in hand and offered again; the device keeps it too. A register that the device refuses is
//! left out, and its reading is absent; the others are stored.
use super::{
    decode::{Decoder, Shown, Torn},
    notice::Notice,
    plan::Plan,
    talk::{Answer, Barrier},
    wire::Ask,
};
use ingest::{Rejected, Sample, SampleReading, Stored, Urgency};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use types::{DeviceId, Flags, Freshness, FreshnessLimits, Timestamp};

/// A device is read again after at least this long, real time, unless samples wait: `--speed` must not melt the line.
const FLOOR_MS: i64 = 20;
/// The pause after the first failure and the longest one, real time.
const BACKOFF_MS: (i64, i64) = (100, 5_000);
/// Failures in a row after which a device is said to be dead.
const DEAD_AFTER: u32 = 3;
/// Why a sample is quarantined whose identity another one has.
const CONFLICT: &str = "same identity, other payload";
/// A register that is not there (exceptions 1 to 3) is asked for again after this time, and one at which the device
/// failed (4) after the other: real time.
const REFUSED_MS: (i64, i64) = (3_600_000, 60_000);
/// Torn reads in a row that are read again at once.
const TORN_RETRIES: u32 = 3;

/// The next step.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask the device; then [`Input::Answer`].
    Ask(Ask),
    /// Store the sample; then [`Input::Stored`].
    Append(Sample),
    /// Keep a sample that can never be stored, with the reason; then [`Input::Kept`].
    Quarantine(&'static str, Sample),
    /// Wait, real time; then [`Input::Waited`].
    Wait(Duration),
}

/// What came of the last step.
#[derive(Debug)]
pub(super) enum Input {
    /// The device's answer.
    Answer(Answer),
    /// The journal's answer.
    Stored(Result<Stored, Rejected>),
    /// Whether the quarantine is durable.
    Kept(bool),
    /// The time is over.
    Waited,
}

/// When it is, and a number between 0 and 1 for jitter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) mesh: Timestamp,
    pub(super) real: Timestamp,
    pub(super) random: f64,
}

/// What the machine waits for.
#[derive(Debug)]
enum Phase {
    /// The next cycle.
    Idle,
    /// The answer to the read of this number.
    Reading(usize),
    /// The journal, or another try at it.
    Storing(Sample),
    /// The answer to the acknowledgement of this sample.
    Acknowledging(Sample),
}

/// The poller of one device.
#[derive(Debug)]
pub(super) struct Poller {
    device: DeviceId,
    decoder: Arc<Decoder>,
    /// What is read now: the profile's plan without what the device refuses.
    plan: Plan,
    barrier: Option<Barrier>,
    /// When what was refused is asked for again.
    forget_refused: Option<Timestamp>,
    /// Points that are left out, with the exception code, of which it was not said yet; and of which it was.
    left_out: Vec<(usize, u8)>,
    said: BTreeSet<usize>,
    interval_ms: i64,
    phase: Phase,
    answers: Vec<Vec<u16>>,
    cycle_began: Timestamp,
    /// When the cycle's first answer came, mesh time: what a device without a clock says was measured then at the
    /// latest, however long its other answers took.
    measured: Option<Timestamp>,
    /// Whether the first request of the cycle was asked once more.
    asked_again: bool,
    /// Requests in a row that got no answer.
    failures: u32,
    /// Tries in a row at which the store did not take the sample in hand.
    held: u32,
    /// Whether it was said that the device is dead.
    dead: bool,
    torn: u32,
    health: u16,
    /// Samples that the device still holds after the shown one.
    more: bool,
    acknowledged: Option<Sample>,
    heart: Option<((u16, u64), Timestamp)>,
    frozen: bool,
    /// Numbers of a device that has none of its own.
    own: (u32, u64),
}

impl Poller {
    /// A poller; `interval_ms` is real time. `boot` numbers the edge's starts: the epoch of devices without a counter.
    pub(super) fn new(
        device: DeviceId,
        decoder: Arc<Decoder>,
        interval_ms: i64,
        boot: u32,
    ) -> Self {
        let plan = decoder.plan.clone();
        Self {
            device,
            barrier: decoder.profile.barrier(&plan),
            plan,
            decoder,
            forget_refused: None,
            left_out: Vec::new(),
            said: BTreeSet::new(),
            interval_ms: interval_ms.max(FLOOR_MS),
            phase: Phase::Idle,
            answers: Vec::new(),
            cycle_began: Timestamp(0),
            measured: None,
            asked_again: false,
            failures: 0,
            held: 0,
            dead: false,
            torn: 0,
            health: 0,
            more: false,
            acknowledged: None,
            heart: None,
            frozen: false,
            own: (boot, 0),
        }
    }

    /// Reads that no request of this poller looks like.
    pub(super) const fn barrier(&self) -> Option<&Barrier> {
        self.barrier.as_ref()
    }

    /// A read that changes nothing and that the device answers, or refuses, when it is there.
    pub(super) fn first_read(&self) -> Option<Ask> {
        self.plan.reads.first().map(|read| Ask::Read(*read))
    }

    /// The next step. Notices are added to `notices`.
    pub(super) fn step(&mut self, input: Input, now: Now, notices: &mut Vec<Notice>) -> Step {
        match (std::mem::replace(&mut self.phase, Phase::Idle), input) {
            (Phase::Reading(read), Input::Answer(Answer::Registers(words))) => {
                self.answers.push(words);
                self.measured.get_or_insert(now.mesh);
                self.go_on(read + 1, now, notices)
            }
            // A sample window is read whole or not at all: its guards speak for one read.
            (Phase::Reading(read), Input::Answer(Answer::Refused(code @ 1..=4)))
                if self.decoder.profile.window.is_none() =>
            {
                self.refused(read, code, now, notices)
            }
            (Phase::Reading(0), Input::Answer(Answer::TimedOut)) if self.may_be_lost() => {
                notices.push(Notice::TimedOut);
                self.asked_again = true;
                self.read(0)
            }
            (Phase::Acknowledging(sample), Input::Answer(Answer::Written)) => {
                self.acknowledged = Some(sample);
                if self.more {
                    self.begin(now)
                } else {
                    self.pause(now)
                }
            }
            (_, Input::Answer(answer)) => self.failed(&answer, now, notices),
            (Phase::Storing(sample), Input::Stored(result)) => self.stored(sample, result, now),
            (Phase::Storing(sample), Input::Kept(true)) => self.settle(sample, now),
            (Phase::Storing(sample), Input::Kept(false)) => self.hold(sample, now),
            (Phase::Storing(sample), Input::Waited) => self.append(sample),
            (Phase::Idle, Input::Waited) => self.begin(now),
            // An input that belongs to no step begins anew.
            (_, Input::Stored(_) | Input::Kept(_) | Input::Waited) => self.pause(now),
        }
    }

    fn begin(&mut self, now: Now) -> Step {
        self.cycle_began = now.real;
        self.more = false;
        self.asked_again = false;
        self.measured = None;
        self.answers.clear();
        if self.forget_refused.is_some_and(|at| now.real >= at) {
            self.read_all();
        }
        self.read(0)
    }

    fn may_be_lost(&self) -> bool {
        self.decoder.profile.timing.first_request_lost && !self.asked_again
    }

    /// Reads what the device refused, too, from now on.
    fn read_all(&mut self) {
        self.forget_refused = None;
        self.left_out.clear();
        self.plan_is(self.decoder.plan.clone());
    }

    fn plan_is(&mut self, plan: Plan) {
        self.barrier = self.decoder.profile.barrier(&plan);
        self.plan = plan;
    }

    /// The next read of the cycle, or what all of them say.
    fn go_on(&mut self, read: usize, now: Now, notices: &mut Vec<Notice>) -> Step {
        if read < self.plan.reads.len() {
            self.read(read)
        } else {
            self.look(now, notices)
        }
    }

    /// The device refuses a read: finds out which of its registers, and goes on with the others.
    fn refused(&mut self, read: usize, code: u8, now: Now, notices: &mut Vec<Notice>) -> Step {
        let mut plan = self.plan.clone();
        if let Some(span) = plan.split(read) {
            if plan.reads.is_empty() {
                self.read_all();
                return self.failed(&Answer::Refused(code), now, notices);
            }
            self.left_out.push((span, code));
            let pause = if code < 4 { REFUSED_MS.0 } else { REFUSED_MS.1 };
            let at = now.real.plus_ms(pause);
            self.forget_refused = Some(self.forget_refused.map_or(at, |before| before.min(at)));
        }
        notices.push(Notice::Exception(code));
        self.plan_is(plan);
        self.go_on(read, now, notices)
    }

    fn read(&mut self, read: usize) -> Step {
        self.phase = Phase::Reading(read);
        match self.plan.reads.get(read) {
            Some(read) => Step::Ask(Ask::Read(*read)),
            None => Step::Wait(Duration::from_millis(self.interval_ms.unsigned_abs())),
        }
    }

    /// Waits until the next cycle is due.
    fn pause(&mut self, now: Now) -> Step {
        self.phase = Phase::Idle;
        let spent = now.real.since(self.cycle_began).max(0);
        let left = (self.interval_ms - spent).clamp(FLOOR_MS, self.interval_ms);
        Step::Wait(Duration::from_millis(left.unsigned_abs()))
    }

    fn failed(&mut self, answer: &Answer, now: Now, notices: &mut Vec<Notice>) -> Step {
        match answer {
            Answer::Refused(code) => notices.push(Notice::Exception(*code)),
            Answer::Malformed => notices.push(Notice::Malformed),
            Answer::TimedOut => notices.push(Notice::TimedOut),
            Answer::Broken => notices.push(Notice::Broken),
            Answer::Registers(_) | Answer::Written => {}
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= DEAD_AFTER && !self.dead {
            self.dead = true;
            notices.push(Notice::Dead);
            // What comes back may be another one.
            (self.heart, self.frozen) = (None, false);
            self.read_all();
        }
        Step::Wait(back_off(self.failures, now))
    }

    /// Says once in a run which registers the device refuses, when it has answered for others.
    fn say_refused(&mut self, notices: &mut Vec<Notice>) {
        for (span, code) in std::mem::take(&mut self.left_out) {
            if let Some(point) = self.decoder.profile.points.get(span)
                && self.said.insert(span)
            {
                notices.push(Notice::Refused(point.code, code));
            }
        }
    }

    /// All registers are here: what do they say?
    fn look(&mut self, now: Now, notices: &mut Vec<Notice>) -> Step {
        self.say_refused(notices);
        match self.decoder.shown(&self.plan, &self.answers) {
            Some(Err(Torn)) => {
                notices.push(Notice::Torn);
                self.torn += 1;
                if self.torn.is_multiple_of(TORN_RETRIES + 1) {
                    self.pause(now)
                } else {
                    self.begin(now)
                }
            }
            None => {
                self.answered();
                notices.push(Notice::Seen);
                let measured = self.measured.unwrap_or(now.mesh);
                let sample = self.sample(self.own.0, self.own.1 + 1, measured, now);
                self.append(sample)
            }
            Some(Ok(shown)) => {
                self.answered();
                self.vital(&shown, now, notices);
                // A frozen device shows the same for ever: that is no sign of life.
                if !self.frozen {
                    notices.push(Notice::Seen);
                }
                self.take(&shown, now)
            }
        }
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.torn = 0;
        self.dead = false;
    }

    /// Looks at the device's faults, heart and clock.
    fn vital(&mut self, shown: &Shown, now: Now, notices: &mut Vec<Notice>) {
        if shown.health != self.health {
            self.health = shown.health;
            notices.push(Notice::Health(shown.health));
        }
        let beat = (shown.heartbeat, shown.device_time);
        match self.heart {
            Some((last, since)) if last == beat => {
                let still = now.real.since(since) >= self.decoder.profile.frozen_after.as_ms();
                if still && !self.frozen {
                    self.frozen = true;
                    notices.push(Notice::Frozen);
                }
            }
            _ => {
                self.heart = Some((beat, now.real));
                self.frozen = false;
            }
        }
    }

    /// Takes the shown sample, if there is a new one.
    fn take(&mut self, shown: &Shown, now: Now) -> Step {
        if shown.pending == 0 {
            return self.pause(now);
        }
        let sample = self.sample(shown.epoch, shown.seq, shown.time, now);
        // Another one under the same number, of a counter that began again, was not: the journal says what it is.
        if self
            .acknowledged
            .as_ref()
            .is_some_and(|before| says_the_same(before, &sample))
        {
            // It was acknowledged and is still shown: say it again, but in the rhythm of the interval.
            return self.acknowledge(sample);
        }
        self.more = shown.pending > 1;
        self.append(sample)
    }

    fn sample(&self, epoch: u32, seq: u64, source_time: Timestamp, now: Now) -> Sample {
        let profile = &self.decoder.profile;
        let limits = FreshnessLimits {
            late_after_ms: profile.late_after.as_ms(),
            stale_after_ms: profile.stale_after.as_ms(),
        };
        let mut readings = self.decoder.readings(&self.plan, &self.answers);
        if Freshness::on_arrival(source_time, now.mesh, limits) == Freshness::Historical {
            for reading in &mut readings {
                reading.flags = reading.flags.with(Flags::HISTORICAL);
            }
        }
        Sample {
            device: self.device.clone(),
            epoch,
            seq,
            source_time,
            patient: None,
            urgency: Urgency::Routine,
            readings,
        }
    }

    fn append(&mut self, sample: Sample) -> Step {
        self.phase = Phase::Storing(sample.clone());
        Step::Append(sample)
    }

    fn stored(&mut self, sample: Sample, result: Result<Stored, Rejected>, now: Now) -> Step {
        match result {
            Ok(Stored::New | Stored::Duplicate) => self.settle(sample, now),
            // It was alarmed; shown for ever it would block what comes after it, and acknowledged it is nowhere else.
            Err(Rejected::Conflict { .. }) => self.quarantine(CONFLICT, sample),
            Err(Rejected::Invalid(reason)) => self.quarantine(reason, sample),
            Err(Rejected::Full | Rejected::Unavailable(_)) => self.hold(sample, now),
        }
    }

    fn quarantine(&mut self, reason: &'static str, sample: Sample) -> Step {
        self.phase = Phase::Storing(sample.clone());
        Step::Quarantine(reason, sample)
    }

    /// Keeps the sample in hand and tries again later. That the store does not take it is no fault of the device.
    fn hold(&mut self, sample: Sample, now: Now) -> Step {
        self.held = self.held.saturating_add(1);
        self.phase = Phase::Storing(sample);
        Step::Wait(back_off(self.held, now))
    }

    /// The sample is durable.
    fn settle(&mut self, sample: Sample, now: Now) -> Step {
        self.held = 0;
        if self.decoder.profile.window.is_some() {
            return self.acknowledge(sample);
        }
        self.own.1 = sample.seq;
        self.pause(now)
    }

    fn acknowledge(&mut self, sample: Sample) -> Step {
        let address = self
            .decoder
            .profile
            .window
            .map_or(0, |window| window.acknowledge);
        let all = u128::from(sample.epoch) << 64 | u128::from(sample.seq);
        self.phase = Phase::Acknowledging(sample);
        let words = (0..6)
            .rev()
            .map(|place| ((all >> (16 * place)) & 0xffff) as u16)
            .collect();
        Step::Ask(Ask::Write { address, words })
    }
}

/// Whether two samples are one: what the edge notes on a reading does not make it another.
fn says_the_same(one: &Sample, other: &Sample) -> bool {
    let said = |sample: &Sample| (sample.epoch, sample.seq, sample.source_time);
    let same = |(one, other): (&SampleReading, &SampleReading)| {
        one.code == other.code && one.value == other.value
    };
    said(one) == said(other)
        && one.readings.len() == other.readings.len()
        && one.readings.iter().zip(&other.readings).all(same)
}

/// Waits longer with each failure, between half and all of the time, so that many devices do not come at once.
fn back_off(failures: u32, now: Now) -> Duration {
    let doubled = BACKOFF_MS
        .0
        .saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = Duration::from_millis(doubled.min(BACKOFF_MS.1).unsigned_abs());
    longest.mul_f64(0.5 + 0.5 * now.random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
