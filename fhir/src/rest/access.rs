//! Every interaction is written down before it is answered (45 CFR 164.312(b)).
//!
//! A handler gives a [`Found`], which [`Asker::answer`] alone makes a response of, once the log has taken the row: no
//! interaction can be added that is answered without one. Where the rows go is the caller's to say ([`AccessLog`]).
use super::{
    Answer, Denied, FhirApi, Granted, Interaction, Reader, outcome::Failure, sight::Sight,
    subscribing::bearer_of,
};
use crate::store::{FhirId, ResourceType};
use crate::subscription::SUBSCRIPTION;
use async_trait::async_trait;
use axum::{http::HeaderMap, response::Response};
use std::sync::Arc;

/// What a client was given, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose token it was.
    pub reader: Reader,
    /// Of which type.
    pub kind: ResourceType,
    /// In which way.
    pub interaction: Interaction,
    /// The names of the parameters of a search, sorted, each once.
    pub parameters: Vec<String>,
    /// What was asked for: `Patient/id`, `Patient/id/_history/2`, or what follows the base in the link `self` of the
    /// page. For a digest: values may say of whom.
    pub request: String,
    /// The patient, when it was about one alone.
    pub patient: Option<FhirId>,
    /// How many resources the answer has; 0 when the client has the version already.
    pub resources: u32,
}

impl Access {
    /// The type, and the names of the parameters: `Observation?_count&code`.
    #[must_use]
    pub fn asked(&self) -> String {
        let names = self.parameters.join("&");
        let mark = if names.is_empty() { "" } else { "?" };
        format!("{}{mark}{names}", self.kind)
    }
}

/// A request that was given nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Whose token it was; none when it had no good one.
    pub reader: Option<Reader>,
    /// Of which type.
    pub kind: ResourceType,
    /// In which way.
    pub interaction: Interaction,
    /// Why.
    pub why: Why,
}

/// Why a request was given nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It had no good token (401).
    Unauthenticated,
    /// Its token does not cover it (403).
    Forbidden,
    /// There is no such resource, the request cannot be read, or the store failed.
    Unanswered,
}

impl Why {
    /// The word by which it is counted.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Unanswered => "unanswered",
        }
    }
}

/// The log does not take the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log does not take the row")]
pub struct Unwritten;

/// AuditEvents are not made yet of so many rows of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AuditEvents are not made yet of {rows} rows of the audit log")]
pub struct Behind {
    /// Rows.
    pub rows: u64,
}

/// Where it is written down who reads.
#[async_trait]
pub trait AccessLog: Send + Sync + 'static {
    /// Writes down what is about to be given. Durable once this returns.
    ///
    /// # Errors
    /// [`Unwritten`]: then nothing may be given.
    async fn given(&self, access: Access) -> Result<(), Unwritten>;

    /// Writes down, soon, that a request was given nothing; many as one, so that nobody fills the log with them.
    fn refused(&self, refused: Refused);

    /// Waits until AuditEvents are made of what is written down by now; at once where none are made, or others make them.
    ///
    /// # Errors
    /// [`Behind`] when that takes longer than somebody should wait.
    async fn caught_up(&self) -> Result<(), Behind> {
        Ok(())
    }
}

/// The log of what is looked at and shown to nobody, as before a write that fails as a whole: no row of what is found, and one
/// of what is refused.
pub(super) struct Unshown(pub(super) Arc<dyn AccessLog>);

#[async_trait]
impl AccessLog for Unshown {
    async fn given(&self, access: Access) -> Result<(), Unwritten> {
        drop(access);
        Ok(())
    }

    fn refused(&self, refused: Refused) {
        self.0.refused(refused);
    }

    async fn caught_up(&self) -> Result<(), Behind> {
        self.0.caught_up().await
    }
}

/// Whose token was good, and for what.
#[must_use]
pub(super) struct Asker {
    pub(super) reader: Reader,
    kind: ResourceType,
    interaction: Interaction,
    /// What of the type it may see, or write.
    pub(super) sight: Sight,
    /// Its token, where it writes a Subscription: that asks for other types too.
    pub(super) bearer: Option<HeaderMap>,
}

/// What a handler found; no answer yet.
pub(super) struct Found {
    response: Response,
    resources: u32,
    request: String,
    parameters: Vec<String>,
    patient: Option<FhirId>,
}

impl Found {
    pub(super) const fn new(response: Response, resources: u32, request: String) -> Self {
        Self {
            response,
            resources,
            request,
            parameters: Vec::new(),
            patient: None,
        }
    }

    /// It was about one patient alone, if there is one.
    pub(super) fn of(self, patient: Option<FhirId>) -> Self {
        Self { patient, ..self }
    }

    /// By these parameters of a search.
    pub(super) fn by(self, mut parameters: Vec<String>) -> Self {
        parameters.sort_unstable();
        parameters.dedup();
        Self { parameters, ..self }
    }
}

impl FhirApi {
    /// Checks the token of a request.
    pub(super) fn asker(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Asker, Failure> {
        let denied = match self.authorize.authorize(headers, kind, interaction) {
            Ok(Granted { reader, only }) => match Sight::of(self, kind, &only) {
                Some(sight) => {
                    return Ok(Asker {
                        reader,
                        kind,
                        interaction,
                        sight,
                        bearer: (kind.as_str() == SUBSCRIPTION).then(|| bearer_of(headers)),
                    });
                }
                None => Denied::Forbidden(reader),
            },
            Err(denied) => denied,
        };
        Err(self.turned_away(&denied, kind, interaction))
    }
}

impl FhirApi {
    /// What a request is answered whose token is none, or does not cover it; that is counted.
    fn turned_away(
        &self,
        denied: &Denied,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Failure {
        let (reader, why) = match denied {
            Denied::Unauthenticated(_) => (None, Why::Unauthenticated),
            Denied::Forbidden(reader) => (Some(reader.clone()), Why::Forbidden),
        };
        self.access.refused(Refused {
            reader,
            kind,
            interaction,
            why,
        });
        Failure::denied(denied)
    }
}

impl FhirApi {
    /// Whose token a request carries, of what asks for each type by itself.
    pub(super) fn anybody(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Asker, Failure> {
        match self.authorize.known(headers) {
            Ok(reader) => Ok(Asker {
                reader,
                kind,
                interaction,
                sight: Sight::Everything,
                bearer: None,
            }),
            Err(denied) => Err(self.turned_away(&denied, kind, interaction)),
        }
    }
}

impl FhirApi {
    /// Whose token it is of an operator, who may import.
    pub(super) fn importer(&self, headers: &HeaderMap) -> Result<Asker, Failure> {
        let (kind, interaction) = (ResourceType::ANY, Interaction::Update);
        let denied = match self.authorize.imports(headers) {
            Ok(reader) => {
                return Ok(Asker {
                    reader,
                    kind,
                    interaction,
                    sight: Sight::Everything,
                    bearer: None,
                });
            }
            Err(denied) => denied,
        };
        Err(self.turned_away(&denied, kind, interaction))
    }
}

/// A write that is about to be done.
pub(super) struct Intent {
    /// What is written: `Condition/id`, or what follows the base in the request.
    pub(super) request: String,
    /// The patient whom it is about, when it is about one alone.
    pub(super) patient: Option<FhirId>,
    /// How many resources it writes.
    pub(super) resources: u32,
}

impl Asker {
    /// The one way to write: first the row, which says what was asked for; then `commit`. A write that is not done
    /// after all is counted with what was given nothing.
    pub(super) async fn write<T, F: Future<Output = Result<Response, Failure>>>(
        self,
        api: &FhirApi,
        intent: Result<(Intent, T), Failure>,
        commit: impl FnOnce(T) -> F,
    ) -> Answer {
        let done = async {
            let (intent, what) = intent?;
            self.note(api, intent).await?;
            commit(what).await
        };
        let done = done.await;
        if done.is_err() {
            self.failed(api);
        }
        done
    }

    /// The row of a write, which is not done before it is there.
    pub(super) async fn note(&self, api: &FhirApi, intent: Intent) -> Result<(), Failure> {
        let row = Access {
            reader: self.reader.clone(),
            kind: self.kind,
            interaction: self.interaction,
            parameters: Vec::new(),
            request: intent.request,
            patient: intent.patient,
            resources: intent.resources,
        };
        let written = api.access.given(row).await;
        written.map_err(|Unwritten| Failure::unaudited())
    }

    /// The write was not done.
    pub(super) fn failed(self, api: &FhirApi) {
        api.access.refused(Refused {
            reader: Some(self.reader),
            kind: self.kind,
            interaction: self.interaction,
            why: Why::Unanswered,
        });
    }

    /// The one way to an answer: first the row.
    pub(super) async fn answer(self, api: &FhirApi, found: Result<Found, Failure>) -> Answer {
        let Self {
            reader,
            kind,
            interaction,
            ..
        } = self;
        let found = match found {
            Ok(found) => found,
            Err(failure) => {
                api.access.refused(Refused {
                    reader: Some(reader),
                    kind,
                    interaction,
                    why: Why::Unanswered,
                });
                return Err(failure);
            }
        };
        let row = Access {
            reader,
            kind,
            interaction,
            parameters: found.parameters,
            request: found.request,
            patient: found.patient,
            resources: found.resources,
        };
        match api.access.given(row).await {
            Ok(()) => Ok(found.response),
            Err(Unwritten) => Err(Failure::unaudited()),
        }
    }
}
