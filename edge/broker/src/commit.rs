//! From received publishes to verdicts: what is stored, retained or quarantined, durably, before anything is answered.
//!
//! Who is told what (a refusal is for ever: a client that gets an acknowledgement, with whatever reason, does not send
//! again, MQTT-4.4.0-2; so what is to be kept and sent again is not acknowledged, and the connection ends):
//!
//! | case | MQTT 5 | MQTT 3.1.1, which has no reason codes |
//! |---|---|---|
//! | stored, or stored before | 0x00 | acknowledged |
//! | store full or out of reach | no acknowledgement, DISCONNECT 0x97 quota exceeded: the session sends again | no acknowledgement, connection closed: the session sends again |
//! | same identity, other payload, not measured later | 0x83 implementation specific error | quarantined, then acknowledged; the store raises the alarm |
//! | not a sample | 0x99 payload format invalid | quarantined, then acknowledged |
//! | quarantined, and the device has as many messages there as it may | – | no acknowledgement, connection closed |
//! | not the device's topic | 0x87 not authorized | connection closed (§3.3.5) |
//!
//! 0x97 serves both for a full and for an unreachable store: a device has one thing to do in either case, which is to
//! come back later with its session. QoS 0 cannot be told anything: what is not a sample is quarantined.
use super::{
    Answers, Backend, NoAnswer, Received, Rejected, Stored, decode::Version, encode::Reason,
    message::Message, meters::Meters, seats::Saying,
};
use bytes::Bytes;
use node::trace::{self, Name};
use rumqttd::protocol::QoS;
use std::{sync::Arc, time::Instant};
use storage::StoreError;
use types::DeviceId;

/// What is to be done with a publish before it is answered.
#[derive(Debug)]
pub(super) enum Step {
    /// Store what it says; keep the message too if it has the retain flag.
    Store {
        /// Whether it is an alarm.
        alarm: bool,
    },
    /// Keep it as the topic's retained message, or delete that.
    Retain,
    /// Nothing is durable of it: a status without the retain flag.
    Pass,
    /// A QoS 2 status whose PUBREC was sent before: the same words under the same packet id. Never a sample: what
    /// became of that the node says, by its identity.
    Repeat,
    /// It answers a command: for who gave it.
    Answer,
    /// Answer with this reason (v5).
    Refuse(Reason),
}

/// A received publish that is not answered yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) pkid: u16,
    pub(super) message: Message,
    /// At QoS 2: what it says.
    pub(super) saying: Option<Saying>,
    pub(super) step: Step,
}

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done; `fresh`: subscribers have not seen it yet.
    Done { fresh: bool },
    /// Refused for ever.
    Refused(Reason),
    /// Not now.
    Later,
}

/// A publish with its verdict.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) pkid: u16,
    pub(super) message: Message,
    pub(super) saying: Option<Saying>,
    pub(super) verdict: Verdict,
}

/// Whose publishes these are.
#[derive(Clone)]
pub(super) struct Committer {
    pub(super) device: DeviceId,
    pub(super) version: Version,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) meters: Arc<Meters>,
    /// Takes what the device answers to commands.
    pub(super) answers: Option<Arc<dyn Answers>>,
    /// The certificate that it showed (DER).
    pub(super) certificate: Bytes,
}

impl Committer {
    /// Does the steps of `jobs`, all that are stored in one call, and says what became of each, in the same order.
    pub(super) async fn commit(self, jobs: Vec<Job>) -> Vec<Settled> {
        let received = |job: &Job| match job.step {
            Step::Store { alarm } => Some(Received {
                device: self.device.clone(),
                alarm,
                payload: job.message.payload.clone(),
            }),
            _ => None,
        };
        let messages: Vec<_> = jobs.iter().filter_map(received).collect();
        let mut stored = match messages.is_empty() {
            true => Vec::new(),
            false => {
                let storing = self.backend.append(messages);
                trace::source(Name::MqttPublish, Instant::now(), storing).await
            }
        }
        .into_iter();
        let mut settled = Vec::with_capacity(jobs.len());
        for job in jobs {
            let verdict = match job.step {
                Step::Store { .. } => match stored.next() {
                    Some(result) => self.stored(&job, result).await,
                    None => Verdict::Later,
                },
                Step::Retain => self.retained(&job, true).await,
                Step::Pass => Verdict::Done { fresh: true },
                Step::Repeat => Verdict::Done { fresh: false },
                Step::Answer => self.answered(&job).await,
                Step::Refuse(reason) => Verdict::Refused(reason),
            };
            self.count(&job.step, verdict);
            settled.push(Settled {
                pkid: job.pkid,
                message: job.message,
                saying: job.saying,
                verdict,
            });
        }
        settled
    }

    async fn stored(&self, job: &Job, result: Result<Stored, Rejected>) -> Verdict {
        let told = self.version == Version::V5 && job.message.qos != QoS::AtMostOnce;
        match result {
            Ok(stored) => {
                let fresh = stored == Stored::New;
                match stored {
                    Stored::New => self.meters.stored.increment(1),
                    Stored::Duplicate => self.meters.duplicate.increment(1),
                }
                match job.message.retain {
                    true => self.retained(job, fresh).await,
                    false => Verdict::Done { fresh },
                }
            }
            Err(Rejected::Conflict) => {
                self.meters.conflict.increment(1);
                match told {
                    true => Verdict::Refused(Reason::IMPLEMENTATION),
                    false => self.quarantined(job, "same identity, other payload").await,
                }
            }
            Err(Rejected::Invalid(_)) if told => Verdict::Refused(Reason::PAYLOAD),
            Err(Rejected::Invalid(reason)) => {
                let verdict = self.quarantined(job, reason).await;
                if verdict != Verdict::Later {
                    self.meters.invalid.increment(1);
                }
                verdict
            }
            Err(Rejected::Later) => Verdict::Later,
        }
    }

    async fn answered(&self, job: &Job) -> Verdict {
        let told = self.version == Version::V5 && job.message.qos != QoS::AtMostOnce;
        let taken = match &self.answers {
            Some(answers) => {
                let message = &job.message.payload;
                answers.take(&self.device, &self.certificate, message).await
            }
            None => Err(NoAnswer::Later),
        };
        match taken {
            Ok(()) => Verdict::Done { fresh: false },
            Err(NoAnswer::Later) => Verdict::Later,
            Err(NoAnswer::Wrong) if told => Verdict::Refused(Reason::PAYLOAD),
            Err(NoAnswer::Wrong) => self.quarantined(job, "no answer to a command").await,
        }
    }

    async fn retained(&self, job: &Job, fresh: bool) -> Verdict {
        let kept = job.message.kept(Instant::now());
        done(self.backend.retain(kept).await, fresh)
    }

    async fn quarantined(&self, job: &Job, reason: &'static str) -> Verdict {
        let message = job.message.payload.clone();
        done(
            self.backend.quarantine(&self.device, reason, message).await,
            false,
        )
    }

    fn count(&self, step: &Step, verdict: Verdict) {
        match (step, verdict) {
            (_, Verdict::Later) => self.meters.later.increment(1),
            (_, Verdict::Refused(Reason::NOT_AUTHORIZED)) => self.meters.unauthorized.increment(1),
            (_, Verdict::Refused(Reason::PAYLOAD)) => self.meters.invalid.increment(1),
            (Step::Retain | Step::Pass | Step::Answer, _) => self.meters.status.increment(1),
            _ => {}
        }
    }
}

fn done(result: Result<(), StoreError>, fresh: bool) -> Verdict {
    match result {
        Ok(()) => Verdict::Done { fresh },
        Err(_) => Verdict::Later,
    }
}
