//! A journal in memory that can be told to wait, to be full, or to be out of reach.
use crate::Backend;
use async_trait::async_trait;
use bytes::Bytes;
use ingest::{Journal, Rejected, RetainedMessage, Sample, Stored, Urgency, payload};
use parking_lot::Mutex;
use std::{collections::BTreeMap, time::Instant};
use storage::{StoreError, StoreErrorKind};
use tokio::sync::watch;
use types::DeviceId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Well,
    /// Commits do not end.
    Held,
    Full,
    Unavailable,
    Sink,
}

#[derive(Default)]
pub(super) struct Kept {
    /// In the order of their commits.
    pub(super) samples: Vec<Sample>,
    pub(super) quarantined: Vec<(&'static str, Bytes)>,
    pub(super) retained: BTreeMap<String, Bytes>,
    /// QoS, properties and end of what was retained by way of the broker; what is not here is at QoS 1 and plain.
    terms: BTreeMap<String, (u8, Bytes, Option<Instant>)>,
    /// Calls of `append_batch` and the most samples in one.
    pub(super) batches: usize,
    pub(super) largest: usize,
}

#[derive(Default)]
pub(super) struct MemoryJournal {
    pub(super) kept: Mutex<Kept>,
    pub(super) mood: watch::Sender<Mood>,
}

fn error(op: &'static str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        op,
        source: None,
    }
}

impl MemoryJournal {
    async fn ready(&self) -> Mood {
        let mut mood = self.mood.subscribe();
        let mood = mood.wait_for(|mood| *mood != Mood::Held).await;
        mood.map(|mood| *mood).unwrap_or_default()
    }

    async fn durable(&self, op: &'static str) -> Result<(), StoreError> {
        match self.ready().await {
            Mood::Full | Mood::Unavailable => Err(error(op)),
            Mood::Well | Mood::Held | Mood::Sink => Ok(()),
        }
    }

    /// Forgets all that it keeps.
    pub(super) fn clear(&self) {
        *self.kept.lock() = Kept::default();
    }

    pub(super) fn sequences(&self) -> Vec<u64> {
        self.kept
            .lock()
            .samples
            .iter()
            .map(|sample| sample.seq)
            .collect()
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, sample: Sample) -> Result<Stored, Rejected> {
        match self.ready().await {
            Mood::Full => return Err(Rejected::Full),
            Mood::Unavailable => return Err(Rejected::Unavailable(error("append"))),
            Mood::Well | Mood::Held | Mood::Sink => {}
        }
        let mut kept = self.kept.lock();
        let same = |old: &&Sample| {
            (&old.device, old.epoch, old.seq) == (&sample.device, sample.epoch, sample.seq)
        };
        match kept.samples.iter().find(same) {
            Some(old) if *old == sample => return Ok(Stored::Duplicate),
            Some(Sample { epoch, seq, .. }) => {
                let (epoch, seq) = (*epoch, *seq);
                return Err(Rejected::Conflict { epoch, seq });
            }
            None => {}
        }
        kept.samples.push(sample);
        Ok(Stored::New)
    }

    async fn append_batch(&self, samples: Vec<Sample>) -> Vec<Result<Stored, Rejected>> {
        {
            let mut kept = self.kept.lock();
            kept.batches += 1;
            kept.largest = kept.largest.max(samples.len());
        }
        if *self.mood.borrow() == Mood::Sink {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            return samples.iter().map(|_| Ok(Stored::New)).collect();
        }
        let mut results = Vec::new();
        for sample in samples {
            results.push(Journal::append(self, sample).await);
        }
        results
    }

    async fn quarantine(
        &self,
        _: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError> {
        self.durable("quarantine").await?;
        self.kept.lock().quarantined.push((reason, message));
        Ok(())
    }

    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError> {
        self.durable("retain").await?;
        let mut kept = self.kept.lock();
        if message.payload.is_empty() {
            kept.retained.remove(&message.topic);
            kept.terms.remove(&message.topic);
        } else {
            let lapses = message.lapses_in.map(|left| Instant::now() + left);
            let terms = (message.qos, message.properties.into(), lapses);
            kept.terms.insert(message.topic.clone(), terms);
            kept.retained.insert(message.topic, message.payload.into());
        }
        Ok(())
    }

    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        self.durable("retained").await?;
        let kept = self.kept.lock();
        let below = kept
            .retained
            .iter()
            .filter(|(topic, _)| topic.starts_with(prefix));
        let message = |(topic, payload): (&String, &Bytes)| {
            let mut message = RetainedMessage::plain(topic, payload.clone());
            if let Some((qos, properties, lapses)) = kept.terms.get(topic) {
                (message.qos, message.properties) = (*qos, properties.to_vec());
                if let Some(lapses) = lapses {
                    let left = lapses.saturating_duration_since(Instant::now());
                    message.lapses_in = Some((!left.is_zero()).then_some(left)?);
                }
            }
            Some(message)
        };
        Ok(below.filter_map(message).collect())
    }
}

/// As a facility's node does it.
#[async_trait]
impl Backend for MemoryJournal {
    async fn append(
        &self,
        messages: Vec<crate::Received>,
    ) -> Vec<Result<crate::Stored, crate::Rejected>> {
        let urgency = |alarm| {
            if alarm {
                Urgency::Alarm
            } else {
                Urgency::Routine
            }
        };
        let messages = messages
            .iter()
            .map(|it| (&it.device, urgency(it.alarm), &it.payload[..]));
        let stored = payload::append(self, messages).await;
        let said = |stored| match stored {
            Ok(Stored::New) => Ok(crate::Stored::New),
            Ok(Stored::Duplicate) => Ok(crate::Stored::Duplicate),
            Err(Rejected::Conflict { .. }) => Err(crate::Rejected::Conflict),
            Err(Rejected::Invalid(reason)) => Err(crate::Rejected::Invalid(reason)),
            Err(Rejected::Full | Rejected::Unavailable(_)) => Err(crate::Rejected::Later),
        };
        stored.into_iter().map(said).collect()
    }

    async fn quarantine(
        &self,
        device: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError> {
        Journal::quarantine(self, device, reason, message).await
    }

    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError> {
        Journal::retain(self, message).await
    }

    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        Journal::retained(self, prefix).await
    }
}

#[tokio::test]
async fn the_journal_in_memory_keeps_the_promises_of_a_journal() {
    ingest::contract::a_journal(&MemoryJournal::default()).await;
}
