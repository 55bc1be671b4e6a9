//! The rows of a node's blobs in the ledger's file, and how a blob is made known to others within a commit.
use super::{Commit, Ledger, Shipped};
use crate::{
    blobs::{self, Blobs, Descriptor, Digest, Files, Rows},
    db::DbError,
    port::PortError,
};
use async_trait::async_trait;
use messages::Body;
use std::{collections::BTreeSet, io, path::Path, sync::Arc};
use storage::chunks::Chunks;
use types::{EnvelopeId, Place, Priority, Purpose};

#[async_trait]
impl Rows for Ledger {
    async fn wanted(&self, from: &Place) -> Result<Vec<Descriptor>, PortError> {
        let from = from.clone();
        self.db
            .step("blobs wanted", move |tx| blobs::wanted(tx, &from))
            .await
    }

    async fn complete(&self, digest: Digest) -> Result<(), PortError> {
        self.db
            .step("blob whole", move |tx| blobs::complete(tx, digest))
            .await
    }

    async fn is_granted(&self, to: &Place, digest: Digest) -> Result<bool, PortError> {
        let to = to.clone();
        self.step("blob granted", move |inner, tx| {
            blobs::is_granted(tx, &inner.rules, (&inner.here, &to), digest)
        })
        .await
    }

    async fn grants_to(&self, to: &Place) -> Result<bool, PortError> {
        let to = to.clone();
        self.db
            .step("blobs granted", move |tx| blobs::grants_to(tx, &to))
            .await
    }

    async fn sweep(&self) -> Result<BTreeSet<Digest>, PortError> {
        self.db.step("sweep blobs", blobs::sweep).await
    }
}

impl Ledger {
    /// The blobs of this ledger, whose bytes are files in `blobs` of a directory.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn blobs(&self, dir: &Path) -> io::Result<Arc<Blobs<Self>>> {
        self.blobs_kept(dir, None)
    }

    /// The same, of which every byte is kept elsewhere too. Blocks.
    ///
    /// # Errors
    /// The folder cannot be used, or what is kept cannot be read or written.
    pub fn blobs_kept(
        &self,
        dir: &Path,
        chunks: Option<Arc<dyn Chunks>>,
    ) -> io::Result<Arc<Blobs<Self>>> {
        let files = Files::open_kept(&dir.join("blobs"), chunks)?;
        Ok(Arc::new(Blobs::new(self.clone(), Arc::new(files))))
    }
}

impl Commit<'_> {
    /// Grants a blob to the place to which a message of this kind is shipped in the same commit, with its descriptor in it.
    ///
    /// # Errors
    /// [`DbError`]: return it.
    pub fn grant<T: Body>(
        &mut self,
        to: &Place,
        purpose: Purpose,
        digest: Digest,
    ) -> Result<(), DbError> {
        blobs::grant(self.tx(), digest, to, (T::CLASS, purpose))
    }

    /// Ships a message with the descriptor of a blob, behind everything more urgent, and grants the blob to its receiver. Where the rules
    /// keep the message, nothing is granted.
    ///
    /// # Errors
    /// As [`Commit::ship`].
    pub fn offer<T: Body>(
        &mut self,
        to: &Place,
        (purpose, id): (Purpose, EnvelopeId),
        body: T,
        digest: Digest,
    ) -> Result<Shipped, DbError> {
        let shipped = self.ship(to, (purpose, Priority::Backlog), id, body)?;
        if !matches!(shipped, Shipped::Refused(_)) {
            self.grant::<T>(to, purpose, digest)?;
        }
        Ok(shipped)
    }
}
