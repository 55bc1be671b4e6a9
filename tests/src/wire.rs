//! A wire of TCP that a test cuts: what is connected stays so, nothing passes, and whoever connects meanwhile hears nothing, as
//! where a network drops every packet. Nothing is lost: once it is mended, what was sent comes, and what was closed is closed.
use anyhow::Result;
use std::net::TcpListener as Bound;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Bytes that are taken from one end and not yet given to the other.
const BUFFER_BYTES: usize = 16 << 10;

/// Leads from a port of its own to another one, both of 127.0.0.1, until this process ends.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    passes: watch::Sender<bool>,
}

impl Wire {
    /// To a port, whoever listens there now or later. Within a runtime.
    ///
    /// # Errors
    /// The system gives no port.
    pub fn to(port: u16) -> Result<Self> {
        let bound = Bound::bind(("127.0.0.1", 0))?;
        bound.set_nonblocking(true)?;
        let (own, passes) = (bound.local_addr()?.port(), watch::Sender::new(true));
        let (listener, passing) = (TcpListener::from_std(bound)?, passes.subscribe());
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carried(from, port, passing.clone()));
            }
        });
        Ok(Self { port: own, passes })
    }

    /// Where it is connected to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Nothing passes any more, either way.
    pub fn cut(&self) {
        self.passes.send_replace(false);
    }

    /// Everything passes again.
    pub fn mend(&self) {
        self.passes.send_replace(true);
    }
}

async fn carried(from: TcpStream, port: u16, mut passing: watch::Receiver<bool>) {
    if passing.wait_for(|passes| *passes).await.is_err() {
        return;
    }
    // Nobody there: the connection is closed.
    let Ok(to) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _best_effort = (from.set_nodelay(true), to.set_nodelay(true));
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    let up = pump(from_read, to_write, passing.clone());
    let down = pump(to_read, from_write, passing);
    tokio::join!(up, down);
}

/// One direction, to its end.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passing: watch::Receiver<bool>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if passing.wait_for(|passes| *passes).await.is_err() {
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ended = to.shutdown().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn nothing_passes_a_wire_that_is_cut_and_all_of_it_once_it_is_mended() -> Result<()> {
        let server = TcpListener::bind(("127.0.0.1", 0)).await?;
        let wire = Wire::to(server.local_addr()?.port())?;
        let mut client = TcpStream::connect(("127.0.0.1", wire.port())).await?;
        let (mut end, _) = server.accept().await?;
        client.write_all(b"a").await?;
        assert_eq!(end.read_u8().await?, b'a');
        wire.cut();
        client.write_all(b"b").await?;
        let mut late = TcpStream::connect(("127.0.0.1", wire.port())).await?;
        late.write_all(b"c").await?;
        drop(client);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let hearing = tokio::spawn(async move {
            let mut rest = Vec::new();
            end.read_to_end(&mut rest).await?;
            hears.lock().unwrap().extend(rest);
            anyhow::Ok(())
        });
        // A wire beside it passes meanwhile: so would this one.
        let other = Wire::to(server.local_addr()?.port())?;
        let mut beside = TcpStream::connect(("127.0.0.1", other.port())).await?;
        beside.write_all(b"d").await?;
        let (mut end, _) = server.accept().await?;
        assert_eq!(end.read_u8().await?, b'd');
        assert!(heard.lock().unwrap().is_empty());
        wire.mend();
        hearing.await??;
        assert_eq!(*heard.lock().unwrap(), b"b");
        let (mut end, _) = server.accept().await?;
        assert_eq!(end.read_u8().await?, b'c');
        Ok(())
    }
}
