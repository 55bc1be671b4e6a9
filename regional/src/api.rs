//! `/api/v1` of the region: its devices, read only. Errors are problem documents (RFC 9457).
use crate::choices::Choices;
use crate::config::RegionalConfig;
use crate::openapi;
use crate::rates::Rates;
use crate::registry::{Device, Filter, MAX_PAGE, Registry};
use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use federation::ledger::Ledger;
use federation::port::{PortError, PortErrorKind};
use fhir::audit::AUDIT_EVENT;
use fhir::rest::{
    Authorize, Denied, FHIR_JSON, Granted, Interaction as FhirInteraction, MAX_BUNDLE_BYTES,
    Reader, TooOften, WITHOUT, may_be_long, understood, unread,
};
use fhir::store::ResourceType;
use node::{
    https,
    problem::Problem,
    query,
    token::{Interaction, TokenError, TokenServer, Verifier},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use types::{CatalogId, DeviceKind, DeviceStatus, Label, Timestamp};

/// Checks the bearer tokens of this node.
#[derive(Clone)]
pub struct Bearer {
    /// Whose tokens are good.
    pub verifier: Verifier,
    /// The clients that read for research.
    pub research: Arc<[String]>,
    /// Who opted out of it; none where that is not known: then nothing is shown for research.
    pub choices: Option<Choices>,
    /// How often each may ask.
    pub rates: Rates,
}

impl Authorize for Bearer {
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: FhirInteraction,
    ) -> Result<Granted, Denied> {
        let unauthenticated = |error: TokenError| Denied::Unauthenticated(error.challenge());
        let (client, scopes) = self.verifier.bearer(headers).map_err(unauthenticated)?;
        let needed = match interaction {
            FhirInteraction::Read | FhirInteraction::Vread | FhirInteraction::HistoryInstance => {
                Interaction::Read
            }
            FhirInteraction::SearchType
            | FhirInteraction::SearchSystem
            | FhirInteraction::HistoryType
            | FhirInteraction::HistorySystem => Interaction::Search,
            FhirInteraction::Create => Interaction::Create,
            // Each entry of a Bundle is asked for by itself.
            FhirInteraction::Batch | FhirInteraction::Transaction => Interaction::Update,
            // An update may make a new one (SMART App Launch 2.2, "Scopes").
            FhirInteraction::Update | FhirInteraction::Patch => Interaction::Update,
            FhirInteraction::Delete => Interaction::Delete,
        };
        let reader = Reader(client.to_string());
        let queries = scopes.over(kind.as_str(), needed);
        let queries = queries.filter(|_| !self.hides(&client, kind, interaction));
        let queries = queries.map(|queries| understood(kind, queries));
        match queries.and_then(|queries| self.bounded(&client, queries)) {
            Some(only) => Ok(Granted { reader, only }),
            None => Err(Denied::Forbidden(reader)),
        }
    }

    fn spend(&self, headers: &HeaderMap, requests: u32, within: bool) -> Result<(), TooOften> {
        match self
            .rates
            .is_bounded()
            .then(|| self.verifier.client(headers))
            .flatten()
        {
            Some(client) => {
                let asked = (requests, within);
                self.rates.take(&client, asked, Instant::now())
            }
            // It is turned away as what it is.
            None => Ok(()),
        }
    }

    fn standing(&self, reader: &Reader, kind: ResourceType) -> Option<Granted> {
        let scopes = self.verifier.allowed(&reader.0)?;
        let queries = scopes.over(kind.as_str(), Interaction::Search)?;
        if self.hides(&reader.0, kind, FhirInteraction::SearchType) {
            return None;
        }
        Some(Granted {
            reader: reader.clone(),
            only: self.bounded(&reader.0, understood(kind, queries))?,
        })
    }

    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        match self.verifier.bearer(headers) {
            Ok((client, _)) => Ok(Reader(client.to_string())),
            Err(error) => Err(Denied::Unauthenticated(error.challenge())),
        }
    }

    fn imports(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        match self.verifier.bearer(headers) {
            Ok((client, scopes)) if scopes.allow_api("import", Interaction::Create) => {
                Ok(Reader(client.to_string()))
            }
            Ok((client, _)) => Err(Denied::Forbidden(Reader(client.to_string()))),
            Err(error) => Err(Denied::Unauthenticated(error.challenge())),
        }
    }
}

impl Bearer {
    /// Who checks tokens, with the choices that it keeps to.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn open(
        config: &RegionalConfig,
        tokens: &TokenServer,
        ledger: &Ledger,
    ) -> Result<(Self, Choices), PortError> {
        let choices = Choices::open(ledger).await?;
        let bearer = Self {
            verifier: tokens.verifier(),
            research: config.research_clients.clone().into(),
            choices: Some(choices.clone()),
            rates: Rates::new(config.rate),
        };
        Ok((bearer, choices))
    }

    /// Whether it is nothing for who reads for research: who was looked at, and by whom, is no research. In the history of
    /// everything it cannot be told apart.
    fn hides(&self, client: &str, kind: ResourceType, interaction: FhirInteraction) -> bool {
        let is_of_all = kind == ResourceType::ANY && interaction == FhirInteraction::HistorySystem;
        let is_hidden = is_of_all || kind.as_str() == AUDIT_EVENT;
        is_hidden && self.research.iter().any(|name| name == client)
    }

    /// The search parameters of scopes; for who reads for research also without everybody who opted out of it, and none
    /// where it is not known who has.
    fn bounded(&self, client: &str, queries: Vec<&str>) -> Option<Vec<String>> {
        let is_research = self.research.iter().any(|name| name == client);
        let without: Vec<String> = match is_research {
            true => self
                .choices
                .as_ref()?
                .opted_out()
                .iter()
                .map(|id| format!("{WITHOUT}={id}"))
                .collect(),
            false => Vec::new(),
        };
        if without.is_empty() {
            return Some(queries.into_iter().map(str::to_owned).collect());
        }
        let without = without.join("&");
        Some(match queries.is_empty() {
            true => vec![without],
            false => queries
                .iter()
                .map(|query| format!("{query}&{without}"))
                .collect(),
        })
    }
}

#[derive(Clone)]
struct Api {
    registry: Registry,
    verifier: Verifier,
}

const _: () = assert!(
    MAX_BUNDLE_BYTES <= https::MAX_LONG_BODY_BYTES,
    "the listener lets a Bundle through"
);

/// A request that no route sees is answered as FHIR answers every error.
pub fn worded(router: Router) -> https::App {
    https::App {
        router,
        unread: Some(https::Unread {
            content_type: FHIR_JSON,
            body: unread,
        }),
        long: may_be_long,
    }
}

/// The routes.
pub fn router(registry: Registry, verifier: Verifier) -> Router {
    Router::new()
        .route("/api/v1/devices", get(devices))
        .route(
            "/api/v1/openapi.json",
            get(async || Json(openapi::document())),
        )
        .with_state(Api {
            registry,
            verifier: verifier.clone(),
        })
        .merge(own_metrics(verifier))
}

/// Metrics beside FHIR are for the operator: how many patients a region has is not for everybody.
pub fn own_metrics(verifier: Verifier) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(verifier)
}

/// The parameters `facility`, `kind`, `status`, `after` and `limit`: which devices, after which one, how many.
fn listing(query: Option<&str>) -> Result<(Filter, Option<CatalogId>, u16), Problem> {
    const NAME: &str = "not a name: a-z, 0-9 and '-', beginning with a letter";
    let mut from = query::parameters(query)?;
    let filter = Filter {
        facility: query::take(&mut from, "facility", NAME, |text| text.parse().ok())?,
        kind: query::take(&mut from, "kind", "not a kind of device", |text| {
            DeviceKind::parse(text)
        })?,
        status: query::take(
            &mut from,
            "status",
            "not active, silent or retired",
            DeviceStatus::parse,
        )?,
    };
    let cursor = "not a cursor that a listing returned as next";
    let after = query::take(&mut from, "after", cursor, |text| text.parse().ok())?;
    let limit = query::limit(&mut from, MAX_PAGE)?;
    query::nothing_left(&from)?;
    Ok((filter, after, limit))
}

async fn devices(
    State(api): State<Api>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Response> {
    let scopes = api.verifier.check(&headers);
    let scopes = scopes.map_err(IntoResponse::into_response)?;
    if !scopes.allow_api("devices", Interaction::Search) {
        return Err(Problem::forbidden("mesh/devices.rs").into_response());
    }
    let listing = listing(query.as_deref());
    let (filter, after, limit) = listing.map_err(IntoResponse::into_response)?;
    let mut found = api
        .registry
        .devices(filter, after, limit + 1)
        .await
        .map_err(|error| failed(&error))?;
    let more = found.len() > usize::from(limit);
    found.truncate(usize::from(limit));
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| last.id.to_string());
    let items: Vec<Value> = found.iter().map(device_json).collect();
    Ok(Json(json!({"items": items, "next": next})))
}

async fn metrics(
    State(verifier): State<Verifier>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let scopes = verifier.check(&headers);
    let scopes = scopes.map_err(IntoResponse::into_response)?;
    if !scopes.allow_api("metrics", Interaction::Read) {
        return Err(Problem::forbidden("mesh/metrics.r").into_response());
    }
    Ok(node::health::metrics().await.into_response())
}

pub(crate) fn device_json(device: &Device) -> Value {
    json!({
        "id": device.id.to_string(),
        "facility": device.facility.as_str(),
        "kind": device.kind.as_str(),
        "status": device.status.as_str(),
        "model": device.model.as_ref().map(Label::as_str),
        "firmware": device.firmware.as_ref().map(Label::as_str),
        "updated": day(device.updated),
    })
}

/// The day (UTC): what the catalog knows of the time of a change.
fn day(time: Timestamp) -> String {
    let text = time.to_rfc3339();
    text.split('T').next().unwrap_or_default().to_owned()
}

fn failed(error: &PortError) -> Response {
    tracing::error!(op = error.op, kind = ?error.kind, "registry failed");
    let problem = match error.kind {
        PortErrorKind::Unavailable => {
            Problem::unavailable("the registry does not answer; try again later")
        }
        PortErrorKind::Corrupt | PortErrorKind::Internal => Problem::internal(),
    };
    problem.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::clock::Clock;

    #[test]
    fn who_was_looked_at_is_nothing_for_research() {
        let dir = tempfile::tempdir().unwrap();
        let used = dir.path().join("used");
        let tokens = TokenServer::new("https://a", &[], Clock::new(None), &used).unwrap();
        let bearer = Bearer {
            verifier: tokens.verifier(),
            research: Arc::from(["researcher".to_owned()]),
            choices: None,
            rates: Rates::default(),
        };
        let event = ResourceType::parse(AUDIT_EVENT).unwrap();
        use FhirInteraction::{HistorySystem, Read, SearchSystem};
        for (client, kind, interaction, expected) in [
            ("researcher", event, Read, true),
            ("researcher", ResourceType::ANY, HistorySystem, true),
            ("researcher", ResourceType::ANY, SearchSystem, false),
            ("researcher", ResourceType::Patient, Read, false),
            ("reader", event, Read, false),
            ("reader", ResourceType::ANY, HistorySystem, false),
        ] {
            let hides = bearer.hides(client, kind, interaction);
            assert_eq!(hides, expected, "{client} {kind} {interaction:?}");
        }
    }

    #[test]
    fn where_it_is_not_known_who_opted_out_nothing_is_shown_for_research() {
        let dir = tempfile::tempdir().unwrap();
        let used = dir.path().join("used");
        let tokens = TokenServer::new("https://a", &[], Clock::new(None), &used).unwrap();
        let bearer = Bearer {
            verifier: tokens.verifier(),
            research: Arc::from(["researcher".to_owned()]),
            choices: None,
            rates: Rates::default(),
        };
        assert_eq!(bearer.bounded("researcher", Vec::new()), None);
        assert_eq!(bearer.bounded("researcher", vec!["code=a"]), None);
        assert_eq!(bearer.bounded("reader", Vec::new()), Some(Vec::new()));
        let only = Some(vec!["code=a".to_owned()]);
        assert_eq!(bearer.bounded("reader", vec!["code=a"]), only);
    }
}
