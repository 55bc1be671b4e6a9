//! Parcels that go down. The lower tier dials, as a hospital opens no port to the outside: it hears where the tier above
//! stands as a sender, answers as a receiver, and then collects what waits for it, with a signed receipt for each parcel.
//!
//! Every promise of the way up holds: the sender clears and audits before it seals, the receiver judges and audits again,
//! order and once are the same outbox's and the same inbox's, and only the newest call of a place is served.
use super::{
    Door, LinkError, MAX_RECEIPTS, RECEIPT_TIMEOUT,
    batch::next_batch,
    believe, ended,
    flight::MAX_PARCELS,
    newest::Reading,
    uplink::{Collecting, Opened, Session},
};
use crate::{
    port::Outbox,
    wire::{Heard, Hello, Parcel, Said, Welcome, mesh_client::MeshClient},
};
use ed25519_dalek::VerifyingKey;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use types::Place;

/// Times that a receiver answers where it stands on one connection; as a sender may say it.
const MAX_WELCOMES: usize = 4;

/// What the tier above says next to a place below that answers it, or hears it for the first time.
pub(super) async fn say(
    outbox: &dyn Outbox,
    (to, key): (&Place, &VerifyingKey),
    heard: Heard,
) -> Result<Said, Status> {
    let said = match heard.welcome {
        None => outbox.hello(to).await.map(Some),
        Some(mut welcome) => {
            believe(&mut welcome.head, to, key);
            let mut fresh = [0; 16];
            rand::rng().fill_bytes(&mut fresh);
            outbox.resync(to, &welcome, fresh).await
        }
    };
    said.map(|hello| Said { hello }).map_err(|error| {
        tracing::warn!(%error, %to, "not met");
        Status::unavailable("greet")
    })
}

/// What ends an offer from outside.
pub(super) struct Ends {
    pub(super) stop: CancellationToken,
    pub(super) reading: Reading,
}

/// Offers a place below what waits for it, until the link breaks, the place calls again or the node stops.
pub(super) async fn offer(outbox: Arc<dyn Outbox>, to: Place, opened: Opened, ends: Ends) {
    let Some(_turn) = ends.reading.turn().await else {
        return;
    };
    let (session, receipts) = Session::new(Arc::clone(&outbox), to.clone(), opened);
    let (mut rng, mut settled) = (StdRng::from_os_rng(), 0);
    let stuck = watch::Sender::new(false);
    tokio::select! {
        () = ends.stop.cancelled() => {}
        () = ends.reading.newer.cancelled() => {}
        error = session.run(receipts, &mut rng, &mut settled, &stuck) => {
            tracing::debug!(%error, %to, "an offer ended");
        }
    }
    if let Err(error) = outbox.release(&to).await {
        tracing::error!(%error, "leases not given back");
    }
}

/// Meets the tier above as its receiver, and begins to collect. None when nothing goes down from there.
pub(super) async fn begin(
    door: &Door,
    client: &mut MeshClient<Channel>,
    (there, key): (&Place, &VerifyingKey),
    within: Duration,
) -> Result<Option<Collecting>, LinkError> {
    let mut welcome: Option<Welcome> = None;
    for _ in 0..=MAX_WELCOMES {
        let answered = timeout(within, client.greet(Heard { welcome })).await;
        let said = match answered.map_err(|_| LinkError::Timeout(within))? {
            Ok(said) => said.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => return Ok(None),
            Err(status) => return Err(ended(status)),
        };
        let Some(mut hello) = said.hello else {
            return open(client, within).await.map(Some);
        };
        believe(&mut hello.head, there, key);
        welcome = Some(answer(door, there, &hello).await?);
    }
    Err(LinkError::NotMet)
}

async fn answer(door: &Door, there: &Place, hello: &Hello) -> Result<Welcome, LinkError> {
    Ok(door.inbox.meet(there, hello).await?)
}

async fn open(client: &mut MeshClient<Channel>, within: Duration) -> Result<Collecting, LinkError> {
    let (receipts, outgoing) = mpsc::channel(MAX_RECEIPTS);
    let call = client.collect(ReceiverStream::new(outgoing));
    let answered = timeout(within, call).await;
    let parcels = answered
        .map_err(|_| LinkError::Timeout(within))?
        .map_err(ended)?
        .into_inner();
    Ok(Collecting { parcels, receipts })
}

/// Takes what comes, a batch at a time, until the link breaks or `stop`. What was taken is answered before it ends.
pub(super) async fn take(
    door: &Door,
    (there, key): (&Place, &VerifyingKey),
    mut collecting: Collecting,
    stop: &CancellationToken,
) -> LinkError {
    let over = LinkError::Ended { code: Code::Ok };
    loop {
        let mut taken = tokio::select! {
            () = stop.cancelled() => return over,
            taken = next_batch(&mut collecting.parcels) => taken,
        };
        for parcel in &mut taken.parcels {
            believe(&mut parcel.head, there, key);
        }
        for receipt in door.answer(there, taken.parcels).await {
            match timeout(RECEIPT_TIMEOUT, collecting.receipts.send(receipt)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return over,
                Err(_) => return LinkError::Timeout(RECEIPT_TIMEOUT),
            }
        }
        match taken.end {
            None => {}
            Some(Ok(())) => return over,
            Some(Err(status)) => return ended(status),
        }
    }
}

/// A channel for the parcels of an offer.
pub(super) fn channel() -> (mpsc::Sender<Parcel>, mpsc::Receiver<Parcel>) {
    mpsc::channel(MAX_PARCELS)
}
