//! What a quote is worth to whoever was not there: which machine made it, for which challenge, and whether it has booted
//! what it should have. Pure.
//!
//! A quote counts only by the key that is expected, which is known by its name: the digest of its public area (TPM 2.0
//! Library, Part 1 §16). The public area must be the one template of this program: a key that is *restricted* signs
//! nothing of which the TPM does not say itself that it made it (Part 1 §23.2), so that a program on the machine cannot
//! have it sign what looks like a quote.
use super::wire::{self, Reader, Writer};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// `restricted` (Part 2 §8.3): it signs nothing from outside that could be the TPM's own word.
const RESTRICTED: u32 = wire::SIGNS | 1 << 16;
/// `TPM_GENERATED_VALUE`: what a TPM signs of its own begins with it (Part 2 §6.2).
pub(crate) const MADE_BY_TPM: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE` (Part 2 §6.9).
pub(crate) const IS_QUOTE: u16 = 0x8018;
/// `TPMS_CLOCK_INFO` and the firmware's version, in bytes (Part 2 §10.11).
const CLOCK_AND_FIRMWARE_BYTES: usize = 17 + 8;
/// Registers of a bank (TCG PC Client Platform TPM Profile, "PCR Attributes").
const REGISTERS: u8 = 24;
/// Registers that a program of the running system may reset, for debugging and for applications (the same): whoever has the
/// machine has them hold what is asked.
const RESETTABLE: [u8; 2] = [16, 23];
/// Registers of a dynamic launch: where there was none, every bit of them is set (the same). Others begin with zeros.
const OF_LATE_LAUNCH: RangeInclusive<u8> = 17..=22;
/// The longest part of a quote, in bytes; ours have some 150.
pub(crate) const MAX_PART_BYTES: usize = 1_024;

/// Registers of the bank of SHA-256, a bit for each, written `0,2,4,7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pcrs(u32);

impl Pcrs {
    /// `TPML_PCR_SELECTION` (Part 2 §10.9.7).
    pub(crate) fn selection(self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(1);
        out.u16(wire::SHA256);
        let [low, middle, high, _] = self.0.to_le_bytes();
        out.u8(3);
        out.bytes(&[low, middle, high]);
        out.into_bytes()
    }

    /// Each of them alone.
    pub(crate) fn each(self) -> impl Iterator<Item = (u8, Self)> {
        let registers = (0..REGISTERS).filter(move |register| self.has(*register));
        registers.map(|register| (register, Self(1 << register)))
    }

    const fn has(self, register: u8) -> bool {
        self.0 & (1 << register) != 0
    }
}

/// What is no list of registers that say what a machine has booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRegisters {
    /// It is no list.
    #[error("registers are numbers from 0 to 23 with commas between them, each once: 0,2,4,7")]
    Unread,
    /// It has one that says nothing.
    #[error(
        "register {0} says nothing of what was booted: a program of the running system may reset it"
    )]
    Resettable(u8),
}

impl FromStr for Pcrs {
    type Err = NoRegisters;

    fn from_str(text: &str) -> Result<Self, NoRegisters> {
        let mut all = Self(0);
        for register in text.split(',') {
            let register = register.trim().parse();
            let register: u8 = register.map_err(|_| NoRegisters::Unread)?;
            if register >= REGISTERS || all.has(register) {
                return Err(NoRegisters::Unread);
            }
            if RESETTABLE.contains(&register) {
                return Err(NoRegisters::Resettable(register));
            }
            all.0 |= 1 << register;
        }
        Ok(all)
    }
}

impl fmt::Display for Pcrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.each().map(|(it, _)| it.to_string()).collect();
        f.write_str(&texts.join(","))
    }
}

/// What a machine had booted when it was trusted, as `medmesh edge measure` prints it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "Texts", into = "Texts")]
pub struct Measured {
    /// The name of the key with which its TPM quotes.
    key: [u8; 32],
    /// The registers.
    pcrs: Pcrs,
    /// The digest of what they hold.
    digest: [u8; 32],
}

/// As it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    key: String,
    pcrs: String,
    digest: String,
}

impl From<Measured> for Texts {
    fn from(measured: Measured) -> Self {
        Self {
            key: hex::encode(measured.key),
            pcrs: measured.pcrs.to_string(),
            digest: hex::encode(measured.digest),
        }
    }
}

impl TryFrom<Texts> for Measured {
    type Error = String;

    fn try_from(texts: Texts) -> Result<Self, String> {
        let digest = |key: &str, text: &str| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes)
                .map_err(|_| format!("{key}: is 64 hexadecimal digits"))?;
            Ok::<_, String>(bytes)
        };
        let pcrs = texts.pcrs.parse();
        Ok(Self {
            key: digest("key", &texts.key)?,
            pcrs: pcrs.map_err(|error: NoRegisters| format!("pcrs: {error}"))?,
            digest: digest("digest", &texts.digest)?,
        })
    }
}

/// What a TPM has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The public area of the key (`TPMT_PUBLIC`).
    pub key: Vec<u8>,
    /// What it signed (`TPMS_ATTEST`).
    pub quoted: Vec<u8>,
    /// The signature, `r` and then `s`.
    pub signature: Vec<u8>,
}

/// Why a quote shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttested {
    /// It is none.
    #[error("it is no quote of a TPM")]
    NoQuote,
    /// Another machine's.
    #[error("it was made by the TPM of another machine than the one that was measured")]
    OtherMachine,
    /// Somebody changed it.
    #[error("its signature is not of the key that it shows")]
    Signature,
    /// It is an older one, or of another request.
    #[error("it answers another challenge, or is of another request")]
    OtherChallenge,
    /// It says nothing of what is asked.
    #[error("it is of other registers than those that were measured")]
    OtherRegisters,
    /// The machine runs something else.
    #[error("the machine has booted something else than what was measured")]
    BootedOtherwise,
}

impl Measured {
    /// What a quote says, if it is one of those registers.
    #[must_use]
    pub fn of(quote: &Quote, pcrs: &Pcrs) -> Option<Self> {
        let said = Said::by(quote).ok()?;
        (said.selection == pcrs.selection()).then(|| Self {
            key: name(&quote.key),
            pcrs: *pcrs,
            digest: said.digest,
        })
    }

    /// Whether this register, of which alone it is, holds what it held before anything was measured into it.
    pub(crate) fn is_as_reset(&self, register: u8) -> bool {
        let byte = if OF_LATE_LAUNCH.contains(&register) {
            0xff
        } else {
            0
        };
        self.digest == <[u8; 32]>::from(Sha256::digest([byte; wire::WORD_BYTES]))
    }

    /// The registers.
    #[must_use]
    pub const fn pcrs(&self) -> Pcrs {
        self.pcrs
    }

    /// Whether a quote shows for this nonce that the machine has booted what was measured.
    ///
    /// # Errors
    /// [`NotAttested`].
    pub fn is_shown_by(&self, quote: &Quote, nonce: &[u8; 32]) -> Result<(), NotAttested> {
        let said = Said::by(quote)?;
        if name(&quote.key) != self.key {
            return Err(NotAttested::OtherMachine);
        }
        if said.nonce != nonce {
            return Err(NotAttested::OtherChallenge);
        }
        if said.selection != self.pcrs.selection() {
            return Err(NotAttested::OtherRegisters);
        }
        if said.digest != self.digest {
            return Err(NotAttested::BootedOtherwise);
        }
        Ok(())
    }
}

/// What a quote says whose signature is of the key that it shows.
struct Said<'a> {
    nonce: &'a [u8],
    selection: &'a [u8],
    digest: [u8; 32],
}

impl<'a> Said<'a> {
    fn by(quote: &'a Quote) -> Result<Self, NotAttested> {
        let parts = [&quote.key, &quote.quoted, &quote.signature];
        if parts.iter().any(|part| part.len() > MAX_PART_BYTES) {
            return Err(NotAttested::NoQuote);
        }
        let point = wire::point(RESTRICTED, &quote.key).ok_or(NotAttested::NoQuote)?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let verified = key.verify(&quote.quoted, &quote.signature);
        verified.map_err(|_| NotAttested::Signature)?;
        Self::read(&quote.quoted).ok_or(NotAttested::NoQuote)
    }

    /// `TPMS_ATTEST` of a quote (Part 2 §10.12.8 and §10.12.12).
    fn read(quoted: &'a [u8]) -> Option<Self> {
        let mut read = Reader::new(quoted);
        if (read.u32()?, read.u16()?) != (MADE_BY_TPM, IS_QUOTE) {
            return None;
        }
        let _signer = read.sized()?;
        let nonce = read.sized()?;
        read.take(CLOCK_AND_FIRMWARE_BYTES)?;
        // One bank of three bytes, or nothing that is asked for here.
        let selection = read.take(4 + 2 + 1 + 3)?;
        let digest = read.sized()?.try_into().ok()?;
        read.is_over().then_some(Self {
            nonce,
            selection,
            digest,
        })
    }
}

/// The public area of an attestation key with this point; of none, its template.
pub(crate) fn public_area(x: &[u8], y: &[u8]) -> Vec<u8> {
    wire::public_area(RESTRICTED, x, y)
}

/// The name of a key, without the word of its algorithm (Part 1 §16).
fn name(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests;
