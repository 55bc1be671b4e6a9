//! What an entry of a transaction does: it reads, it writes, or there is nothing to write.
use super::super::access::Asker;
use super::super::bundled::Entry;
use super::super::conditional::{self, Condition, IF_NONE_EXIST, Matching};
use super::super::outcome::Failure;
use super::super::patching::Patch;
use super::super::transacting::own_headers;
use super::super::writing::{self, check_id, drawn, new_id};
use super::super::{FhirApi, Interaction, Reader, reading, routes};
use crate::store::{Change, Draft, Expect, FhirId, Guard, ResourceType, Stored, Unmet};
use axum::http::{HeaderMap, Method};

/// The turn of what is created by POST, in the order of R4: behind DELETE, before PUT and PATCH.
pub const POSTED: u8 = 1;

/// An entry that writes.
pub struct Writes {
    /// Its position in the Bundle.
    pub at: usize,
    pub asker: Asker,
    pub kind: ResourceType,
    pub id: FhirId,
    pub expect: Expect,
    pub resource: Option<String>,
    /// DELETE, POST, PUT.
    pub turn: u8,
    /// What a search has to find for it.
    pub guard: Option<Guard>,
    /// It changes the version that is there, whichever that is.
    pub patches: bool,
    /// It is a patch.
    pub is_patch: bool,
    /// What others of the Bundle call the resource.
    pub full_url: Option<String>,
}

impl Writes {
    pub fn change(&self, draft: Option<&Draft>) -> Change {
        match draft {
            Some(draft) => Change::Put {
                draft: draft.clone(),
                expect: self.expect,
            },
            None => Change::Delete {
                kind: self.kind,
                id: self.id.clone(),
                expect: self.expect,
            },
        }
    }
}

/// An entry that writes nothing: it creates what is there already, or deletes what is not there.
pub struct Nothing {
    pub at: usize,
    pub asker: Asker,
    pub kind: ResourceType,
    pub stored: Option<Box<Stored>>,
    pub guard: Guard,
}

/// What an entry does.
pub enum Does {
    Reads,
    Writes(Box<Writes>),
    Nothing(Box<Nothing>),
}

pub async fn writing_of(
    api: &FhirApi,
    headers: &HeaderMap,
    reader: &Reader,
    (at, entry): (usize, &Entry),
) -> Result<Does, Failure> {
    let (interaction, turn) = match entry.method {
        Method::DELETE => (Interaction::Delete, 0),
        Method::POST => (Interaction::Create, POSTED),
        Method::PUT => (Interaction::Update, 2),
        Method::PATCH => (Interaction::Patch, 2),
        _ => return Ok(Does::Reads),
    };
    let by_query = !entry.query.is_empty();
    let (kind, id) = target_of(entry, interaction)?;
    let asker = api.asker(headers, kind, interaction)?;
    let own = own_headers(entry)?;
    let resource = match (interaction, &entry.resource) {
        (Interaction::Delete, _) => None,
        (_, Some(resource)) => Some(resource.clone()),
        (_, None) => return Err(Failure::no_resource("the resource is missing")),
    };
    let mut writes = Writes {
        at,
        asker,
        kind,
        id: drawn((api.draw)()).ok_or_else(Failure::undrawn)?,
        expect: match interaction {
            Interaction::Create => Expect::Absent,
            _ => writing::expected(&own)?,
        },
        resource,
        turn,
        guard: None,
        patches: interaction == Interaction::Patch,
        is_patch: interaction == Interaction::Patch,
        full_url: entry.full_url.clone(),
    };
    if writes.patches
        && let Some(id) = id
    {
        let id: FhirId = id.parse().map_err(|_| Failure::not_found())?;
        let stored = reading::current(api, kind, &id, &writes.asker).await?;
        check_id(&writes.asker.sight, api, kind, &id).await?;
        patched(api, headers, &mut writes, stored).await?;
    } else if let Some(id) = id {
        writes.id = id.parse().map_err(|_| Failure::no_id())?;
        let current = writes
            .asker
            .check_current(api, kind, &writes.id, writes.expect);
        writes.expect = current.await?;
        if interaction == Interaction::Update {
            let text = writes.resource.as_deref().unwrap_or_default();
            if writing::id_in(text).as_deref() != Some(writes.id.as_str()) {
                return Err(Failure::another_id());
            }
            check_id(&writes.asker.sight, api, kind, &writes.id).await?;
        }
    }
    let pairs = match own.get(IF_NONE_EXIST) {
        Some(text) if interaction == Interaction::Create => {
            conditional::pairs_of(text.to_str().map_err(|_| Failure::parameters())?)?
        }
        _ if by_query => entry.query.clone(),
        _ => return Ok(Does::Writes(Box::new(writes))),
    };
    let condition = Condition::read(api, headers, kind, &pairs, reader).await?;
    conditioned((api, headers), condition, interaction, writes).await
}

/// The type that an entry writes, and the id, unless that is to be drawn or found.
fn target_of(
    entry: &Entry,
    interaction: Interaction,
) -> Result<(ResourceType, Option<&str>), Failure> {
    let by_query = !entry.query.is_empty();
    let creates = interaction == Interaction::Create;
    let (kind, id) = match entry.path.as_slice() {
        [kind] if creates != by_query => (kind, None),
        [kind, id] if !creates && !by_query => (kind, Some(id.as_str())),
        _ if by_query => return Err(Failure::parameters()),
        _ => return Err(Failure::no_such_path()),
    };
    Ok((routes::kind_of(kind, interaction)?, id))
}

/// The same, of what a condition finds.
async fn conditioned(
    (api, headers): (&FhirApi, &HeaderMap),
    condition: Condition,
    interaction: Interaction,
    mut writes: Writes,
) -> Result<Does, Failure> {
    let own = writes.resource.as_deref().and_then(writing::id_in);
    match (condition.look(api).await?, interaction) {
        (Matching::Several, _) => return Err(Failure::several()),
        (Matching::None, Interaction::Patch) => return Err(Failure::not_found()),
        (Matching::None, Interaction::Delete) => {
            conditional::nothing(writes.expect)?;
            return Ok(Does::Nothing(Box::new(Nothing {
                at: writes.at,
                asker: writes.asker,
                kind: writes.kind,
                stored: None,
                guard: condition.guard(0, None),
            })));
        }
        (Matching::None, Interaction::Update) => {
            let text = writes.resource.as_deref().unwrap_or_default();
            writes.id = new_id(&writes.asker.sight, api, writes.kind, text).await?;
            if writes.expect == Expect::Anything {
                writes.expect = Expect::Absent;
            }
            writes.guard = Some(condition.guard(0, None));
        }
        (Matching::None, _) => writes.guard = Some(condition.guard(0, None)),
        (Matching::One(stored), Interaction::Create) => {
            let guard = condition.guard(0, Some(stored.id.clone()));
            return Ok(Does::Nothing(Box::new(Nothing {
                at: writes.at,
                asker: writes.asker,
                kind: writes.kind,
                stored: Some(stored),
                guard,
            })));
        }
        (Matching::One(stored), _) => {
            let is_other = |own: String| own != stored.id.as_str();
            if interaction == Interaction::Update && own.is_some_and(is_other) {
                return Err(Failure::another_id());
            }
            if !writes.asker.sight.shows(&stored) {
                return Err(Failure::not_found());
            }
            check_id(&writes.asker.sight, api, writes.kind, &stored.id).await?;
            writes.guard = Some(condition.guard(0, Some(stored.id.clone())));
            match writes.patches {
                true => patched(api, headers, &mut writes, *stored).await?,
                false => writes.id = stored.id,
            }
        }
    }
    Ok(Does::Writes(Box::new(writes)))
}

/// The patch of an entry, applied to what is there.
async fn patched(
    api: &FhirApi,
    headers: &HeaderMap,
    writes: &mut Writes,
    stored: Stored,
) -> Result<(), Failure> {
    if writes.expect == Expect::Absent {
        return Err(Failure::unmet(Unmet::Exists));
    }
    if writes.expect.excludes(stored.version) {
        return Err(Failure::unmet(Unmet::Version));
    }
    // Of several versions another one may be there when it is tried again.
    if matches!(writes.expect, Expect::Version(_)) {
        writes.patches = false;
    }
    let patch = Patch::in_entry(writes.resource.as_deref().unwrap_or_default())?;
    let seen = (headers, &writes.asker.reader);
    writes.resource = Some(patch.of_stored(api, seen, &stored).await?);
    writes.expect = Expect::Version(stored.version);
    writes.id = stored.id;
    Ok(())
}
