//! A machine for tests, whose TPM is a program: it signs what it is told, also what a TPM never would.
use crate::tpm::{
    quote::{IS_QUOTE, MADE_BY_TPM, Measured, Pcrs, Quote, public_area},
    wire::Writer,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use sha2::{Digest, Sha256};

/// A machine that has booted something.
pub struct Machine {
    key: EcdsaKeyPair,
    booted: [u8; 32],
}

/// What a quote is made of.
#[derive(Clone)]
pub struct Parts {
    /// What it begins with.
    pub magic: u32,
    /// What it is.
    pub kind: u16,
    /// The nonce.
    pub nonce: Vec<u8>,
    /// Which registers.
    pub selection: Vec<u8>,
    /// What follows the digest.
    pub more: Vec<u8>,
}

impl Parts {
    /// A good one.
    #[must_use]
    pub fn of(pcrs: Pcrs, nonce: &[u8; 32]) -> Self {
        Self {
            magic: MADE_BY_TPM,
            kind: IS_QUOTE,
            nonce: nonce.to_vec(),
            selection: pcrs.selection(),
            more: Vec::new(),
        }
    }
}

impl Machine {
    /// A machine with a TPM of its own.
    ///
    /// # Panics
    /// When there is no randomness.
    #[must_use]
    pub fn booted(what: &str) -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self {
            key: EcdsaKeyPair::from_pkcs8(kind, der.as_ref(), &random).unwrap(),
            booted: Sha256::digest(what).into(),
        }
    }

    /// The same machine with something else.
    #[must_use]
    pub fn boots(mut self, what: impl AsRef<[u8]>) -> Self {
        self.booted = Sha256::digest(what).into();
        self
    }

    /// What is pinned of it.
    ///
    /// # Panics
    /// When it makes no quote.
    #[must_use]
    pub fn measured(&self, pcrs: Pcrs) -> Measured {
        Measured::of(&self.quote(&Parts::of(pcrs, &[0; 32])), &pcrs).unwrap()
    }

    /// The public area of its key.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        let point = &self.key.public_key().as_ref()[1..];
        public_area(&point[..32], &point[32..])
    }

    /// A quote of these parts.
    ///
    /// # Panics
    /// When there is no randomness.
    #[must_use]
    pub fn quote(&self, parts: &Parts) -> Quote {
        let mut out = Writer::default();
        out.u32(parts.magic);
        out.u16(parts.kind);
        out.sized(b"qualified signer");
        out.sized(&parts.nonce);
        out.bytes(&[7; 25]);
        out.bytes(&parts.selection);
        out.sized(&self.booted);
        out.bytes(&parts.more);
        let quoted = out.into_bytes();
        let signature = self.key.sign(&SystemRandom::new(), &quoted).unwrap();
        Quote {
            key: self.public(),
            quoted,
            signature: signature.as_ref().to_vec(),
        }
    }
}
