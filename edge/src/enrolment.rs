//! How a device of the facility gets its certificate: with a one-time code that the facility's staff had drawn for it, over
//! the node's own HTTPS. The region's authority signs, for devices of its own facilities alone; the key stays in the device.
//!
//! | | | |
//! |---|---|---|
//! | `POST /api/v1/devices/invite` | `{"device"}` | a code for a device of the configuration, good once and for an hour; with the token of [`crate::beds`] |
//! | `POST /api/v1/enrolment` | `{"code", "csr"}` | its certificate; whoever has the code |
//!
//! Codes are kept in memory, as digests: one for a device at most, and none after a restart. While the region does not answer
//! the answer is 503 and the code stays good. Strangers who guess are counted as at a region ([`node::guesses`]).
mod codes;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use codes::{CODE_BYTES, Codes, Invited, NoCode};
use federation::{
    audit::Entry,
    identity::Identity,
    link::renew::{RenewError, Renewing, device_of},
    pki::MAX_REQUEST_BYTES,
    tls::TimeSource,
};
use node::{
    admission::Network,
    problem::{Problem, worded},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use store::{Entropy, Store};
use tokio::time::timeout;
use types::{DeviceId, Place, Secret, Timestamp};

/// The body of a request, in bytes: a request for a certificate, in JSON.
const MAX_BODY: usize = 2 * MAX_REQUEST_BYTES;

/// Where devices ask; the same path as a facility's at its region.
const PATH: &str = "/api/v1/enrolment";

/// How long a device waits for the region: `medmesh device enrol` gives up after 5 s, and is told before.
const REGION_PATIENCE: Duration = Duration::from_secs(4);

/// What the door works with.
pub(crate) struct Parts {
    pub(crate) here: Place,
    pub(crate) store: Store,
    /// The mesh's authority (PEM), which a device is told.
    pub(crate) ca: PathBuf,
    pub(crate) region: Renewing,
    pub(crate) now: TimeSource,
    pub(crate) entropy: Entropy,
}

/// Codes that wait, and who signs.
pub(crate) struct Enrolment {
    parts: Parts,
    codes: Mutex<Codes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    device: DeviceId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    code: Secret<String>,
    csr: String,
}

/// What a device gets, both in PEM.
#[derive(Serialize)]
struct Given {
    certificate: String,
    /// The mesh's authority.
    ca: String,
}

/// Why a device gets no certificate.
enum Refused {
    /// Its code is none.
    Code(NoCode),
    /// The authority's word on the request.
    Request(String),
    /// The region does not answer, or cannot sign.
    NotNow,
}

impl Enrolment {
    pub(crate) fn new(parts: Parts, devices: impl IntoIterator<Item = DeviceId>) -> Arc<Self> {
        let codes = Mutex::new(Codes::new(devices, (parts.now)()));
        Arc::new(Self { parts, codes })
    }

    /// What the staff asks; who may is the caller's to check.
    pub(crate) fn inviting(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/devices/invite", post(invite))
            .with_state(self.clone())
    }

    /// What devices ask, who are not known yet.
    pub(crate) fn door(self: &Arc<Self>) -> Router {
        let door = Router::new()
            .route(PATH, post(enrol))
            .layer(DefaultBodyLimit::max(MAX_BODY));
        worded(door.with_state(self.clone()))
    }

    fn draw(&self, device: &DeviceId) -> Option<(Secret<String>, Timestamp)> {
        let mut random = [0; CODE_BYTES];
        (self.parts.entropy)(&mut random);
        self.codes.lock().draw(device, random, (self.parts.now)())
    }

    /// The certificate of whoever has a code. Unless it is given, the code stays good.
    async fn certify(&self, asked: &Asked, from: Network) -> Result<Given, Refused> {
        if asked.csr.len() > MAX_REQUEST_BYTES {
            let says = "csr: is longer than any request";
            return Err(Refused::Request(says.to_owned()));
        }
        let taken = self
            .codes
            .lock()
            .take(&asked.code, from, (self.parts.now)());
        let (device, invited) = taken.map_err(Refused::Code)?;
        let signed = self.signed(&device, &invited, &asked.csr);
        using(&self.codes, (&device, &invited), signed).await
    }

    async fn signed(
        &self,
        device: &DeviceId,
        invited: &Invited,
        csr: &str,
    ) -> Result<Given, Refused> {
        let ca = tokio::fs::read_to_string(&self.parts.ca).await;
        let ca = ca.map_err(|error| {
            tracing::error!(%error, "the authority's certificate cannot be read; no certificate is given");
            Refused::NotNow
        })?;
        let pem = said(
            device,
            self.parts.region.certify(device, csr),
            REGION_PATIENCE,
        )
        .await?;
        let identity: Option<Identity> = device_of(&self.parts.here, device);
        let identity = identity.ok_or(Refused::NotNow)?;
        let (now, here) = ((self.parts.now)(), &self.parts.here);
        let entry = Entry::enrolled(now, &identity, here, &invited.hash, &pem);
        let noted = self.parts.store.note(vec![entry]).await;
        noted.map_err(|error| {
            tracing::error!(%error, "a device cannot be written down; no certificate is given");
            Refused::NotNow
        })?;
        Ok(Given {
            certificate: pem,
            ca,
        })
    }
}

/// Does what a code was taken out for. Unless it is done, also when whoever asked goes away meanwhile, the code is good again.
async fn using<T>(
    codes: &Mutex<Codes>,
    (device, invited): (&DeviceId, &Invited),
    work: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let mut out = Out {
        codes,
        device,
        invited,
        is_used: false,
        was_refused: false,
    };
    let done = work.await;
    out.is_used = done.is_ok();
    out.was_refused = matches!(done, Err(Refused::Request(_)));
    done
}

/// A code that somebody has.
struct Out<'a> {
    codes: &'a Mutex<Codes>,
    device: &'a DeviceId,
    invited: &'a Invited,
    is_used: bool,
    was_refused: bool,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            let mut codes = self.codes.lock();
            codes.put_back(self.device, self.invited, self.was_refused);
        }
    }
}

/// What the region says of a device's request, if it does so in time.
async fn said(
    device: &DeviceId,
    asked: impl Future<Output = Result<String, RenewError>>,
    patience: Duration,
) -> Result<String, Refused> {
    let Ok(said) = timeout(patience, asked).await else {
        tracing::warn!(%device, "a device gets no certificate: the region does not answer");
        return Err(Refused::NotNow);
    };
    said.map_err(|error| {
        tracing::warn!(%device, %error, "a device gets no certificate");
        match error.refusal() {
            Some(says) => Refused::Request(says.to_owned()),
            None => Refused::NotNow,
        }
    })
}

async fn invite(
    State(door): State<Arc<Enrolment>>,
    asked: Result<Json<Invite>, JsonRejection>,
) -> Response {
    let Ok(Json(asked)) = asked else {
        let says = "device: the body is JSON with the id of a device";
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    };
    let Some((code, until)) = door.draw(&asked.device) else {
        let says = "device: the configuration has no device of that id";
        return problem(StatusCode::NOT_FOUND, "no such device", says);
    };
    Json(json!({"code": code.reveal(), "expires": until.to_rfc3339()})).into_response()
}

async fn enrol(
    State(door): State<Arc<Enrolment>>,
    from: Option<Extension<Network>>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Response {
    let Ok(Json(asked)) = asked else {
        let says = "the body is JSON with code and csr, both texts";
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    };
    // Who came another way than by the listener is counted as one.
    let nowhere = || Network::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let from = from.map_or_else(nowhere, |Extension(from)| from);
    let given = door.certify(&asked, from).await;
    let result = match &given {
        Ok(_) => "done",
        Err(refused) => refused.word(),
    };
    metrics::counter!("medmesh_device_enrolments_total", "result" => result).increment(1);
    match given {
        Ok(given) => Json(given).into_response(),
        Err(refused) => refused.into_response(),
    }
}

impl Refused {
    /// In the metric.
    const fn word(&self) -> &'static str {
        match self {
            Self::Code(NoCode::Unknown) => "unknown",
            Self::Code(NoCode::Later(_)) => "later",
            Self::Code(NoCode::Expired) => "expired",
            Self::Request(_) => "request",
            Self::NotNow => "not-now",
        }
    }

    fn into_response(self) -> Response {
        match self {
            Self::Code(NoCode::Unknown) => {
                let says = "no device was invited with this code, or it was used before";
                problem(StatusCode::FORBIDDEN, "refused", says)
            }
            Self::Code(NoCode::Expired) => {
                let says = "the code was good for an hour; ask for another";
                problem(StatusCode::GONE, "refused", says)
            }
            Self::Request(says) => problem(StatusCode::BAD_REQUEST, "refused", &says),
            Self::NotNow => {
                let says = "the region signs nothing now; the code stays good";
                problem(StatusCode::SERVICE_UNAVAILABLE, "not now", says)
            }
            Self::Code(NoCode::Later(wait_s)) => {
                let says = "too many unknown codes were sent: this one is unknown too, try another in a minute";
                let refused = problem(StatusCode::TOO_MANY_REQUESTS, "not now", says);
                ([(RETRY_AFTER, wait_s.to_string())], refused).into_response()
            }
        }
    }
}

fn problem(status: StatusCode, title: &'static str, detail: &str) -> Response {
    Problem::new(status, title, detail).into_response()
}

#[cfg(test)]
mod tests;
