//! What a device says became of a command, in one encoding that it signs with the key of its certificate.
use crate::{Malformed, Reason, State};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};
use types::{CatalogId, Id128, Timestamp};

/// Separates answers from everything else that a device's key signs. TLS signs with a prefix of its own.
const DOMAIN: &[u8] = b"medmesh/command-result/v1\0";
/// An answer at most, in bytes of JSON.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// What a device says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command.
    pub command: Id128,
    /// The device.
    pub device: CatalogId,
    /// The command's sequence number.
    pub sequence: u64,
    /// `Acknowledged`, `Refused` or `Failed`.
    pub state: State,
    /// Why not, where it was not carried out.
    pub reason: Option<Reason>,
    /// When, by the device's clock (real time).
    pub time: Timestamp,
}

impl Answer {
    /// What is signed: the domain, command, device, sequence, state and reason as texts after their length, time.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.extend(self.command.as_bytes());
        out.extend(self.device.as_bytes());
        out.extend(self.sequence.to_be_bytes());
        let reason = self.reason.map_or("", Reason::as_str);
        for text in [self.state.as_str(), reason] {
            out.extend((text.len() as u32).to_be_bytes());
            out.extend(text.as_bytes());
        }
        out.extend(self.time.0.to_be_bytes());
        out
    }

    /// The message on the topic of results. `signature` is of [`Answer::encode`], by the key of the device's certificate.
    #[must_use]
    pub fn to_json(&self, signature: &[u8]) -> Json {
        json!({
            "id": self.command.to_string(),
            "device": self.device.to_string(),
            "sequence": self.sequence,
            "state": self.state.as_str(),
            "reason": self.reason.map(Reason::as_str),
            "time": self.time.to_rfc3339(),
            "signature": STANDARD.encode(signature),
        })
    }

    /// Reads the message, and its signature, which is not checked here.
    ///
    /// # Errors
    /// [`Malformed`], also for a state that is no end of a device.
    pub fn from_json(json: &[u8]) -> Result<(Self, Vec<u8>), Malformed> {
        if json.len() > MAX_ANSWER_BYTES {
            return Err(Malformed);
        }
        let message: Map<String, Json> = serde_json::from_slice(json).map_err(|_| Malformed)?;
        let text = |name: &str| message.get(name).and_then(Json::as_str).ok_or(Malformed);
        let state = State::parse(text("state")?).ok_or(Malformed)?;
        let reason = match message.get("reason") {
            None | Some(Json::Null) => None,
            Some(Json::String(word)) => Some(Reason::parse(word).ok_or(Malformed)?),
            Some(_) => return Err(Malformed),
        };
        let fits = match state {
            State::Acknowledged => reason.is_none(),
            State::Refused | State::Failed => reason.is_some(),
            State::Queued | State::Delivered | State::Expired => false,
        };
        if !fits {
            return Err(Malformed);
        }
        let answer = Self {
            command: text("id")?.parse().map_err(|_| Malformed)?,
            device: text("device")?.parse().map_err(|_| Malformed)?,
            sequence: message
                .get("sequence")
                .and_then(Json::as_u64)
                .ok_or(Malformed)?,
            state,
            reason,
            time: text("time")?.parse().map_err(|_| Malformed)?,
        };
        let signature = STANDARD.decode(text("signature")?).map_err(|_| Malformed)?;
        Ok((answer, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: State, reason: Option<Reason>) -> Answer {
        Answer {
            command: Id128::from_bytes([1; 16]),
            device: CatalogId::from_bytes([2; 16]),
            sequence: 3,
            state,
            reason,
            time: Timestamp(5),
        }
    }

    #[test]
    fn an_answer_round_trips_and_says_why_it_is_none_of_good_news() {
        for (state, reason, good) in [
            (State::Acknowledged, None, true),
            (State::Acknowledged, Some(Reason::Stale), false),
            (State::Refused, Some(Reason::Stale), true),
            (State::Refused, None, false),
            (State::Failed, Some(Reason::DeviceFailed), true),
            (State::Queued, None, false),
            (State::Expired, Some(Reason::Stale), false),
        ] {
            let answer = answer(state, reason);
            let read = Answer::from_json(answer.to_json(&[9; 70]).to_string().as_bytes());
            let expected = if good {
                Ok((answer, vec![9; 70]))
            } else {
                Err(Malformed)
            };
            assert_eq!(read, expected, "{state:?} {reason:?}");
        }
    }
}
