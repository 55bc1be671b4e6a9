//! Encryption of a stream under a passphrase: AES-256-GCM in chunks, so that a backup of any size is read and written
//! with little memory, and neither changed, reordered nor cut short unseen (the STREAM construction of Hoang, Reyhanitabar,
//! Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015, §7).
//!
//! The key is PBKDF2-HMAC-SHA-256 of the passphrase and a salt (NIST SP 800-132). Each chunk's nonce is a random prefix,
//! the chunk's number, and whether it is the last one; the head of the file is authenticated with each.
use anyhow::{Context, Result, bail};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    pbkdf2,
};
use std::{
    fs,
    io::{self, Read, Write},
    num::NonZeroU32,
    path::Path,
};
use types::Secret;

/// The first bytes of a backup.
const MAGIC: &[u8; 16] = b"medmesh backup 1";
/// Bytes of a salt.
const SALT: usize = 16;
/// Random bytes at the beginning of every nonce.
const PREFIX: usize = 7;
/// The head of a file: magic, salt, nonce prefix.
const HEAD: usize = MAGIC.len() + SALT + PREFIX;
/// Bytes of a chunk in the clear.
const CHUNK: usize = 64 << 10;
/// Bytes of a tag.
const TAG: usize = 16;
/// Rounds of the key derivation: what OWASP's Password Storage Cheat Sheet asks for of PBKDF2-HMAC-SHA-256.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// Characters of the shortest passphrase.
pub const LEAST_CHARACTERS: usize = 12;

/// A passphrase; shown to nobody.
pub struct Passphrase {
    secret: Secret<String>,
    rounds: NonZeroU32,
}

impl Passphrase {
    /// Reads one from a file that its owner alone may read; white space around it does not count.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path) -> Result<Self> {
        if let Some(problem) = node::config::secret_file("--passphrase-file", path) {
            bail!("{problem}");
        }
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let text = Secret::new(text);
        let text = text.reveal().trim();
        if text.chars().count() < LEAST_CHARACTERS {
            bail!(
                "{}: a passphrase has at least {LEAST_CHARACTERS} characters",
                path.display()
            );
        }
        Ok(Self {
            secret: Secret::new(text.to_owned()),
            rounds: ROUNDS,
        })
    }

    fn key(&self, salt: &[u8]) -> io::Result<LessSafeKey> {
        let mut key = [0; 32];
        let (hmac, rounds) = (pbkdf2::PBKDF2_HMAC_SHA256, self.rounds);
        let secret = self.secret.reveal().as_bytes();
        pbkdf2::derive(hmac, rounds, salt, secret, &mut key);
        let key = Secret::new(key);
        let unbound = UnboundKey::new(&AES_256_GCM, key.reveal());
        unbound
            .map(LessSafeKey::new)
            .map_err(|_| io::Error::other("the cipher takes no key"))
    }
}

/// Chunks in order.
struct Chunks {
    key: LessSafeKey,
    head: [u8; HEAD],
    number: u32,
}

impl Chunks {
    fn new(passphrase: &Passphrase, head: [u8; HEAD]) -> io::Result<Self> {
        let salt = &head[MAGIC.len()..MAGIC.len() + SALT];
        Ok(Self {
            key: passphrase.key(salt)?,
            head,
            number: 0,
        })
    }

    /// The nonce of the next chunk.
    fn nonce(&mut self, last: bool) -> io::Result<Nonce> {
        let mut nonce = [0; 12];
        nonce[..PREFIX].copy_from_slice(&self.head[HEAD - PREFIX..]);
        nonce[PREFIX..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(last);
        let next = self.number.checked_add(1);
        self.number = next.ok_or_else(|| io::Error::other("a backup has at most 256 TiB"))?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> io::Result<()> {
        let (nonce, head) = (self.nonce(last)?, Aad::from(self.head));
        let sealed = self.key.seal_in_place_append_tag(nonce, head, chunk);
        sealed.map_err(|_| io::Error::other("the cipher failed"))
    }

    fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> io::Result<()> {
        let (nonce, head) = (self.nonce(last)?, Aad::from(self.head));
        let opened = self
            .key
            .open_in_place(nonce, head, chunk)
            .map(|clear| clear.len());
        let clear = opened.map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "it is of another passphrase, or was changed or cut short",
            )
        })?;
        chunk.truncate(clear);
        Ok(())
    }
}

/// Writes a sealed stream. What was not [finished](Sealer::finish) is refused when it is read.
pub struct Sealer<W> {
    out: W,
    chunks: Chunks,
    clear: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    /// Begins a stream; `fresh` is random.
    ///
    /// # Errors
    /// When nothing can be written.
    pub fn new(mut out: W, passphrase: &Passphrase, fresh: [u8; 23]) -> io::Result<Self> {
        let mut head = [0; HEAD];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()..].copy_from_slice(&fresh);
        out.write_all(&head)?;
        Ok(Self {
            out,
            chunks: Chunks::new(passphrase, head)?,
            clear: Vec::with_capacity(CHUNK + TAG),
        })
    }

    /// Writes the last chunk, and gives back what was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.chunks.seal(&mut self.clear, true)?;
        self.out.write_all(&self.clear)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for the byte behind it: the last one is sealed as the last.
        if self.clear.len() == CHUNK && !bytes.is_empty() {
            // Taken out first: whoever goes on after a failure, as an archive does that is dropped, finds room.
            let mut full = std::mem::take(&mut self.clear);
            self.chunks.seal(&mut full, false)?;
            self.out.write_all(&full)?;
            full.clear();
            self.clear = full;
        }
        let taken = bytes.len().min(CHUNK - self.clear.len());
        self.clear.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a sealed stream: nothing of a chunk before it was found authentic, and no end but the true one.
pub struct Opener<R> {
    from: R,
    chunks: Chunks,
    /// A sealed chunk that was read ahead, to know whether the one before it is the last.
    ahead: Vec<u8>,
    clear: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Opener<R> {
    /// Reads the head of a stream.
    ///
    /// # Errors
    /// When it is no backup.
    pub fn new(mut from: R, passphrase: &Passphrase) -> io::Result<Self> {
        let mut head = [0; HEAD];
        let read = from.read_exact(&mut head);
        if read.is_err() || &head[..MAGIC.len()] != MAGIC {
            let says = "it is no backup of medmesh, or one of a newer version";
            return Err(io::Error::new(io::ErrorKind::InvalidData, says));
        }
        let ahead = sealed(&mut from)?;
        Ok(Self {
            from,
            chunks: Chunks::new(passphrase, head)?,
            ahead,
            clear: Vec::new(),
            at: 0,
            ended: false,
        })
    }
}

/// The next sealed chunk; empty at the end of the file.
fn sealed(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK + TAG);
    from.take((CHUNK + TAG) as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.clear.len() && !self.ended {
            self.clear = std::mem::take(&mut self.ahead);
            self.ahead = sealed(&mut self.from)?;
            self.ended = self.ahead.is_empty();
            self.chunks.open(&mut self.clear, self.ended)?;
            self.at = 0;
        }
        let left = &self.clear[self.at..];
        let taken = left.len().min(into.len());
        into[..taken].copy_from_slice(&left[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(text: &str) -> Passphrase {
        // Few rounds: what is tested is the stream.
        Passphrase {
            secret: Secret::new(text.to_owned()),
            rounds: NonZeroU32::MIN,
        }
    }

    fn seal(clear: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), &phrase("one"), [7; 23]).unwrap();
        sealer.write_all(clear).unwrap();
        sealer.finish().unwrap()
    }

    fn open(sealed: &[u8], with: &str) -> io::Result<Vec<u8>> {
        let mut clear = Vec::new();
        Opener::new(sealed, &phrase(with))?.read_to_end(&mut clear)?;
        Ok(clear)
    }

    #[test]
    fn what_was_sealed_opens_again_at_every_length_around_a_chunk() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let clear: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let sealed = seal(&clear);
            assert!(open(&sealed, "one").unwrap() == clear, "{length}");
            assert!(length < 64 || !sealed.windows(64).any(|part| part == &clear[..64]));
        }
    }

    #[test]
    fn what_is_changed_cut_exchanged_or_of_another_passphrase_is_refused() {
        let sealed = seal(&vec![5; 2 * CHUNK + 9]);
        assert!(open(&sealed, "two").is_err());
        let whole = CHUNK + TAG;
        for cut in [
            sealed.len() - 1,
            HEAD + 2 * whole,
            HEAD + whole,
            HEAD,
            HEAD - 1,
            0,
        ] {
            assert!(open(&sealed[..cut], "one").is_err(), "cut at {cut}");
        }
        for at in [0, 20, HEAD - 1, HEAD, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, "one").is_err(), "changed at {at}");
        }
        let mut exchanged = sealed.clone();
        let (first, second) = exchanged[HEAD..].split_at_mut(whole);
        first.swap_with_slice(&mut second[..whole]);
        assert!(open(&exchanged, "one").is_err(), "exchanged");
        assert!(
            open(&[&sealed[..], b"more"].concat(), "one").is_err(),
            "more"
        );
    }

    /// A disk with room for so many bytes.
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.checked_sub(bytes.len());
            self.0 = room.ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_whatever_is_written_after_it() {
        let mut sealer = Sealer::new(Disk(CHUNK), &phrase("one"), [7; 23]).unwrap();
        let full = sealer.write_all(&vec![5; 2 * CHUNK]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        // What an archive writes when it is dropped.
        assert_eq!(sealer.write(&[0; 1_024]).unwrap(), 1_024);
    }

    #[test]
    fn a_passphrase_that_is_short_or_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (text, mode, good) in [
            ("twelve chars\n", 0o600, true),
            ("eleven char\n", 0o600, false),
            ("twelve chars\n", 0o640, false),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Passphrase::read(&path).is_ok(), good, "{text:?} {mode:o}");
        }
        assert!(Passphrase::read(&dir.path().join("absent")).is_err());
    }
}
