//! The mesh's certificate authority: invitations, certificates, rotation and revocation, kept in one directory.
//!
//! A holder is invited with a one-time code, sends the code and a request, and gets a certificate for the identity
//! of the invitation. Each step is one SQLite transaction, so a kill at any point leaves it done or not done, and
//! two processes may work on the directory at once. Key pairs are drawn from the operating system's random source
//! by the cryptographic library; every other random byte, and the time, is an argument.
//!
//! Not here: what a certificate allows (`tls`, `link`), and transport of codes and requests (`medmesh pki`).
mod attest;
mod cert;
mod error;
mod files;
mod keys;
pub mod renewal;
mod request;
mod state;

pub use attest::{Attestation, nonce};
pub use error::{PkiError, Reason, UnknownReason};
pub use keys::{
    ClientKey, load_signing_key, new_client_key, note_authority, publish_signing_key, signing_key,
};
pub use request::{MAX_REQUEST_BYTES, NewKey, new_key_and_csr, new_key_in, rotation_proof, tpm_of};
pub use state::{Issued, Revoked};

use crate::{
    identity::{Identity, IdentityError, Peer, Serial},
    tpm::quote::Measured,
};
use attest::Challenger;
use rand::CryptoRng;
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use state::{Invitation, State};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use types::{Place, Secret, Timestamp};

/// Validity of the authority's own certificate, in days.
pub const CA_DAYS: i32 = 3_650;
/// Validity of a node's certificate, in days: short, since a holder replaces its own (`rotate`), and `medmesh up` does.
pub const NODE_DAYS: i32 = 90;
/// Validity of a device's certificate, in days: devices are serviced once a year.
pub const DEVICE_DAYS: i32 = 365;
/// Until when a revocation list must be replaced, in days after its issue.
pub const CRL_DAYS: i32 = 30;
/// How far certificates and lists are dated back, in ms: clocks of a mesh differ by less.
pub const BACKDATE_MS: i64 = 5 * 60_000;
/// The longest time for which an invitation may be open.
pub const MAX_INVITATION: Duration = Duration::from_secs(30 * 86_400);
/// DNS name that every node's certificate carries and every client of a node asks for. Which node it is says the
/// URI; a name of its own would tell the network in the clear who calls whom.
pub const NODE_DNS: &str = "node.medmesh.internal";
/// Host names of a node that is reached on its own machine.
pub const LOCAL_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Random bytes of an invitation code: guessing it is out of reach, so its plain SHA-256 may be stored.
const CODE_BYTES: usize = 16;

/// The authority's certificate, in its directory.
pub(crate) const CA_FILE: &str = "ca.pem";
/// The authority's private key, in its directory.
const KEY_FILE: &str = "ca.key";
/// The current revocation list, in its directory.
const CRL_FILE: &str = "crl.pem";
/// Invitations and certificates, in its directory.
const STATE_FILE: &str = "ca.db";

/// A certificate authority in a directory.
pub struct Ca {
    dir: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    challenger: Challenger,
    state: State,
}

/// What a holder shows to be certified.
pub struct Shown<'a> {
    /// The one-time code.
    pub code: &'a Secret<String>,
    /// The request (PEM).
    pub csr_pem: &'a str,
    /// What its machine has booted, where that is asked.
    pub attestation: Option<&'a Attestation>,
}

impl Ca {
    /// Makes an authority: key, certificate, state and an empty revocation list. A directory in which this was
    /// interrupted is completed.
    ///
    /// # Errors
    /// When the directory cannot be written, or holds an authority already.
    pub fn init(dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        files::private_dir(dir)?;
        let is_free = || match dir.join(CA_FILE).exists() {
            true => Err(PkiError::Exists { path: dir.into() }),
            false => Ok(()),
        };
        // Asked before too: a state that is lost is not made anew beside an authority that is there.
        is_free()?;
        let state = State::open(&dir.join(STATE_FILE))?;
        state.exclusively(|_| {
            is_free()?;
            let key_file = dir.join(KEY_FILE);
            if !key_file.exists() {
                let pem = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?.serialize_pem();
                files::create(&key_file, pem.as_bytes(), files::PRIVATE)?;
            }
            let pair = KeyPair::from_pem(files::read_private(&key_file)?.reveal())?;
            let pem = cert::authority(&pair, now)?;
            files::replace_for_all(&dir.join(CA_FILE), pem.as_bytes())
        })?;
        let ca = Self::open(dir)?;
        ca.crl_pem(now)?;
        Ok(ca)
    }

    /// Opens the authority in a directory.
    ///
    /// # Errors
    /// When there is none, or a part of it is lost or another's; when its key is open to others than its owner, or its state
    /// is of a newer version.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let pem = files::read(&dir.join(CA_FILE))?;
        let pair = KeyPair::from_pem(files::read_private(&dir.join(KEY_FILE))?.reveal())?;
        if !cert::is_of(&pem, &pair) {
            return Err(PkiError::NotTogether { dir: dir.into() });
        }
        Ok(Self {
            challenger: Challenger::new(&pair.serialize_der()),
            issuer: Issuer::from_ca_cert_pem(&pem, pair)?,
            state: State::reopen(&dir.join(STATE_FILE))?,
            dir: dir.into(),
            pem,
        })
    }

    /// PEM of the authority's certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// File with the authority's certificate.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.dir.join(CA_FILE)
    }

    /// File with the current revocation list.
    #[must_use]
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join(CRL_FILE)
    }

    /// Revokes every certificate of a place that holds now, at a facility those of its devices too, and issues a new list;
    /// codes that wait for them are good no longer. Says which certificates it was.
    ///
    /// # Errors
    /// When nothing of the place was ever certified and nothing of it is invited; when the state cannot be changed, or the
    /// list cannot be written.
    pub fn revoke_place(
        &self,
        place: &Place,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Vec<Issued>, PkiError> {
        let revoked = self.state.exclusively(|tx| {
            let open = tx.expire_invitations(now, |identity| identity.is_of(place))?;
            let mut revoked = tx.certificates()?;
            revoked.retain(|it| it.identity.is_of(place));
            if open == 0 && revoked.is_empty() {
                return Err(PkiError::NothingOf(place.to_string()));
            }
            revoked.retain(|it| it.revoked.is_none() && it.not_after >= now);
            for issued in &revoked {
                tx.revoke(&issued.serial, &Revoked { at: now, reason })?;
            }
            Ok(revoked)
        })?;
        self.crl_pem(now).map(|_| revoked)
    }

    /// Invites a holder: the code is returned once and only its hash is kept. `names` are the DNS names and IP
    /// addresses under which a node is reached ([`LOCAL_NAMES`] on one machine); devices have none.
    ///
    /// # Errors
    /// When `ttl` is zero or above [`MAX_INVITATION`], or a host name cannot be in a certificate.
    pub fn invite(
        &self,
        identity: &Identity,
        names: &[&str],
        ttl: Duration,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Secret<String>, PkiError> {
        self.invite_measured(identity, names, ttl, None, now, rng)
    }

    /// As [`Ca::invite`]; with `measured`, a holder whose machine has to show that it has booted the same.
    ///
    /// # Errors
    /// As [`Ca::invite`].
    pub fn invite_measured(
        &self,
        identity: &Identity,
        names: &[&str],
        ttl: Duration,
        measured: Option<Measured>,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Secret<String>, PkiError> {
        if ttl.is_zero() || ttl > MAX_INVITATION {
            return Err(PkiError::InvitationTime);
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        cert::check_names(&names)?;
        let mut code = [0; CODE_BYTES];
        rng.fill_bytes(&mut code);
        let code = Secret::new(hex::encode(code));
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        self.state.exclusively(|tx| {
            tx.add_invitation(&Invitation {
                code_hash: code_hash(&code),
                identity: identity.clone(),
                names,
                expires: now.plus_ms(ttl_ms),
                used: false,
                measured,
            })
        })?;
        Ok(code)
    }

    /// Certifies the holder of a code for the identity of its invitation, once.
    ///
    /// # Errors
    /// When the code is unknown, used or expired, or the request does not prove possession of its keys, or names
    /// another identity. A refused request does not use up the code.
    pub fn enrol(
        &self,
        code: &Secret<String>,
        csr_pem: &str,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<String, PkiError> {
        let shown = Shown {
            code,
            csr_pem,
            attestation: None,
        };
        self.enrol_if(&shown, now, rng, (|_| true, |_| true))
    }

    /// As [`Ca::enrol`], where others ask than whoever has the authority: for the holders that `may` tells alone, and
    /// once `noted` has written down what is issued.
    ///
    /// # Errors
    /// As [`Ca::enrol`]; [`PkiError::NotHere`] for another holder, [`PkiError::NotNoted`] when it was not written down;
    /// [`PkiError::ToBeAttested`] with a challenge for a holder that showed nothing of its machine and must. The code stays
    /// good.
    pub fn enrol_if(
        &self,
        shown: &Shown<'_>,
        now: Timestamp,
        rng: &mut impl CryptoRng,
        (may, noted): (impl Fn(&Identity) -> bool, impl FnOnce(&Issued) -> bool),
    ) -> Result<String, PkiError> {
        let hash = code_hash(shown.code);
        let serial = cert::new_serial(rng);
        self.state.exclusively(|tx| {
            let invitation = tx.invitation(&hash)?.ok_or(PkiError::CodeUnknown)?;
            if invitation.used {
                return Err(PkiError::CodeUsed);
            }
            if invitation.expires <= now {
                return Err(PkiError::CodeExpired {
                    at: invitation.expires,
                });
            }
            if !may(&invitation.identity) {
                return Err(PkiError::NotHere);
            }
            let request = request::open(shown.csr_pem, &invitation.identity)?;
            self.attested(&invitation, shown, now)?;
            let issued = cert::issue(
                &self.issuer,
                request,
                serial,
                invitation.identity,
                invitation.names,
                now,
            )?;
            tx.add_certificate(&issued)?;
            tx.use_invitation(&hash, &issued.serial)?;
            if !noted(&issued) {
                return Err(PkiError::NotNoted);
            }
            Ok(issued.pem)
        })
    }

    /// Certifies a holder for whom somebody else answers who may, by the certificate of this number, once `noted` has
    /// written down what is issued.
    ///
    /// # Errors
    /// When the certificate of whoever answers is not ours, revoked or not valid now, or the request is refused;
    /// [`PkiError::NotNoted`] when it was not written down: nothing was issued.
    pub fn certify_if(
        &self,
        (by, identity): (&Serial, &Identity),
        csr_pem: &str,
        now: Timestamp,
        rng: &mut impl CryptoRng,
        noted: impl FnOnce(&Issued) -> bool,
    ) -> Result<String, PkiError> {
        let serial = cert::new_serial(rng);
        self.state.exclusively(|tx| {
            // An open connection outlasts its certificate for a while.
            tx.holding(by, now, |_| true)?;
            let request = request::open(csr_pem, identity)?;
            let holder = identity.clone();
            let issued = cert::issue(&self.issuer, request, serial, holder, Vec::new(), now)?;
            tx.add_certificate(&issued)?;
            if !noted(&issued) {
                return Err(PkiError::NotNoted);
            }
            Ok(issued.pem)
        })
    }

    /// Whether the machine is the one that was invited, where that is asked.
    fn attested(
        &self,
        invitation: &Invitation,
        shown: &Shown<'_>,
        now: Timestamp,
    ) -> Result<(), PkiError> {
        let Some(measured) = &invitation.measured else {
            return Ok(());
        };
        let hash = &invitation.code_hash;
        let Some(attestation) = shown.attestation else {
            return Err(PkiError::ToBeAttested {
                challenge: self.challenger.give(hash, now),
                pcrs: measured.pcrs(),
            });
        };
        let asked = (hash, shown.csr_pem);
        self.challenger.check(measured, attestation, asked, now)
    }

    /// Certifies a new key for the holder of a current certificate, with the same identity and host names. `proof` is
    /// [`rotation_proof`]: certificates are public, so having one proves nothing. The current certificate stays
    /// valid until its end, so that nothing breaks while the new one spreads.
    ///
    /// # Errors
    /// When the current certificate is not ours, revoked or not valid now, or the request is refused.
    pub fn rotate(
        &self,
        current_cert_pem: &str,
        csr_pem: &str,
        proof: &[u8],
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<String, PkiError> {
        self.rotate_if((current_cert_pem, csr_pem, proof), now, rng, |_, _| true)
    }

    /// As [`Ca::rotate`] of a certificate, a request and a proof, where others ask than whoever has the authority: once
    /// `noted` has written down what is issued in the place of which certificate.
    ///
    /// # Errors
    /// As [`Ca::rotate`]; [`PkiError::NotNoted`] when it was not written down: nothing was issued.
    pub fn rotate_if(
        &self,
        (current_cert_pem, csr_pem, proof): (&str, &str, &[u8]),
        now: Timestamp,
        rng: &mut impl CryptoRng,
        noted: impl FnOnce(&Serial, &Issued) -> bool,
    ) -> Result<String, PkiError> {
        let der = CertificateDer::from_pem_slice(current_cert_pem.as_bytes())
            .map_err(|_| IdentityError::NotACertificate)?;
        let peer = Peer::from_cert(&der)?;
        let serial = cert::new_serial(rng);
        self.state.exclusively(|tx| {
            let is_it = |current: &Issued| cert::same(&current.pem, &der);
            let current = tx.holding(&peer.serial, now, is_it)?;
            if !cert::holder_signed(&der, csr_pem, proof)? {
                return Err(PkiError::NotTheHolder(peer.serial));
            }
            let request = request::open(csr_pem, &current.identity)?;
            let issued = cert::issue(
                &self.issuer,
                request,
                serial,
                current.identity,
                current.names,
                now,
            )?;
            tx.add_certificate(&issued)?;
            if !noted(&current.serial, &issued) {
                return Err(PkiError::NotNoted);
            }
            Ok(issued.pem)
        })
    }

    /// Revokes a certificate and issues a new revocation list. A certificate that is revoked stays as it is.
    ///
    /// # Errors
    /// When this authority did not issue the certificate, or the list cannot be written.
    pub fn revoke(&self, serial: &Serial, reason: Reason, now: Timestamp) -> Result<(), PkiError> {
        self.state.exclusively(|tx| {
            if tx.certificate(serial)?.is_none() {
                return Err(PkiError::NotIssued(serial.clone()));
            }
            tx.revoke(serial, &Revoked { at: now, reason })
        })?;
        self.crl_pem(now).map(|_| ())
    }

    /// Issues the revocation list anew and writes it to [`Ca::crl_path`] in one step.
    ///
    /// # Errors
    /// When the state cannot be read or the file not be written.
    pub fn crl_pem(&self, now: Timestamp) -> Result<String, PkiError> {
        self.state.exclusively(|tx| {
            let number = tx.next_crl_number()?;
            let pem = cert::revocation_list(&self.issuer, number, &tx.certificates()?, now)?;
            files::replace_for_all(&self.crl_path(), pem.as_bytes())?;
            Ok(pem)
        })
    }

    /// Issues the revocation list anew when half of its time is over; says whether it did.
    ///
    /// # Errors
    /// As [`Ca::crl_pem`].
    pub fn renew_list(&self, now: Timestamp) -> Result<bool, PkiError> {
        let end = files::read(&self.crl_path())
            .ok()
            .and_then(|pem| cert::list_end(&pem));
        let holds = end.is_some_and(|end| now.plus_days(CRL_DAYS / 2) < end);
        if !holds {
            self.crl_pem(now)?;
        }
        Ok(!holds)
    }

    /// Every certificate that was issued, in the order of issue.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn list(&self) -> Result<Vec<Issued>, PkiError> {
        self.state.exclusively(|tx| tx.certificates())
    }
}

/// Whether the authority in a directory gave this code to anybody, used or not. Reads alone: who asks often keeps nobody
/// from signing.
///
/// # Errors
/// When the state cannot be read.
pub fn is_code(dir: &Path, code: &Secret<String>) -> Result<bool, PkiError> {
    state::is_invitation(&dir.join(STATE_FILE), &code_hash(code))
}

/// The list that the authority in a directory writes.
pub(crate) fn crl_file(dir: &Path) -> PathBuf {
    dir.join(CRL_FILE)
}

/// How an invitation is known where its code is not: the code's SHA-256.
#[must_use]
pub fn code_hash(code: &Secret<String>) -> [u8; 32] {
    Sha256::digest(code.reveal().trim().as_bytes()).into()
}

/// Writes a PEM file of a key (`mode` 0600) or certificate as a whole, durable when this returns.
///
/// # Errors
/// When the directory cannot be written; the former file stays.
pub fn write_private(path: &Path, pem: &Secret<String>) -> Result<(), PkiError> {
    files::replace(path, pem.reveal().as_bytes(), files::PRIVATE)
}

/// Writes a PEM file of a certificate or public key as a whole, durable when this returns.
///
/// # Errors
/// When the directory cannot be written; the former file stays.
pub fn write_public(path: &Path, pem: &str) -> Result<(), PkiError> {
    files::replace(path, pem.as_bytes(), files::PUBLIC)
}

#[cfg(test)]
mod tests;
