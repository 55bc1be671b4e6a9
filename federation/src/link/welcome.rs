//! The door of the link: who gets a place, once it has shown a certificate, and how long it may take over each step.
//!
//! Identity is judged before a place is taken. A node with business here has places by its identity, the newest of
//! which it keeps; any other, whatever its certificate, stays among the unknown: it is told that it has no business here
//! when it calls, and else it waits. A stranger that is sent away comes again, and a handshake costs more than its place:
//! so there are many of these places, and the silent ones keep them as long as at any other listener.
use super::{HANDSHAKE_TIMEOUT, door::Door, io::Guarded, peer_place, route};
use crate::{
    identity::Peer,
    tls::{self, Cut},
};
use node::admission::{Admission, Limits, Slot};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// Connections at once. Known: a region's facilities, each with its link, one more while it reconnects and the old one is not yet
/// given up, one with which it asks for a certificate, and one of a person's command beside it (`edge renew`, `doctor`):
/// none of these may cost it its link, which is the oldest. A connection holds at most its window, an identity one message besides (`newest`); what a
/// stranger sends is not read, and its place costs some 50 KiB.
pub(super) const LIMITS: Limits = Limits {
    handshakes: 4_096,
    unknown: 1_536,
    health: 1,
    known: 4_096,
    per_identity: 4,
    unread_bytes: usize::MAX,
};
/// A peer with business here that has not begun a call by then (HTTP/2 preface, settings, header) is cut off.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer without business here is gone by then, told or not.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(30);

pub(super) type Stream = Guarded<TlsStream<TcpStream>>;

/// What a handshake needs and leads to.
pub(super) struct Welcome {
    pub(super) acceptor: TlsAcceptor,
    pub(super) door: Arc<Door>,
    pub(super) ready: mpsc::Sender<io::Result<Stream>>,
    pub(super) hard_stop: CancellationToken,
}

impl Welcome {
    /// Accepts until stopped. A peer never delays another: handshakes run beside each other and end in time.
    ///
    /// # Errors
    /// When the listener itself is broken.
    pub(super) async fn accept(
        self: Arc<Self>,
        admission: &Admission,
        listener: TcpListener,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let accepting = admission.accept(&listener, stop, |stream, slot| {
            let welcome = Arc::clone(&self);
            tokio::spawn(async move {
                let result = welcome.shake(stream, slot).await;
                metrics::counter!("medmesh_link_handshakes_total", "result" => result).increment(1);
            });
        });
        accepting.await
    }

    /// One handshake, ended in time, or sooner when others need the place.
    async fn shake(&self, stream: TcpStream, slot: Slot) -> &'static str {
        let shaken = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream));
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = slot.displaced() => return "displaced",
        };
        let guarded = match shaken {
            Err(_) => return "timeout",
            Ok(Err(error)) => {
                tls::count_refused("link", &error);
                Err(error)
            }
            Ok(Ok(stream)) => self.guard(stream, slot),
        };
        match guarded {
            Ok(stream) => {
                // Serving may have ended meanwhile: then the connection is dropped, which is right.
                let _ = self.ready.send(Ok(stream)).await;
                "ok"
            }
            Err(error) => {
                tracing::debug!(%error, "handshake refused");
                "refused"
            }
        }
    }

    fn guard(&self, stream: TlsStream<TcpStream>, slot: Slot) -> io::Result<Stream> {
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|cert| Peer::from_cert(cert).ok())
            .ok_or(io::ErrorKind::PermissionDenied)?;
        let place = peer_place(&peer.identity);
        let has_business = place.and_then(|from| route(from, &self.door.here)).is_ok();
        if has_business {
            slot.known_as(&peer.identity.to_uri());
        } else {
            slot.shaken();
        }
        let called = CancellationToken::new();
        let silent = silence(called.clone(), has_business);
        let (cut, hard_stop) = (self.door.tls.cut(&peer), self.hard_stop.clone());
        let ended = async move {
            tokio::select! {
                cut = cut => cut,
                () = hard_stop.cancelled_owned() => Cut::Stopped,
                () = slot.displaced() => Cut::Displaced,
                () = silent => Cut::Silent,
            }
        };
        let guarded = Guarded::new(stream, peer, ended, self.door.tap.as_ref())?;
        Ok(guarded.telling(called))
    }
}

/// Resolves when a peer has not begun a call in time, or has been here long enough to be told that it may not.
async fn silence(called: CancellationToken, has_business: bool) {
    if !has_business {
        return sleep(TURNED_AWAY_WITHIN).await;
    }
    if timeout(CALL_TIMEOUT, called.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}
