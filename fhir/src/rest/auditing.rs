//! AuditEvents of the server's own, as clients ask for them: whoever does waits until they are made of all that was written
//! down before ([`AccessLog::caught_up`](super::AccessLog::caught_up)).
use super::{FhirApi, Pairs, access::Behind, outcome::Failure};
use crate::audit::AUDIT_EVENT;
use crate::query::Search;
use crate::store::ResourceType;
use axum::http::StatusCode;

impl FhirApi {
    /// Waits where a type is asked for of which the server makes resources of what it has written down.
    pub(super) async fn caught_up(&self, kind: ResourceType) -> Result<(), Failure> {
        match kind.as_str() {
            AUDIT_EVENT => self.access.caught_up().await.map_err(behind),
            _ => Ok(()),
        }
    }

    /// The same where a search is of that type, or names it in a chain, in what is included, or among types.
    pub(super) async fn caught_up_for(
        &self,
        search: &Search,
        pairs: &Pairs,
    ) -> Result<(), Failure> {
        let names = |text: &str| text.contains(AUDIT_EVENT);
        let is_of_type = search.types == [AUDIT_EVENT];
        let named = pairs
            .iter()
            .any(|(name, value)| names(name) || names(value));
        match is_of_type || named {
            true => self.access.caught_up().await.map_err(behind),
            false => Ok(()),
        }
    }
}

fn behind(behind: Behind) -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "transient",
        format!("{behind}; ask again later"),
    )
}
