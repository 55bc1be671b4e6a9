//! Blobs on a link ([`crate::blobs`]): the end that dialled fetches what it misses, and puts up what the other one misses,
//! one chunk at a time and beside the parcels. Nothing more than one chunk is under way, so nothing urgent waits longer
//! behind a blob of gigabytes than behind one chunk. A chunk is asked for in halves: while one of them comes, the other end
//! reads the next, and this one writes down the one before. How large a chunk is follows from how long the last ones took
//! ([`Pace`]): of a fast line each costs less, and behind one of a slow line nothing urgent waits long.
use super::{LinkError, ended};
use crate::{
    blobs::{Bulk, CHUNK_BYTES, Digest, HALF_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, Missing},
    wire::{Chunk, Wanted, mesh_client::MeshClient},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use std::{cmp::Ordering, time::Duration};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, transport::Channel};
use types::Place;

/// Calls under way at once: all of them carry one chunk.
const CALLS: usize = 2;
/// A call that took less carries twice as much next time, as long as that is no more than a chunk may have.
const FAST: Duration = Duration::from_millis(10);
/// A call that carries more than usual and took more carries half as much next time.
const SLOW: Duration = Duration::from_millis(50);
/// So does any other that took more than this, and one that is smaller than usual and took less is as large as usual again: an
/// answer that comes from the other side of the earth takes as long, and a chunk that is smaller would come no sooner.
const FAR: Duration = Duration::from_millis(250);
/// A half that is not here by then: the link is taken for broken.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the end that dialled looks whether the other one misses something, while anything is granted to it.
const LOOK: Duration = Duration::from_secs(2);

/// How many bytes one call carries.
struct Pace {
    bytes: usize,
    calls: usize,
}

impl Pace {
    /// Of a chunk that so many calls carry.
    const fn of(calls: usize) -> Self {
        let bytes = CHUNK_BYTES / calls;
        Self { bytes, calls }
    }

    /// A call that carried so much took so long, from when it was made: where others were before it, with those.
    fn took(&mut self, bytes: usize, time: Duration) {
        let (fast, slow) = match self.bytes.cmp(&(CHUNK_BYTES / self.calls)) {
            Ordering::Less => (FAR, FAR),
            Ordering::Equal => (FAST, FAR),
            Ordering::Greater => (FAST, SLOW),
        };
        if time > slow {
            self.bytes = (self.bytes / 2).max(MIN_CHUNK_BYTES / self.calls);
        } else if time < fast && bytes >= self.bytes {
            self.bytes = (self.bytes * 2).min(MAX_CHUNK_BYTES / self.calls);
        }
    }
}

/// What is missing, on the wire, of which so many bytes are taken.
fn wanted(missing: Missing, most: usize) -> Wanted {
    Wanted {
        digest: missing.digest.as_bytes().to_vec().into(),
        offset: missing.offset,
        most: u32::try_from(most).unwrap_or(0),
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
    let most = match asked.most {
        0 => HALF_BYTES,
        most => (most as usize).min(MAX_CHUNK_BYTES / CALLS),
    };
    match bulk.chunk(to, missing, most).await {
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
    Ok(missing.map(|it| wanted(it, 0)).unwrap_or_default())
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
        until: 0,
        came: None,
        down: Pace::of(CALLS),
        up: Chunk::default(),
        rise: Pace::of(1),
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

/// What came of a call.
struct Answer {
    at: Missing,
    /// How many bytes were asked for, and how long that took.
    most: usize,
    took: Duration,
    /// None where the other end does not give it.
    came: Result<Option<Bytes>, LinkError>,
}

/// What is between two steps.
struct Carrier<'a> {
    bulk: &'a dyn Bulk,
    client: MeshClient<Channel>,
    there: &'a Place,
    /// Under way, in the order of the blob.
    asked: FuturesOrdered<BoxFuture<'static, Answer>>,
    /// Where the last of them ends.
    until: u64,
    /// What came while the half before it was written down.
    came: Option<Answer>,
    down: Pace,
    /// What the other end misses.
    up: Chunk,
    rise: Pace,
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
        let (mut client, most) = (self.client.clone(), self.down.bytes);
        self.until = at.offset + most as u64;
        let call = async move {
            let began = Instant::now();
            let came = asked(client.fetch(wanted(at, most))).await;
            Answer {
                at,
                most,
                took: began.elapsed(),
                came: came.map(|chunk| chunk.map(|it| it.data)),
            }
        };
        self.asked.push_back(call.boxed());
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
        let Some(Answer {
            at,
            most,
            took,
            came,
        }) = came
        else {
            return Ok(false);
        };
        let Some(data) = came? else {
            self.asked.clear();
            self.bulk.not_given(at.digest).await;
            return Ok(false);
        };
        self.down.took(data.len(), took);
        // A shorter one is the last of its blob.
        let full = data.len() == most;
        if !full {
            self.asked.clear();
        }
        while full && self.asked.len() < CALLS {
            let offset = match self.asked.is_empty() {
                true => at.offset + data.len() as u64,
                false => self.until,
            };
            self.ask(Missing { offset, ..at });
        }
        let taking = self.bulk.take(self.there, at, data);
        let (next, came) = tokio::join!(taking, self.asked.next());
        self.came = came.filter(|came| matches!(next, Ok(next) if next == Some(came.at)));
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
        let (up, carries) = (std::mem::take(&mut self.up), self.rise.bytes);
        let (bytes, began) = (up.data.len(), Instant::now());
        let behind = read(&up.digest, up.offset + bytes as u64);
        let behind = behind.filter(|_| bytes > 0);
        let (bulk, there) = (self.bulk, self.there);
        let reading = async {
            match behind {
                Some(behind) => bulk.chunk(there, behind, carries).await,
                None => Ok(None),
            }
        };
        let putting = async {
            let next = asked(self.client.put(up)).await;
            (next, began.elapsed())
        };
        let ((next, took), ahead) = tokio::join!(putting, reading);
        if bytes > 0 {
            self.rise.took(bytes, took);
        }
        let next = next?.and_then(|next| read(&next.digest, next.offset));
        let Some(missing) = next else {
            return Ok(false);
        };
        let data = match ahead? {
            Some(data) if behind == next => Some(data),
            _ => bulk.chunk(there, missing, self.rise.bytes).await?,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a chunk after so many calls that were full and took so many milliseconds each.
    fn after(pace: &mut Pace, calls: u32, ms: u64) -> usize {
        for _ in 0..calls {
            let bytes = pace.bytes;
            pace.took(bytes, Duration::from_millis(ms));
        }
        pace.bytes * pace.calls
    }

    #[test]
    fn a_chunk_grows_to_its_bound_while_calls_are_fast_and_shrinks_to_the_other_while_they_are_slow()
     {
        for calls in [1, CALLS] {
            let mut pace = Pace::of(calls);
            for (times, ms, expected) in [
                (0, 0, CHUNK_BYTES),
                (1, 9, 2 * CHUNK_BYTES),
                (9, 9, MAX_CHUNK_BYTES),
                (9, 30, MAX_CHUNK_BYTES),
                (1, 51, MAX_CHUNK_BYTES / 2),
                (1, 51, CHUNK_BYTES),
                (1, 251, CHUNK_BYTES / 2),
                (9, 251, MIN_CHUNK_BYTES),
            ] {
                let bytes = after(&mut pace, times, ms);
                assert_eq!(bytes, expected, "{calls} calls, {times} of {ms} ms");
            }
        }
    }

    #[test]
    fn a_line_that_is_long_has_chunks_as_usual_also_after_it_was_slow() {
        let mut pace = Pace::of(CALLS);
        assert_eq!(after(&mut pace, 9, 200), CHUNK_BYTES);
        assert_eq!(after(&mut pace, 9, 900), MIN_CHUNK_BYTES);
        assert_eq!(after(&mut pace, 9, 200), CHUNK_BYTES);
    }

    #[test]
    fn the_last_call_of_a_blob_says_nothing_of_a_fast_line() {
        let mut pace = Pace::of(CALLS);
        let short = pace.bytes - 1;
        pace.took(short, Duration::from_millis(1));
        assert_eq!(pace.bytes * CALLS, CHUNK_BYTES);
    }
}
