//! Subscriptions of clients: judged when they are written, told by [`Sender`], asked for by operations.
//!
//! A subscriber is told what the client that wrote the Subscription may see. That is judged when an event is written, by
//! the scopes of the token of then, and again when it is told, by the scopes that the client is registered with: those
//! may have become fewer. What it must not see any more is a number without a resource.
mod announcing;
mod asked;
mod notifying;
mod operations;
mod sending;
mod stream;

use super::access::Asker;
use super::sight::Sight;
use super::{FhirApi, Interaction, Reader, conditional, outcome::Failure, writing};
use crate::json::Json;
use crate::store::{Draft, FhirId, ResourceType};
use crate::subscription::{Channel, Fault, SUBSCRIPTION, Spec, Status, Watching};
pub use announcing::announce;
use async_trait::async_trait;
use axum::http::HeaderMap;
pub use operations::{one, routes, statuses};
pub use sending::Sender;
use std::{sync::Arc, time::Duration};

/// A notification, and where it goes.
#[derive(Clone, Debug)]
pub struct Notification<'a> {
    /// The URL.
    pub endpoint: &'a str,
    /// Name and value of the headers that the subscriber asked for.
    pub headers: &'a [(String, String)],
    /// A Bundle.
    pub body: String,
    /// How long the endpoint may take, from its address to its answer.
    pub timeout: Duration,
}

/// Why a notification was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// The endpoint is not, or no longer, one that notifications go to; or its name leads elsewhere.
    NotAllowed,
    /// There is no connection to it.
    Unreachable,
    /// It answered with another status than 2xx.
    Answered(u16),
    /// It did not answer in time.
    Late,
}

impl Untaken {
    /// For metrics and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::Unreachable => "unreachable",
            Self::Answered(_) => "answered",
            Self::Late => "late",
        }
    }
}

/// How notifications leave.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Whether notifications may go to that URL.
    ///
    /// # Errors
    /// Why not.
    fn allows(&self, endpoint: &str) -> Result<(), &'static str>;

    /// Sends one, once, following no redirection. Looks again at whether it may.
    ///
    /// # Errors
    /// [`Untaken`]; it may have arrived all the same.
    async fn post(&self, notification: Notification<'_>) -> Result<(), Untaken>;
}

/// Says the word of a numbering of events.
pub type Numbering = Arc<dyn Fn() -> String + Send + Sync>;

/// That a place runs subscriptions.
#[derive(Clone)]
pub struct Subscriptions {
    /// How notifications leave.
    pub hook: Arc<dyn Hook>,
    /// A word that is another one once numbers of events may be given again, since the store was put back. None where
    /// another node has it: that one says how subscriptions stand.
    pub numbering: Option<Numbering>,
}

/// The type.
fn subscription() -> ResourceType {
    ResourceType::parse(SUBSCRIPTION).unwrap_or(ResourceType::ANY)
}

impl Asker {
    /// A resource that this client would have stored, judged: it is R4, may be here, and is what the token covers.
    pub(super) fn draft(
        &self,
        api: &FhirApi,
        kind: ResourceType,
        id: FhirId,
        text: &str,
    ) -> Result<Draft, Failure> {
        let draft = writing::draft(api, kind, id, text)?;
        self.check(&draft)?;
        match kind.as_str() == SUBSCRIPTION {
            true => self.subscribe(api, draft),
            false => Ok(draft),
        }
    }

    /// A Subscription with what it watches: of types that the client may search, and an endpoint that is allowed.
    fn subscribe(&self, api: &FhirApi, draft: Draft) -> Result<Draft, Failure> {
        let of = api.subscriptions.as_ref();
        let Subscriptions { hook, .. } = of.ok_or_else(Failure::no_subscriptions)?;
        let json = draft.json().to_owned();
        let tree = Json::parse(&json).map_err(|error| Failure::no_resource(&error.to_string()))?;
        let read = Spec::read(
            &tree,
            &self.reader.0,
            (&api.base, &api.other_bases),
            (api.now)(),
        );
        let (mut spec, status) = read.map_err(|faults| Failure::no_subscription(&faults))?;
        let faults = not_kept(api, &spec);
        if !faults.is_empty() {
            return Err(Failure::no_subscription(&faults));
        }
        let mut seen = std::collections::BTreeMap::new();
        for name in spec.types.keys() {
            match self.may_watch(api, name) {
                Some(only) => drop(seen.insert(name.clone(), only)),
                None if spec.names(name) => return Err(Failure::nothing_to_search()),
                None => {}
            }
        }
        if seen.is_empty() {
            return Err(Failure::nothing_to_search());
        }
        spec.types = seen;
        if let Channel::RestHook { endpoint, .. } = &spec.channel {
            hook.allows(endpoint).map_err(|why| {
                Failure::no_subscription(&[Fault {
                    expression: format!("{SUBSCRIPTION}.channel.endpoint"),
                    problem: why.to_owned(),
                }])
            })?;
        }
        Ok(draft.with_watching(Watching {
            is_fetched: spec.channel == Channel::Fetched,
            spec: spec.to_text(),
            status,
            watched: status == Status::Requested,
        }))
    }

    /// The search parameters of the scopes over a type; none where nothing of it may be searched.
    fn may_watch(&self, api: &FhirApi, name: &str) -> Option<Vec<String>> {
        let kind = ResourceType::parse(name)?;
        let headers = self.bearer.as_ref()?;
        let granted = api
            .authorize
            .authorize(headers, kind, Interaction::SearchType)
            .ok()?;
        Sight::of(api, kind, &granted.only)?;
        Some(granted.only)
    }
}

/// What filters look for that may not be kept here: a filter stays with its Subscription.
fn not_kept(api: &FhirApi, spec: &Spec) -> Vec<Fault> {
    let holding = (api.holding)();
    let problem = |(kind, text): &(String, String)| {
        let kind = ResourceType::parse(kind)?;
        let pairs = conditional::pairs_of(text).ok()?;
        let filter = conditional::conditions(api, kind, &pairs).ok()?;
        holding.refuses_condition(&filter)
    };
    let filters = spec.filters.iter().enumerate();
    let faults = filters.filter_map(|(at, filter)| {
        Some(Fault {
            expression: format!("{SUBSCRIPTION}.criteria.extension[{at}]"),
            problem: problem(filter)?.to_owned(),
        })
    });
    faults.collect()
}

/// What a client may see of a type by what it is registered with; none when nothing.
fn standing_right(api: &FhirApi, reader: &Reader, kind: ResourceType) -> Option<Sight> {
    let granted = api.authorize.standing(reader, kind)?;
    Sight::of(api, kind, &granted.only)
}

/// The header by which a token comes, alone.
pub(super) fn bearer_of(headers: &HeaderMap) -> HeaderMap {
    let name = axum::http::header::AUTHORIZATION;
    let mut own = HeaderMap::new();
    for value in headers.get_all(&name) {
        own.append(&name, value.clone());
    }
    own
}
