//! A node's blobs as the link sees them: what is missing next, chunks that come, chunks that go.
use super::{Descriptor, Digest, Files, Taken};
use crate::port::{PortError, PortErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
};
use tokio::sync::{Notify, watch};
use types::Place;

/// How often a blob is fetched anew that was not what its name says, in one run of the node.
const MAX_BROKEN: u32 = 3;

/// The rows of blobs in a node's database.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// [`super::wanted`].
    async fn wanted(&self, from: &Place) -> Result<Vec<Descriptor>, PortError>;
    /// [`super::complete`].
    async fn complete(&self, digest: Digest) -> Result<(), PortError>;
    /// [`super::is_granted`].
    async fn is_granted(&self, to: &Place, digest: Digest) -> Result<bool, PortError>;
    /// [`super::grants_to`].
    async fn grants_to(&self, to: &Place) -> Result<bool, PortError>;
    /// [`super::sweep`].
    async fn sweep(&self) -> Result<BTreeSet<Digest>, PortError>;
}

/// What is missing of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub digest: Digest,
    /// From this byte on.
    pub offset: u64,
}

/// What the link asks of a node's blobs.
#[async_trait]
pub trait Bulk: Send + Sync + 'static {
    /// What is missing next of what is wanted from a place.
    async fn missing(&self, from: &Place) -> Result<Option<Missing>, PortError>;
    /// Takes a chunk that came from a place, if it is wanted from there: what is missing next of the same blob.
    async fn take(
        &self,
        from: &Place,
        at: Missing,
        chunk: Bytes,
    ) -> Result<Option<Missing>, PortError>;
    /// What a place misses, so many bytes or the rest of the blob; none when the place may not have the blob, or it is not whole here.
    async fn chunk(&self, to: &Place, at: Missing, most: usize)
    -> Result<Option<Bytes>, PortError>;
    /// A place does not give what is wanted from it: the others first.
    async fn not_given(&self, digest: Digest);
    /// Whether anything is granted to a place.
    async fn grants_to(&self, to: &Place) -> Result<bool, PortError>;
    /// Resolves when something may be wanted or granted since the last call.
    async fn stirred(&self);
}

/// A node's blobs.
pub struct Blobs<R> {
    rows: R,
    files: Arc<Files>,
    stir: Notify,
    /// By blob: how often it was not what its name says, or was not given. Others go first.
    failed: Mutex<HashMap<Digest, u32>>,
    /// How many have become whole.
    whole: watch::Sender<u64>,
}

/// What a listener has not heard of yet.
pub struct Arrivals(watch::Receiver<u64>);

impl Arrivals {
    /// Resolves when a blob has become whole since the last call, or since there is this listener.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The node ends, and no other will come.
            std::future::pending().await
        }
    }
}

impl<R: Rows> Blobs<R> {
    /// Of these rows and files.
    pub fn new(rows: R, files: Arc<Files>) -> Self {
        Self {
            rows,
            files,
            stir: Notify::new(),
            failed: Mutex::default(),
            whole: watch::Sender::new(0),
        }
    }

    /// Something may be wanted or granted: the link looks.
    pub fn stir(&self) {
        self.stir.notify_one();
    }

    /// Tells one more listener of each blob that becomes whole from now on.
    pub fn arrivals(&self) -> Arrivals {
        Arrivals(self.whole.subscribe())
    }

    /// The files.
    pub const fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Deletes what nothing refers to: how many files.
    ///
    /// # Errors
    /// [`PortError`]: it is left to the next time.
    pub async fn sweep(&self) -> Result<usize, PortError> {
        let sweep = self.files.sweep();
        let left = self.rows.sweep().await?;
        self.blocking("sweep blobs", move |files| files.delete_but(&left, sweep))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let files = Arc::clone(&self.files);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| PortError {
            kind: PortErrorKind::Unavailable,
            op,
            source: Some(source),
        };
        let done = tokio::task::spawn_blocking(move || step(&files)).await;
        done.map_err(|error| failed(error.into()))?
            .map_err(|error| failed(error.into()))
    }

    /// Looks how far a blob has come that is wanted from a place, and checks it if all of it came before the node ended:
    /// from which byte on it is missing, or none when it is whole.
    ///
    /// # Errors
    /// [`PortError`]: it is left to the next time.
    pub async fn settle(
        &self,
        from: &Place,
        descriptor: Descriptor,
    ) -> Result<Option<u64>, PortError> {
        let settle = move |files: &Files| files.settle(descriptor);
        match self.blocking("look at a blob", settle).await? {
            Taken::Next(offset) => Ok(Some(offset)),
            Taken::Whole => self.is_here(descriptor.digest).await.map(|()| None),
            Taken::Broken => {
                self.is_broken(from, descriptor.digest);
                Ok(Some(0))
            }
        }
    }

    fn is_broken(&self, from: &Place, digest: Digest) {
        *self.failed.lock().entry(digest).or_default() += 1;
        metrics::counter!("medmesh_blobs_broken_total").increment(1);
        tracing::error!(%digest, %from, "a blob is not what its name says");
    }

    async fn is_here(&self, digest: Digest) -> Result<(), PortError> {
        self.rows.complete(digest).await?;
        self.whole
            .send_modify(|whole| *whole = whole.wrapping_add(1));
        metrics::counter!("medmesh_blobs_taken_total").increment(1);
        Ok(())
    }
}

#[async_trait]
impl<R: Rows> Bulk for Blobs<R> {
    async fn missing(&self, from: &Place) -> Result<Option<Missing>, PortError> {
        let mut wanted = self.rows.wanted(from).await?;
        let failed = self.failed.lock().clone();
        let failures = |digest: &Digest| failed.get(digest).copied().unwrap_or(0);
        wanted.sort_by_key(|descriptor| failures(&descriptor.digest));
        for descriptor in wanted {
            let digest = descriptor.digest;
            if failures(&digest) >= MAX_BROKEN {
                continue;
            }
            if let Some(offset) = self.settle(from, descriptor).await? {
                return Ok(Some(Missing { digest, offset }));
            }
        }
        Ok(None)
    }

    async fn take(
        &self,
        from: &Place,
        at: Missing,
        chunk: Bytes,
    ) -> Result<Option<Missing>, PortError> {
        let digest = at.digest;
        let wanted = self.rows.wanted(from).await?;
        let Some(descriptor) = wanted.into_iter().find(|it| it.digest == digest) else {
            return Ok(None);
        };
        let take = move |files: &Files| files.take(descriptor, at.offset, &chunk);
        match self.blocking("take a chunk", take).await? {
            Taken::Next(offset) => Ok(Some(Missing { digest, offset })),
            Taken::Whole => self.is_here(digest).await.map(|()| None),
            Taken::Broken => {
                self.is_broken(from, digest);
                Ok(None)
            }
        }
    }

    async fn chunk(
        &self,
        to: &Place,
        at: Missing,
        most: usize,
    ) -> Result<Option<Bytes>, PortError> {
        let read = move |files: &Files| files.read(at.digest, at.offset, most);
        let reading = self.blocking("read a chunk", read);
        // It is read while the rows are asked, and given to nobody before they allow it.
        let (granted, bytes) = tokio::join!(self.rows.is_granted(to, at.digest), reading);
        let (granted, bytes) = (granted?, bytes?);
        Ok(bytes.filter(|_| granted).map(Bytes::from))
    }

    async fn not_given(&self, digest: Digest) {
        let mut failed = self.failed.lock();
        let count = failed.entry(digest).or_default();
        // It is asked for again, behind the others, for as long as it is wanted.
        *count = (*count + 1).min(MAX_BROKEN - 1);
    }

    async fn grants_to(&self, to: &Place) -> Result<bool, PortError> {
        self.rows.grants_to(to).await
    }

    async fn stirred(&self) {
        self.stir.notified().await;
    }
}
