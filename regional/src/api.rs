//! `/api/v1` of the region: its devices, read only. Errors are problem documents (RFC 9457).
use crate::choices::Choices;
use crate::openapi;
use crate::registry::{Device, MAX_PAGE, Registry};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use federation::port::{PortError, PortErrorKind};
use fhir::audit::AUDIT_EVENT;
use fhir::rest::{
    Authorize, Denied, FHIR_JSON, Granted, Interaction as FhirInteraction, Reader, WITHOUT, unread,
};
use fhir::store::ResourceType;
use node::{
    https,
    problem::Problem,
    token::{Interaction, TokenError, Verifier},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use types::{CatalogId, FacilityId, Label, Timestamp};

/// Devices on a page when the client names no number.
pub(crate) const DEFAULT_PAGE: u16 = 100;

/// Checks the bearer tokens of this node.
#[derive(Clone)]
pub struct Bearer {
    /// Whose tokens are good.
    pub verifier: Verifier,
    /// The clients that read for research.
    pub research: Arc<[String]>,
    /// Who opted out of it; none where that is not known: then nothing is shown for research.
    pub choices: Option<Choices>,
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
        match queries.and_then(|queries| self.bounded(&client, queries)) {
            Some(only) => Ok(Granted { reader, only }),
            None => Err(Denied::Forbidden(reader)),
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
            only: self.bounded(&reader.0, queries)?,
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

/// A request that no route sees is answered as FHIR answers every error.
pub fn worded(router: Router) -> https::App {
    https::App {
        router,
        unread: Some(https::Unread {
            content_type: FHIR_JSON,
            body: unread,
        }),
    }
}

/// The routes.
pub fn router(registry: Registry, verifier: Verifier) -> Router {
    Router::new()
        .route("/api/v1/devices", get(devices))
        .route("/metrics", get(metrics))
        .route(
            "/api/v1/openapi.json",
            get(async || Json(openapi::document())),
        )
        .with_state(Api { registry, verifier })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    facility: Option<FacilityId>,
    after: Option<CatalogId>,
    limit: Option<u16>,
}

async fn devices(
    State(api): State<Api>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Response> {
    let scopes = api.verifier.check(&headers);
    let scopes = scopes.map_err(IntoResponse::into_response)?;
    if !scopes.allow_api("devices", Interaction::Search) {
        return Err(Problem::forbidden("mesh/devices.rs").into_response());
    }
    let Query(parameters) = parameters.map_err(|_| {
        let detail =
            "facility, after (next of the page before) and limit (a number) are understood";
        Problem::parameter("", detail).into_response()
    })?;
    let limit = parameters.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let mut found = api
        .registry
        .devices(parameters.facility, parameters.after, limit + 1)
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

/// Metrics beside FHIR are for the operator: how many patients a region has is not for everybody.
async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Response> {
    let scopes = api.verifier.check(&headers);
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
    use node::{clock::Clock, token::TokenServer};

    #[test]
    fn who_was_looked_at_is_nothing_for_research() {
        let dir = tempfile::tempdir().unwrap();
        let used = dir.path().join("used");
        let tokens = TokenServer::new("https://a", &[], Clock::new(None), &used).unwrap();
        let bearer = Bearer {
            verifier: tokens.verifier(),
            research: Arc::from(["researcher".to_owned()]),
            choices: None,
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
        };
        assert_eq!(bearer.bounded("researcher", Vec::new()), None);
        assert_eq!(bearer.bounded("researcher", vec!["code=a"]), None);
        assert_eq!(bearer.bounded("reader", Vec::new()), Some(Vec::new()));
        let only = Some(vec!["code=a".to_owned()]);
        assert_eq!(bearer.bounded("reader", vec!["code=a"]), only);
    }
}
