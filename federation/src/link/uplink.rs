//! The sender's side of the link: dials the next tier, sends what the outbox holds, and settles what comes back.
use super::{Door, LinkError, backoff::Backoff, bulk, collect, io::Tap, lists, route, told::Told};
use crate::{
    blobs::Bulk,
    port::{Outbox, PeerAudit},
    tls::{ReloadingTls, TimeSource},
};
use rand::rngs::StdRng;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use types::{Place, Timestamp};

mod channel;
mod dial;
mod look;
mod opened;
mod session;
pub use look::look;
pub(super) use look::{connect, within};
pub(super) use opened::{Collecting, Opened};
pub(super) use session::Session;

/// Bound of the first wait after a broken link.
const RECONNECT_BASE: Duration = Duration::from_millis(50);
/// Bound of every later wait: a region that is back is found within this time.
const RECONNECT_CAP: Duration = Duration::from_secs(5);

/// Whether the link carries parcels. Readings that are taken while it is up are live, others are backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Up {
        /// Since when (real time).
        since: Timestamp,
    },
    /// It does not.
    Down {
        /// Since when (real time).
        since: Timestamp,
    },
}

/// What a sender needs.
pub struct UplinkParts {
    /// `https://host:port` of the next tier, one for each of its nodes: they are tried in turn, from the one that answered
    /// last.
    pub urls: Vec<String>,
    /// Where this node stands.
    pub here: Place,
    /// Who must answer.
    pub there: Place,
    /// Where parcels come from.
    pub outbox: Arc<dyn Outbox>,
    /// Where parcels go that come down from there; none when this node collects nothing.
    pub collect: Option<Arc<Door>>,
    /// What is larger than a parcel; none when this node carries no blobs.
    pub bulk: Option<Arc<dyn Bulk>>,
    /// Where it is written that another than `there` answered.
    pub audit: Arc<dyn PeerAudit>,
    /// Certificates.
    pub tls: Arc<ReloadingTls>,
    /// Real time.
    pub time: TimeSource,
    /// Draws waiting times.
    pub rng: StdRng,
    /// Writes the clear text out, in tests.
    pub tap: Option<Tap>,
}

/// The link to the next tier.
pub struct Uplink {
    parts: UplinkParts,
    /// Host and port of each address, and which of them is dialled next.
    addresses: Vec<(String, u16)>,
    next: usize,
    connector: TlsConnector,
    state: watch::Sender<LinkState>,
    /// Whether parcels are deferred as out of order for longer than they may be.
    stuck: watch::Sender<bool>,
    /// Wrong peers that were written down, however often they are dialled.
    told: Told,
}

impl Uplink {
    /// Prepares a link; nothing is dialled yet.
    ///
    /// # Errors
    /// When `here` never delivers to `there`, the certificate is not that of `here`, or the URL is not one.
    pub fn new(parts: UplinkParts) -> Result<Self, LinkError> {
        let (here, there) = (&parts.here, &parts.there);
        route(here, there).map_err(|reason| LinkError::NoRoute {
            from: here.to_string(),
            to: there.to_string(),
            reason,
        })?;
        let me = parts.tls.me().identity;
        if me.place() != Some(here) {
            return Err(LinkError::NotThisNode {
                here: here.to_string(),
                named: me.to_uri(),
            });
        }
        let addresses = parts.urls.iter().map(|url| channel::host_and_port(url));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(LinkError::Url(String::new()));
        }
        let down = LinkState::Down {
            since: (parts.time)(),
        };
        Ok(Self {
            connector: TlsConnector::from(parts.tls.client_mtls(there)?),
            state: watch::Sender::new(down),
            stuck: watch::Sender::new(false),
            addresses,
            next: 0,
            parts,
            told: Told::default(),
        })
    }

    /// Follows whether the link is up.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Follows whether parcels are deferred as out of order for longer than
    /// [`OUT_OF_ORDER_LIMIT`](crate::ledger::OUT_OF_ORDER_LIMIT).
    #[must_use]
    pub fn stuck(&self) -> watch::Receiver<bool> {
        self.stuck.subscribe()
    }

    /// Delivers until stopped, over as many connections as it takes.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RECONNECT_BASE, RECONNECT_CAP);
        // Addresses in a row at which nothing was answered.
        let mut unanswered = 0;
        loop {
            let (mut settled, mut carried) = (0, 0);
            let ended = tokio::select! {
                () = stop.cancelled() => None,
                ended = self.deliver(&mut settled, &mut carried) => Some(ended),
            };
            self.go_down();
            if let Err(error) = self.parts.outbox.release(&self.parts.there).await {
                tracing::error!(%error, "leases not given back");
            }
            let Some(error) = ended else { return };
            if settled > 0 || carried > 0 {
                backoff.reset();
                unanswered = 0;
            } else {
                self.next = (self.next + 1) % self.addresses.len();
                unanswered += 1;
            }
            self.tell(&error).await;
            if unanswered % self.addresses.len() > 0 {
                // Another one is tried at once.
                continue;
            }
            let wait = backoff.next(&mut self.parts.rng);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One connection, from dial to break. `settled` counts the receipts that were settled, `carried` the chunks of blobs.
    async fn deliver(&mut self, settled: &mut u64, carried: &mut u64) -> LinkError {
        match self.open().await {
            Err(error) => error,
            Ok((opened, collecting, client)) => {
                let now = (self.parts.time)();
                self.state.send_replace(LinkState::Up { since: now });
                metrics::gauge!("medmesh_link_up").set(1.0);
                session::heard(&self.parts.there);
                tracing::info!(peer = %self.parts.there, "link up");
                let (outbox, there) = (self.parts.outbox.clone(), self.parts.there.clone());
                let key = opened.key;
                let (session, receipts) = Session::new(outbox, there, opened);
                let rng = &mut self.parts.rng;
                let sending = session.run(receipts, rng, settled, &self.stuck);
                let blobs = self.parts.bulk.as_deref();
                let showing = lists::keep(self.parts.tls.clone(), client.clone());
                let carrying = async {
                    match blobs {
                        Some(blobs) => bulk::carry(blobs, client, &self.parts.there, carried).await,
                        None => std::future::pending().await,
                    }
                };
                let sending = async {
                    tokio::select! {
                        ended = sending => ended,
                        ended = carrying => ended,
                        ended = showing => ended,
                    }
                };
                match (&self.parts.collect, collecting) {
                    (Some(door), Some(collecting)) => {
                        let over = CancellationToken::new();
                        let from = (&self.parts.there, &key);
                        let taking = collect::take(door, from, collecting, &over);
                        both_ways(sending, taking, &over).await
                    }
                    _ => sending.await,
                }
            }
        }
    }

    fn go_down(&self) {
        let now = (self.parts.time)();
        self.state.send_if_modified(|state| {
            let was_up = matches!(state, LinkState::Up { .. });
            if was_up {
                *state = LinkState::Down { since: now };
            }
            was_up
        });
        metrics::gauge!("medmesh_link_up").set(0.0);
    }

    /// Logs why there is no link; a wrong peer goes to the audit log.
    async fn tell(&self, error: &LinkError) {
        metrics::counter!("medmesh_link_breaks_total").increment(1);
        let LinkError::WrongPeer { found, reason } = error else {
            tracing::warn!(%error, "link down");
            return;
        };
        match self
            .told
            .tell(self.parts.audit.as_ref(), found, reason)
            .await
        {
            Ok(true) => tracing::error!(%error, "link refused"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "refusal not in the audit log"),
        }
    }
}

/// Runs both ways of a connection until one of them ends. What was taken is answered before it is over.
async fn both_ways(
    sending: impl Future<Output = LinkError>,
    taking: impl Future<Output = LinkError>,
    over: &CancellationToken,
) -> LinkError {
    let sending = async {
        let ended = tokio::select! {
            ended = sending => Some(ended),
            () = over.cancelled() => None,
        };
        over.cancel();
        ended
    };
    let taking = async {
        let ended = taking.await;
        over.cancel();
        ended
    };
    let (sent, taken) = tokio::join!(sending, taking);
    sent.unwrap_or(taken)
}
