//! What happens around a commit: before it nothing, after it freshness is told and the facility's own readers and
//! subscribers are.
//!
//! [`Watched`] is the journal that every source gets. [`Published`] is the one for sources that no subscriber hears
//! by themselves (the Modbus poller): it makes the MQTT message of what was stored.
use crate::{
    facility::Changes,
    freshness::{Monitor, signals},
    view::Change,
};
use async_trait::async_trait;
use broker::Topic;
use bytes::Bytes;
use ingest::{Journal, Rejected, RetainedMessage, Sample, Stored, Urgency, payload};
use modbus::{Notice, Observer};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use store::StoreError;
use types::{Code, DeviceId, FacilityId, Phi, RegionId, Timestamp, Unit};

/// A journal that tells freshness, and who listens, what was stored.
pub struct Watched {
    /// Where samples become durable.
    pub journal: Arc<dyn Journal>,
    /// Who wants to know how fresh it is.
    pub monitor: Arc<Mutex<Monitor>>,
    /// Who wants to know what it is.
    pub changes: Changes,
}

/// What is wanted of a sample, kept while the sample is with the journal.
struct Told {
    device: DeviceId,
    source: Timestamp,
    patient: Option<Phi<String>>,
    signals: Vec<(Code, Unit)>,
    change: Option<Change>,
}

impl Told {
    fn of(sample: &Sample, changes: &Changes) -> Self {
        Self {
            device: sample.device.clone(),
            source: sample.source_time,
            patient: sample.patient.clone(),
            signals: signals(&sample.readings).collect(),
            change: changes.of(sample),
        }
    }

    /// What was stored before was said then.
    fn tell(self, stored: Stored, monitor: &mut Monitor, changes: &Changes) {
        let patient = self.patient.as_ref();
        monitor.stored(&self.device, self.source, patient, self.signals);
        if stored == Stored::New
            && let Some(change) = self.change
        {
            changes.say(change);
        }
    }
}

#[async_trait]
impl Journal for Watched {
    async fn append(&self, sample: Sample) -> Result<Stored, Rejected> {
        let told = Told::of(&sample, &self.changes);
        let stored = self.journal.append(sample).await?;
        told.tell(stored, &mut self.monitor.lock(), &self.changes);
        Ok(stored)
    }

    async fn append_batch(&self, samples: Vec<Sample>) -> Vec<Result<Stored, Rejected>> {
        let told = samples.iter().map(|sample| Told::of(sample, &self.changes));
        let told: Vec<_> = told.collect();
        let answers = self.journal.append_batch(samples).await;
        let mut monitor = self.monitor.lock();
        for (told, answer) in told.into_iter().zip(&answers) {
            if let Ok(stored) = answer {
                told.tell(*stored, &mut monitor, &self.changes);
            }
        }
        answers
    }

    async fn quarantine(
        &self,
        device: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError> {
        self.journal.quarantine(device, reason, message).await
    }

    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError> {
        self.journal.retain(message).await
    }

    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        self.journal.retained(prefix).await
    }
}

/// Says to the facility's own subscribers what was stored. Never blocks the source; never waits for a subscriber.
pub trait Publish: Send + Sync + 'static {
    /// Publishes on a topic of the broker, after the commit.
    fn publish(&self, topic: &str, message: Bytes);

    /// Whether anybody may hear what is published of a device now.
    fn is_heard(&self, device: &DeviceId) -> bool;
}

/// Where the facility's topics are.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The region.
    pub region: RegionId,
    /// The facility.
    pub facility: FacilityId,
}

impl Topics {
    /// A topic of a device.
    #[must_use]
    pub fn of(&self, device: &DeviceId, topic: Topic) -> String {
        let (region, facility) = (&self.region, &self.facility);
        format!("devices/{region}/{facility}/{device}/{}", topic.as_str())
    }
}

/// A journal that publishes what was stored now; what was stored before was published then.
pub struct Published {
    /// Where samples become durable.
    pub journal: Arc<dyn Journal>,
    /// Where they are heard.
    pub publish: Arc<dyn Publish>,
    /// On which topics.
    pub topics: Topics,
}

impl Published {
    fn topic(&self, sample: &Sample) -> String {
        let topic = match sample.urgency {
            Urgency::Routine => Topic::Telemetry,
            Urgency::Alarm => Topic::Alarm,
        };
        self.topics.of(&sample.device, topic)
    }
}

#[async_trait]
impl Journal for Published {
    async fn append(&self, sample: Sample) -> Result<Stored, Rejected> {
        let heard = self.publish.is_heard(&sample.device);
        let said = heard.then(|| (self.topic(&sample), payload::write(&sample)));
        let stored = self.journal.append(sample).await?;
        if stored == Stored::New
            && let Some((topic, message)) = said
        {
            self.publish.publish(&topic, message);
        }
        Ok(stored)
    }

    async fn quarantine(
        &self,
        device: &DeviceId,
        reason: &'static str,
        message: Bytes,
    ) -> Result<(), StoreError> {
        self.journal.quarantine(device, reason, message).await
    }

    async fn retain(&self, message: RetainedMessage) -> Result<(), StoreError> {
        self.journal.retain(message).await
    }

    async fn retained(&self, prefix: &str) -> Result<Vec<RetainedMessage>, StoreError> {
        self.journal.retained(prefix).await
    }
}

/// The JSON of an alarm that the edge raises or ends.
#[must_use]
pub fn alarm_message(state: &str, at: Timestamp, signals: &[(Code, Unit)]) -> Bytes {
    let codes: Vec<_> = signals.iter().map(|(code, _)| code.to_string()).collect();
    json!({ "alarm": "stale", "state": state, "time": at.to_rfc3339(), "codes": codes })
        .to_string()
        .into()
}

/// Tells freshness what the poller sees of a device. (The poller counts its notices itself.)
pub struct Witness {
    /// Who wants to know.
    pub monitor: Arc<Mutex<Monitor>>,
}

impl Observer for Witness {
    fn notice(&self, device: &DeviceId, at: Timestamp, notice: Notice) {
        if notice == Notice::Seen {
            self.monitor.lock().seen(device, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::SampleReading;
    use types::{AbsentReason, Flags, FreshnessLimits, Value};

    #[derive(Default)]
    struct Fake {
        heard: bool,
        answers: Mutex<Vec<Result<Stored, Rejected>>>,
        published: Mutex<Vec<(String, Bytes)>>,
    }

    #[async_trait]
    impl Journal for Fake {
        async fn append(&self, _: Sample) -> Result<Stored, Rejected> {
            self.answers.lock().remove(0)
        }
        async fn quarantine(
            &self,
            _: &DeviceId,
            _: &'static str,
            _: Bytes,
        ) -> Result<(), StoreError> {
            Ok(())
        }
        async fn retain(&self, _: RetainedMessage) -> Result<(), StoreError> {
            Ok(())
        }
        async fn retained(&self, _: &str) -> Result<Vec<RetainedMessage>, StoreError> {
            Ok(Vec::new())
        }
    }

    impl Publish for Fake {
        fn publish(&self, topic: &str, message: Bytes) {
            self.published.lock().push((topic.into(), message));
        }

        fn is_heard(&self, _: &DeviceId) -> bool {
            self.heard
        }
    }

    fn sample() -> Sample {
        let reading = |value| SampleReading {
            code: "8867-4".parse().unwrap(),
            unit: "/min".parse().unwrap(),
            value,
            flags: Flags::IMPLAUSIBLE,
        };
        Sample {
            device: "m1".parse().unwrap(),
            epoch: 1,
            seq: 17,
            source_time: Timestamp(0),
            patient: None,
            urgency: Urgency::Routine,
            readings: vec![
                reading(Value::Quantity("72.50".parse().unwrap())),
                reading(Value::Absent(AbsentReason::Unknown)),
            ],
        }
    }

    #[tokio::test]
    async fn only_what_was_stored_now_is_published_and_keeps_its_decimals() {
        let fake = Arc::new(Fake {
            heard: true,
            ..Fake::default()
        });
        *fake.answers.lock() = vec![Err(Rejected::Full), Ok(Stored::Duplicate), Ok(Stored::New)];
        let journal = Published {
            journal: fake.clone(),
            publish: fake.clone(),
            topics: Topics {
                region: "eu".parse().unwrap(),
                facility: "eu-f1".parse().unwrap(),
            },
        };
        for _ in 0..3 {
            let _answer = journal.append(sample()).await;
        }
        let published = fake.published.lock();
        assert_eq!(published.len(), 1);
        assert_eq!(published[0].0, "devices/eu/eu-f1/m1/telemetry");
        assert_eq!(
            published[0].1,
            concat!(
                r#"{"epoch":1,"seq":17,"time":"1970-01-01T00:00:00.000Z","readings":["#,
                r#"{"code":"8867-4","value":72.50,"unit":"/min","implausible":true},"#,
                r#"{"code":"8867-4","absent":"unknown","unit":"/min","implausible":true}]}"#
            )
        );
    }

    #[tokio::test]
    async fn only_what_is_stored_makes_a_signal_fresh() {
        let fake = Arc::new(Fake::default());
        *fake.answers.lock() = vec![Err(Rejected::Full), Ok(Stored::New)];
        let limits = FreshnessLimits {
            late_after_ms: 10,
            stale_after_ms: 10,
        };
        let monitor = Arc::new(Mutex::new(Monitor::new(
            [(sample().device, limits, None)],
            0,
        )));
        let journal = Watched {
            journal: fake,
            monitor: monitor.clone(),
            changes: Changes::default(),
        };
        let mut live = Vec::new();
        for _ in 0..2 {
            let _answer = journal.append(sample()).await;
            monitor.lock().step(Timestamp(0));
            live.push(monitor.lock().counts().live);
        }
        assert_eq!(live, [0, 1]);
    }

    #[tokio::test]
    async fn who_listens_hears_what_was_stored_now_and_who_falls_behind_is_told() {
        let fake = Arc::new(Fake::default());
        let journal = Watched {
            journal: fake.clone(),
            monitor: Arc::new(Mutex::new(Monitor::new([], 0))),
            changes: Changes::default(),
        };
        assert!(journal.changes.of(&sample()).is_none(), "nobody listens");
        let mut heard = journal.changes.listen();
        *fake.answers.lock() = vec![Err(Rejected::Full), Ok(Stored::Duplicate), Ok(Stored::New)];
        for _ in 0..3 {
            let _answer = journal.append(sample()).await;
        }
        let change = heard.recv().await.unwrap();
        assert_eq!(
            (&change.device, change.at),
            (&sample().device, Timestamp(0))
        );
        assert!(heard.try_recv().is_err(), "one was stored now");
        for _ in 0..=crate::view::CHANGES {
            *fake.answers.lock() = vec![Ok(Stored::New)];
            journal.append(sample()).await.unwrap();
        }
        let missed = heard.recv().await.unwrap_err();
        assert_eq!(missed, tokio::sync::broadcast::error::RecvError::Lagged(1));
    }

    #[tokio::test]
    async fn nothing_is_made_of_a_sample_that_no_subscriber_hears() {
        let fake = Arc::new(Fake::default());
        *fake.answers.lock() = vec![Ok(Stored::New)];
        let journal = Published {
            journal: fake.clone(),
            publish: fake.clone(),
            topics: Topics {
                region: "eu".parse().unwrap(),
                facility: "eu-f1".parse().unwrap(),
            },
        };
        journal.append(sample()).await.unwrap();
        assert!(fake.published.lock().is_empty());
    }
}
