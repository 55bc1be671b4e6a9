//! Links at the node that waits: their bytes go to the node that writes, and back. TLS is between the facility and that node,
//! whose certificate is this one's too; nothing is read here. So whoever connects is unknown here for as long as the other
//! node has not judged it: within that time a flood of strangers displaces others of the same age, and nothing older.
use node::admission::{Admission, Limits, Slot};
use std::{future::pending, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once. Each holds two sockets and two buffers ([`BUFFER_BYTES`]).
const LIMITS: Limits = Limits {
    handshakes: 512,
    unknown: 4_096,
    health: 1,
    known: 1,
    per_identity: 1,
    unread_bytes: usize::MAX,
};
/// Bytes that are on their way in one direction.
const BUFFER_BYTES: usize = 16 << 10;
/// A node that cannot be connected to by then is away.
const DIALLED: Duration = Duration::from_secs(1);
/// The node that writes has sent strangers away by then ([`federation::link`] takes 35 s for the last of them).
const JUDGED: Duration = Duration::from_secs(40);
/// Both ends of a link are heard every 10 s, since each probes the other one.
const SILENT: Duration = Duration::from_secs(60);
/// What one end has closed the other one has closed by then too.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// Carries what comes to a listener to the other node, while that one is known to be the one that writes, until the stop,
/// which ends what is under way. Two nodes that both wait would carry one connection round and round.
///
/// # Errors
/// When the listener breaks.
pub(super) async fn relay(
    listener: TcpListener,
    other: (String, u16),
    it_writes: impl Fn() -> bool + Send + Sync,
    stop: CancellationToken,
) -> io::Result<()> {
    let admission = Admission::new("relay", &LIMITS);
    let connections = TaskTracker::new();
    let accepted = admission.accept(&listener, &stop, |stream, slot| {
        if !it_writes() {
            // Whoever dialled finds its connection closed, and tries the other address.
            return;
        }
        let (other, stop) = (other.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                () = carried(stream, &other) => {}
                () = judged(&slot) => {}
                () = slot.displaced() => {}
                () = stop.cancelled() => {}
            }
        });
    });
    let accepted = accepted.await;
    connections.close();
    connections.wait().await;
    accepted
}

/// Moves a connection that lasts to a place of its own; never ends.
async fn judged(slot: &Slot) {
    sleep(JUDGED).await;
    slot.shaken();
    pending().await
}

/// One connection to its end.
async fn carried(from: TcpStream, (host, port): &(String, u16)) {
    let dialled = timeout(DIALLED, TcpStream::connect((host.as_str(), *port))).await;
    let Ok(Ok(to)) = dialled else {
        // Whoever dialled finds its connection closed, and tries the other address.
        return;
    };
    let _best_effort = to.set_nodelay(true);
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    let (up, down) = (pump(from_read, to_write), pump(to_read, from_write));
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => if ended.is_ok() {
            let _ended = timeout(HALF_OPEN, down).await;
        },
        ended = &mut down => if ended.is_ok() {
            let _ended = timeout(HALF_OPEN, up).await;
        },
    }
}

/// One direction, until its sender closes it.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = timeout(SILENT, from.read(&mut buffer)).await??;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        timeout(SILENT, to.write_all(bytes)).await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinHandle;

    struct Relayed {
        at: std::net::SocketAddr,
        holder: TcpListener,
        stop: CancellationToken,
        running: JoinHandle<io::Result<()>>,
    }

    async fn relayed() -> Relayed {
        while_it_writes(true).await
    }

    async fn while_it_writes(it_writes: bool) -> Relayed {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (listener, holder) = (bind().await.unwrap(), bind().await.unwrap());
        let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let port = holder.local_addr().unwrap().port();
        let running = relay(
            listener,
            ("127.0.0.1".into(), port),
            move || it_writes,
            stop.clone(),
        );
        Relayed {
            at,
            holder,
            stop,
            running: tokio::spawn(running),
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_end_that_closes_hears_the_rest_of_the_other() {
        let relayed = relayed().await;
        let mut client = TcpStream::connect(relayed.at).await.unwrap();
        let (mut holder, _) = relayed.holder.accept().await.unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let text = sent.clone();
        let sending = tokio::spawn(async move {
            client.write_all(&text).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut came = Vec::new();
        holder.read_to_end(&mut came).await.unwrap();
        assert!(came == sent, "{} bytes", came.len());
        holder.write_all(b"answer").await.unwrap();
        drop(holder);
        assert_eq!(sending.await.unwrap(), b"answer");
    }

    #[tokio::test]
    async fn when_the_lease_moves_every_link_ends_at_once_and_nothing_more_is_carried() {
        let relayed = relayed().await;
        let mut client = TcpStream::connect(relayed.at).await.unwrap();
        let (mut holder, _) = relayed.holder.accept().await.unwrap();
        relayed.stop.cancel();
        relayed.running.await.unwrap().unwrap();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).await.unwrap_or(0), 0);
        assert_eq!(holder.read_to_end(&mut rest).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn nothing_is_carried_to_a_node_that_is_not_known_to_write() {
        let relayed = while_it_writes(false).await;
        let mut client = TcpStream::connect(relayed.at).await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).await.unwrap_or(0), 0);
        let holder = relayed.holder.into_std().unwrap();
        let came = holder.accept().map(drop).unwrap_err();
        assert_eq!(came.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_link_to_a_node_that_is_away_is_closed() {
        let relayed = relayed().await;
        drop(relayed.holder);
        let mut client = TcpStream::connect(relayed.at).await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).await.unwrap_or(0), 0);
    }
}
