//! Blobs on a link ([`crate::blobs`]): the end that dialled fetches what it misses, and puts up what the other one misses,
//! one chunk at a time and beside the parcels. Nothing more than one chunk is under way, so nothing urgent waits longer
//! behind a blob of gigabytes than behind one chunk. While one that came is written down the next one comes.
use super::{LinkError, uplink::ended};
use crate::{
    blobs::{Bulk, CHUNK_BYTES, Digest, Missing},
    wire::{Chunk, Wanted, mesh_client::MeshClient},
};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, transport::Channel};
use types::Place;

/// A chunk that is not here by then: the link is taken for broken.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the end that dialled looks whether the other one misses something, while anything is granted to it.
const LOOK: Duration = Duration::from_secs(2);

/// What is missing, on the wire.
fn wanted(missing: Missing) -> Wanted {
    Wanted {
        digest: missing.digest.as_bytes().to_vec().into(),
        offset: missing.offset,
    }
}

fn read(digest: &[u8], offset: u64) -> Option<Missing> {
    let digest = Digest::read(digest)?;
    Some(Missing { digest, offset })
}

/// Answers a place that misses a chunk.
pub(super) async fn give(bulk: &dyn Bulk, to: &Place, asked: Wanted) -> Result<Chunk, Status> {
    let malformed = || Status::invalid_argument("a digest has 32 bytes");
    let missing = read(&asked.digest, asked.offset).ok_or_else(malformed)?;
    match bulk.chunk(to, missing).await {
        Ok(Some(data)) => Ok(Chunk {
            digest: asked.digest,
            offset: asked.offset,
            data,
        }),
        // Whether it is there is told to nobody who may not have it.
        Ok(None) => Err(Status::not_found("no such blob")),
        Err(error) => {
            tracing::warn!(%error, %to, "a chunk is not given");
            Err(Status::unavailable("chunk"))
        }
    }
}

/// Takes a chunk that a place puts up, if it is one, and says what is missing next.
pub(super) async fn take(bulk: &dyn Bulk, from: &Place, chunk: Chunk) -> Result<Wanted, Status> {
    let failed = |error| {
        tracing::warn!(%error, %from, "a chunk is not taken");
        Status::unavailable("chunk")
    };
    if let Some(at) = read(&chunk.digest, chunk.offset) {
        bulk.take(from, at, chunk.data).await.map_err(failed)?;
    }
    let missing = bulk.missing(from).await.map_err(failed)?;
    Ok(missing.map(wanted).unwrap_or_default())
}

/// Carries blobs both ways until the link breaks. `carried` counts the chunks.
pub(super) async fn carry(
    bulk: &dyn Bulk,
    client: MeshClient<Channel>,
    there: &Place,
    carried: &mut u64,
) -> LinkError {
    let mut carrier = Carrier {
        bulk,
        client,
        there,
        down: None,
        up: Chunk::default(),
        look: Instant::now(),
    };
    loop {
        let moved = match carrier.step().await {
            Ok(moved) => {
                *carried += u64::from(moved);
                moved
            }
            // A disk without room for blobs has nothing to do with parcels: these go on.
            Err(LinkError::Port(error)) => {
                tracing::warn!(%error, %there, "blobs wait");
                tokio::time::sleep(LOOK).await;
                false
            }
            Err(error) => return error,
        };
        if !moved {
            tokio::select! {
                () = bulk.stirred() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            carrier.look = Instant::now();
        }
    }
}

/// What is between two steps.
struct Carrier<'a> {
    bulk: &'a dyn Bulk,
    client: MeshClient<Channel>,
    there: &'a Place,
    /// A chunk that came while the one before it was written down.
    down: Option<(Missing, Bytes)>,
    /// The chunk that the other end misses.
    up: Chunk,
    /// When the other end is asked what it misses, if it missed nothing.
    look: Instant,
}

impl Carrier<'_> {
    /// One chunk each way, if one is missing: whether any was.
    async fn step(&mut self) -> Result<bool, LinkError> {
        let came = match self.down.take() {
            Some(came) => Some(came),
            None => self.fetch().await?,
        };
        let fetched = came.is_some();
        if let Some((at, chunk)) = came {
            self.down = self.take(at, chunk).await?;
        }
        let put = self.put().await?;
        Ok(fetched || put)
    }

    /// The next chunk that is missing here, if the other end gives it.
    async fn fetch(&mut self) -> Result<Option<(Missing, Bytes)>, LinkError> {
        let Some(missing) = self.bulk.missing(self.there).await? else {
            return Ok(None);
        };
        let chunk = asked(self.client.fetch(wanted(missing))).await?;
        if chunk.is_none() {
            self.bulk.not_given(missing.digest).await;
        }
        Ok(chunk.map(|chunk| (missing, chunk.data)))
    }

    /// Takes a chunk, and fetches the one behind it meanwhile, which counts if it is what is missing then.
    async fn take(
        &mut self,
        at: Missing,
        chunk: Bytes,
    ) -> Result<Option<(Missing, Bytes)>, LinkError> {
        // A shorter one is the last of its blob.
        let behind = (chunk.len() == CHUNK_BYTES).then_some(Missing {
            digest: at.digest,
            offset: at.offset + CHUNK_BYTES as u64,
        });
        let Self {
            bulk,
            client,
            there,
            ..
        } = self;
        let fetching = async {
            match behind {
                Some(behind) => asked(client.fetch(wanted(behind))).await,
                None => Ok(None),
            }
        };
        let (next, came) = tokio::join!(bulk.take(there, at, chunk), fetching);
        let (next, came) = (next?, came?);
        Ok(next
            .filter(|_| next == behind)
            .zip(came.map(|chunk| chunk.data)))
    }

    /// Puts up what the other end misses: whether it misses more.
    async fn put(&mut self) -> Result<bool, LinkError> {
        if self.up.data.is_empty() {
            let now = Instant::now();
            if now < self.look {
                return Ok(false);
            }
            self.look = now + LOOK;
            if !self.bulk.grants_to(self.there).await? {
                return Ok(false);
            }
        }
        let next = asked(self.client.put(std::mem::take(&mut self.up))).await?;
        let next = next.and_then(|next| read(&next.digest, next.offset));
        let Some(missing) = next else {
            return Ok(false);
        };
        let Some(data) = self.bulk.chunk(self.there, missing).await? else {
            return Ok(false);
        };
        self.up = Chunk {
            digest: missing.digest.as_bytes().to_vec().into(),
            offset: missing.offset,
            data,
        };
        Ok(true)
    }
}

/// An answer; none when the other end does not give it, or is of a version that carries no blobs.
async fn asked<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<Option<T>, LinkError> {
    let answered = timeout(CHUNK_TIMEOUT, call).await;
    match answered.map_err(|_| LinkError::Timeout(CHUNK_TIMEOUT))? {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) => match status.code() {
            Code::NotFound | Code::Unimplemented | Code::Unavailable => Ok(None),
            _ => Err(ended(status)),
        },
    }
}
