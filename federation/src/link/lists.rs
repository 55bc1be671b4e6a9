//! Revocation lists on a link: both ends show the newest that they have, at once and whenever they have a newer one. So
//! what an authority revokes is everywhere within seconds of the moment in which one node of the mesh has its list. A
//! list says by its signature whose it is, and by its number what it is worth; that a peer showed it counts for nothing.
//!
//! A peer of a version that knows nothing of this goes without: its list is carried there by hand, as before.
use super::{LinkError, MAX_PARCEL_BYTES, ended};
use crate::{
    tls::{ReloadingTls, Revocations},
    wire::{Lists, mesh_client::MeshClient},
};
use std::{future::pending, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status, Streaming, transport::Channel};

/// Messages that wait to be sent: each takes the place of the one before.
const WAITING: usize = 1;
/// Lists of a message that are looked at: an authority of each jurisdiction, and its successor.
const MAX_LISTS: usize = 16;
/// A peer's next message is not looked at before, since each costs the check of a signature.
const EVERY: Duration = Duration::from_secs(1);
/// How long the end that dialled waits before it calls again, where the other one ended the call.
const AGAIN: Duration = Duration::from_secs(5);

/// What goes to a peer.
fn channel() -> (mpsc::Sender<Lists>, ReceiverStream<Lists>) {
    let (going, waiting) = mpsc::channel(WAITING);
    (going, ReceiverStream::new(waiting))
}

/// The side that dialled, until the link breaks.
pub(super) async fn keep(tls: Arc<ReloadingTls>, mut client: MeshClient<Channel>) -> LinkError {
    loop {
        let (going, waiting) = channel();
        match client.revocations(waiting).await {
            Ok(answer) => exchange(Arc::clone(&tls), answer.into_inner(), going).await,
            Err(status) if status.code() == Code::Unimplemented => {
                tracing::info!("the peer takes no revocation lists: it is of an earlier version");
                return pending().await;
            }
            Err(status) if status.code() == Code::PermissionDenied => return ended(status),
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}

/// What the side that was dialled shows.
pub(super) type Answer = Pin<Box<dyn Stream<Item = Result<Lists, Status>> + Send>>;

/// The side that was dialled, until the call ends or the node stops.
pub(super) fn answer(
    tls: &Arc<ReloadingTls>,
    coming: Streaming<Lists>,
    (tasks, stop): (&TaskTracker, CancellationToken),
) -> Answer {
    let (going, waiting) = channel();
    let exchanging = exchange(Arc::clone(tls), coming, going);
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = exchanging => {}
        }
    });
    Box::pin(waiting.map(Ok))
}

/// Shows a peer the newest lists and takes newer ones, until the call ends.
async fn exchange(
    tls: Arc<ReloadingTls>,
    mut coming: Streaming<Lists>,
    going: mpsc::Sender<Lists>,
) {
    let mut changes = tls.revocations();
    let mut shown: Option<Arc<Revocations>> = None;
    loop {
        let now = Arc::clone(&changes.borrow_and_update());
        if shown.as_ref().is_none_or(|shown| !shown.is_same(&now)) {
            if let Some(lists) = message(&now)
                && going.send(lists).await.is_err()
            {
                return;
            }
            shown = Some(now);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            came = coming.message() => match came {
                Ok(Some(lists)) => {
                    take(Arc::clone(&tls), lists).await;
                    sleep(EVERY).await;
                }
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// The lists as one message; none when they are too long for one, and must be carried by hand.
fn message(revocations: &Revocations) -> Option<Lists> {
    let lists: Vec<_> = revocations.lists().map(|der| der.to_vec().into()).collect();
    let bytes: usize = lists.iter().map(bytes::Bytes::len).sum();
    if bytes > MAX_PARCEL_BYTES {
        tracing::error!(bytes, "the revocation lists are too long to be sent");
        return None;
    }
    Some(Lists { lists })
}

async fn take(tls: Arc<ReloadingTls>, mut lists: Lists) {
    lists.lists.truncate(MAX_LISTS);
    let taking = tokio::task::spawn_blocking(move || tls.take_lists(&lists.lists));
    match taking.await {
        Ok(Ok(true)) => tracing::info!("a newer revocation list has come from a peer"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::error!(%error, "a newer revocation list is not taken"),
        Err(error) => tracing::error!(%error, "a newer revocation list is not taken"),
    }
}
