//! The data key: 32 random bytes, wrapped with AES-256-GCM under the facility's key, in a file beside the database.
//!
//! The facility's key can so be changed without writing the database anew, and a wrong one is told from a broken
//! database. The facility's key itself comes from a file today; a TPM or HSM would unwrap in its stead.
use super::{Entropy, Store, StoreError, StoreErrorKind, uids::UidKey};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use std::{fs, path::Path};
use storage::file::{self, PRIVATE};
use types::Secret;

/// Name of the wrapped key's file.
const FILE: &str = "store.key";
/// First bytes of the file, authenticated with the key.
const MAGIC: &[u8; 16] = b"medmesh data key";
/// Bytes of an AES-GCM nonce.
const NONCE: usize = 12;
/// Bytes of an AES-256 key.
const KEY: usize = 32;
/// Bytes of an AES-GCM tag.
const TAG: usize = 16;

/// The key of the database.
#[derive(Clone)]
pub(super) struct DataKey(Secret<[u8; KEY]>);

impl DataKey {
    /// The statement that gives the raw key to SQLCipher, without key derivation.
    pub(super) fn pragma(&self) -> Secret<String> {
        let digits = Secret::new(hex::encode(self.0.reveal()));
        Secret::new(format!("PRAGMA key = \"x'{}'\"", digits.reveal()))
    }

    /// A secret for another purpose, from which nobody learns this key.
    pub(super) fn derived(&self, purpose: &[u8]) -> Secret<[u8; KEY]> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, self.0.reveal());
        let mut secret = [0; KEY];
        secret.copy_from_slice(hmac::sign(&root, purpose).as_ref());
        Secret::new(secret)
    }

    /// The key of the readings' ids that belongs to it.
    pub(super) fn uids(&self) -> UidKey {
        UidKey::of(self.0.reveal())
    }
}

/// Reads the facility's key: 64 hexadecimal digits.
///
/// # Errors
/// `Unavailable` when the file cannot be read, `Refused` when it holds something else.
pub fn read_facility_key(path: &Path) -> Result<Secret<[u8; KEY]>, StoreError> {
    let text = fs::read_to_string(path).map_err(StoreError::io("read the facility key"))?;
    let text = Secret::new(text);
    let mut key = [0; KEY];
    hex::decode_to_slice(text.reveal().trim(), &mut key).map_err(|_| {
        StoreError::new(
            StoreErrorKind::Refused,
            "read the facility key: it is 64 hexadecimal digits",
        )
    })?;
    Ok(Secret::new(key))
}

/// The data key of a directory; a new one is made when there is neither key nor database.
pub(super) fn open_or_create(
    dir: &Path,
    facility_key: &Secret<[u8; KEY]>,
    entropy: Entropy,
) -> Result<DataKey, StoreError> {
    if dir.join(FILE).exists() || dir.join(Store::FILE).exists() {
        return open_existing(dir, facility_key);
    }
    // Nobody else's business, encrypted or not.
    file::private_dir(dir).map_err(StoreError::io("make the data directory"))?;
    let mut key = [0; KEY];
    let mut nonce = [0; NONCE];
    entropy(&mut key);
    entropy(&mut nonce);
    let key = Secret::new(key);
    let wrapped = wrap(facility_key, &key, nonce)?;
    file::replace(&dir.join(FILE), &wrapped, PRIVATE)
        .map_err(StoreError::io("write the data key"))?;
    Ok(DataKey(key))
}

/// The data key of a directory that has a store.
pub(super) fn open_existing(
    dir: &Path,
    facility_key: &Secret<[u8; KEY]>,
) -> Result<DataKey, StoreError> {
    let wrapped = fs::read(dir.join(FILE)).map_err(StoreError::io("read the data key"))?;
    let refused = || {
        StoreError::new(
            StoreErrorKind::Refused,
            "unwrap the data key: the facility key is another one than the store was made with",
        )
    };
    let (head, sealed) = wrapped
        .split_at_checked(MAGIC.len() + NONCE)
        .ok_or_else(refused)?;
    let (magic, nonce) = head.split_at(MAGIC.len());
    if magic != MAGIC || sealed.len() != KEY + TAG {
        return Err(refused());
    }
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
    let mut sealed = Secret::new(sealed.to_vec());
    let key = aead(facility_key)?
        .open_in_place(nonce, Aad::from(MAGIC), sealed.reveal_mut())
        .map_err(|_| refused())?;
    let key = (&*key).try_into().map_err(|_| refused())?;
    Ok(DataKey(Secret::new(key)))
}

fn aead(facility_key: &Secret<[u8; KEY]>) -> Result<LessSafeKey, StoreError> {
    UnboundKey::new(&AES_256_GCM, facility_key.reveal())
        .map(LessSafeKey::new)
        .map_err(|_| StoreError::new(StoreErrorKind::Internal, "use the facility key"))
}

fn wrap(
    facility_key: &Secret<[u8; KEY]>,
    key: &Secret<[u8; KEY]>,
    nonce: [u8; NONCE],
) -> Result<Vec<u8>, StoreError> {
    let mut sealed = key.reveal().to_vec();
    aead(facility_key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(MAGIC),
            &mut sealed,
        )
        .map_err(|_| StoreError::new(StoreErrorKind::Internal, "wrap the data key"))?;
    Ok([MAGIC.as_slice(), &nonce, &sealed].concat())
}
