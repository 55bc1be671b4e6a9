//! The life of one connection: let in, served, said goodbye to, and what remains of it: the will, and the session until
//! it expires.
use super::{
    Context,
    admission::{self, Admitted, Client, Refusal, Will},
    connection::Connection,
    encode::{self, Announced},
    end::End,
    meters,
    patience::Patience,
    seats::Held,
};
use bytes::BytesMut;
use node::admission::Slot;
use std::{
    sync::Arc,
    time::{Duration, Instant as Now},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::server::TlsStream;

/// Room for what is read at once: two TLS records (RFC 8446 §5.1: 16 KiB each).
const READ_CHUNK: usize = 32 << 10;

type Reader = ReadHalf<TlsStream<TcpStream>>;
type Writer = WriteHalf<TlsStream<TcpStream>>;

/// Serves one accepted socket from the handshake to the end of the session.
pub(super) async fn serve(ctx: Arc<Context>, tcp: TcpStream, slot: Slot) {
    let Some(admitted) = let_in(&ctx, tcp, &slot).await else {
        return;
    };
    let Admitted {
        mut stream,
        input,
        mut client,
    } = admitted;
    let Ok(permit) = ctx.connections.clone().try_acquire_owned() else {
        return turn_away(&ctx, &mut stream, &client).await;
    };
    let claim = ctx
        .seats
        .claim(&client.device, client.clean, ctx.limits.takeover_timeout);
    let claimed = tokio::select! {
        claimed = claim => claimed,
        // A newer connection of the device claims the seat too: this one would only be asked to leave it.
        () = slot.displaced() => None,
    };
    let Some(mut held) = claimed else {
        return turn_away(&ctx, &mut stream, &client).await;
    };
    // Who is seated is one of the device's, and counted there.
    drop(slot);
    ctx.meters.connections.increment(1.0);
    ctx.present.lock().insert(client.device.clone());
    if client.clean || !held.session.kept || held.session.is_lost() {
        held.session.end(&ctx.hub, &client.device);
    }
    let (reader, writer) = tokio::io::split(stream);
    let end = converse(&ctx, &client, &mut held, (reader, writer), input).await;
    ctx.meters.connections.decrement(1.0);
    ctx.present.lock().remove(&client.device);
    meters::ended(end.name());
    drop(permit);
    outlive(&ctx, &mut client, held, end).await;
}

async fn let_in(ctx: &Context, tcp: TcpStream, slot: &Slot) -> Option<Admitted> {
    let admitted = admission::admit(ctx, tcp, slot);
    tokio::select! {
        () = ctx.stop.cancelled() => None,
        () = slot.displaced() => {
            meters::refused("displaced");
            None
        }
        admitted = tokio::time::timeout(ctx.limits.connect_timeout, admitted) => {
            admitted.unwrap_or_else(|_| {
                meters::refused("timeout");
                None
            })
        }
    }
}

/// Refuses a client that was let in, and for whom there is no room.
async fn turn_away(ctx: &Context, stream: &mut TlsStream<TcpStream>, client: &Client) {
    let words = admission::refuse(stream, client.version, client.packet_bytes, Refusal::BUSY);
    farewell(ctx, words).await;
}

/// Last words, bounded in time: the peer may not listen.
async fn farewell(ctx: &Context, words: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(ctx.limits.farewell_timeout, words).await;
}

/// CONNACK, then the conversation, then DISCONNECT.
async fn converse(
    ctx: &Context,
    client: &Client,
    held: &mut Held,
    (reader, mut writer): (Reader, Writer),
    input: BytesMut,
) -> End {
    // Who showed a token has no certificate that could end or be revoked.
    let cut = async {
        match &client.peer {
            Some(peer) => {
                let _ = ctx.tls.cut(peer).await;
            }
            None => std::future::pending().await,
        }
    };
    let Held {
        ref mut session,
        ref mut claims,
    } = *held;
    let present = session.kept;
    session.kept = !client.expiry.is_zero();
    session.outbound.resume();
    let mut connection = Connection::new(ctx, client, session, input);
    let limits = Announced {
        expiry: client.lowered,
        receive_maximum: ctx.limits.receive_maximum,
        packet_bytes: u32::try_from(ctx.limits.packet_bytes).unwrap_or(u32::MAX),
    };
    encode::accepted(client.version, present, limits, &mut connection.out);
    let outside = async {
        tokio::select! {
            () = ctx.stop.cancelled() => End::Stopping,
            claim = claims.claimed() => End::TakenOver(claim),
            () = cut => End::Cut,
        }
    };
    let end = tokio::select! {
        end = outside => end,
        end = talk(&mut connection, reader, &mut writer) => end,
    };
    let bounded = tokio::time::timeout(ctx.limits.drain_timeout, connection.drain()).await;
    if bounded.is_err() {
        tracing::warn!("a connection ended before its last publishes were stored");
    }
    if let Some(reason) = end.reason() {
        encode::disconnect(client.version, reason, &mut connection.out);
    }
    let out = connection.out.split();
    farewell(ctx, async move {
        // The peer may be gone; what it did not get it will ask for again.
        let _ = writer.write_all(&out).await;
        let _ = writer.shutdown().await;
    })
    .await;
    end
}

enum Event {
    Settled(Vec<super::commit::Settled>),
    Read(std::io::Result<usize>),
    Written(std::io::Result<usize>),
    Mail,
    Deadline,
}

/// Reads, commits, answers and writes until one side ends it.
async fn talk(connection: &mut Connection<'_>, mut reader: Reader, writer: &mut Writer) -> End {
    let (limits, silence) = (&connection.ctx.limits, connection.client.silence);
    let mut patience = Patience::new(limits, silence, Instant::now());
    let mut unflushed = false;
    loop {
        let packets = connection.packets;
        let reacted = connection.react().await;
        if let Err(end) = reacted.and_then(|()| connection.deliver(Now::now())) {
            return end;
        }
        connection.begin_commit();
        let readable = connection.has_room();
        let writable = !connection.out.is_empty() || unflushed;
        let (whole, left) = (connection.packets != packets, connection.input.len());
        patience.look((whole, left), (readable, writable), Instant::now());
        let deadline = patience.deadline();
        let mailbox = connection.session.mailbox.clone();
        let (committing, input, out) = connection.parts();
        if readable {
            input.reserve(READ_CHUNK);
        }
        let event = tokio::select! {
            biased;
            settled = Connection::committed(committing) => Event::Settled(settled),
            result = write(writer, out), if writable => Event::Written(result),
            result = reader.read_buf(input), if readable => Event::Read(result),
            () = async { match &mailbox {
                Some(mailbox) => mailbox.arrived.notified().await,
                None => std::future::pending().await,
            } } => Event::Mail,
            () = tokio::time::sleep_until(deadline) => Event::Deadline,
        };
        match event {
            Event::Settled(settled) => {
                if let Err(end) = connection.settle(settled) {
                    return end;
                }
            }
            Event::Written(Ok(bytes)) => {
                // Zero: flushed.
                unflushed = bytes > 0;
                patience.wrote(bytes, Instant::now());
            }
            Event::Read(Ok(bytes)) if bytes > 0 => {}
            Event::Read(_) | Event::Written(Err(_)) => return End::Gone,
            Event::Mail => {}
            Event::Deadline => {
                if let Some(end) = patience.end(Instant::now()) {
                    return end;
                }
            }
        }
    }
}

/// Writes some of `out`, or flushes when there is nothing left. Losing the race in `select!` loses no byte.
async fn write(writer: &mut Writer, out: &mut BytesMut) -> std::io::Result<usize> {
    if out.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write_buf(out).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        bytes => Ok(bytes),
    }
}

/// What remains after the connection: the will, now or after its delay, and the session until it expires.
async fn outlive(ctx: &Context, client: &mut Client, mut held: Held, end: End) {
    let mut expiry = client.expiry;
    let mut will = client.will.take();
    match end {
        End::Left {
            with_will,
            expiry: asked,
        } => {
            will = will.filter(|_| with_will);
            // A session that was to end with the connection was not prolonged: `Connection::left`.
            if let Some(seconds) = asked {
                expiry = Duration::from_secs(u64::from(seconds)).min(ctx.limits.session_expiry);
            }
        }
        End::Lost => expiry = Duration::ZERO,
        _ => {}
    }
    if let Some(will) = will {
        let delay = will.delay.min(expiry);
        if wait(ctx, &mut held, delay, end).await == Waited::Resumed && !delay.is_zero() {
            // MQTT 5 §3.1.3.2.2: the device came back in time.
            return;
        }
        expiry -= delay;
        publish_will(ctx, client, will).await;
    }
    if expiry.is_zero() || wait(ctx, &mut held, expiry, end).await != Waited::Resumed {
        held.session.end(&ctx.hub, &client.device);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// The time is over.
    Elapsed,
    /// The device came back to its session.
    Resumed,
    /// The device came back and begins a new session, or the broker stops.
    Over,
}

async fn wait(ctx: &Context, held: &mut Held, span: Duration, end: End) -> Waited {
    let claim = match end {
        End::Stopping => return Waited::Over,
        End::TakenOver(claim) => claim,
        _ => tokio::select! {
            () = tokio::time::sleep(span) => return Waited::Elapsed,
            () = ctx.stop.cancelled() => return Waited::Over,
            claim = held.claims.claimed() => claim,
        },
    };
    if claim.clean {
        Waited::Over
    } else {
        Waited::Resumed
    }
}

/// Durable first when it is to be retained, then to the subscribers. Its lifetime begins now.
async fn publish_will(ctx: &Context, client: &Client, will: Will) {
    let Will {
        mut message,
        expiry,
        ..
    } = will;
    let now = Now::now();
    message.lapses = expiry.and_then(|expiry| now.checked_add(expiry));
    if message.retain
        && let Err(error) = ctx.backend.retain(message.kept(now)).await
    {
        tracing::error!(%error, "a will was not stored");
        return;
    }
    ctx.hub.publish(&client.device, &message);
}
