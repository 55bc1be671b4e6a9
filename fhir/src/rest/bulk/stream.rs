//! The body of an answer that is a file: piece by piece, packed on the way where that is asked for.
use axum::body::{Body, Bytes};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;
use std::{
    fs::File,
    io::{self, Read, Write},
};

/// Bytes that are read of the file at once.
const PIECE: u64 = 64 << 10;

struct Reading {
    file: File,
    left: u64,
    packer: Option<GzEncoder<Vec<u8>>>,
}

/// So many bytes of a file from its beginning. A file that is shorter breaks the answer off.
pub fn body(file: File, bytes: u64, zipped: bool) -> Body {
    let packer = zipped.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    let reading = Reading {
        file,
        left: bytes,
        packer,
    };
    Body::from_stream(stream::try_unfold(Some(reading), |reading| async move {
        let Some(reading) = reading else {
            return Ok(None);
        };
        let piece = tokio::task::spawn_blocking(move || reading.piece());
        piece.await.map_err(io::Error::other)?
    }))
}

impl Reading {
    /// The next piece that is not empty, and what is left; nothing at the end.
    fn piece(mut self) -> io::Result<Option<(Bytes, Option<Self>)>> {
        while self.left > 0 {
            let mut piece = Vec::new();
            let most = self.left.min(PIECE);
            let read = (&mut self.file).take(most).read_to_end(&mut piece)?;
            let read = u64::try_from(read).unwrap_or(0);
            if read < most {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.left -= read;
            if let Some(packer) = &mut self.packer {
                packer.write_all(&piece)?;
                piece = std::mem::take(packer.get_mut());
            }
            if !piece.is_empty() {
                return Ok(Some((piece.into(), Some(self))));
            }
        }
        match self.packer {
            None => Ok(None),
            Some(packer) => Ok(Some((packer.finish()?.into(), None))),
        }
    }
}
