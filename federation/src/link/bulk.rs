//! Blobs on a link ([`crate::blobs`]): the end that dialled fetches what it misses, and puts up what the other one misses,
//! one chunk at a time and beside the parcels. Nothing more than one chunk is under way, so nothing urgent waits longer
//! behind a blob of gigabytes than behind one chunk.
use super::{LinkError, uplink::ended};
use crate::{
    blobs::{Bulk, Digest, Missing},
    wire::{Chunk, Wanted, mesh_client::MeshClient},
};
use std::time::Duration;
use tokio::time::timeout;
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
    mut client: MeshClient<Channel>,
    there: &Place,
    carried: &mut u64,
) -> LinkError {
    let mut up = Chunk::default();
    loop {
        let moved = match step(bulk, &mut client, there, &mut up).await {
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
        }
    }
}

/// One chunk each way, if one is missing: whether any was.
async fn step(
    bulk: &dyn Bulk,
    client: &mut MeshClient<Channel>,
    there: &Place,
    up: &mut Chunk,
) -> Result<bool, LinkError> {
    let mut moved = false;
    if let Some(missing) = bulk.missing(there).await? {
        match asked(client.fetch(wanted(missing))).await? {
            Some(chunk) => {
                bulk.take(there, missing, chunk.data).await?;
                moved = true;
            }
            None => bulk.not_given(missing.digest).await,
        }
    }
    if !up.data.is_empty() || bulk.grants_to(there).await? {
        let next = asked(client.put(std::mem::take(up))).await?;
        let next = next.and_then(|next| read(&next.digest, next.offset));
        if let Some(missing) = next
            && let Some(data) = bulk.chunk(there, missing).await?
        {
            let digest = missing.digest.as_bytes().to_vec().into();
            let offset = missing.offset;
            *up = Chunk {
                digest,
                offset,
                data,
            };
            moved = true;
        }
    }
    Ok(moved)
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
