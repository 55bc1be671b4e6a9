//! The next certificates of facilities that have joined, over their links, and the region's own: the authority beside
//! the region signs for whoever proves the key of a certificate that it gave, once that is written down.
use crate::{config::RegionalConfig, lists};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use federation::{
    audit::Entry,
    identity::{Identity, Serial},
    ledger::Ledger,
    link::{
        Door,
        renew::{LOOK, NotRenewed, Renews, is_due},
    },
    pki::{self, Ca, Issued, PkiError, renewal},
    tls::{ReloadingTls, TimeSource},
    wire::Renewal,
};
use node::{
    clock::Clock,
    config::TlsFiles,
    task::{Kind, Tasks},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, convert::Infallible, path::PathBuf, sync::Arc};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use types::{Place, Timestamp};

/// Reads the certificates' files again when they change, and has those of facilities, the region's own and the
/// revocation list renewed in time where an authority is beside it.
pub(crate) fn keep_certificates(
    config: &RegionalConfig,
    (clock, ledger): (Clock, &Ledger),
    door: &mut Door,
    tasks: &mut Tasks,
) {
    let watching = door.tls.clone().watch(tasks.stop());
    let watching = async move {
        watching.await;
        Ok::<_, Infallible>(())
    };
    tasks.spawn("certificates", Kind::Background, watching);
    lists::keep(config, clock, tasks);
    let now: TimeSource = Arc::new(move || clock.real());
    if let Some(authority) = Authority::of(config, &now, ledger) {
        door.authority = Some(Arc::new(authority.clone()));
        Own::of(config, authority, (&door.tls, &door.key)).keep(tasks);
    }
}

/// A node gets one certificate in this time, in ms: each is a row in the authority's state for ever.
const EVERY_MS: i64 = 60_000;

/// The authority beside the region.
#[derive(Clone)]
struct Authority {
    dir: PathBuf,
    here: Place,
    /// Real time.
    now: TimeSource,
    ledger: Ledger,
    /// When each facility got its last one here: as many as the region has.
    given: Arc<Mutex<BTreeMap<Place, Timestamp>>>,
}

impl Authority {
    /// None where the region has none. `now` is real time.
    fn of(config: &RegionalConfig, now: &TimeSource, ledger: &Ledger) -> Option<Self> {
        Some(Self {
            dir: config.authority()?,
            here: config.place(),
            now: now.clone(),
            ledger: ledger.clone(),
            given: Arc::default(),
        })
    }

    /// Signs, off the reactor; `who` is the only holder it signs for.
    async fn sign(&self, who: &Place, asked: Renewal) -> Result<String, NotRenewed> {
        let (this, who, at) = (self.clone(), who.clone(), Handle::current());
        let work = move || this.sign_now(&who, &asked, &at);
        let done = tokio::task::spawn_blocking(work).await;
        match done.map_err(|_| NotRenewed::Failed)? {
            Ok(pem) => Ok(pem),
            Err(
                error @ (PkiError::NotIssued(_)
                | PkiError::IsRevoked(_)
                | PkiError::NotValidNow(_)
                | PkiError::NotTheHolder(_)
                | PkiError::NotHere
                | PkiError::Identity(_)
                | PkiError::Request(_)),
            ) => Err(NotRenewed::Refused(error.to_string())),
            Err(error) => {
                tracing::error!(%error, "the authority cannot sign");
                Err(NotRenewed::Failed)
            }
        }
    }

    fn sign_now(&self, who: &Place, asked: &Renewal, at: &Handle) -> Result<String, PkiError> {
        let now = (self.now)();
        let ca = Ca::open(&self.dir)?;
        let is_theirs =
            |issued: &Issued| matches!(&issued.identity, Identity::Node(place) if place == who);
        let noted = |before: &Serial, issued: &Issued| {
            is_theirs(issued) && at.block_on(self.note(before, issued, now))
        };
        let shown = (&*asked.certificate, &*asked.request, &asked.proof[..]);
        ca.rotate_if(shown, now, &mut rand::rng(), noted)
    }

    /// Writes down who got a certificate in the place of which; says whether that is durable.
    async fn note(&self, before: &Serial, issued: &Issued, now: Timestamp) -> bool {
        let before = Sha256::digest(before.to_string()).into();
        let entry = Entry::renewed(now, &issued.identity, &self.here, &before, &issued.pem);
        let written = self.ledger.write_down(vec![entry]).await;
        if let Err(error) = &written {
            tracing::error!(%error, "a renewal cannot be written down; no certificate is given");
        }
        written.is_ok()
    }

    /// Whether a node may have one now; it is taken as given.
    fn take_turn(&self, who: &Place) -> bool {
        let now = (self.now)();
        let mut given = self.given.lock();
        // A clock that was put back keeps nobody waiting.
        let waits = |at: &Timestamp| *at <= now && now.0 - at.0 < EVERY_MS;
        if given.get(who).is_some_and(waits) {
            return false;
        }
        given.insert(who.clone(), now);
        true
    }
}

#[async_trait]
impl Renews for Authority {
    async fn renew(&self, who: &Place, asked: Renewal) -> Result<String, NotRenewed> {
        if !self.take_turn(who) {
            return Err(NotRenewed::Later);
        }
        let signed = self.sign(who, asked).await;
        let result = match &signed {
            Ok(_) => "renewed",
            Err(_) => "not-renewed",
        };
        metrics::counter!("medmesh_enrolments_total", "result" => result).increment(1);
        if let Err(error) = &signed {
            tracing::warn!(%who, %error, "a node gets no new certificate");
        }
        signed
    }
}

/// What the region's own certificate is renewed with.
struct Own {
    authority: Authority,
    /// The certificates in use.
    tls: Arc<ReloadingTls>,
    /// Their files.
    files: TlsFiles,
    /// With what the region signs receipts.
    signing: SigningKey,
}

impl Own {
    fn of(
        config: &RegionalConfig,
        authority: Authority,
        (tls, signing): (&Arc<ReloadingTls>, &SigningKey),
    ) -> Self {
        Self {
            authority,
            tls: tls.clone(),
            files: config.tls.clone(),
            signing: signing.clone(),
        }
    }

    /// Renews the region's certificate in time; where it has no authority its operator does.
    fn keep(self, tasks: &mut Tasks) {
        let keeping = self.until(tasks.stop());
        tasks.spawn("renewal", Kind::Background, keeping);
    }

    async fn until(self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            if is_due(&self.tls, (self.authority.now)()) {
                match self.renew().await {
                    Ok(()) => tracing::info!("the region has its next certificate"),
                    Err(error) => {
                        tracing::warn!(%error, "the region's certificate is not renewed yet");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn renew(&self) -> Result<(), NotRenewed> {
        let said = |error: PkiError| NotRenewed::Refused(error.to_string());
        let (cert, key) = (&self.files.cert, &self.files.key);
        let (certificate, current) = renewal::current(cert, key).map_err(said)?;
        let me = Identity::Node(self.authority.here.clone());
        let new = pki::new_key_and_csr(&me, Some(&self.signing)).map_err(said)?;
        let proof = pki::rotation_proof(&current, &new.csr_pem).map_err(said)?;
        let asked = Renewal {
            certificate,
            request: new.csr_pem,
            proof: proof.into(),
        };
        let pem = self.authority.sign(&self.authority.here, asked).await?;
        renewal::replace((cert, key), &pem, &new.key_pem).map_err(said)
    }
}

#[cfg(test)]
mod tests;
