//! A simulated device: it counts, keeps what is not acknowledged, offers it again in order, and forgets the rest.
use anyhow::Result;
use ingest::{Journal, Rejected, Sample, SampleReading, Stored, Urgency};
use std::collections::VecDeque;
use store::Store;
use types::{DeviceId, Flags, Timestamp, Value};

/// A device of a facility.
pub struct Device {
    id: DeviceId,
    epoch: u32,
    next: u64,
    /// What is not acknowledged: the number of the sample in the model, and the sample.
    queue: VecDeque<(usize, Sample)>,
    /// The last that was acknowledged.
    last: Option<(usize, Sample)>,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Acknowledged, and stored now.
    Stored,
    /// Acknowledged, since it was stored before.
    Known,
    /// Refused for good: the facility will never take it.
    Refused,
}

impl Device {
    /// A device of that name.
    ///
    /// # Errors
    /// It is no name.
    pub fn new(id: &str) -> Result<Self> {
        Ok(Self {
            id: id.parse()?,
            epoch: 1,
            next: 1,
            queue: VecDeque::new(),
            last: None,
        })
    }

    /// Measures: `sample` is its number in the model, `text` its value.
    ///
    /// # Errors
    /// The value is none.
    pub fn measure(
        &mut self,
        sample: usize,
        text: &str,
        urgency: Urgency,
        at: Timestamp,
    ) -> Result<()> {
        let reading = SampleReading {
            code: "8867-4".parse()?,
            unit: "/min".parse()?,
            value: Value::Quantity(text.parse()?),
            flags: Flags::NONE,
        };
        let measured = Sample {
            device: self.id.clone(),
            epoch: self.epoch,
            seq: self.next,
            source_time: at,
            patient: None,
            urgency,
            readings: vec![reading],
        };
        self.next += 1;
        self.queue.push_back((sample, measured));
        Ok(())
    }

    /// The counter begins anew: within the epoch, or in the next one.
    pub const fn restart(&mut self, new_epoch: bool) {
        self.next = 1;
        if new_epoch {
            self.epoch += 1;
        }
    }

    /// How much is not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.queue.len()
    }

    /// Offers what is not acknowledged, in order, until something must wait.
    pub async fn offer(&mut self, store: &Store) -> Vec<(usize, Answer)> {
        let samples: Vec<_> = self
            .queue
            .iter()
            .map(|(_, sample)| sample.clone())
            .collect();
        let mut answers = Vec::new();
        for said in store.append_batch(samples).await {
            let Some(answer) = Self::answer(&said) else {
                break;
            };
            if let Some((number, sample)) = self.queue.pop_front() {
                answers.push((number, answer));
                if answer != Answer::Refused {
                    self.last = Some((number, sample));
                }
            }
        }
        answers
    }

    /// Sends what was acknowledged last once more.
    pub async fn again(&self, store: &Store) -> Option<(usize, Answer)> {
        let (number, sample) = self.last.clone()?;
        let said = store.append(sample).await;
        Some((number, Self::answer(&said)?))
    }

    /// None: not now.
    const fn answer(said: &Result<Stored, Rejected>) -> Option<Answer> {
        match said {
            Ok(Stored::New) => Some(Answer::Stored),
            Ok(Stored::Duplicate) => Some(Answer::Known),
            Err(Rejected::Conflict { .. } | Rejected::Invalid(_)) => Some(Answer::Refused),
            Err(Rejected::Full | Rejected::Unavailable(_)) => None,
        }
    }
}
