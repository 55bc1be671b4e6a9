//! Blobs on a link ([`crate::blobs`]): the end that dialled fetches what it misses, and puts up what the other one misses,
//! one chunk at a time and beside the parcels. Nothing more than one chunk is under way, so nothing urgent waits longer
//! behind a blob of gigabytes than behind one chunk. A chunk is asked for in halves: while one of them comes, the other end
//! reads the next, and this one writes down the one before.
use super::{LinkError, ended};
use crate::{
    blobs::{Bulk, CHUNK_BYTES, Digest, HALF_BYTES, Missing},
    wire::{Chunk, Wanted, mesh_client::MeshClient},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, transport::Channel};
use types::Place;

/// Calls under way at once: all of them carry one chunk.
const CALLS: usize = CHUNK_BYTES / HALF_BYTES;
/// A half that is not here by then: the link is taken for broken.
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
    match bulk.chunk(to, missing, HALF_BYTES).await {
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

/// Carries blobs both ways until the link breaks. `carried` counts what came and went.
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
        asked: FuturesOrdered::new(),
        came: None,
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

/// What was asked for, and what came of it if the other end gives it.
type Answer = (Missing, Result<Option<Bytes>, LinkError>);

/// What is between two steps.
struct Carrier<'a> {
    bulk: &'a dyn Bulk,
    client: MeshClient<Channel>,
    there: &'a Place,
    /// Under way, in the order of the blob.
    asked: FuturesOrdered<BoxFuture<'static, Answer>>,
    /// What came while the half before it was written down.
    came: Option<Answer>,
    /// What the other end misses.
    up: Chunk,
    /// When the other end is asked what it misses, if it missed nothing.
    look: Instant,
}

impl Carrier<'_> {
    /// Half a chunk down and one up, if any is missing: whether any was.
    async fn step(&mut self) -> Result<bool, LinkError> {
        let fetched = self.fetch().await?;
        let put = self.put().await?;
        Ok(fetched || put)
    }

    fn ask(&mut self, at: Missing) {
        let mut client = self.client.clone();
        let call = async move { asked(client.fetch(wanted(at))).await };
        let answer = call.map(move |came| (at, came.map(|chunk| chunk.map(|it| it.data))));
        self.asked.push_back(answer.boxed());
    }

    /// Takes what is missing here next, if the other end gives it: whether it did. What lies behind comes meanwhile, and
    /// counts if it is what is missing then.
    async fn fetch(&mut self) -> Result<bool, LinkError> {
        let came = match self.came.take() {
            Some(came) => Some(came),
            None => {
                if self.asked.is_empty() {
                    let Some(missing) = self.bulk.missing(self.there).await? else {
                        return Ok(false);
                    };
                    self.ask(missing);
                }
                self.asked.next().await
            }
        };
        let Some((at, came)) = came else {
            return Ok(false);
        };
        let Some(data) = came? else {
            self.asked.clear();
            self.bulk.not_given(at.digest).await;
            return Ok(false);
        };
        // A shorter one is the last of its blob.
        let full = data.len() == HALF_BYTES;
        if !full {
            self.asked.clear();
        }
        while full && self.asked.len() < CALLS {
            let halves = self.asked.len() as u64 + 1;
            let offset = at.offset + halves * HALF_BYTES as u64;
            self.ask(Missing { offset, ..at });
        }
        let taking = self.bulk.take(self.there, at, data);
        let (next, came) = tokio::join!(taking, self.asked.next());
        self.came = came.filter(|(at, _)| matches!(next, Ok(next) if next == Some(*at)));
        if self.came.is_none() {
            self.asked.clear();
        }
        next?;
        Ok(true)
    }

    /// Puts up what the other end misses: whether it misses more. What lies behind is read meanwhile.
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
        let up = std::mem::take(&mut self.up);
        let behind = read(&up.digest, up.offset + up.data.len() as u64);
        let behind = behind.filter(|_| up.data.len() == CHUNK_BYTES);
        let (bulk, there) = (self.bulk, self.there);
        let reading = async {
            match behind {
                Some(behind) => bulk.chunk(there, behind, CHUNK_BYTES).await,
                None => Ok(None),
            }
        };
        let (next, ahead) = tokio::join!(asked(self.client.put(up)), reading);
        let next = next?.and_then(|next| read(&next.digest, next.offset));
        let Some(missing) = next else {
            return Ok(false);
        };
        let data = match ahead? {
            Some(data) if behind == next => Some(data),
            _ => bulk.chunk(there, missing, CHUNK_BYTES).await?,
        };
        let Some(data) = data else {
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
