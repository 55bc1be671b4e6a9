//! Whose answer is it? The exchange of requests and answers on one line, as a state machine that gets bytes and the time
//! and says what to do next. Pure.
//!
//! TCP frames carry a transaction id, so an answer to an earlier request is passed over. RTU frames carry none: two
//! requests of the same unit, function and length differ only in when they are answered. What makes a wrong pairing
//! impossible there:
//!
//! - Before each request the line is read until it has been silent for 3.5 characters (Serial Line 1.02 §2.5.1.1), so
//!   that what came meanwhile is nobody's answer.
//! - A request without an answer is a *debt* of its unit. While a unit is in debt it is not asked for values: its late
//!   answer is waited for, or it is asked a *barrier*, a read that no other request of its profile looks like. A unit
//!   answers in order, so whatever it still owed has come once the barrier is answered. A unit that does not answer
//!   barriers is left alone for its longest answer time instead.
//! - An answer that is byte for byte one that came shortly before to another request can be a copy of it. It is
//!   believed only if it comes again to the same request when copies have come.
//!
//! Assumed of a device: it answers in order; it repeats an answer within a time that its profile says, or not at all;
//! and as long as it has not answered a barrier, it answers within its longest answer time, or not at all. A device that
//! is polled faster than copies come can be taken at a value that is as old as they.
mod question;
mod unit;

use super::wire::{Ask, Framing, MAX_KEPT, Reply, Shape, whole_tcp_frames};
pub(super) use question::{Answer, Barrier, Carrier, Micros, Pace, Question};
use std::{collections::BTreeMap, ops::Range};
use unit::{Before, Unit};

/// A line that is not silent for so long is not usable.
const NEVER_SILENT: Micros = 2_000_000;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Send these bytes; then [`Talk::sent`].
    Send(Vec<u8>),
    /// Listen until then; then [`Talk::heard`] or [`Talk::passed`].
    Listen(Micros),
    /// Leave the line to others until then, and begin again.
    Leave(Micros),
    /// The request is done.
    Done(Answer),
}

#[derive(Clone, Debug)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// Before the request, since then.
    Settling(Micros),
    /// A barrier was sent.
    Barrier(Pending),
    /// The request was sent. A frame may have been heard that can be a copy; at this time it is known to be in doubt.
    Asked(Pending, Option<Micros>),
}

/// A request that was sent.
#[derive(Clone, Debug)]
struct Pending {
    frame: Vec<u8>,
    shape: Shape,
    framing: Framing,
    sent: Micros,
    until: Micros,
    /// Whether its echo is still to be heard.
    echo: bool,
}

/// One line.
#[derive(Debug)]
pub(super) struct Talk {
    carrier: Carrier,
    transaction: u16,
    units: BTreeMap<u8, Unit>,
    connected: Micros,
    /// When something was last heard or sent.
    quiet_since: Micros,
    /// Until when the line was listened to before this request: what is heard at its beginning may have come then.
    deaf_since: Micros,
    /// Time-outs in a row, of whatever unit.
    timed_out: u32,
    bytes: Vec<u8>,
    /// Whether something came since the request was sent that is neither an answer nor a late one.
    rubbish: bool,
    phase: Phase,
}

impl Talk {
    /// A line; `transaction` is the first transaction id.
    pub(super) const fn new(carrier: Carrier, transaction: u16) -> Self {
        Self {
            carrier,
            transaction,
            units: BTreeMap::new(),
            connected: 0,
            quiet_since: 0,
            deaf_since: 0,
            timed_out: 0,
            bytes: Vec::new(),
            rubbish: false,
            phase: Phase::Idle,
        }
    }

    /// The line was opened.
    pub(super) fn opened(&mut self, now: Micros) {
        (self.connected, self.quiet_since, self.timed_out) = (now, now, 0);
        self.bytes.clear();
    }

    /// Whether the connection has been silent for too long to be believed in.
    pub(super) const fn is_stale(&self, pace: &Pace) -> bool {
        self.timed_out >= pace.reconnect_after
    }

    /// Whether the request itself, and not what comes before it, may have gone out.
    pub(super) const fn is_asked(&self) -> bool {
        matches!(self.phase, Phase::Asked(..))
    }

    /// The line broke; says whether nothing had come of the request yet.
    pub(super) fn broke(&mut self, question: &Question<'_>) -> bool {
        let untouched = self.bytes.is_empty() && !self.rubbish;
        self.owe(question);
        self.phase = Phase::Idle;
        self.bytes.clear();
        untouched
    }

    /// Begins with a request.
    pub(super) fn begin(&mut self, question: &Question<'_>, now: Micros) -> Do {
        self.phase = Phase::Settling(now);
        self.rubbish = false;
        self.settle(question, now)
    }

    /// The bytes of [`Do::Send`] are on their way.
    pub(super) fn sent(&mut self, question: &Question<'_>, now: Micros) -> Do {
        let character = self.carrier.character;
        let (Phase::Barrier(pending) | Phase::Asked(pending, _)) = &mut self.phase else {
            return Do::Listen(now);
        };
        let out = character * pending.frame.len() as u64;
        let back = character * pending.shape.frame_len() as u64;
        pending.sent = now;
        pending.until = now + out + back + question.pace.timeout;
        self.quiet_since = now + out;
        Do::Listen(pending.until)
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, question: &Question<'_>, bytes: &[u8], now: Micros) -> Do {
        self.quiet_since = self.quiet_since.max(now);
        self.bytes.extend_from_slice(bytes);
        let over = self.bytes.len().saturating_sub(MAX_KEPT);
        self.bytes.drain(..over);
        self.rubbish |= over > 0;
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Settling(since) => {
                self.collect(question.pace, self.deaf_since, now);
                if now.saturating_sub(since) > NEVER_SILENT + question.pace.after_connect {
                    return self.done(Answer::Malformed, now);
                }
                self.phase = Phase::Settling(since);
                self.settle(question, now)
            }
            Phase::Barrier(pending) => self.heard_barrier(pending, question, now),
            Phase::Asked(pending, doubt) => self.heard_answer(pending, doubt, question, now),
            Phase::Idle => self.done(Answer::Malformed, now),
        }
    }

    /// The time of [`Do::Listen`] is over.
    pub(super) fn passed(&mut self, question: &Question<'_>, now: Micros) -> Do {
        match self.phase {
            Phase::Settling(_) => return self.settle(question, now),
            // It was a copy of another answer, or this one says the same as that one: asked again, it is clear.
            Phase::Asked(_, Some(_)) => {
                self.owe(question);
                return self.begin(question, now);
            }
            Phase::Barrier(_) => {
                if self.unit(question).barrier_failed(now) {
                    return self.begin(question, now);
                }
            }
            Phase::Asked(_, None) | Phase::Idle => self.owe(question),
        }
        self.timed_out = self.timed_out.saturating_add(1);
        let rubbish = self.rubbish || !self.bytes.is_empty();
        let answer = if rubbish {
            Answer::Malformed
        } else {
            Answer::TimedOut
        };
        self.done(answer, now)
    }

    fn done(&mut self, answer: Answer, now: Micros) -> Do {
        if !self.bytes.is_empty() {
            let bytes = self.bytes.len() as u64;
            metrics::counter!("medmesh_modbus_discarded_bytes_total").increment(bytes);
            self.bytes.clear();
        }
        self.phase = Phase::Idle;
        self.deaf_since = now;
        Do::Done(answer)
    }

    fn unit(&mut self, question: &Question<'_>) -> &mut Unit {
        self.units.entry(question.unit).or_default()
    }

    /// What was sent and not answered is a debt of its unit, where answers cannot be told apart.
    fn owe(&mut self, question: &Question<'_>) {
        if !self.carrier.rtu {
            return;
        }
        if let Phase::Asked(pending, _) = &self.phase {
            let unit = self.units.entry(question.unit).or_default();
            unit.owe(pending, question.pace);
        }
    }

    /// Waits for silence; then asks.
    fn settle(&mut self, question: &Question<'_>, now: Micros) -> Do {
        let Phase::Settling(since) = self.phase else {
            return Do::Listen(now);
        };
        let pace = question.pace;
        let quiet = self.carrier.silence.max(pace.between_requests);
        // What waits in the kernel's buffer is old, but has not been heard yet.
        let due = (self.quiet_since + quiet)
            .max(since + self.carrier.silence)
            .max(self.connected + pace.after_connect);
        if now < due {
            return Do::Listen(due);
        }
        self.speak(question, now)
    }

    /// The line is silent: sends the request, or what makes sure first that nothing is owed.
    fn speak(&mut self, question: &Question<'_>, now: Micros) -> Do {
        self.rubbish = false;
        self.bytes.clear();
        let barrier = question.barrier.filter(|_| self.carrier.rtu);
        let (ask, is_barrier) = match self.unit(question).before(barrier, now) {
            Before::Wait(until) => {
                (self.phase, self.deaf_since) = (Phase::Idle, now);
                return Do::Leave(until);
            }
            Before::Barrier(read) => (Ask::Read(read), true),
            Before::Nothing => (question.ask.clone(), false),
        };
        let framing = if self.carrier.rtu {
            Framing::Rtu
        } else {
            self.transaction = self.transaction.wrapping_add(1);
            Framing::Tcp(self.transaction)
        };
        let mut shape = ask.shape(question.unit);
        // Where other requests have its function, an exception can be the answer to one of them.
        shape.refusable = !is_barrier || question.barrier.is_some_and(|barrier| barrier.alone);
        let pending = Pending {
            frame: ask.frame(question.unit, framing),
            shape,
            framing,
            sent: now,
            until: now,
            echo: self.carrier.echo,
        };
        let frame = pending.frame.clone();
        self.phase = if is_barrier {
            let shape = pending.shape.clone();
            self.unit(question).owe_barrier(shape, question.pace, now);
            Phase::Barrier(pending)
        } else {
            Phase::Asked(pending, None)
        };
        Do::Send(frame)
    }

    fn heard_barrier(&mut self, mut pending: Pending, question: &Question<'_>, now: Micros) -> Do {
        if self.skip_echo(&mut pending).is_some() {
            self.collect(question.pace, now, now);
        }
        if self.unit(question).is_clear(&pending.shape) {
            self.timed_out = 0;
            self.bytes.clear();
            return self.begin(question, now);
        }
        let until = pending.until;
        self.phase = Phase::Barrier(pending);
        Do::Listen(until)
    }

    fn heard_answer(
        &mut self,
        mut pending: Pending,
        mut doubt: Option<Micros>,
        question: &Question<'_>,
        now: Micros,
    ) -> Do {
        while let Some(frame) = self.next_frame(&mut pending, question.pace, now) {
            let unit = self.units.entry(question.unit).or_default();
            let copied = match question.ask {
                Ask::Read(_) if self.carrier.rtu => {
                    unit.copied(&frame, question.ask, question.pace, now)
                }
                // Confirmations of writes are all alike, and say nothing that could be wrong.
                Ask::Read(_) | Ask::Write { .. } | Ask::Coil { .. } => None,
            };
            if let Some(end) = copied {
                doubt = Some(end.min(pending.until));
            } else if let Some(reply) = pending.shape.read(&frame, pending.framing) {
                return self.believe(question, frame, reply, now);
            }
        }
        let until = doubt.unwrap_or(pending.until);
        self.phase = Phase::Asked(pending, doubt);
        Do::Listen(until)
    }

    /// This frame is the answer.
    fn believe(
        &mut self,
        question: &Question<'_>,
        frame: Vec<u8>,
        reply: Reply,
        now: Micros,
    ) -> Do {
        self.timed_out = 0;
        if self.carrier.rtu {
            self.unit(question).answered(frame, question.ask, now);
        }
        let answer = match reply {
            Reply::Values(words) => Answer::Registers(words),
            Reply::Written => Answer::Written,
            Reply::Refused(code) => Answer::Refused(code),
        };
        self.done(answer, now)
    }

    /// The next frame that fits what is pending. Late answers before it pay their debts.
    fn next_frame(&mut self, pending: &mut Pending, pace: &Pace, now: Micros) -> Option<Vec<u8>> {
        if let Framing::Tcp(transaction) = pending.framing {
            return self.next_tcp_frame(pending, transaction);
        }
        self.skip_echo(pending)?;
        loop {
            let own = pending.shape.find(&self.bytes, pending.framing);
            let start = own.as_ref().map_or(usize::MAX, |range| range.start);
            match self.first_late().filter(|(_, late)| late.start < start) {
                Some((unit, late)) => self.pay(unit, late, pace, now, now)?,
                None => return self.cut(own?),
            }
        }
    }

    fn next_tcp_frame(&mut self, pending: &Pending, transaction: u16) -> Option<Vec<u8>> {
        if let Some(own) = pending.shape.find(&self.bytes, pending.framing) {
            return self.cut(own);
        }
        // Answers to other requests are passed over; one with this transaction id is an answer that is not one.
        let foreign = whole_tcp_frames(&self.bytes, transaction);
        self.rubbish |= foreign.own > 0;
        self.bytes.drain(..foreign.len);
        None
    }

    /// Drops what the adapter hears of its own request; none while it has to hear more.
    fn skip_echo(&mut self, pending: &mut Pending) -> Option<()> {
        if !pending.echo && !self.bytes.starts_with(&pending.frame) {
            return Some(());
        }
        let mut windows = self.bytes.windows(pending.frame.len());
        let at = windows.position(|window| window == pending.frame)?;
        self.bytes.drain(..at + pending.frame.len());
        pending.echo = false;
        Some(())
    }

    /// Takes a frame, and what stands before it, out of what came.
    fn cut(&mut self, range: Range<usize>) -> Option<Vec<u8>> {
        let frame = self.bytes.get(range.clone())?.to_vec();
        self.rubbish |= range.start > 0;
        self.bytes.drain(..range.end);
        Some(frame)
    }

    /// Late answers in what came pay their debts.
    fn collect(&mut self, pace: &Pace, came: Micros, now: Micros) {
        while let Some((unit, late)) = self.first_late() {
            if self.pay(unit, late, pace, came, now).is_none() {
                return;
            }
        }
    }

    /// The first answer in what came that some unit owes.
    fn first_late(&self) -> Option<(u8, Range<usize>)> {
        let units = self.units.iter();
        units
            .filter_map(|(id, unit)| Some((*id, unit.first_late(&self.bytes)?)))
            .min_by_key(|(_, range)| range.start)
    }

    fn pay(
        &mut self,
        unit: u8,
        range: Range<usize>,
        pace: &Pace,
        came: Micros,
        now: Micros,
    ) -> Option<()> {
        let frame = self.cut(range)?;
        self.units.get_mut(&unit)?.pay(frame, pace, came, now);
        Some(())
    }
}

#[cfg(test)]
mod tests;
