//! The wires: Modbus TCP connections and RTU buses over a pseudo terminal, around [`Station::reply`].
use super::{
    SimError,
    station::{Reply, Station},
};
use crate::frame::{MAX_PDU, MAX_RTU, MAX_TCP, MBAP, Mbap, open_rtu, rtu_request_len, seal_rtu};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_serial::{SerialPort, SerialStream};
use tokio_util::sync::CancellationToken;

/// Masters connected at once to one device, as on real ones. One more takes the place of the one that has been there
/// longest (Modbus Messaging on TCP/IP 1.0b §4.2.1), so that idle connections never shut a master out.
const MAX_CONNECTIONS: usize = 8;
/// Silence that ends an RTU frame whose length cannot be known. 3.5 characters at 9600 baud are 4 ms.
const SILENCE: Duration = Duration::from_millis(20);
/// How long to wait while nobody has the other end of the pty open.
const NOBODY: Duration = Duration::from_millis(20);
/// A master that has had the pty open and is away for so long is not just opening it again.
const GONE: Duration = Duration::from_millis(200);
/// How often a pty is asked for bytes: a byte at 9600 baud takes 1 ms.
const ASK: Duration = Duration::from_millis(2);

/// Serves Modbus TCP until `stop`. Its connections end with it, however it ends: a connection that outlived the device
/// would go on answering for it, and its master would never look for the device that took its place.
pub(super) async fn tcp(listener: TcpListener, station: Arc<Station>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut by_age = VecDeque::<AbortHandle>::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        by_age.retain(|connection| !connection.is_finished());
        if by_age.len() >= MAX_CONNECTIONS
            && let Some(oldest) = by_age.pop_front()
        {
            oldest.abort();
        }
        let station = station.clone();
        // A broken or malformed connection is closed; the master connects again.
        by_age.push_back(connections.spawn(async move { connection(stream, &station).await }));
    }
}

async fn connection(mut stream: TcpStream, station: &Station) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut pdu) = ([0; MBAP], [0; MAX_PDU]);
    let (mut out, mut frame) = ([0; MAX_PDU], [0; MAX_TCP]);
    loop {
        stream.read_exact(&mut head).await?;
        let request = Mbap::parse(&head).map_err(io::Error::other)?;
        let pdu = &mut pdu[..request.pdu_len];
        stream.read_exact(pdu).await?;
        let Reply::After(delay, len) = station.reply(pdu, &mut out) else {
            continue;
        };
        tokio::time::sleep(delay).await;
        frame[..MBAP].copy_from_slice(
            &Mbap {
                pdu_len: len,
                ..request
            }
            .encode(),
        );
        frame[MBAP..MBAP + len].copy_from_slice(&out[..len]);
        stream.write_all(&frame[..MBAP + len]).await?;
    }
}

/// The device's end of a pseudo terminal; the other end is a symbolic link.
pub(super) struct Pty {
    line: SerialStream,
    link: PathBuf,
}

impl Pty {
    /// Opens a pair and puts a symbolic link to the master's end at `link`, replacing what an earlier run left there.
    pub(super) fn open(link: &Path) -> Result<Self, SimError> {
        let failed = |error: io::Error| SimError::io(format!("pty {}", link.display()))(error);
        let (line, theirs) = SerialStream::pair().map_err(|error| failed(error.into()))?;
        let name = theirs
            .name()
            .ok_or_else(|| failed(io::Error::other("the pty has no name")))?;
        let new = link.with_extension("new");
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(name, &new).map_err(failed)?;
        fs::rename(&new, link).map_err(failed)?;
        Ok(Self {
            line,
            link: link.to_owned(),
        })
    }

    /// Some bytes. The line is asked by time and not by the reactor: once the other end was closed, even before its
    /// first use, the reactor calls it readable for ever, and waiting for it would spin.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.line.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(ASK).await;
                }
                read => return read,
            }
        }
    }

    /// Writes a frame. Where nobody reads it is lost, as on a wire.
    fn write(&mut self, frame: &[u8]) {
        let _ = self.line.try_write(frame);
    }
}

/// Serves the devices of one RTU bus until `stop`. A unit that is not there does not answer.
pub(super) async fn rtu(mut pty: Pty, stations: Vec<Arc<Station>>, stop: CancellationToken) {
    let (mut buffer, mut used) = ([0; MAX_RTU], 0);
    let (mut spoken, mut nobody) = (false, Duration::ZERO);
    loop {
        let read = tokio::select! {
            () = stop.cancelled() => return,
            read = tokio::time::timeout(SILENCE, pty.read(&mut buffer[used..])) => read,
        };
        match read {
            Err(_) => used = 0,
            Ok(Err(_) | Ok(0)) => {
                used = 0;
                tokio::time::sleep(NOBODY).await;
                nobody += NOBODY;
                if spoken && nobody >= GONE {
                    // A master that was killed leaves its exclusive mark on the old pair.
                    match Pty::open(&pty.link) {
                        Ok(new) => (pty, spoken) = (new, false),
                        Err(error) => tracing::warn!(%error, "the bus stays as it is"),
                    }
                }
            }
            Ok(Ok(count)) => {
                (spoken, nobody) = (true, Duration::ZERO);
                used += count;
                let Ok(Some(len)) = rtu_request_len(&buffer[..used]) else {
                    continue;
                };
                if used >= len {
                    serve_frame(&mut pty, &buffer[..len], &stations).await;
                    used = 0;
                }
            }
        }
    }
}

async fn serve_frame(pty: &mut Pty, frame: &[u8], stations: &[Arc<Station>]) {
    let Ok((unit, pdu)) = open_rtu(frame) else {
        return;
    };
    let Some(station) = stations.iter().find(|station| station.unit == unit) else {
        return;
    };
    let (mut out, mut sealed) = ([0; MAX_PDU], [0; MAX_RTU]);
    let Reply::After(delay, len) = station.reply(pdu, &mut out) else {
        return;
    };
    tokio::time::sleep(delay).await;
    if let Some(len) = seal_rtu(unit, &out[..len], &mut sealed) {
        pty.write(&sealed[..len]);
    }
}
