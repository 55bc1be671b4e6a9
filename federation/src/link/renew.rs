//! A node's next certificate, over the link: before the one ends with which it came, it draws a new key and asks the
//! authority beside the tier above. Connections that are open stay; those that follow use the new pair.
//!
//! The authority signs for whoever proves the key of a certificate that it issued itself ([`crate::pki::Ca::rotate_if`]);
//! what is answered is put in place only if it is this node's, of this mesh, for the new key. A facility that was offline
//! until its certificate ended joins anew, with a kit.
use super::{HANDSHAKE_TIMEOUT, LinkError, uplink::connect, uplink::within};
use crate::{
    identity::{Identity, Peer, Serial},
    pki::{self, MAX_REQUEST_BYTES, PkiError, renewal},
    tls::{ReloadingTls, TimeSource},
    wire::{DeviceRequest, Renewal, Renewed, mesh_client::MeshClient},
};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, transport::Channel};
use types::{DeviceId, Place, Secret, Timestamp};

/// A certificate is renewed once this part of its life is left: of 90 days 30, in which every try may fail but one.
const LEFT_PART: i64 = 3;
/// How often a node looks whether that time has come, and tries again when it failed.
pub const LOOK: Duration = Duration::from_secs(3_600);

/// The authority beside a node, for nodes that have business there.
#[async_trait]
pub trait Renews: Send + Sync + 'static {
    /// The next certificate of the node at a place (PEM).
    ///
    /// # Errors
    /// Why there is none.
    async fn renew(&self, who: &Place, asked: Renewal) -> Result<String, NotRenewed>;

    /// The certificate of a device of the facility at a place (PEM), which asks by its own certificate of this number.
    ///
    /// # Errors
    /// Why there is none.
    async fn certify(
        &self,
        who: (&Place, &Serial),
        asked: DeviceRequest,
    ) -> Result<String, NotRenewed>;
}

/// Why a node gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum NotRenewed {
    /// The authority's word.
    #[error("{0}")]
    Refused(String),
    /// It got one a moment ago.
    #[error("a certificate was given a moment ago: ask again in a minute")]
    Later,
    /// Its devices got as many as they may within a week.
    #[error(
        "the facility's devices were given {0} certificates within a week: no more until it is over"
    )]
    Enough(u32),
    /// Something failed there.
    #[error("the authority cannot sign now")]
    Failed,
}

impl From<NotRenewed> for Status {
    fn from(error: NotRenewed) -> Self {
        let code = match &error {
            NotRenewed::Refused(_) => Code::FailedPrecondition,
            NotRenewed::Later | NotRenewed::Enough(_) => Code::ResourceExhausted,
            NotRenewed::Failed => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// Why a node goes on with the certificate that it has.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The tier above was not reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Own files could not be read or written, or are none.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The tier above said no.
    #[error("{code}: {says}")]
    Refused {
        /// Its gRPC code.
        code: Code,
        /// Its reason.
        says: String,
    },
    /// The answer is not the certificate that was asked for. Nothing was changed.
    #[error("what came is {0}; nothing was changed")]
    Unfit(&'static str),
    /// The work ended without a result.
    #[error("the files were not written")]
    Unfinished,
}

impl RenewError {
    /// What the authority has against the request; none when it was not asked, or cannot sign.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused {
                code: Code::FailedPrecondition,
                says,
            } => Some(says),
            _ => None,
        }
    }
}

/// What a node renews its certificate with.
#[derive(Clone)]
pub struct Renewing {
    /// `https://host:port` of each node of the tier above; the first that answers is asked.
    pub urls: Vec<String>,
    /// Who answers there.
    pub there: Place,
    /// The certificates in use.
    pub tls: Arc<ReloadingTls>,
    /// The certificate's file.
    pub cert: PathBuf,
    /// Its key's.
    pub key: PathBuf,
    /// With what the node signs receipts: it is in the next certificate too.
    pub signing: SigningKey,
    /// One question of a node at a time: a place has few connections ([`super::welcome::LIMITS`]), and the link is one.
    pub turn: Arc<Mutex<()>>,
}

impl Renewing {
    /// Draws a key, gets a certificate for it, and puts both in place: until when it holds.
    ///
    /// # Errors
    /// [`RenewError`]; key and certificate are as they were.
    pub async fn renew(&self) -> Result<Timestamp, RenewError> {
        let files = (self.cert.clone(), self.key.clone());
        let reading = move || renewal::current(&files.0, &files.1);
        let (certificate, key) = blocking(reading).await?;
        let me = self.tls.me().identity;
        let (signing, holder) = (self.signing.clone(), me.clone());
        // A key that is in a TPM is followed by one in the same TPM.
        let drawing = move || {
            let (tpm, rng) = (pki::tpm_of(&key), &mut rand::rng());
            let new = pki::new_key_in(tpm.as_deref(), &holder, Some(&signing), rng)?;
            let proof = pki::rotation_proof(&key, &new.csr_pem)?;
            Ok::<_, PkiError>((new, proof))
        };
        let (new, proof) = blocking(drawing).await?;
        let asked = Renewal {
            certificate,
            proof: proof.into(),
            request: new.csr_pem.clone(),
        };
        let turn = self.turn.lock().await;
        let mut client = self.connect().await?;
        let answered = within(HANDSHAKE_TIMEOUT, client.renew(asked)).await?;
        drop((client, turn));
        let pem = refused(answered)?.into_inner().certificate;
        let until = self.fits(&me, &pem, &new.key_pem)?;
        let files = (self.cert.clone(), self.key.clone());
        let writing = move || renewal::replace((&files.0, &files.1), &pem, &new.key_pem);
        blocking(writing).await?;
        Ok(until)
    }

    /// The certificate of a device of this facility, for its request (PEM).
    ///
    /// # Errors
    /// [`RenewError`].
    pub async fn certify(&self, device: &DeviceId, request: &str) -> Result<String, RenewError> {
        let asked = DeviceRequest {
            device: device.to_string(),
            request: request.to_owned(),
        };
        let turn = self.turn.lock().await;
        let mut client = self.connect().await?;
        let answered = within(HANDSHAKE_TIMEOUT, client.certify(asked)).await?;
        drop((client, turn));
        let pem = refused(answered)?.into_inner().certificate;
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| RenewError::Unfit("no certificate"))?;
        let peer = Peer::from_cert(&der).map_err(|_| RenewError::Unfit("nobody's certificate"))?;
        let me = self.tls.me().identity;
        let wanted = me.place().and_then(|here| device_of(here, device));
        if Some(&peer.identity) != wanted.as_ref() || !self.tls.takes_device(&der) {
            return Err(RenewError::Unfit(
                "no certificate of this mesh for the device",
            ));
        }
        Ok(pem)
    }

    async fn connect(&self) -> Result<MeshClient<Channel>, LinkError> {
        let mut failed = LinkError::Url(String::new());
        for url in &self.urls {
            match connect(url, &self.there, &self.tls).await {
                Ok(client) => return Ok(client),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Until when a certificate holds that is this node's, of this mesh, for that key.
    fn fits(
        &self,
        me: &Identity,
        pem: &str,
        key_pem: &Secret<String>,
    ) -> Result<Timestamp, RenewError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| RenewError::Unfit("no certificate"))?;
        let peer = Peer::from_cert(&der).map_err(|_| RenewError::Unfit("no node's certificate"))?;
        if peer.identity != *me {
            return Err(RenewError::Unfit("another node's certificate"));
        }
        let signs = me
            .place()
            .and_then(|here| self.tls.signing_key_of(here, &der));
        if signs != Some(self.signing.verifying_key()) {
            let what = "no certificate of this mesh for this node's signing key";
            return Err(RenewError::Unfit(what));
        }
        if crate::tls::is_pair(&der, key_pem) {
            Ok(peer.not_after)
        } else {
            Err(RenewError::Unfit("a certificate of another key"))
        }
    }

    /// Renews the certificate whenever that is due, until stopped. `now` is real time.
    pub async fn keep(self, now: TimeSource, stop: CancellationToken) {
        loop {
            if is_due(&self.tls, now()) {
                self.try_once().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn try_once(&self) {
        let until = self.tls.me().not_after;
        let result = match self.renew().await {
            Ok(until) => {
                tracing::info!(%until, "the node has its next certificate");
                "done"
            }
            Err(RenewError::Refused {
                code: Code::Unimplemented,
                ..
            }) => {
                tracing::warn!(%until, "the certificate ends, and there is no authority above: its operator must renew it");
                "nobody"
            }
            Err(error) => {
                tracing::warn!(%error, %until, "the certificate is not renewed yet");
                "failed"
            }
        };
        metrics::counter!("medmesh_certificate_renewals_total", "result" => result).increment(1);
    }
}

fn refused<T>(answered: Result<T, Status>) -> Result<T, RenewError> {
    answered.map_err(|status| RenewError::Refused {
        code: status.code(),
        says: status.message().to_owned(),
    })
}

/// A device of the facility at a place; none of any other place.
#[must_use]
pub fn device_of(place: &Place, device: &DeviceId) -> Option<Identity> {
    let Place::Edge {
        jurisdiction,
        region,
        facility,
    } = place
    else {
        return None;
    };
    Some(Identity::Device {
        jurisdiction: *jurisdiction,
        region: region.clone(),
        facility: facility.clone(),
        device: device.clone(),
    })
}

/// Whether so little of the life of a node's certificate is left that it is to be renewed.
#[must_use]
pub fn is_due(tls: &ReloadingTls, now: Timestamp) -> bool {
    let me = tls.me();
    let life = me.not_after.0.saturating_sub(me.not_before.0);
    now.0 >= me.not_after.0.saturating_sub(life / LEFT_PART)
}

/// The answer of the side that has the authority.
pub(super) async fn answer(
    authority: Option<Arc<dyn Renews>>,
    who: &Place,
    asked: Renewal,
) -> Result<Response<Renewed>, Status> {
    let authority = authority.ok_or_else(|| Status::unimplemented("there is no authority here"))?;
    if asked.certificate.len().max(asked.request.len()) > MAX_REQUEST_BYTES {
        return Err(Status::invalid_argument("longer than any request"));
    }
    let certificate = authority.renew(who, asked).await?;
    Ok(Response::new(Renewed { certificate }))
}

/// The same for a device of the facility that asks.
pub(super) async fn of_device(
    authority: Option<Arc<dyn Renews>>,
    who: (&Place, &Serial),
    asked: DeviceRequest,
) -> Result<Response<Renewed>, Status> {
    let authority = authority.ok_or_else(|| Status::unimplemented("there is no authority here"))?;
    if asked.request.len() > MAX_REQUEST_BYTES {
        return Err(Status::invalid_argument("longer than any request"));
    }
    let certificate = authority.certify(who, asked).await?;
    Ok(Response::new(Renewed { certificate }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PkiError> + Send + 'static,
) -> Result<T, RenewError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| RenewError::Unfinished)??)
}
