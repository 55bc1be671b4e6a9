//! How a facility of this region joins: it sends the one-time code of its kit with a request that its keys signed, and gets
//! its certificate. The code is good once, for one place; keys are drawn at the facility and never seen here.
//!
//! Whoever asks is unknown. A code is looked up first, one request after the other: a good one is taken however many
//! others are guessed, and what is counted are codes that nobody was given, and quotes that do not show the boot of a kit's
//! machine, by who sends them ([`Guesses`]). An authority
//! of the region's own lies beside it, where `[enrolment]` says.
mod renewing;

pub(crate) use renewing::keep_certificates;

use crate::config::RegionalConfig;
use axum::{
    Extension, Json, Router,
    extract::{State, rejection::JsonRejection},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use federation::{
    audit::Entry,
    identity::Identity,
    ledger::Ledger,
    pki::{self, Attestation, Ca, Issued, MAX_REQUEST_BYTES, PkiError, Shown, code_hash},
    tls::TimeSource,
    tpm::quote::Pcrs,
};
use node::{
    admission::Network,
    guesses::Guesses,
    problem::{Problem, worded},
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};
use tokio::{runtime::Handle, sync::Semaphore};
use types::{Place, Secret, Timestamp};

/// Where a facility asks.
pub const PATH: &str = "/api/v1/enrolment";
/// Requests that look into the authority's state at once, in the order in which they came: a look costs less than a
/// millisecond, so that whoever comes last waits some seconds for as many strangers as the listener holds.
const AT_ONCE: usize = 1;
/// Digits of a code.
const CODE_DIGITS: usize = 32;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The one-time code of the kit.
    code: Secret<String>,
    /// The request (PKCS#10, PEM).
    csr: String,
    /// What the machine has booted, where the kit is of one that was measured.
    #[serde(default)]
    attestation: Option<Attestation>,
}

/// The door for those that are not known yet.
struct Enrolment {
    authority: PathBuf,
    here: Place,
    now: TimeSource,
    /// Where it is written down who joined, before it has its certificate.
    ledger: Ledger,
    guesses: Mutex<Guesses>,
    turn: Arc<Semaphore>,
}

/// The work ended without an answer.
struct Unfinished;

/// Why nothing was signed.
enum Refused {
    /// It is the authority's word.
    Said(PkiError),
    /// Too many unknown codes: come again after so many seconds.
    Later(i64),
}

impl From<PkiError> for Refused {
    fn from(error: PkiError) -> Self {
        Self::Said(error)
    }
}

/// The route; none where the region has no authority. `now` is real time.
pub(crate) fn router(config: &RegionalConfig, now: &TimeSource, ledger: &Ledger) -> Router {
    let Some(authority) = config.authority() else {
        return Router::new();
    };
    let (here, now, ledger) = (config.place(), now.clone(), ledger.clone());
    route(Arc::new(Enrolment::new(authority, here, now, ledger)))
}

fn route(door: Arc<Enrolment>) -> Router {
    worded(Router::new().route(PATH, post(enrol)).with_state(door))
}

async fn enrol(
    State(door): State<Arc<Enrolment>>,
    from: Option<Extension<Network>>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Response {
    let Ok(Json(asked)) = asked else {
        let says =
            "the body is JSON with code and csr, both texts, and attestation where it is asked for";
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    };
    if let Err(says) = shape(&asked) {
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    }
    // Who came another way than by the listener is counted as one.
    let nowhere = || Network::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let from = from.map_or_else(nowhere, |Extension(from)| from);
    match door.decide(asked, from).await {
        Ok(Ok(value)) => {
            metrics::counter!("medmesh_enrolments_total", "result" => "done").increment(1);
            Json(value).into_response()
        }
        Ok(Err(Refused::Said(error))) => refused(&error),
        Ok(Err(Refused::Later(wait_s))) => {
            metrics::counter!("medmesh_enrolments_total", "result" => "later").increment(1);
            let says = "too many unknown codes, or quotes that show nothing, were sent: this is one of them, try another in a minute";
            let refused = problem(StatusCode::TOO_MANY_REQUESTS, "not now", says);
            ([(RETRY_AFTER, wait_s.to_string())], refused).into_response()
        }
        Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            "the request was not finished",
        ),
    }
}

/// What cannot be a code or a request is told from what is a wrong one.
fn shape(asked: &Asked) -> Result<(), &'static str> {
    let code = asked.code.reveal();
    let is_code = code.len() == CODE_DIGITS && code.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_code {
        return Err("code: is 32 hexadecimal digits, as the kit has it");
    }
    if asked.csr.len() > MAX_REQUEST_BYTES {
        return Err("csr: is longer than any request");
    }
    asked
        .attestation
        .as_ref()
        .map_or(Ok(()), Attestation::shape)
}

impl Enrolment {
    fn new(authority: PathBuf, here: Place, now: TimeSource, ledger: Ledger) -> Self {
        Self {
            authority,
            here,
            ledger,
            guesses: Mutex::new(Guesses::new(now())),
            turn: Arc::new(Semaphore::new(AT_ONCE)),
            now,
        }
    }

    /// Looks the code up, and signs if it is good, in the request's turn; the outer error: that was not finished.
    async fn decide(
        self: Arc<Self>,
        asked: Asked,
        from: Network,
    ) -> Result<Result<Value, Refused>, Unfinished> {
        let turn = self.turn.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Unfinished)?;
        let at = Handle::current();
        let work = move || {
            // Held to the end, also when whoever asked has gone.
            let _turn = turn;
            self.judge(&asked, from, &at)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Unfinished)
    }

    fn judge(&self, asked: &Asked, from: Network, at: &Handle) -> Result<Value, Refused> {
        if !pki::is_code(&self.authority, &asked.code)? {
            let later = self.guesses.lock().count(from, (self.now)());
            return Err(later.map_or(Refused::Said(PkiError::CodeUnknown), Refused::Later));
        }
        let kit = code_hash(&asked.code);
        let signed = self.sign(asked, &kit, at);
        // Who has a kit and shows what is not its machine's boot has guessed as well; one that shows it is always taken.
        if let Err(PkiError::Challenge | PkiError::NotAttested(_)) = &signed
            && let Some(wait_s) = self.guesses.lock().count(from, (self.now)())
        {
            return Err(Refused::Later(wait_s));
        }
        if let Err(error) = &signed {
            at.block_on(self.note_refusal(&kit, error));
        }
        Ok(signed?)
    }

    fn sign(&self, asked: &Asked, kit: &[u8; 32], at: &Handle) -> Result<Value, PkiError> {
        let now = (self.now)();
        let ca = Ca::open(&self.authority)?;
        let ours = |identity: &Identity| self.is_ours(identity);
        let noted = |issued: &Issued| at.block_on(self.note(kit, issued, now));
        let may = (ours, noted);
        let shown = Shown {
            code: &asked.code,
            csr_pem: &asked.csr,
            attestation: asked.attestation.as_ref(),
        };
        let cert = ca.enrol_if(&shown, now, &mut rand::rng(), may)?;
        tracing::info!(region = %self.here, "a facility has joined");
        let crl = ca.crl_pem(now)?;
        Ok(json!({"certificate": cert, "ca": ca.ca_pem(), "crl": crl}))
    }

    /// Writes down who joined with which kit and what it was given; says whether that is durable.
    async fn note(&self, kit: &[u8; 32], issued: &Issued, now: Timestamp) -> bool {
        let entry = Entry::enrolled(now, &issued.identity, &self.here, kit, &issued.pem);
        let written = self.ledger.write_down(vec![entry]).await;
        if let Err(error) = &written {
            tracing::error!(%error, "an enrolment cannot be written down; no certificate is given");
        }
        written.is_ok()
    }

    /// Writes down that a kit of this mesh was refused. A code that nobody gave out is counted alone, so that who guesses
    /// fills no log.
    async fn note_refusal(&self, kit: &[u8; 32], error: &PkiError) {
        let why = match error {
            PkiError::CodeUsed => "used",
            PkiError::CodeExpired { .. } => "expired",
            PkiError::NotHere => "elsewhere",
            PkiError::Request(_) => "request",
            PkiError::Challenge | PkiError::NotAttested(_) => "attestation",
            _ => return,
        };
        let entry = Entry::not_enrolled((self.now)(), why, &self.here, kit);
        if let Err(error) = self.ledger.write_down(vec![entry]).await {
            tracing::error!(%error, "a refused enrolment is not in the audit log");
        }
    }

    /// Only the nodes of this region's own facilities join here.
    fn is_ours(&self, identity: &Identity) -> bool {
        match (identity, &self.here) {
            (
                Identity::Node(Place::Edge {
                    jurisdiction,
                    region,
                    ..
                }),
                Place::Regional {
                    jurisdiction: own,
                    region: here,
                },
            ) => jurisdiction == own && region == here,
            _ => false,
        }
    }
}

/// RFC 6585 §3: the request is to be made again, with what shows that it may be.
fn challenged(error: &PkiError, challenge: &str, pcrs: Pcrs) -> Response {
    metrics::counter!("medmesh_enrolments_total", "result" => "challenged").increment(1);
    let (status, says) = (StatusCode::PRECONDITION_REQUIRED, error.to_string());
    Problem::new(status, "to be attested", says)
        .with("challenge", challenge)
        .with("pcrs", pcrs.to_string())
        .into_response()
}

fn problem(status: StatusCode, title: &'static str, detail: &str) -> Response {
    Problem::new(status, title, detail).into_response()
}

fn refused(error: &PkiError) -> Response {
    let (status, result) = match error {
        PkiError::CodeUnknown => (StatusCode::FORBIDDEN, "unknown"),
        PkiError::CodeUsed => (StatusCode::CONFLICT, "used"),
        PkiError::CodeExpired { .. } => (StatusCode::GONE, "expired"),
        PkiError::NotHere => (StatusCode::FORBIDDEN, "elsewhere"),
        PkiError::Request(_) => (StatusCode::BAD_REQUEST, "request"),
        PkiError::Challenge | PkiError::NotAttested(_) => (StatusCode::FORBIDDEN, "attestation"),
        PkiError::ToBeAttested { challenge, pcrs } => return challenged(error, challenge, *pcrs),
        _ => {
            tracing::error!(%error, "the authority cannot sign");
            let says = "the region's authority cannot sign now: its operator must look";
            return problem(StatusCode::SERVICE_UNAVAILABLE, "not now", says);
        }
    };
    metrics::counter!("medmesh_enrolments_total", "result" => result).increment(1);
    tracing::warn!(result, "an enrolment was refused");
    problem(status, "refused", &error.to_string())
}

#[cfg(test)]
mod tests;
