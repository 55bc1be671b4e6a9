//! The TPM 2.0 of this machine, as far as a node needs one: what the machine has booted is quoted, and a node's TLS key
//! signs, by keys that never leave the TPM.
//!
//! The commands are few, and are written out here (TCG TPM 2.0 Library, revision 1.59, Part 3), over the kernel's resource
//! manager (`/dev/tpmrm0`) or the socket of a simulator. The attestation key is a primary key of the endorsement hierarchy
//! by a fixed template (Part 1 §27.6): a TPM makes the same one each time, so that nothing of it is kept anywhere. TLS keys
//! ([`TpmKey`]) are primary keys too, each told from the others by a number that its template holds.
//!
//! Not here: what a quote is worth ([`quote`]). That the TPM is a maker's and no program is not shown by a certificate of
//! its endorsement key: whoever has a kit made read the key on the machine itself (`medmesh edge measure`).
mod key;
pub mod quote;
pub(crate) mod wire;

pub use key::TpmKey;
use quote::{Measured, Pcrs, Quote};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};
use wire::{Reader, Writer};

/// Where the kernel offers a TPM to those who share it.
pub const DEVICE: &str = "/dev/tpmrm0";
/// For how long a simulator may think. The kernel bounds a device itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes (Part 2, `TPM2_MAX_RESPONSE_SIZE`).
const MAX_ANSWER_BYTES: usize = 4_096;
/// Tag, size and code of every command and answer, in bytes.
const HEADER_BYTES: usize = 10;

/// `TPM_ST_NO_SESSIONS` and `TPM_ST_SESSIONS` (Part 2 §6.9).
const PLAIN: u16 = 0x8001;
const AUTHORIZED: u16 = 0x8002;
/// `TPM_RS_PW`: an authorization by a password, here the empty one (Part 2 §7.4).
const BY_PASSWORD: u32 = 0x4000_0009;
/// `TPM_RH_OWNER`: the hierarchy whose seed changes when the TPM is cleared (Part 2 §7.4).
const OWNER: u32 = 0x4000_0001;
/// `TPM_RH_NULL`.
const NOBODY: u32 = 0x4000_0007;
/// `TPM_ST_HASHCHECK`: what is signed was digested elsewhere (Part 2 §10.6.5).
const NOT_CHECKED: u16 = 0x8024;
/// `TPM_RH_ENDORSEMENT`: the hierarchy whose seed outlives an owner (Part 2 §7.4).
const ENDORSEMENT: u32 = 0x4000_000b;

/// What is asked of a TPM (Part 2 §6.5.2).
#[derive(Clone, Copy, Debug)]
enum Command {
    CreatePrimary = 0x131,
    Quote = 0x158,
    Sign = 0x15d,
    FlushContext = 0x165,
}

/// Why a TPM did not do it.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// There is none, or it does not answer.
    #[error("{path}: {source}")]
    Io {
        /// Its device or socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It refused.
    #[error("{path}: the TPM refuses {command}: response code 0x{code:x}")]
    Refused {
        /// Its device or socket.
        path: PathBuf,
        /// What was asked.
        command: &'static str,
        /// `TPM_RC` (Part 2 §6.6).
        code: u32,
    },
    /// Nothing was measured into a register.
    #[error(
        "{path}: register {register} holds what it held at its reset: nothing is measured into it, and whatever the machine boots would show the same; leave it out"
    )]
    NotMeasured {
        /// The TPM.
        path: PathBuf,
        /// The register.
        register: u8,
    },
    /// What it says is no answer to the command.
    #[error("{path}: answers as no TPM 2.0 does")]
    NotUnderstood {
        /// Its device or socket.
        path: PathBuf,
    },
}

impl Command {
    const fn name(self) -> &'static str {
        match self {
            Self::CreatePrimary => "TPM2_CreatePrimary",
            Self::Quote => "TPM2_Quote",
            Self::Sign => "TPM2_Sign",
            Self::FlushContext => "TPM2_FlushContext",
        }
    }
}

/// A TPM that is held open.
pub struct Tpm {
    path: PathBuf,
    channel: Channel,
}

/// `r` and `s`.
type Signature = [[u8; wire::WORD_BYTES]; 2];

enum Channel {
    Device(File),
    Socket(UnixStream),
}

impl Tpm {
    /// Opens a device, or the Unix socket of a simulator.
    ///
    /// # Errors
    /// When there is none, or this user may not use it.
    pub fn open(path: &Path) -> Result<Self, TpmError> {
        let open = || -> io::Result<Channel> {
            let kind = fs::metadata(path)?.file_type();
            if kind.is_socket() {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                return Ok(Channel::Socket(socket));
            }
            // A command that is written to a file would be written over what is in it.
            if !kind.is_char_device() {
                return Err(io::Error::other("is no TPM: neither a device nor a socket"));
            }
            let device = OpenOptions::new().read(true).write(true).open(path)?;
            Ok(Channel::Device(device))
        };
        let path = path.to_owned();
        match open() {
            Ok(channel) => Ok(Self { path, channel }),
            Err(source) => Err(TpmError::Io { path, source }),
        }
    }

    /// What the machine has booted, and the key by which it will say so again.
    ///
    /// # Errors
    /// [`TpmError`], also where a register says nothing.
    pub fn measure(&mut self, pcrs: &Pcrs) -> Result<Measured, TpmError> {
        for (register, alone) in pcrs.each() {
            if self.measured(&alone)?.is_as_reset(register) {
                let path = self.path.clone();
                return Err(TpmError::NotMeasured { path, register });
            }
        }
        self.measured(pcrs)
    }

    fn measured(&mut self, pcrs: &Pcrs) -> Result<Measured, TpmError> {
        let quote = self.quote(pcrs, &[0; 32])?;
        Measured::of(&quote, pcrs).ok_or_else(|| self.not_understood())
    }

    /// Has the attestation key sign what the registers hold, with a nonce of whoever asks.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn quote(&mut self, pcrs: &Pcrs, nonce: &[u8; 32]) -> Result<Quote, TpmError> {
        let (handle, key) = self.primary(ENDORSEMENT, &quote::public_area(&[], &[]))?;
        let quoted = self.quote_by(handle, pcrs, nonce);
        let flushed = self.flush(handle);
        let (quoted, signature) = quoted?;
        flushed?;
        Ok(Quote {
            key,
            quoted,
            signature: signature.concat(),
        })
    }

    /// Makes the key of a template (Part 3 §24.1): its handle, and its public area.
    fn primary(&mut self, hierarchy: u32, template: &[u8]) -> Result<(u32, Vec<u8>), TpmError> {
        let mut body = Writer::default();
        // inSensitive: no password and no data.
        body.sized(&[0; 4]);
        body.sized(template);
        // outsideInfo, creationPCR: none.
        body.sized(&[]);
        body.u32(0);
        let answer = self.ask(Command::CreatePrimary, Some(hierarchy), body.as_bytes())?;
        let mut read = Reader::new(&answer);
        let parsed = (|| {
            let handle = read.u32()?;
            let _parameters = read.u32()?;
            Some((handle, read.sized()?.to_vec()))
        })();
        parsed.ok_or_else(|| self.not_understood())
    }

    /// Part 3 §18.4. The attestation, and its signature as `r` and `s`.
    fn quote_by(
        &mut self,
        handle: u32,
        pcrs: &Pcrs,
        nonce: &[u8; 32],
    ) -> Result<(Vec<u8>, Signature), TpmError> {
        let mut body = Writer::default();
        body.sized(nonce);
        // inScheme: the key's own.
        body.u16(wire::NULL);
        body.bytes(&pcrs.selection());
        let answer = self.ask(Command::Quote, Some(handle), body.as_bytes())?;
        let mut read = Reader::new(&answer);
        let parsed = (|| {
            let _parameters = read.u32()?;
            Some((read.sized()?.to_vec(), signature(&mut read)?))
        })();
        parsed.ok_or_else(|| self.not_understood())
    }

    /// Part 3 §20.2. The signature of a digest of SHA-256, as `r` and `s`.
    fn sign(&mut self, handle: u32, digest: &[u8; 32]) -> Result<Signature, TpmError> {
        let mut body = Writer::default();
        body.sized(digest);
        // inScheme: the key's own.
        body.u16(wire::NULL);
        body.u16(NOT_CHECKED);
        body.u32(NOBODY);
        body.sized(&[]);
        let answer = self.ask(Command::Sign, Some(handle), body.as_bytes())?;
        let mut read = Reader::new(&answer);
        let parsed = (|| {
            let _parameters = read.u32()?;
            signature(&mut read)
        })();
        parsed.ok_or_else(|| self.not_understood())
    }

    /// Part 3 §28.4.
    fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        let mut body = Writer::default();
        body.u32(handle);
        self.ask(Command::FlushContext, None, body.as_bytes())
            .map(drop)
    }

    /// Sends a command and hears what comes behind the head of its answer. With a handle, it is authorized by the empty
    /// password (Part 1 §19.4).
    fn ask(
        &mut self,
        command: Command,
        handle: Option<u32>,
        body: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let mut rest = Writer::default();
        if let Some(handle) = handle {
            rest.u32(handle);
            let mut session = Writer::default();
            session.u32(BY_PASSWORD);
            session.sized(&[]);
            session.u8(0);
            session.sized(&[]);
            rest.u32(wire::length(session.as_bytes()));
            rest.bytes(session.as_bytes());
        }
        rest.bytes(body);
        let mut whole = Writer::default();
        whole.u16(handle.map_or(PLAIN, |_| AUTHORIZED));
        whole.u32(wire::length(rest.as_bytes()) + HEADER_BYTES as u32);
        whole.u32(command as u32);
        whole.bytes(rest.as_bytes());
        let answer = self.exchange(whole.as_bytes());
        let answer = answer.map_err(|source| TpmError::Io {
            path: self.path.clone(),
            source,
        })?;
        let mut read = Reader::new(&answer);
        let head = (|| Some((read.u16()?, read.u32()?, read.u32()?)))();
        match head {
            Some((_, size, 0)) if size as usize == answer.len() => Ok(read.rest().to_vec()),
            Some((_, size, code)) if size as usize == answer.len() => Err(TpmError::Refused {
                path: self.path.clone(),
                command: command.name(),
                code,
            }),
            _ => Err(self.not_understood()),
        }
    }

    /// A device takes a command by one write and gives the answer by one read; a socket may give it in pieces.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut answer = Vec::with_capacity(MAX_ANSWER_BYTES);
        let mut piece = [0; MAX_ANSWER_BYTES];
        self.channel.write_all(command)?;
        loop {
            let read = self.channel.read(&mut piece)?;
            if read == 0 || answer.len() + read > MAX_ANSWER_BYTES {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(piece.get(..read).unwrap_or_default());
            let size = answer.get(2..6).map(|size| Reader::new(size).u32());
            if size
                .flatten()
                .is_some_and(|size| answer.len() >= size as usize)
            {
                return Ok(answer);
            }
        }
    }

    /// Whether others use it at the same time: the kernel's resource manager sees to that.
    const fn is_shared(&self) -> bool {
        matches!(self.channel, Channel::Device(_))
    }

    fn not_understood(&self) -> TpmError {
        TpmError::NotUnderstood {
            path: self.path.clone(),
        }
    }
}

/// `TPMT_SIGNATURE` of ECDSA with SHA-256 (Part 2 §11.3.4), as `r` and `s`.
fn signature(read: &mut Reader<'_>) -> Option<Signature> {
    let scheme = (read.u16()?, read.u16()?);
    let (r, s) = (wire::word(read.sized()?)?, wire::word(read.sized()?)?);
    (scheme == (wire::ECDSA, wire::SHA256)).then_some([r, s])
}

impl Read for Channel {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Device(device) => device.read(to),
            Self::Socket(socket) => socket.read(to),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Device(device) => device.write(from),
            Self::Socket(socket) => socket.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
