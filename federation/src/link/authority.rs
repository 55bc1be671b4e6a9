//! The authority beside a node: it signs the next certificates of nodes that come over the link, and the node's own, for
//! whoever proves the key of a certificate that it gave, once that is written down; and it keeps its revocation list young.
use super::{
    Door, MAX_PARCEL_BYTES,
    renew::{LOOK, NotRenewed, Renews, device_of, is_due},
};
use crate::{
    audit::Entry,
    identity::{Identity, Serial},
    ledger::Ledger,
    pki::{self, CRL_DAYS, Ca, DEVICE_DAYS, Issued, PkiError, renewal},
    tls::{ReloadingTls, TimeSource},
    wire::{DeviceRequest, Renewal},
};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use node::{
    config::TlsFiles,
    task::{Kind, Tasks},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, convert::Infallible, path::PathBuf, sync::Arc};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use types::{DeviceId, Place, Timestamp};

/// A node gets one certificate in this time, in ms: each is a row in the authority's state for ever.
const EVERY_MS: i64 = 60_000;
/// Devices of one facility get so many in that time: a ward is set up in a minute.
const DEVICES: u32 = 60;
/// And so many in [`LONG_MS`]: a hospital is set up in a week. When a facility that took all that it could for a year is
/// revoked, the list still goes into one parcel ([`MAX_PARCEL_BYTES`]): an entry has [`ENTRY_BYTES`], and stays until
/// [`CRL_DAYS`] after its certificate's end. It is counted in memory: who restarts the node has the authority.
const LONG_DEVICES: u32 = 1_000;
/// A week, in ms.
const LONG_MS: i64 = 7 * 86_400_000;
/// An entry of a revocation list, in bytes at most: a serial, a time and a reason (RFC 5280 §5.1.2.6).
const ENTRY_BYTES: usize = 56;

const _: () = {
    let weeks = (DEVICE_DAYS + CRL_DAYS) as usize / 7 + 1;
    assert!(weeks * LONG_DEVICES as usize * ENTRY_BYTES < MAX_PARCEL_BYTES);
};

/// How many devices got a certificate since a time, for a minute and for a week.
type Windows = [(Timestamp, u32); 2];

/// The authority beside a node.
#[derive(Clone)]
pub struct Authority {
    dir: PathBuf,
    here: Place,
    /// Real time.
    now: TimeSource,
    ledger: Ledger,
    /// When each node got its last one here: as many as the node has below it.
    given: Arc<Mutex<BTreeMap<Place, Timestamp>>>,
    /// Since when each facility's devices got theirs, and how many.
    devices: Arc<Mutex<BTreeMap<Place, Windows>>>,
}

impl Authority {
    /// The authority in a folder, beside the node `here`. `now` is real time.
    #[must_use]
    pub fn new(dir: PathBuf, here: Place, now: TimeSource, ledger: Ledger) -> Self {
        Self {
            dir,
            here,
            now,
            ledger,
            given: Arc::default(),
            devices: Arc::default(),
        }
    }

    /// Signs for whoever comes to the door, and has its revocation list and the node's own certificate, in `files`, renewed in
    /// time.
    pub fn serve(self, files: &TlsFiles, door: &mut Door, tasks: &mut Tasks) {
        let list = self.clone().keep_list(tasks.stop());
        tasks.spawn("revocation list", Kind::Background, ends(list));
        door.authority = Some(Arc::new(self.clone()));
        let own = Own {
            authority: self,
            tls: door.tls.clone(),
            files: files.clone(),
            signing: door.key.clone(),
        };
        tasks.spawn("renewal", Kind::Background, ends(own.keep(tasks.stop())));
    }

    /// Renews its revocation list in time, until stopped.
    async fn keep_list(self, stop: CancellationToken) {
        loop {
            let (at, now) = (self.dir.clone(), (self.now)());
            let work = move || Ca::open(&at)?.renew_list(now);
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(true)) => tracing::info!("the authority's revocation list is renewed"),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(%error, "the revocation list cannot be renewed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Signs, off the reactor; `who` is the only holder it signs for.
    async fn sign(&self, who: &Place, asked: Renewal) -> Result<String, NotRenewed> {
        let (this, who, at) = (self.clone(), who.clone(), Handle::current());
        let work = move || this.sign_now(&who, &asked, &at);
        let done = tokio::task::spawn_blocking(work).await;
        given(done.map_err(|_| NotRenewed::Failed)?)
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

    /// Writes down which device got a certificate; says whether that is durable.
    async fn note_device(&self, issued: &Issued, asked: &DeviceRequest, now: Timestamp) -> bool {
        let request = Sha256::digest(&asked.request).into();
        let entry =
            Entry::device_enrolled(now, &issued.identity, &self.here, &request, &issued.pem);
        let written = self.ledger.write_down(vec![entry]).await;
        if let Err(error) = &written {
            tracing::error!(%error, "a device cannot be written down; no certificate is given");
        }
        written.is_ok()
    }

    /// Whether one more device of a facility may have one now; it is taken as given.
    fn has_room(&self, who: &Place) -> Result<(), NotRenewed> {
        let now = (self.now)();
        let mut devices = self.devices.lock();
        let [minute, week] = devices.entry(who.clone()).or_insert([(now, 0); 2]);
        for ((began, count), length) in [(&mut *minute, EVERY_MS), (&mut *week, LONG_MS)] {
            // A clock that was put back begins another one too.
            if !(0..length).contains(&now.since(*began)) {
                (*began, *count) = (now, 0);
            }
        }
        if minute.1 >= DEVICES {
            return Err(NotRenewed::Later);
        }
        if week.1 >= LONG_DEVICES {
            return Err(NotRenewed::Enough(LONG_DEVICES));
        }
        minute.1 += 1;
        week.1 += 1;
        Ok(())
    }

    /// One that was taken as given was not: in the minute it counts nevertheless, since it cost the same.
    fn not_given(&self, who: &Place) {
        if let Some([_, (_, count)]) = self.devices.lock().get_mut(who) {
            *count = count.saturating_sub(1);
        }
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

/// What whoever asked is told.
fn given(signed: Result<String, PkiError>) -> Result<String, NotRenewed> {
    match signed {
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

    async fn certify(
        &self,
        (who, by): (&Place, &Serial),
        asked: DeviceRequest,
    ) -> Result<String, NotRenewed> {
        let refused = |why: &str| NotRenewed::Refused(why.to_owned());
        let device = asked.device.parse::<DeviceId>();
        let device = device.map_err(|_| refused("the device's id is none"))?;
        let identity =
            device_of(who, &device).ok_or_else(|| refused("only a facility has devices"))?;
        if let Err(error) = self.has_room(who) {
            tracing::warn!(%who, %device, %error, "a device gets no certificate");
            return Err(error);
        }
        let (this, by, at) = (self.clone(), by.clone(), Handle::current());
        let work = move || {
            let now = (this.now)();
            let noted = |issued: &Issued| at.block_on(this.note_device(issued, &asked, now));
            let rng = &mut rand::rng();
            Ca::open(&this.dir)?.certify_if((&by, &identity), &asked.request, now, rng, noted)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let signed = given(done.map_err(|_| NotRenewed::Failed)?);
        let result = if signed.is_ok() {
            "device"
        } else {
            "no-device"
        };
        metrics::counter!("medmesh_enrolments_total", "result" => result).increment(1);
        if let Err(error) = &signed {
            self.not_given(who);
            tracing::warn!(%who, %device, %error, "a device gets no certificate");
        }
        signed
    }
}

/// What the node's own certificate is renewed with.
struct Own {
    /// Who signs.
    authority: Authority,
    /// The certificates in use.
    tls: Arc<ReloadingTls>,
    /// Their files.
    files: TlsFiles,
    /// With what the node signs receipts.
    signing: SigningKey,
}

impl Own {
    /// Renews the certificate whenever that is due, until stopped.
    async fn keep(self, stop: CancellationToken) {
        loop {
            if is_due(&self.tls, (self.authority.now)()) {
                match self.renew().await {
                    Ok(()) => tracing::info!("the node has its next certificate"),
                    Err(error) => {
                        tracing::warn!(%error, "the node's certificate is not renewed yet");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn renew(&self) -> Result<(), NotRenewed> {
        let said = |error: PkiError| NotRenewed::Refused(error.to_string());
        let (cert, key) = (&self.files.cert, &self.files.key);
        let (certificate, current) = renewal::current(cert, key).map_err(said)?;
        let me = Identity::Node(self.authority.here.clone());
        let tpm = pki::tpm_of(&current);
        let drawn = pki::new_key_in(tpm.as_deref(), &me, Some(&self.signing), &mut rand::rng());
        let new = drawn.map_err(said)?;
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

async fn ends(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}

#[cfg(test)]
mod tests;
