//! A TLS stream of the link: it ends when its peer's certificate is revoked or past its end or its place was taken, and
//! tests may read along.
use super::LinkError;
use crate::{identity::Peer, tls::Cut};
use rustls::AlertDescription;
use std::{
    fs::{self, File, OpenOptions},
    future::Future,
    io::{self, Write},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Writes the clear text of every connection to files, so that a test can search it for what must not be there.
///
/// Each connection has two files, `{pid}-{n}.read` and `{pid}-{n}.written`, with the bytes that TLS protects: HTTP/2
/// frames whose data is not compressed.
#[derive(Clone, Debug)]
pub struct Tap {
    dir: PathBuf,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Tap {
    /// A tap that writes below `dir`.
    ///
    /// # Errors
    /// Always outside a local mesh; otherwise when the directory cannot be made.
    pub fn new(dir: PathBuf, local_mesh: bool) -> Result<Self, LinkError> {
        if !local_mesh {
            return Err(LinkError::TapRefused);
        }
        fs::create_dir_all(&dir).map_err(LinkError::Listen)?;
        Ok(Self { dir })
    }

    /// The directory that a test asks for by this variable; refused outside a local mesh.
    pub const VARIABLE: &str = "MEDMESH_DANGEROUS_LINK_TAP";

    /// The tap that [`Tap::VARIABLE`] asks for; none when it is not set.
    ///
    /// # Errors
    /// As [`Tap::new`].
    pub fn from_env(local_mesh: bool) -> Result<Option<Self>, LinkError> {
        let dir = std::env::var_os(Self::VARIABLE);
        dir.map(|dir| Self::new(dir.into(), local_mesh)).transpose()
    }

    fn open(&self) -> io::Result<TapFiles> {
        let n = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{n}", std::process::id());
        let file = |kind: &str| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.dir.join(format!("{name}.{kind}")))
        };
        Ok(TapFiles {
            read: file("read")?,
            written: file("written")?,
        })
    }
}

struct TapFiles {
    read: File,
    written: File,
}

/// Who is at the other end of a connection, for the service that answers it.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) peer: Arc<Peer>,
    /// Cancelled when the peer has begun a call.
    pub(super) called: CancellationToken,
}

type BoxedCut = Pin<Box<dyn Future<Output = Cut> + Send>>;

/// A stream with its peer.
pub(super) struct Guarded<S> {
    stream: S,
    caller: Caller,
    cut: BoxedCut,
    ended: bool,
    tap: Option<TapFiles>,
}

impl<S> Guarded<S> {
    /// Guards a stream until `cut` resolves.
    pub(super) fn new(
        stream: S,
        peer: Peer,
        cut: impl Future<Output = Cut> + Send + 'static,
        tap: Option<&Tap>,
    ) -> io::Result<Self> {
        Ok(Self {
            stream,
            caller: Caller {
                peer: Arc::new(peer),
                called: CancellationToken::new(),
            },
            cut: Box::pin(cut),
            ended: false,
            tap: tap.map(Tap::open).transpose()?,
        })
    }

    /// Tells `called` when the peer has begun a call.
    pub(super) fn telling(mut self, called: CancellationToken) -> Self {
        self.caller.called = called;
        self
    }

    /// Registers for the cut; an error once it came.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.ended {
            let Poll::Ready(why) = self.cut.as_mut().poll(cx) else {
                return Ok(());
            };
            self.ended = true;
            let identity = &self.caller.peer.identity;
            let why = match why {
                Cut::Revoked => "revoked",
                Cut::Expired => "expired",
                Cut::Stopped => "stopped",
                Cut::Displaced => "displaced",
                Cut::Silent => "silent",
            };
            metrics::counter!("medmesh_link_cuts_total", "reason" => why).increment(1);
            tracing::warn!(peer = %identity, reason = why, "connection cut");
        }
        Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the peer's certificate is revoked or past its end, its place was taken, or this node stops",
        ))
    }
}

/// What the peer says of TLS, where it ended it. That it does not take this node's certificate comes after the handshake (RFC
/// 8446 §4.4.2.4), as an error of the first read; whoever asked learns only that there is no connection.
fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && let Some(alert) = alert(error)
        {
            let peer = &self.caller.peer.identity;
            tracing::warn!(%peer, ?alert, "the peer refuses this node's certificate, or ended TLS");
        }
        if let (Poll::Ready(Ok(())), Some(tap)) = (&read, &mut self.tap) {
            tap.read
                .write_all(buf.filled().get(before..).unwrap_or_default())?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            self.check(cx)?;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let (Poll::Ready(Ok(n)), Some(tap)) = (&written, &mut self.tap) {
            tap.written.write_all(buf.get(..*n).unwrap_or(buf))?;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connected for Guarded<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_says_of_tls_is_found_in_the_error_of_a_read() {
        let of = |error: rustls::Error| alert(&io::Error::new(io::ErrorKind::InvalidData, error));
        let revoked = AlertDescription::CertificateRevoked;
        assert_eq!(of(rustls::Error::AlertReceived(revoked)), Some(revoked));
        assert_eq!(of(rustls::Error::DecryptError), None);
        assert_eq!(alert(&io::ErrorKind::ConnectionReset.into()), None);
        assert_eq!(alert(&io::Error::other("closed")), None);
    }
}
