//! Receipts: what a receiver signs of a parcel, and what a sender checks before it deletes anything.
//!
//! The signature covers every other field of the receipt in one canonical encoding that no other signature of the
//! mesh shares. A receipt holds no payload, only the digest of one.
use crate::wire::Receipt;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Separates receipts from everything else that a node's key signs.
const DOMAIN: &[u8] = b"medmesh/receipt/v1\0";

/// A receipt that its receiver did not sign as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt is not signed by its receiver")]
pub struct Forged;

/// What is signed: the domain, then every field but the signature, numbers big-endian, texts and bytes after their
/// length in 4 bytes; an empty head is left out. Two different receipts never have the same encoding.
#[must_use]
pub fn encoding(receipt: &Receipt) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    put(&mut out, &receipt.id);
    out.extend(receipt.priority.to_be_bytes());
    out.extend(receipt.seq.to_be_bytes());
    put(&mut out, &receipt.digest);
    out.extend(receipt.outcome.to_be_bytes());
    put(&mut out, receipt.reason.as_bytes());
    put(&mut out, receipt.receiver.as_bytes());
    out.extend(receipt.stored.to_be_bytes());
    if !receipt.head.is_empty() {
        put(&mut out, receipt.head.as_bytes());
    }
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // A receipt comes in a gRPC message, whose length has 4 bytes too.
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// Signs a receipt.
#[must_use]
pub fn sign(mut receipt: Receipt, key: &SigningKey) -> Receipt {
    let signature = key.sign(&encoding(&receipt));
    receipt.signature = signature.to_bytes().to_vec().into();
    receipt
}

/// Checks a receipt against the key of its receiver's certificate.
///
/// # Errors
/// When that key did not sign exactly these fields.
pub fn verify(receipt: &Receipt, key: &VerifyingKey) -> Result<(), Forged> {
    let signature = Signature::from_slice(&receipt.signature).map_err(|_| Forged)?;
    key.verify_strict(&encoding(receipt), &signature)
        .map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn signed() -> Receipt {
        let receipt = Receipt {
            id: vec![1; 16].into(),
            priority: 1,
            seq: 77,
            digest: vec![2; 32].into(),
            outcome: 1,
            reason: "policy".into(),
            receiver: "regional/us/us".into(),
            stored: 9,
            head: "medmesh/regional/us/us\n5\n".into(),
            signature: Vec::new().into(),
        };
        sign(receipt, &key())
    }

    #[test]
    fn a_signed_receipt_verifies_with_its_key_and_no_other() {
        assert_eq!(verify(&signed(), &key().verifying_key()), Ok(()));
        let other = SigningKey::from_bytes(&[4; 32]).verifying_key();
        assert_eq!(verify(&signed(), &other), Err(Forged));
    }

    #[test]
    fn any_flipped_bit_on_the_wire_fails() {
        let wire = signed().encode_to_vec();
        for bit in 0..wire.len() * 8 {
            let mut bent = wire.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let Ok(receipt) = Receipt::decode(&bent[..]) else {
                continue;
            };
            // A bend that only changes how the same receipt is written is no forgery.
            if receipt != signed() {
                assert_eq!(verify(&receipt, &key().verifying_key()), Err(Forged));
            }
        }
    }

    #[test]
    fn a_signature_of_any_length_but_its_own_fails() {
        for length in [0, 1, 63, 65, 128] {
            let mut receipt = signed();
            receipt.signature = vec![0; length].into();
            assert_eq!(verify(&receipt, &key().verifying_key()), Err(Forged));
        }
    }

    #[test]
    fn text_cannot_move_from_one_field_to_the_next() {
        let mut moved = signed();
        moved.receiver = format!("{}{}", moved.reason, moved.receiver);
        moved.reason = String::new();
        assert_ne!(encoding(&moved), encoding(&signed()));
    }

    proptest! {
        #[test]
        fn different_receipts_have_different_encodings(
            a in ("[ab]{0,3}", "[ab]{0,3}", prop::collection::vec(0u8..2, 0..4), 0u64..3),
            b in ("[ab]{0,3}", "[ab]{0,3}", prop::collection::vec(0u8..2, 0..4), 0u64..3),
        ) {
            let receipt = |(reason, receiver, id, seq): (String, String, Vec<u8>, u64)| Receipt {
                id: id.into(), seq, reason, receiver, ..Receipt::default()
            };
            let (a, b) = (receipt(a), receipt(b));
            prop_assert_eq!(a == b, encoding(&a) == encoding(&b));
        }
    }
}
