//! Commands to a simulated MQTT device: judged by itself, whatever the facility judged before, carried out once, answered
//! with the key of its certificate.
//!
//! What it holds (its mark, what it began, how it is set) is a file that is replaced whole before anything is done, so that a
//! device that is switched off at any moment carries nothing out twice. Its id in the catalog it takes from the first good
//! command that its region signed for its facility, and keeps.
use super::{
    SimError,
    config::{Commanded, SimDevice},
    kept::{get, put},
};
use commands::{Acceptor, Answer, Command, Held, Marks, Outcome, Reason, Signed, Table, Taker};
use ed25519_dalek::VerifyingKey;
use parking_lot::Mutex;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use types::{CatalogId, DeviceId, Place, Timestamp};

/// How the device is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Its id in the catalog; none before the first command.
    device: Option<CatalogId>,
    /// Mesh milliseconds between two samples at least; 0: as they come.
    interval_ms: i64,
    /// The alarm limits that were set.
    #[serde(default)]
    alarm_limits: Map<String, Json>,
}

/// What the device holds, as a file.
struct MarkFile(PathBuf);

impl Marks for MarkFile {
    type Error = io::Error;

    fn keep(&mut self, held: &Held) -> io::Result<()> {
        put(&self.0, held)
    }
}

struct State {
    settings: Settings,
    taker: Taker<MarkFile>,
}

/// A device that takes commands.
pub(super) struct Obedient {
    id: DeviceId,
    facility: Place,
    region: VerifyingKey,
    table: Table,
    key: EcdsaKeyPair,
    settings: PathBuf,
    state: Mutex<State>,
    interval_ms: AtomicI64,
}

impl Obedient {
    /// A device that goes on from what its files hold.
    pub(super) fn new(commanded: &Commanded, device: &SimDevice) -> Result<Arc<Self>, SimError> {
        let config = |what: &str| SimError::Config(format!("device {}: {what}", device.id));
        let path = device.key.as_ref().ok_or_else(|| config("needs `key`"))?;
        let der = PrivateKeyDer::from_pem_file(path).map_err(|error| SimError::Data {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        Self::of(commanded, device, der.secret_der())
    }

    /// The same with its private key (PKCS #8).
    fn of(commanded: &Commanded, device: &SimDevice, key: &[u8]) -> Result<Arc<Self>, SimError> {
        let config = |what: &str| SimError::Config(format!("device {}: {what}", device.id));
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key, &SystemRandom::new());
        let region = VerifyingKey::from_bytes(&commanded.region_key);
        let at = |end: &str| commanded.state.join(format!("{}.{end}", device.id));
        std::fs::create_dir_all(&commanded.state)
            .map_err(SimError::io(commanded.state.display().to_string()))?;
        let settings: Settings = get(&at("settings.json"))?;
        let held: Held = get(&at("commands.json"))?;
        Ok(Arc::new(Self {
            id: device.id.clone(),
            facility: commanded
                .facility
                .parse()
                .map_err(|_| config("its facility"))?,
            region: region.map_err(|_| config("the key of its region"))?,
            table: Table::built_in(device.kind),
            key: key.map_err(|_| config("its key is no P-256 key in PKCS #8"))?,
            interval_ms: AtomicI64::new(settings.interval_ms),
            settings: at("settings.json"),
            state: Mutex::new(State {
                settings,
                taker: Taker::new(MarkFile(at("commands.json")), held),
            }),
        }))
    }

    /// Mesh milliseconds between two samples at least.
    pub(super) fn interval_ms(&self) -> i64 {
        self.interval_ms.load(Ordering::Relaxed)
    }

    /// What is to be said again after a start: of the command that was begun last nobody may have heard.
    pub(super) fn resume(&self, now: Timestamp) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let device = state.settings.device?;
        let answer = state.taker.resume(device, now).ok()??;
        self.signed(&answer)
    }

    /// Takes a message of the command topic: what is to be answered, and whether the device is to start anew. Nothing is
    /// answered to what is no command, or when what became of it could not be kept.
    pub(super) fn take(&self, message: &[u8], now: Timestamp) -> (Option<Vec<u8>>, bool) {
        let Ok(signed) = Signed::from_json(message) else {
            tracing::warn!(device = %self.id, "a message that is no command");
            return (None, false);
        };
        let mut state = self.state.lock();
        let State { settings, taker } = &mut *state;
        let device = settings.device.unwrap_or(signed.command().device);
        let has = json!({ "alarm-limits": settings.alarm_limits });
        let acceptor = Acceptor {
            facility: &self.facility,
            device,
            key: &self.region,
            table: &self.table,
            has: Some(&has),
        };
        if settings.device.is_none() && acceptor.judge(&signed, taker.held().mark, now).is_ok() {
            let own = Settings {
                device: Some(device),
                ..settings.clone()
            };
            if put(&self.settings, &own).is_err() {
                return (None, false);
            }
            *settings = own;
        }
        let mut restarts = false;
        let taken = taker.take(&acceptor, &signed, now, |command| {
            let outcome = self.execute(command, settings);
            restarts = command.name.as_str() == "restart" && outcome == Outcome::Done;
            outcome
        });
        match taken {
            Ok(answer) => (self.signed(&answer), restarts),
            Err(error) => {
                tracing::error!(device = %self.id, error = %error.0, "a command is not kept");
                (None, false)
            }
        }
    }

    fn execute(&self, command: &Command, settings: &mut Settings) -> Outcome {
        let name = command.name.as_str();
        match name {
            "set-interval" => {
                let span = command.parameters.get("interval");
                let span = span.and_then(commands::Value::span_ms);
                let Some(interval_ms) = span.and_then(|ms| i64::try_from(ms).ok()) else {
                    return Outcome::Failed(Reason::DeviceFailed);
                };
                let own = Settings {
                    interval_ms,
                    ..settings.clone()
                };
                if put(&self.settings, &own).is_err() {
                    return Outcome::Failed(Reason::DeviceFailed);
                }
                *settings = own;
                self.interval_ms.store(interval_ms, Ordering::Relaxed);
                tracing::info!(device = %self.id, interval_ms, "the device has a new interval");
            }
            "set-alarm-limits" => {
                let mut own = settings.clone();
                let given = command.parameters.iter();
                let given = given.map(|(name, value)| (name.clone(), value.to_json()));
                own.alarm_limits.extend(given);
                if put(&self.settings, &own).is_err() {
                    return Outcome::Failed(Reason::DeviceFailed);
                }
                *settings = own;
                tracing::info!(device = %self.id, "the device has new alarm limits");
            }
            "identify" => tracing::info!(device = %self.id, "the device identifies itself"),
            "restart" => tracing::info!(device = %self.id, "the device restarts"),
            _ => return Outcome::Failed(Reason::DeviceFailed),
        }
        Outcome::Done
    }

    fn signed(&self, answer: &Answer) -> Option<Vec<u8>> {
        let signature = self.key.sign(&SystemRandom::new(), &answer.encode()).ok()?;
        Some(answer.to_json(signature.as_ref()).to_string().into_bytes())
    }
}

#[cfg(test)]
#[path = "obey_tests.rs"]
mod tests;
