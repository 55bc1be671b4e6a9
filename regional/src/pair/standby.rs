//! What a node serves while it waits: FHIR and tokens, over the region's PostgreSQL, which is the truth for both nodes.
//!
//! Reads and writes of clients go through the same API as at the node that writes; their audit rows wait in PostgreSQL
//! ([`rows`](super::rows)). What lives in the files of the node that writes, it alone does: whoever asks for that here is
//! answered by that one, through this one ([`Handing`]). So is a client that reads for research: which patients have opted
//! out of it is in the ledger, and a copy of that may be a second old. While that one cannot be reached there is no answer
//! (503, with its name).
use super::{
    handing::{HANDED_ON, Handing, NotHanded},
    relay::relay,
    rows::Waits,
};
use crate::{
    api::{self, Bearer, worded},
    config::{PairConfig, RegionalConfig},
    engine,
    error::RegionalError,
    hosts,
    pair::{Bound, STANDBY, shared},
    rates::Rates,
    reads::{Keeping, reads},
    served,
    server::{open_tls, token_server, true_times},
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use federation::{
    pki::load_signing_key,
    tls::{ReloadingTls, TimeSource},
};
use fhir::{
    postgres::{Pair, PostgresStore},
    rest::{Bulk, FHIR_JSON, may_be_long},
    store::ResourceStore,
};
use node::{
    clock::Clock,
    health::{Check, Health},
    https::{self, MAX_BODY_BYTES, MAX_LONG_BODY_BYTES, MAX_STRANGERS_BODY_BYTES},
    outbound::Endpoint,
    problem::Problem,
    task::{Kind, Tasks},
    token::Verifier,
};
use parking_lot::RwLock;
use serde_json::json;
use std::{io, net::SocketAddr, os::fd::AsFd as _, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often it is tried to open the store.
const TRIED: Duration = Duration::from_secs(1);
/// When to ask again what only the node that writes does, in seconds: a lease has lapsed by then.
const RETRY_AFTER_S: &str = "4";
/// How long what is served while waiting may take to end: what is in hand, and then the rows of it.
const LEAVES: Duration = Duration::from_secs(10);

/// The name of the node that writes, for people; empty while none is known.
#[derive(Clone, Default)]
pub(super) struct Writer(Arc<RwLock<String>>);

impl Writer {
    pub(super) fn is(&self, name: String) {
        *self.0.write() = name;
    }

    /// Whether a node is known to write that is not called so. Of two nodes that both wait that is so at one at most: the one
    /// that wrote last, and waits again, knows of itself.
    pub(super) fn is_another(&self, own: &str) -> bool {
        let name = self.0.read();
        !name.is_empty() && *name != own
    }

    fn says(&self) -> String {
        let name = self.0.read();
        let named = match name.as_str() {
            "" => "none is known now".to_owned(),
            name => format!("now that is {name}"),
        };
        format!(
            "only the node that writes for this region does this, and {named}: ask that one, or this one later"
        )
    }
}

/// Two nodes of one name would take each other for themselves: neither hands on to the other one, nor is it seen which of them
/// writes. Whoever cannot be asked now is asked again.
pub(super) async fn check_name(
    own: &PairConfig,
    pair: &Pair,
    me: &str,
) -> Result<(), RegionalError> {
    match pair.is_called_so(me, &own.node).await {
        Ok(true) => Err(RegionalError::NotItsTurn(format!(
            "pair.node: the other node of this region is called {} too: give each a name of its own",
            own.node
        ))),
        Ok(false) | Err(_) => Ok(()),
    }
}

/// What is served, until it is told to leave.
pub(crate) struct Standby {
    tasks: Tasks,
    /// What is handed on and carried to the other node.
    carrying: CancellationToken,
}

/// The sockets at which a node waits.
pub(super) struct Sockets<'a> {
    pub(super) clients: &'a Bound,
    pub(super) metrics: Option<&'a Bound>,
    pub(super) links: Option<&'a Bound>,
}

impl Standby {
    /// Begins to serve at sockets that somebody else serves at later. Until the tables of this region's PostgreSQL are
    /// those of this program, health alone.
    ///
    /// # Errors
    /// [`RegionalError`]: nothing is served.
    pub(super) fn begin(
        config: &RegionalConfig,
        (pair, writer): (&Arc<Pair>, &Writer),
        sockets: Sockets<'_>,
        health: &Health,
        stop: &CancellationToken,
    ) -> Result<Self, RegionalError> {
        let mut tasks = Tasks::new(stop.child_token());
        let clock = Clock::new(config.clock);
        let tls = open_tls(config, Arc::new(move || clock.real()))?;
        let (clients, carrying) = (sockets.clients, tasks.stop().child_token());
        if let Some(bound) = sockets.metrics {
            let listener = again(bound)?;
            let (app, stop) = (health.router(), tasks.stop());
            let serving = https::serve(listener, tls.server_https()?, app, None, stop);
            tasks.spawn("metrics", Kind::Critical, serving);
        }
        let own = config.pair.as_ref();
        let other = own.and_then(|pair| pair.other.as_ref());
        if let Some((bound, other)) = sockets.links.zip(other) {
            let (writer, own) = (writer.clone(), own.map(|pair| pair.node.clone()));
            let it_writes = move || writer.is_another(own.as_deref().unwrap_or_default());
            let (listener, links) = (again(bound)?, address(&other.links)?);
            let carried = relay(listener, links, it_writes, carrying.clone());
            tasks.spawn("relay", Kind::Background, carried);
        }
        let handing = match other {
            Some(other) => {
                let (other, whom) = (address(&other.https)?, (&*tls, &config.place()));
                let handing = Handing::new(other, whom, carrying.clone())?;
                Some(Arc::new(handing.then(clients.1)))
            }
            None => None,
        };
        let served = Served {
            config: config.clone(),
            pair: pair.clone(),
            writer: writer.clone(),
            handing,
            tls,
            health: health.clone(),
            check: health.check("store"),
        };
        let sockets = (again(clients)?, again(clients)?);
        let serving = served.run(sockets, clients.1, tasks.stop());
        tasks.spawn("standby", Kind::Critical, serving);
        Ok(Self { tasks, carrying })
    }

    /// There is no other node to carry anything to: this one has the lease.
    pub(super) fn carries_no_more(&self) {
        self.carrying.cancel();
    }

    /// By which it is told to stop, and tells that it has.
    pub(super) fn stop(&self) -> CancellationToken {
        self.tasks.stop()
    }

    /// Ends; requests in hand are answered, and clients told to connect again.
    ///
    /// # Errors
    /// Why it ended by itself before.
    pub(crate) async fn leave(self) -> Result<(), RegionalError> {
        self.tasks.stop().cancel();
        Ok(self.tasks.join(LEAVES).await?)
    }
}

/// The same socket, for another server.
fn again(bound: &Bound) -> Result<TcpListener, RegionalError> {
    let (listener, address) = bound;
    let again = || -> io::Result<TcpListener> {
        let socket = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
        TcpListener::from_std(socket)
    };
    again().map_err(|source| RegionalError::Listen {
        address: *address,
        source,
    })
}

/// Host and port of an address of the configuration.
fn address(text: &str) -> Result<(String, u16), RegionalError> {
    let endpoint = Endpoint::parse(text);
    let endpoint = endpoint.map_err(|why| RegionalError::NotItsTurn(format!("{text}: {why}")))?;
    Ok((endpoint.host_to_resolve().to_owned(), endpoint.port))
}

struct Served {
    config: RegionalConfig,
    pair: Arc<Pair>,
    writer: Writer,
    handing: Option<Arc<Handing>>,
    tls: Arc<ReloadingTls>,
    health: Health,
    check: Check,
}

impl Served {
    async fn run(
        self,
        (first, then): (TcpListener, TcpListener),
        address: SocketAddr,
        stop: CancellationToken,
    ) -> Result<(), RegionalError> {
        let failed = |source| RegionalError::Listen { address, source };
        let probes = self.health.probes();
        let until = stop.child_token();
        let probing = https::serve(first, self.tls.server_https()?, probes, None, until.clone());
        let store = tokio::select! {
            ended = probing => return ended.map_err(failed),
            store = self.store() => store,
        };
        until.cancel();
        let (app, clients, keeping) = self.app(store, address)?;
        self.check.pass();
        tracing::info!("this node serves FHIR while it waits");
        let serving = https::serve(
            then,
            self.tls.server_https()?,
            app,
            Some(clients.into()),
            stop.clone(),
        );
        let waits = Waits::new(
            self.pair.clone(),
            load_signing_key(&self.config.tls.signing_key)?,
        );
        let write = move |rows| {
            let waits = waits.clone();
            async move { waits.write_down(rows).await }
        };
        let keeping = keeping.keep(write, stop);
        let serving = async { serving.await.map_err(failed) };
        let keeping = async {
            let Ok(()) = keeping.await;
            Ok::<(), RegionalError>(())
        };
        tokio::try_join!(serving, keeping).map(drop)
    }

    /// FHIR and tokens, and who is known by a token; and the rows of what is read.
    fn app(
        &self,
        store: Arc<dyn ResourceStore>,
        address: SocketAddr,
    ) -> Result<(https::App, Verifier, Keeping), RegionalError> {
        let config = &self.config;
        let clock = Clock::new(config.clock);
        let now: TimeSource = Arc::new(move || clock.real());
        let key = load_signing_key(&config.tls.signing_key)?;
        let shared = shared(&self.pair, &key).at(&hosts::others(config, address));
        let tokens = token_server(config, address, clock, Some(shared))?;
        let check = self.health.optional("reads");
        let (log, keeping) = reads(config.place(), now.clone(), check);
        let bearer = Bearer {
            verifier: tokens.verifier(),
            research: config.research_clients.clone().into(),
            choices: None,
            rates: Rates::new(config.rate),
        };
        let api = served::fhir_api(
            (config, &tokens, bearer, None),
            (&store, self.bulk().map_err(RegionalError::DataDir)?),
            (log, &key.to_bytes()),
            (now, &true_times(config, clock)?),
        )?;
        let elsewhere = Elsewhere {
            writer: self.writer.clone(),
            handing: self.handing.clone(),
            verifier: tokens.verifier(),
            research: config.research_clients.clone().into(),
        };
        let beside = api::own_metrics(tokens.verifier()).merge(self.health.probes());
        let app = hosts::by_host(config, address, |origin| {
            served::router(&api, origin)
                .merge(tokens.router_at(origin))
                .merge(beside.clone())
        });
        let app = elsewhere.before(app);
        Ok((worded(app), tokens.verifier(), keeping))
    }

    /// Where there is another node to do them, jobs of bulk data are offered here too. None is ever begun here.
    fn bulk(&self) -> io::Result<Option<Arc<Bulk>>> {
        if self.handing.is_none() {
            return Ok(None);
        }
        let none = self.config.data_dir.join(STANDBY);
        storage::file::private_dir(&none)?;
        served::open_bulk(&none, None).map(Some)
    }

    /// The store, once its tables are there and of this version: the node that writes may be of another one.
    async fn store(&self) -> Arc<dyn ResourceStore> {
        let mut said = false;
        loop {
            let opened = async {
                let connection = engine::connection(&self.config.store)?;
                let (url, authority) = connection.ok_or_else(none)?;
                let (authority, newest) = (authority.as_deref(), self.pair.newest());
                let opened = PostgresStore::open_beside(url.reveal(), authority, newest);
                Ok::<_, RegionalError>(opened.await?)
            };
            match opened.await {
                Ok(store) => return Arc::new(store),
                Err(error) if !said => {
                    tracing::warn!(%error, "no FHIR is served here yet");
                    self.check.fail("not-opened");
                    said = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(TRIED).await;
        }
    }
}

fn none() -> RegionalError {
    RegionalError::NotItsTurn("there is no PostgreSQL".into())
}

/// Has what is not done here done by the node that writes.
#[derive(Clone)]
struct Elsewhere {
    writer: Writer,
    handing: Option<Arc<Handing>>,
    verifier: Verifier,
    research: Arc<[String]>,
}

impl Elsewhere {
    /// Before everything that is served.
    fn before(self, app: Router) -> Router {
        app.layer(from_fn_with_state(self, served_here))
    }

    /// The answer to what is not done here: the other node's, or why there is none.
    async fn answer(&self, request: Request, is_known: bool) -> Response {
        let (is_fhir, most) = (is_fhir(request.uri().path()), longest(&request, is_known));
        let was_handed = request.headers().contains_key(&HANDED_ON);
        let handed = match &self.handing {
            Some(handing) => handing.hand(request, is_known).await,
            None => Err(NotHanded::Nowhere),
        };
        let mut answer = handed.unwrap_or_else(|why| match why {
            NotHanded::TooLong => too_long((is_known, most), is_fhir),
            why => self.refuses(why, is_fhir),
        });
        if was_handed {
            let no = HeaderValue::from_static("0");
            answer.headers_mut().insert(HANDED_ON, no);
        }
        answer
    }

    fn refuses(&self, why: NotHanded, is_fhir: bool) -> Response {
        let (status, says) = match why {
            NotHanded::Unanswered => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the node that writes for this region was asked and did not answer: whether it did anything is not known"
                    .to_owned(),
            ),
            NotHanded::Nowhere | NotHanded::Busy | NotHanded::Away | NotHanded::TooLong => {
                (StatusCode::SERVICE_UNAVAILABLE, self.writer.says())
            }
        };
        let retry = [(header::RETRY_AFTER, RETRY_AFTER_S)];
        if !is_fhir {
            let problem = Problem::new(status, "another node does this", says);
            return (retry, problem).into_response();
        }
        (retry, outcome(status, "transient", &says)).into_response()
    }
}

/// The longest body that the listener lets through, in bytes: the bound depends on who asks, and for what.
fn longest(request: &Request, is_known: bool) -> usize {
    let is_long = may_be_long(request.method(), request.uri().path());
    match (is_known, is_long) {
        (false, _) => MAX_STRANGERS_BODY_BYTES,
        (true, false) => MAX_BODY_BYTES,
        (true, true) => MAX_LONG_BODY_BYTES,
    }
}

/// It may be another bound with a token.
fn too_long((is_known, most): (bool, usize), is_fhir: bool) -> Response {
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    let says = match is_known {
        true => format!("the body is longer than {most} bytes"),
        false => format!("the body is longer than {most} bytes, the most without a good token"),
    };
    match is_fhir {
        true => outcome(status, "too-long", &says),
        false => Problem::new(status, "the body is too long", says).into_response(),
    }
}

/// An error of FHIR.
fn outcome(status: StatusCode, code: &str, says: &str) -> Response {
    let issue = json!({"severity": "error", "code": code, "diagnostics": says});
    let outcome = json!({"resourceType": "OperationOutcome", "issue": [issue]});
    let kind = [(header::CONTENT_TYPE, FHIR_JSON)];
    (status, kind, outcome.to_string()).into_response()
}

async fn served_here(State(of): State<Elsewhere>, request: Request, next: Next) -> Response {
    let client = of.verifier.client(request.headers());
    let path = request.uri().path();
    let for_research = |name: &Arc<str>| of.research.iter().any(|one| **one == **name);
    let is_elsewhere =
        is_of_writer(path) || (is_fhir(path) && client.as_ref().is_some_and(for_research));
    match is_elsewhere {
        true => of.answer(request, client.is_some()).await,
        false => next.run(request).await,
    }
}

fn is_fhir(path: &str) -> bool {
    path == "/fhir" || path.starts_with("/fhir/")
}

/// Whether a path leads to what is in the files of the node that writes: the registry, twins and commands, enrolment; of
/// FHIR bulk data, and the numbers of events. What is encoded in another way than `$` is left to that node too.
fn is_of_writer(path: &str) -> bool {
    let path = path.replace("%24", "$");
    let Some(below) = path.strip_prefix("/fhir/") else {
        return path.starts_with("/api/");
    };
    let kind = below.split('/').next().unwrap_or_default();
    let mut parts = below.split('/');
    let mut has = |names: &[&str]| parts.any(|part| names.contains(&part));
    match kind {
        "bulk" => true,
        "Subscription" => has(&["$status", "$events", "$sse"]) || path.contains('%'),
        _ => has(&["$export", "$import"]) || path.contains('%'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, body::to_bytes, routing::any};
    use node::{config::ClientConfig, token::TokenServer};
    use tower::ServiceExt as _;

    #[test]
    fn what_is_in_the_files_of_the_node_that_writes_is_done_there_alone() {
        for path in [
            "/api/v1/devices",
            "/api/v1/enrolment",
            "/fhir/$export",
            "/fhir/%24export",
            "/fhir/Patient/$export",
            "/fhir/Group/g/%24export",
            "/fhir/$import",
            "/fhir/bulk/j",
            "/fhir/bulk/j/1.ndjson",
            "/fhir/Subscription/$status",
            "/fhir/Subscription/s/%24events",
            "/fhir/Subscription/s/$sse",
            "/fhir/%53ubscription/s/$events",
            "/fhir/Patient/$%65xport",
        ] {
            assert!(is_of_writer(path), "{path}");
        }
        for path in [
            "/live",
            "/ready",
            "/metrics",
            "/auth/token",
            "/.well-known/smart-configuration",
            "/fhir/metadata",
            "/fhir/",
            "/fhir",
            "/fhir/Patient/p",
            "/fhir/Observation/$stats",
            "/fhir/Observation/%24lastn",
            "/fhir/Subscription",
            "/fhir/Subscription/s",
            "/fhir/Condition/$validate",
        ] {
            assert!(!is_of_writer(path), "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_not_done_here_is_answered_before_anything_of_it_is_and_names_who_does_it() {
        let dir = tempfile::tempdir().unwrap();
        let none: &[ClientConfig] = &[];
        let clock = Clock::new(None);
        let tokens = TokenServer::new("https://a", none, clock, &dir.path().join("used"));
        let writer = Writer::default();
        let elsewhere = Elsewhere {
            writer: writer.clone(),
            handing: None,
            verifier: tokens.unwrap().verifier(),
            research: Arc::from([]),
        };
        let app = Router::new()
            .route("/fhir/{*rest}", any(async || "here"))
            .fallback(async || "here too");
        let app = elsewhere.before(app);
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let bytes = to_bytes(body, 1 << 16).await.unwrap();
            (parts, String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(ask("/fhir/Patient/p").await.1, "here");
        assert_eq!(ask("/other").await.1, "here too");
        let (parts, body) = ask("/fhir/$export").await;
        assert_eq!(parts.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(parts.headers["retry-after"], RETRY_AFTER_S);
        assert_eq!(parts.headers["content-type"], FHIR_JSON);
        assert!(body.contains("OperationOutcome") && body.contains("none is known now"));
        // Nobody, or this one, is no other one to carry a link to.
        assert!(!writer.is_another("us-a1"));
        writer.is("us-a1".into());
        assert!(writer.is_another("us-a2") && !writer.is_another("us-a1"));
        let (parts, body) = ask("/api/v1/devices").await;
        assert_eq!(parts.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(parts.headers["retry-after"], RETRY_AFTER_S);
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        assert!(body.contains("now that is us-a1"), "{body}");
        assert!(!parts.headers.contains_key(HANDED_ON));
        // The other node is told that nothing was done.
        let request = Request::get("/api/v1/devices").header(HANDED_ON, "1");
        let handed = app.clone().oneshot(request.body(Body::empty()).unwrap());
        let answer = handed.await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(HANDED_ON));
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_told_the_bound_of_who_sends_it() {
        for (is_known, path, most) in [
            (true, "/fhir", "2097152"),
            (true, "/fhir/Patient", "2097152"),
            (true, "/api/v1/commands", "131072"),
            (false, "/fhir", "16384"),
        ] {
            let request = Request::post(path).body(Body::empty()).unwrap();
            let bytes = longest(&request, is_known);
            for (is_fhir, code) in [(true, "\"too-long\""), (false, "too long")] {
                let response = too_long((is_known, bytes), is_fhir);
                assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
                let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert!(body.contains(most) && body.contains(code), "{body}");
            }
        }
    }
}
