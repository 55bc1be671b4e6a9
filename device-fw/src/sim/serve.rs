//! The wires: Modbus TCP connections and RTU buses over a pseudo terminal, around [`Station::reply`].
use super::{
    SimError,
    station::{Reply, Station},
};
use crate::frame::{MAX_PDU, MAX_RTU, MAX_TCP, MBAP, Mbap, open_rtu, rtu_request_len, seal_rtu};
use std::{fs, io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_serial::{SerialPort, SerialStream};
use tokio_util::sync::CancellationToken;

/// Masters connected at once to one device, as on real ones. One more is closed at once.
const MAX_CONNECTIONS: usize = 8;
/// Silence that ends an RTU frame whose length cannot be known. 3.5 characters at 9600 baud are 4 ms.
const SILENCE: Duration = Duration::from_millis(20);
/// How long to wait while nobody has the other end of the pty open.
const NOBODY: Duration = Duration::from_millis(20);

/// Serves Modbus TCP until `stop`.
pub(super) async fn tcp(listener: TcpListener, station: Arc<Station>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            continue;
        };
        let (station, stop) = (station.clone(), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = stop.cancelled() => {}
                // A broken or malformed connection is closed; the master connects again.
                _ = connection(stream, &station) => {}
            }
        });
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
pub(super) struct Pty(SerialStream);

impl Pty {
    /// Opens a pair and puts a symbolic link to the master's end at `link`, replacing what an earlier run left there.
    pub(super) fn open(link: &Path) -> Result<Self, SimError> {
        let failed = |error: io::Error| SimError::io(format!("pty {}", link.display()))(error);
        let (ours, theirs) = SerialStream::pair().map_err(|error| failed(error.into()))?;
        let name = theirs
            .name()
            .ok_or_else(|| failed(io::Error::other("the pty has no name")))?;
        let new = link.with_extension("new");
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(name, &new).map_err(failed)?;
        fs::rename(&new, link).map_err(failed)?;
        // Their end is closed here: held open, it would keep the exclusive mark of a master that was killed.
        Ok(Self(ours))
    }
}

/// Serves the devices of one RTU bus until `stop`. A unit that is not there does not answer.
pub(super) async fn rtu(mut pty: Pty, stations: Vec<Arc<Station>>, stop: CancellationToken) {
    let (mut buffer, mut used) = ([0; MAX_RTU], 0);
    loop {
        let read = tokio::select! {
            () = stop.cancelled() => return,
            read = tokio::time::timeout(SILENCE, pty.0.read(&mut buffer[used..])) => read,
        };
        match read {
            Err(_) => used = 0,
            Ok(Err(_) | Ok(0)) => {
                used = 0;
                tokio::time::sleep(NOBODY).await;
            }
            Ok(Ok(count)) => {
                used += count;
                let Ok(Some(len)) = rtu_request_len(&buffer[..used]) else {
                    continue;
                };
                if used < len {
                    continue;
                }
                let answered = serve_frame(&mut pty.0, &buffer[..len.min(used)], &stations).await;
                used = 0;
                if answered.is_err() {
                    tokio::time::sleep(NOBODY).await;
                }
            }
        }
    }
}

async fn serve_frame(
    line: &mut SerialStream,
    frame: &[u8],
    stations: &[Arc<Station>],
) -> io::Result<()> {
    let Ok((unit, pdu)) = open_rtu(frame) else {
        return Ok(());
    };
    let Some(station) = stations.iter().find(|station| station.unit == unit) else {
        return Ok(());
    };
    let (mut out, mut sealed) = ([0; MAX_PDU], [0; MAX_RTU]);
    let Reply::After(delay, len) = station.reply(pdu, &mut out) else {
        return Ok(());
    };
    tokio::time::sleep(delay).await;
    let Some(len) = seal_rtu(unit, &out[..len], &mut sealed) else {
        return Ok(());
    };
    line.write_all(&sealed[..len]).await
}
