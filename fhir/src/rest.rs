//! The FHIR R4 REST API over a store, below `/fhir`.
//!
//! One table ([`offered`]) makes both the routes and the CapabilityStatement, so that nothing is announced that is
//! not served. Who may do what is the caller's to say ([`Authorize`]); tokens and TLS are not here.
mod access;
mod auditing;
mod bulk;
mod bundle;
mod bundled;
mod capability;
mod conditional;
mod everything;
mod finding;
mod history;
mod including;
mod lastn;
mod meta;
mod negotiation;
mod outcome;
mod packing;
mod patching;
mod place;
mod reading;
mod readings;
mod refusals;
mod routes;
mod searching;
mod sight;
mod stats;
mod subscribing;
mod throttling;
mod transacting;
mod transaction;
mod validating;
mod vantage;
mod writing;

use crate::admit::Holding;
use crate::bases::Bases;
use crate::search::Seal;
use crate::store::{ResourceStore, ResourceType};
pub use access::{Access, AccessLog, Behind, Refused, Unwritten, Why};
use axum::{
    extract::rejection::QueryRejection,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
pub use bulk::Bulk;
use chrono::DateTime;
pub(crate) use conditional::pairs_of;
pub use outcome::{Failure, unread};
pub use routes::{MAX_BUNDLE_BYTES, may_be_long};
pub(crate) use sight::is_plain;
pub use sight::understood;
use std::sync::Arc;
pub use subscribing::{Hook, Notification, Numbering, Sender, Subscriptions, Untaken};
pub use throttling::TooOften;
use types::Timestamp;
pub use vantage::{Reader, Vantages};

/// The only format (FHIR R4 http.html#mime-type).
pub const FHIR_JSON: &str = "application/fhir+json";
/// Body of a search by POST: longer than any that the limits of `search` allow to succeed.
pub const MAX_FORM_BYTES: usize = 64 * 1024;

/// What the API can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interaction {
    /// The current version, by id.
    Read,
    /// A version, by id and version.
    Vread,
    /// A search of the type, by GET or POST.
    SearchType,
    /// A search of several types, by GET or POST.
    SearchSystem,
    /// A new resource, whose id the server draws.
    Create,
    /// Another content, or a new resource under an id that the client chose.
    Update,
    /// Another content, as a change of the current one.
    Patch,
    /// No content any more.
    Delete,
    /// Every version of one resource.
    HistoryInstance,
    /// Every version of every resource of a type.
    HistoryType,
    /// Every version of everything.
    HistorySystem,
    /// Several requests at once, each for itself.
    Batch,
    /// Several writes at once, all of them or none.
    Transaction,
}

impl Interaction {
    /// The code of FHIR R4 TypeRestfulInteraction or SystemRestfulInteraction.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Vread => "vread",
            Self::SearchType => "search-type",
            Self::SearchSystem => "search-system",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::HistoryInstance => "history-instance",
            Self::HistoryType => "history-type",
            Self::HistorySystem => "history-system",
            Self::Batch => "batch",
            Self::Transaction => "transaction",
        }
    }

    /// Whether it may change what is stored.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Patch | Self::Delete
        )
    }
}

/// What is offered of every type. Whose a resource is, is a matter of the resource: what a facility delivered no client
/// changes ([`crate::store::Unmet::Delivered`]).
const EVERYTHING: &[Interaction] = &[
    Interaction::Read,
    Interaction::Vread,
    Interaction::SearchType,
    Interaction::Create,
    Interaction::Update,
    Interaction::Patch,
    Interaction::Delete,
    Interaction::HistoryInstance,
    Interaction::HistoryType,
];

/// What is offered of no type in particular.
pub const SYSTEM: &[Interaction] = &[
    Interaction::Batch,
    Interaction::Transaction,
    Interaction::SearchSystem,
    Interaction::HistorySystem,
];

/// What is offered of a resource type: the routes and the CapabilityStatement are made of it.
#[must_use]
pub const fn offered(_: ResourceType) -> &'static [Interaction] {
    EVERYTHING
}

/// A parameter of [`Granted::only`] alone: nothing of the Patient of that id is shown, whatever is asked for.
pub const WITHOUT: &str = "_without";

/// What a token lets its bearer do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whose token it is.
    pub reader: Reader,
    /// Search parameters, as in a query: only what any of them finds may be read, or written. Everything when there are
    /// none. Beside those of R4, [`WITHOUT`] takes what is of a patient out.
    pub only: Vec<String>,
}

impl Granted {
    /// Without a bound.
    #[must_use]
    pub const fn everything(reader: Reader) -> Self {
        Self {
            reader,
            only: Vec::new(),
        }
    }
}

/// Why a request is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It carries no valid token; the value of `WWW-Authenticate`.
    Unauthenticated(&'static str),
    /// The token of this client does not cover the interaction.
    Forbidden(Reader),
}

/// Says whether the bearer of a request may do something.
pub trait Authorize: Send + Sync + 'static {
    /// Checks the token of the request, and says whose it is and what it covers of the type.
    ///
    /// # Errors
    /// [`Denied`], which becomes 401 or 403.
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Granted, Denied>;

    /// Says whose token it is, for what reads nothing.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`].
    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied>;

    /// Says whose token it is of an operator, who may have files of lines written: what is in them it has to let its bearer
    /// update. Nobody's unless this is said otherwise.
    ///
    /// # Errors
    /// [`Denied`], which becomes 401 or 403.
    fn imports(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        Err(Denied::Forbidden(self.known(headers)?))
    }

    /// Counts requests of a client against what it may ask in a time; nobody has to wait unless this is said otherwise.
    /// `within` are the entries of one that was counted itself: none need be left for them, or who has waited as long as was
    /// said would wait again.
    ///
    /// # Errors
    /// [`TooOften`], which becomes 429; then none of them is served.
    fn spend(&self, headers: &HeaderMap, requests: u32, within: bool) -> Result<(), TooOften> {
        let _ = (headers, requests, within);
        Ok(())
    }

    /// What of a type a client may search by what it is registered with now, for what is sent to it without a request;
    /// none when nothing, and where nobody says.
    fn standing(&self, reader: &Reader, kind: ResourceType) -> Option<Granted> {
        let _ = (reader, kind);
        None
    }
}

/// The API of one place.
#[derive(Clone)]
pub struct FhirApi {
    /// Where the resources are.
    pub store: Arc<dyn ResourceStore>,
    /// Who may read them.
    pub authorize: Arc<dyn Authorize>,
    /// Where it is written down who reads.
    pub access: Arc<dyn AccessLog>,
    /// The public base, such as `https://region.example/fhir`, without a slash at the end.
    pub base: String,
    /// Every base by which clients reach this server, that one among them or not: what begins with any leads here.
    pub other_bases: Arc<[String]>,
    /// Where clients get tokens, for the CapabilityStatement; none where they are given them by hand.
    pub token_url: Option<String>,
    /// Real time, for the prefix `ap`.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Whether the region may say now when it stored a resource (profile `limited`).
    pub true_times: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What each reader was shown.
    pub vantages: Vantages,
    /// With what places in a listing are sealed.
    pub seal: Seal,
    /// What may be held here.
    pub holding: Arc<dyn Fn() -> Holding + Send + Sync>,
    /// Draws the 16 random bytes of an id.
    pub draw: Arc<dyn Fn() -> [u8; 16] + Send + Sync>,
    /// The jobs of bulk data, which [`FhirApi::work`] does; nothing of the kind is offered where there is none.
    pub bulk: Option<Arc<Bulk>>,
    /// How subscriptions are served; none where they are not, and then no Subscription is taken.
    pub subscriptions: Option<Subscriptions>,
}

impl FhirApi {
    fn bases(&self) -> Bases<'_> {
        Bases::of(&self.base).and(&self.other_bases)
    }
}

type Api = State<Arc<FhirApi>>;
type Answer = Result<Response, Failure>;
type Pairs = Vec<(String, String)>;
type InUrl = Result<Query<Pairs>, QueryRejection>;

fn check_format(headers: &HeaderMap, pairs: &[(String, String)]) -> Result<(), Failure> {
    if negotiation::takes_json(headers, pairs) {
        Ok(())
    } else {
        Err(Failure::format())
    }
}

fn json(body: String) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body)
}

/// RFC 9110 §5.6.7.
fn http_date(time: Timestamp) -> String {
    DateTime::from_timestamp_millis(time.0)
        .unwrap_or_default()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
