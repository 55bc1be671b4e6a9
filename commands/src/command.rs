//! A command as it is signed: its one encoding, the signature, and its two forms, bytes in a parcel and JSON on MQTT.
use crate::Value;
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use types::{CatalogId, Id128, Name, Place, Timestamp};

/// Separates commands from everything else that a node's key signs.
const DOMAIN: &[u8] = b"medmesh/command/v1\0";
/// A command at most, in bytes: names, 16 parameters and two clients, with room.
pub const MAX_COMMAND_BYTES: usize = 8 << 10;
/// The longest time to live, in milliseconds: 30 days. What is wanted for longer is said by the twin.
pub const MAX_LIFE_MS: i64 = 30 * Timestamp::DAY_MS;
/// The longest name of a client, in bytes.
const MAX_CLIENT_BYTES: usize = 128;

/// Bytes or JSON that are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signed command")]
pub struct Malformed;

/// What a device is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command; 128 random bits.
    pub id: Id128,
    /// The facility where the device is.
    pub facility: Place,
    /// The device.
    pub device: CatalogId,
    /// Strictly increasing for the device, from 1.
    pub sequence: u64,
    /// Which command of the device's table.
    pub name: Name,
    /// Its parameters.
    pub parameters: BTreeMap<String, Value>,
    /// When the region signed it (real time).
    pub issued: Timestamp,
    /// From when on it must not be carried out any more (real time).
    pub expires: Timestamp,
    /// The client that asked for it.
    pub by: String,
    /// The other client that approved it, where that was needed.
    pub approved_by: Option<String>,
}

impl Command {
    /// What is signed: the domain, then every field in this order, numbers big-endian, texts after their length in 4 bytes,
    /// a parameter's value as its JSON. Two different commands never have the same encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.extend(self.id.as_bytes());
        put(&mut out, &self.facility.to_string());
        out.extend(self.device.as_bytes());
        out.extend(self.sequence.to_be_bytes());
        put(&mut out, self.name.as_str());
        out.extend(self.issued.0.to_be_bytes());
        out.extend(self.expires.0.to_be_bytes());
        put(&mut out, &self.by);
        // A client's name is never empty.
        put(&mut out, self.approved_by.as_deref().unwrap_or_default());
        out.extend((self.parameters.len() as u32).to_be_bytes());
        for (name, value) in &self.parameters {
            put(&mut out, name);
            put(&mut out, &value.to_string());
        }
        out
    }

    /// Reads an encoding.
    ///
    /// # Errors
    /// [`Malformed`] for any bytes that [`Command::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(Malformed);
        }
        let mut input = Input(bytes.strip_prefix(DOMAIN).ok_or(Malformed)?);
        let command = Self {
            id: Id128::from_bytes(input.array()?),
            facility: input.text()?.parse().map_err(|_| Malformed)?,
            device: CatalogId::from_bytes(input.array()?),
            sequence: u64::from_be_bytes(input.array()?),
            name: input.text()?.parse().map_err(|_| Malformed)?,
            issued: Timestamp(i64::from_be_bytes(input.array()?)),
            expires: Timestamp(i64::from_be_bytes(input.array()?)),
            by: client(input.text()?)?,
            approved_by: match input.text()? {
                "" => None,
                text => Some(client(text)?),
            },
            parameters: input.parameters()?,
        };
        // Names of parameters in another order, or twice, are another encoding.
        if input.0.is_empty() && command.encode() == bytes {
            Ok(command)
        } else {
            Err(Malformed)
        }
    }

    /// Signs it.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> Signed {
        let signature = key.sign(&self.encode()).to_bytes();
        Signed {
            command: self,
            signature,
        }
    }

    fn parameters_json(&self) -> Json {
        let all = self.parameters.iter();
        let all = all.map(|(name, value)| (name.clone(), value.to_json()));
        Json::Object(all.collect())
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    // Every text is bounded far below 4 GiB.
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A client's id: of 1 to 128 printable characters without white space.
fn client(text: &str) -> Result<String, Malformed> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_CLIENT_BYTES || !plain {
        return Err(Malformed);
    }
    Ok(text.to_owned())
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = u32::from_be_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (head, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| Malformed)
    }

    fn parameters(&mut self) -> Result<BTreeMap<String, Value>, Malformed> {
        let count = u32::from_be_bytes(self.array()?);
        let mut parameters = BTreeMap::new();
        for _ in 0..count {
            let name = self.text()?;
            let value = Value::parse(self.text()?).map_err(|_| Malformed)?;
            parameters.insert(name.to_owned(), value);
        }
        Ok(parameters)
    }
}

/// A command with the signature of its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    command: Command,
    signature: [u8; 64],
}

impl Signed {
    /// What the signature is said to be of. It is believed after [`Signed::is_by`].
    #[must_use]
    pub const fn command(&self) -> &Command {
        &self.command
    }

    /// Whether the holder of a key signed exactly this.
    #[must_use]
    pub fn is_by(&self, key: &VerifyingKey) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.command.encode(), &signature)
            .is_ok()
    }

    /// The bytes of a parcel: the signature, then the encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.signature.to_vec();
        bytes.extend(self.command.encode());
        bytes
    }

    /// Reads the bytes of a parcel.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let (signature, encoding) = bytes.split_first_chunk::<64>().ok_or(Malformed)?;
        Ok(Self {
            command: Command::decode(encoding)?,
            signature: *signature,
        })
    }

    /// The message on the device's topic.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let command = &self.command;
        json!({
            "id": command.id.to_string(),
            "facility": command.facility.to_string(),
            "device": command.device.to_string(),
            "sequence": command.sequence,
            "name": command.name.as_str(),
            "parameters": command.parameters_json(),
            "issued": command.issued.to_rfc3339(),
            "expires": command.expires.to_rfc3339(),
            "by": command.by,
            "approved_by": command.approved_by,
            "signature": STANDARD.encode(self.signature),
        })
    }

    /// Reads the message on the device's topic. A member more or less is none.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_json(json: &[u8]) -> Result<Self, Malformed> {
        if json.len() > MAX_COMMAND_BYTES {
            return Err(Malformed);
        }
        let message: Map<String, Json> = serde_json::from_slice(json).map_err(|_| Malformed)?;
        let text = |name: &str| message.get(name).and_then(Json::as_str).ok_or(Malformed);
        let parameters = message.get("parameters").and_then(Json::as_object);
        let value = |(name, json): (&String, &Json)| {
            let value = Value::from_json(json).map_err(|_| Malformed)?;
            Ok((name.clone(), value))
        };
        let parameters = parameters.ok_or(Malformed)?.iter().map(value);
        let signature = STANDARD.decode(text("signature")?).map_err(|_| Malformed)?;
        let signed = Self {
            command: Command {
                id: text("id")?.parse().map_err(|_| Malformed)?,
                facility: text("facility")?.parse().map_err(|_| Malformed)?,
                device: text("device")?.parse().map_err(|_| Malformed)?,
                sequence: message
                    .get("sequence")
                    .and_then(Json::as_u64)
                    .ok_or(Malformed)?,
                name: text("name")?.parse().map_err(|_| Malformed)?,
                parameters: parameters.collect::<Result<_, Malformed>>()?,
                issued: text("issued")?.parse().map_err(|_| Malformed)?,
                expires: text("expires")?.parse().map_err(|_| Malformed)?,
                by: client(text("by")?)?,
                approved_by: match message.get("approved_by") {
                    Some(Json::Null) => None,
                    Some(Json::String(text)) => Some(client(text)?),
                    _ => return Err(Malformed),
                },
            },
            signature: signature.try_into().map_err(|_| Malformed)?,
        };
        if message.len() == signed.to_json().as_object().map_or(0, Map::len) {
            Ok(signed)
        } else {
            Err(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn command() -> Command {
        Command {
            id: Id128::from_bytes([1; 16]),
            facility: "edge/us/us/us-f1".parse().unwrap(),
            device: CatalogId::from_bytes([2; 16]),
            sequence: 7,
            name: "set-interval".parse().unwrap(),
            parameters: BTreeMap::from([
                ("interval".into(), Value::Text("5s".into())),
                ("level".into(), Value::Number("5.50".parse().unwrap())),
            ]),
            issued: Timestamp(1_000),
            expires: Timestamp(61_000),
            by: "operator".into(),
            approved_by: None,
        }
    }

    #[test]
    fn a_command_round_trips_through_both_forms() {
        for approved_by in [None, Some("approver".to_owned())] {
            let signed = Command {
                approved_by,
                ..command()
            }
            .sign(&key());
            assert_eq!(Signed::from_bytes(&signed.to_bytes()), Ok(signed.clone()));
            let json = signed.to_json().to_string();
            assert_eq!(Signed::from_json(json.as_bytes()), Ok(signed.clone()));
            assert!(signed.is_by(&key().verifying_key()));
            let other = SigningKey::from_bytes(&[4; 32]).verifying_key();
            assert!(!signed.is_by(&other));
        }
    }

    #[test]
    fn any_flipped_bit_of_either_form_is_refused() {
        let signed = command().sign(&key());
        let by = key().verifying_key();
        let bytes = signed.to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let read = Signed::from_bytes(&bent);
            assert!(
                read.is_err() || read.is_ok_and(|read| !read.is_by(&by)),
                "bit {bit}"
            );
        }
        let json = signed.to_json().to_string().into_bytes();
        for bit in 0..json.len() * 8 {
            let mut bent = json.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            // A bit of a letter of a hexadecimal escape or of a key's case can leave the same command; never another one.
            if let Ok(read) = Signed::from_json(&bent) {
                assert!(!read.is_by(&by) || read == signed, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_member_more_or_less_is_no_command() {
        let json = command().sign(&key()).to_json();
        let mut more = json.clone();
        more["note"] = "x".into();
        assert!(Signed::from_json(more.to_string().as_bytes()).is_err());
        for name in json.as_object().unwrap().keys() {
            let mut less = json.clone();
            less.as_object_mut().unwrap().remove(name);
            assert!(
                Signed::from_json(less.to_string().as_bytes()).is_err(),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_decodes_encodes_alike(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = DOMAIN.to_vec();
            whole.extend(bytes);
            if let Ok(command) = Command::decode(&whole) {
                prop_assert_eq!(command.encode(), whole);
            }
        }
    }
}
