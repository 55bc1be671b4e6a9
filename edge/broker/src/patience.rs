//! How long a connection waits for its client: to say something, to finish a packet that it has begun, to take what it
//! is sent. A drop of bytes now and then puts off none of the last two.
use super::{BrokerLimits, end::End};
use std::time::Duration;
use tokio::time::Instant;

/// How far a deadline lies when there is none.
const FAR: Duration = Duration::from_secs(86_400);

/// What is waited for, and since when.
pub(super) struct Patience {
    silence: Duration,
    stall: Duration,
    stall_bytes: usize,
    packet: Duration,
    heard: Instant,
    written: Instant,
    written_bytes: usize,
    partial: Option<Instant>,
    writable: bool,
}

impl Patience {
    /// `silence` without a whole packet ends the connection; zero: never.
    pub(super) fn new(limits: &BrokerLimits, silence: Duration, now: Instant) -> Self {
        Self {
            silence: if silence.is_zero() { FAR } else { silence },
            stall: limits.write_timeout,
            stall_bytes: limits.write_bytes,
            packet: limits.packet_timeout,
            heard: now,
            written: now,
            written_bytes: 0,
            partial: None,
            writable: false,
        }
    }

    /// Whether whole packets were taken from the input, of which so many bytes are left: a part of one. A whole packet
    /// counts as heard, not a byte of one (MQTT-3.1.2-22; 3.1.1: -24). What is not read, as what does not wait to be
    /// written, is nobody's delay.
    pub(super) fn look(
        &mut self,
        (whole, left): (bool, usize),
        (readable, writable): (bool, bool),
        now: Instant,
    ) {
        self.writable = writable;
        if whole || !readable {
            self.heard = now;
        }
        if !writable {
            (self.written, self.written_bytes) = (now, 0);
        }
        if left == 0 || !readable {
            self.partial = None;
        } else if whole || self.partial.is_none() {
            self.partial = Some(now);
        }
    }

    /// Some bytes were written; zero: everything that was is on its way.
    pub(super) fn wrote(&mut self, bytes: usize, now: Instant) {
        self.written_bytes += bytes;
        if bytes == 0 || self.written_bytes >= self.stall_bytes {
            (self.written, self.written_bytes) = (now, 0);
        }
    }

    /// When to look again though nothing happened.
    pub(super) fn deadline(&self) -> Instant {
        let stalled = self.written + if self.writable { self.stall } else { FAR };
        let late = self.partial.map_or(stalled, |since| since + self.packet);
        stalled.min(late).min(self.heard + self.silence)
    }

    /// Why the connection ends now, if it does.
    pub(super) fn end(&self, now: Instant) -> Option<End> {
        let late = self.partial.is_some_and(|since| now >= since + self.packet);
        if self.writable && now >= self.written + self.stall {
            Some(End::Stalled)
        } else if late || now >= self.heard + self.silence {
            Some(End::Silent)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(now: Instant) -> Patience {
        Patience::new(&BrokerLimits::default(), Duration::ZERO, now)
    }

    #[test]
    fn a_client_that_takes_a_byte_a_second_is_stalled_and_one_that_takes_enough_is_not() {
        for (bytes, expected) in [(1, Some(End::Stalled)), (100, None)] {
            let begun = Instant::now();
            let mut patience = patience(begun);
            let mut end = None;
            for second in 0..200 {
                let now = begun + second * SECOND;
                patience.look((false, 0), (true, true), now);
                end = end.or(patience.end(now));
                patience.wrote(bytes, now);
            }
            assert_eq!(end, expected, "{bytes}");
        }
    }

    #[test]
    fn a_packet_that_never_ends_is_late_and_one_after_the_other_is_not() {
        for (whole, expected) in [(false, Some(End::Silent)), (true, None)] {
            let begun = Instant::now();
            let mut patience = patience(begun);
            let mut end = None;
            for second in 0..200 {
                let now = begun + second * SECOND;
                patience.look((whole, 9), (true, false), now);
                end = end.or(patience.end(now));
            }
            assert_eq!(end, expected, "{whole}");
        }
    }
}
