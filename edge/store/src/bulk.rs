//! The rows of a facility's blobs in its store ([`federation::blobs`]); the bytes are files beside it.
use super::{Commit, Store, StoreError};
use async_trait::async_trait;
use federation::{
    blobs::{self, Blobs, Descriptor, Digest, Files, Rows},
    port::PortError,
};
use messages::Body;
use std::{collections::BTreeSet, io, path::Path, sync::Arc};
use types::{Place, Purpose};

#[async_trait]
impl Rows for Store {
    async fn wanted(&self, from: &Place) -> Result<Vec<Descriptor>, PortError> {
        let from = from.clone();
        let wanted = self.read(move |db| Ok(blobs::wanted(db, &from)?)).await;
        wanted.map_err(PortError::of("blobs wanted"))
    }

    async fn complete(&self, digest: Digest) -> Result<(), PortError> {
        let step = move |commit: &mut Commit<'_, '_>| Ok(blobs::complete(commit.tx(), digest)?);
        let done = self.in_commit(step).await;
        done.map_err(PortError::of("blob whole"))
    }

    async fn is_granted(&self, to: &Place, digest: Digest) -> Result<bool, PortError> {
        let (to, here, rules) = (to.clone(), self.0.place.clone(), self.0.rules.clone());
        let read = move |db: &rusqlite::Connection| {
            Ok(blobs::is_granted(db, &rules, (&here, &to), digest)?)
        };
        let granted = self.read(read).await;
        granted.map_err(PortError::of("blob granted"))
    }

    async fn grants_to(&self, to: &Place) -> Result<bool, PortError> {
        let to = to.clone();
        let grants = self.read(move |db| Ok(blobs::grants_to(db, &to)?)).await;
        grants.map_err(PortError::of("blobs granted"))
    }

    async fn sweep(&self) -> Result<BTreeSet<Digest>, PortError> {
        let step = |commit: &mut Commit<'_, '_>| Ok(blobs::sweep(commit.tx())?);
        let left = self.in_commit(step).await;
        left.map_err(PortError::of("sweep blobs"))
    }
}

impl Store {
    /// The blobs of this store, whose bytes are files in `blobs` of a directory.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn blobs(&self, dir: &Path) -> io::Result<Arc<Blobs<Self>>> {
        let files = Files::open(&dir.join("blobs"))?;
        Ok(Arc::new(Blobs::new(self.clone(), Arc::new(files))))
    }
}

impl Commit<'_, '_> {
    /// Wants a blob from the region, whose descriptor came in this commit, for what is called `name`: from then on it is
    /// fetched, and kept until [`Commit::release`].
    ///
    /// # Errors
    /// As any write; `Full` when there is no room for it.
    pub fn want(&mut self, descriptor: Descriptor, name: &str) -> Result<(), StoreError> {
        let region = self.region().clone();
        Ok(blobs::want(self.tx(), descriptor, &region, name)?)
    }

    /// Keeps a blob that was made here for what is called `name`, until [`Commit::release`].
    ///
    /// # Errors
    /// As [`Commit::want`].
    pub fn keep(&mut self, descriptor: Descriptor, name: &str) -> Result<(), StoreError> {
        Ok(blobs::keep(self.tx(), descriptor, name)?)
    }

    /// What is called `name` needs the blob no longer.
    ///
    /// # Errors
    /// As any write.
    pub fn release(&mut self, digest: Digest, name: &str) -> Result<(), StoreError> {
        Ok(blobs::release(self.tx(), digest, name)?)
    }

    /// Grants a blob to the region, to which a message of this kind is shipped in the same commit with its descriptor in
    /// it.
    ///
    /// # Errors
    /// As any write.
    pub fn grant<T: Body>(&mut self, purpose: Purpose, digest: Digest) -> Result<(), StoreError> {
        let region = self.region().clone();
        Ok(blobs::grant(
            self.tx(),
            digest,
            &region,
            (T::CLASS, purpose),
        )?)
    }
}
