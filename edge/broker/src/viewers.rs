//! The facility's own programs that hear what is stored: `local/{facility}/{device}/telemetry|alarm`, as JSON, after the
//! commit.
//!
//! A viewer has a certificate of the facility as a device has, or a token, under a name of its own, and hears what the
//! facility's file of rights grants it ([`Viewers::read`]); it publishes nothing. That it begins to hear is written down before it does
//! (45 CFR 164.312(b)). Whoever does not keep up misses samples and is told how many on `local/{facility}/missed`; neither
//! devices nor the store nor another viewer wait for it.
use super::{Broker, Change, Topic, hub::Hub, message::Message};
use bytes::Bytes;
use node::{
    config::{ConfigError, Problem, Validate, load},
    token::Scopes,
};
use rumqttd::protocol::QoS;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    path::Path,
    sync::Arc,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, FacilityId};

/// Viewers of a facility at most: as many programs as one has, several times over.
const MAX_VIEWERS: usize = 64;
/// Filters that are granted to one viewer at most.
const MAX_GRANTED: usize = 64;

/// Who may hear what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Viewers(BTreeMap<DeviceId, Rights>);

/// What one viewer may hear, and how it shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    topics: Arc<[String]>,
    /// SHA-256 of its token; none: it has a certificate.
    token: Option<[u8; 32]>,
    /// What it may do of the facility's own FHIR; none: nothing.
    fhir: Option<Scopes>,
}

impl Rights {
    /// Whether it hears anything by MQTT.
    fn hears(&self) -> bool {
        !self.topics.is_empty()
    }
}

/// The file of rights.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    client: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    id: DeviceId,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    token_sha256: Option<String>,
    #[serde(default)]
    fhir: Option<String>,
}

impl Validate for Written {
    /// What is wrong beyond its shape depends on the facility ([`Viewers::read`]).
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

impl Viewers {
    /// Reads a file of rights (TOML): a `[[client]]` for each program, with its `id`, which is the name in its certificate,
    /// or that it connects under with a token whose SHA-256 is its `token_sha256`, and the filters below `local/{facility}/`
    /// that it may subscribe to, as `topics`. A program with a token may have scopes on the facility's own FHIR
    /// as `fhir` (SMART App Launch 2.2, such as `system/*.rs`), with topics or without.
    ///
    /// # Errors
    /// Everything that is wrong with it, a text each.
    pub fn read(path: &Path, facility: &FacilityId) -> Result<Self, Vec<String>> {
        // As a configuration is read: what is wrong is said without the values, of which one may be a token by mistake.
        let written: Written = load(path, []).map_err(|error: ConfigError| {
            let said = error.problems.iter();
            said.map(|problem| format!("{}: {problem}", path.display()))
                .collect::<Vec<_>>()
        })?;
        let prefix = prefix(facility);
        let (mut viewers, mut problems) = (BTreeMap::new(), Vec::new());
        for Client {
            id,
            topics,
            token_sha256,
            fhir,
        } in written.client
        {
            let is_good = |topic: &&String| {
                let below = topic.strip_prefix(&prefix);
                below.is_some_and(|rest| !rest.is_empty()) && rumqttd::protocol::valid_filter(topic)
            };
            for topic in topics.iter().filter(|topic| !is_good(topic)) {
                problems.push(format!(
                    "client {id}: {topic:?} is no filter below {prefix}"
                ));
            }
            if topics.is_empty() && fhir.is_none() || topics.len() > MAX_GRANTED {
                problems.push(format!("client {id}: 1 to {MAX_GRANTED} topics"));
            }
            if fhir.is_some() && token_sha256.is_none() {
                problems.push(format!("client {id}: fhir needs a token_sha256"));
            }
            let fhir = fhir.map(|text| text.parse::<Scopes>());
            if matches!(&fhir, Some(Err(_))) {
                problems.push(format!(
                    "client {id}: fhir is scopes like system/*.rs system/Condition.cud"
                ));
            }
            let fhir = fhir.and_then(Result::ok);
            let token = token_sha256.map(|text| digest(&text));
            if token == Some(None) {
                problems.push(format!(
                    "client {id}: token_sha256 has 64 hexadecimal digits"
                ));
            }
            let (topics, token) = (topics.into(), token.flatten());
            let is_taken = |rights: &Rights| token.is_some() && rights.token == token;
            if viewers.values().any(is_taken) {
                problems.push(format!("client {id}: another client has that token"));
            }
            let rights = Rights {
                topics,
                token,
                fhir,
            };
            if viewers.insert(id.clone(), rights).is_some() {
                problems.push(format!("client {id} is named twice"));
            }
        }
        if viewers.len() > MAX_VIEWERS {
            problems.push(format!("at most {MAX_VIEWERS} clients"));
        }
        match problems.is_empty() {
            true => Ok(Self(viewers)),
            false => Err(problems),
        }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &DeviceId> {
        self.0.keys()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a viewer may hear; none for what is no viewer.
    pub(super) fn granted(&self, name: &DeviceId) -> Option<Arc<[String]>> {
        let rights = self.0.get(name).filter(|rights| rights.hears())?;
        Some(Arc::clone(&rights.topics))
    }

    /// The program that shows a token, by the token's digest, and what it may do of the facility's own FHIR.
    #[must_use]
    pub fn of_token(&self, token: &[u8; 32]) -> Option<(&DeviceId, &Scopes)> {
        let is_its_own = |rights: &Rights| rights.token.as_ref() == Some(token);
        let (name, rights) = self.0.iter().find(|(_, rights)| is_its_own(rights))?;
        Some((name, rights.fhir.as_ref()?))
    }

    /// Whether any of them shows a token instead of a certificate.
    pub(super) fn have_tokens(&self) -> bool {
        let mut all = self.0.values();
        all.any(|rights| rights.token.is_some() && rights.hears())
    }

    /// The viewer that shows a token without a certificate, by the token's digest: comparing digests says nothing of how far
    /// a guess was right.
    pub(super) fn shown(&self, name: &str, token: Option<&[u8; 32]>) -> Option<DeviceId> {
        let name = name.parse().ok()?;
        let (name, rights) = self.0.get_key_value(&name)?;
        let is_its_own = token.is_some() && rights.token.as_ref() == token && rights.hears();
        is_its_own.then(|| name.clone())
    }
}

/// A SHA-256 in hexadecimal digits.
fn digest(text: &str) -> Option<[u8; 32]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// `local/{facility}/`.
pub(super) fn prefix(facility: &FacilityId) -> String {
    format!("local/{facility}/")
}

/// What a viewer's messages pass the router by: nobody else has it.
pub(super) fn way(viewer: &DeviceId) -> String {
    format!("view/{viewer}/")
}

/// Whether every topic that `asked` matches is matched by `granted` (MQTT 5 §4.7.1); both are filters.
pub(super) fn covers(granted: &str, asked: &str) -> bool {
    let (mut granted, mut asked) = (granted.split('/'), asked.split('/'));
    loop {
        match (granted.next(), asked.next()) {
            (Some("#"), _) | (None, None) => return true,
            // `a/#` matches `a` too.
            (Some(_), None) | (None, Some(_)) | (Some(_), Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(own), Some(other)) if own == other => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Shows viewers what is stored, until stopped.
///
/// # Errors
/// None.
pub async fn show<C: Change>(
    broker: Broker,
    mut heard: Receiver<Arc<C>>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let config = &broker.ctx.config;
    let mut shown = Shown {
        prefix: prefix(&config.facility),
        missed: HashMap::new(),
    };
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            change = heard.recv() => change,
        };
        let hub = &broker.ctx.hub;
        let listening = config.viewers.names().filter(|name| hub.has_mailbox(name));
        match change {
            Ok(change) => shown.show(hub, listening, change.as_ref()),
            Err(RecvError::Lagged(missed)) => listening.for_each(|name| {
                *shown.missed.entry(name.clone()).or_default() += missed;
            }),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// False: there was no room for it.
fn hand_on(hub: &Hub, viewer: &DeviceId, message: &Message) -> bool {
    hub.publish_by(viewer, message, Bytes::from(way(viewer) + "change"))
}

struct Shown {
    prefix: String,
    /// Samples that a viewer missed and was not told of yet.
    missed: HashMap<DeviceId, u64>,
}

impl Shown {
    /// Hands a change to everyone who listens. Its JSON is made when somebody does.
    fn show<'a>(
        &mut self,
        hub: &Hub,
        listening: impl Iterator<Item = &'a DeviceId>,
        change: &impl Change,
    ) {
        let mut message = None;
        for name in listening {
            let message = message.get_or_insert_with(|| {
                let kind = match change.is_alarm() {
                    true => Topic::Alarm,
                    false => Topic::Telemetry,
                };
                let topic = format!("{}/{}", change.device(), kind.as_str());
                self.message(&topic, change.json())
            });
            let missed = self.missed.get(name).copied().unwrap_or(0);
            if missed > 0 {
                let json = format!("{{\"missed\":{missed}}}").into_bytes();
                if !hand_on(hub, name, &self.message("missed", json)) {
                    *self.missed.entry(name.clone()).or_default() += 1;
                    continue;
                }
                self.missed.remove(name);
            }
            if !hand_on(hub, name, message) {
                *self.missed.entry(name.clone()).or_default() += 1;
            }
        }
    }

    fn message(&self, below: &str, payload: Vec<u8>) -> Message {
        Message {
            topic: Bytes::from(format!("{}{below}", self.prefix)),
            payload: Bytes::from(payload),
            // What finds no room is dropped, and said; at a higher QoS the viewer's session would end.
            qos: QoS::AtMostOnce,
            retain: false,
            by_device: false,
            properties: Bytes::new(),
            lapses: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_what_it_matches_and_no_more() {
        for (granted, asked, covered) in [
            ("local/f/#", "local/f/#", true),
            ("local/f/#", "local/f/m1/telemetry", true),
            ("local/f/#", "local/f/+/alarm", true),
            ("local/f/+/alarm", "local/f/m1/alarm", true),
            ("local/f/+/alarm", "local/f/+/alarm", true),
            ("local/f/+/alarm", "local/f/+/telemetry", false),
            ("local/f/+/alarm", "local/f/#", false),
            ("local/f/+/alarm", "local/f/+/+", false),
            ("local/f/m1/#", "local/f/m2/alarm", false),
            ("local/f/m1/#", "local/f/+/alarm", false),
            ("local/f/m1/#", "local/f/m1", true),
            ("local/f/m1", "local/f/m1/alarm", false),
            ("local/f/+", "local/f/m1/alarm", false),
        ] {
            assert_eq!(covers(granted, asked), covered, "{granted} {asked}");
        }
    }

    #[test]
    fn a_file_of_rights_is_taken_whole_or_everything_wrong_with_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acl.toml");
        let facility = "us-f1".parse().unwrap();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Viewers::read(&path, &facility)
        };
        let good = "[[client]]\nid = \"dashboard-1\"\ntopics = [\"local/us-f1/#\"]\n";
        let viewers = read(good).unwrap();
        assert_eq!(viewers.len(), 1);
        assert!(viewers.granted(&"dashboard-1".parse().unwrap()).is_some());
        assert!(viewers.granted(&"lab-1".parse().unwrap()).is_none());
        for (text, wrong) in [
            ("[[client]]\nid = \"d\"\ntopics = [\"#\"]\n", "\"#\""),
            (
                "[[client]]\nid = \"d\"\ntopics = [\"local/us-f2/#\"]\n",
                "us-f2",
            ),
            (
                "[[client]]\nid = \"d\"\ntopics = [\"devices/us/us-f1/lab-1/#\"]\n",
                "lab-1",
            ),
            (
                "[[client]]\nid = \"d\"\ntopics = [\"local/us-f1/a#\"]\n",
                "a#",
            ),
            ("[[client]]\nid = \"d\"\ntopics = []\n", "1 to 64"),
            (
                "[[client]]\nid = \"d\"\ntopics = [\"local/us-f1/#\"]\nrole = 1\n",
                "role",
            ),
            (
                "[[client]]\nid = \"d\"\nfhir = \"system/*.rs\"\n",
                "needs a token",
            ),
            (
                "[[client]]\nid = \"d\"\nfhir = \"everything\"\n",
                "needs a token",
            ),
            (
                "[[client]]\nid = \"d\"\ntopics = [\"local/us-f1/#\"]\ntoken_sha256 = \"secret\"\n",
                "64 hexadecimal digits",
            ),
        ] {
            let problems = read(text).unwrap_err();
            assert!(problems[0].contains(wrong), "{problems:?}");
        }
        let shown = read(&format!("{good}token = \"SECRET-TOKEN\"\nrole = 1\n")).unwrap_err();
        let all = shown.concat();
        assert!(
            all.contains("client[0].token: ") && all.contains("client[0].role: "),
            "{all}"
        );
        assert!(!all.contains("SECRET"), "{all}");
        let twice = read(&format!("{good}{good}")).unwrap_err();
        assert!(twice[0].contains("twice"), "{twice:?}");
    }
}
