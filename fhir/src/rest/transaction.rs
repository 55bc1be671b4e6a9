//! A transaction (FHIR R4 http.html#trules): one transaction of the store, in the order DELETE, POST, PUT. What conditions
//! find, of entries and of references, is looked up before and holds when it is done, or it is tried again. References are
//! resolved last: a condition finds what the other entries create too, and not what they delete.
mod entry;

use super::access::{Intent, Unshown};
use super::bundled::{self, Entry, Names};
use super::conditional::{self, Condition, IF_NONE_EXIST, MAX_TRIES, Matching};
use super::outcome::Failure;
use super::reading::instants;
use super::transacting::{Answered, MAX_ANSWER_BYTES, Told, alone, asked, told as told_whole};
use super::vantage::Instants;
use super::writing;
use super::{Api, FhirApi, Reader, negotiation};
use crate::json::Json;
use crate::query::{self, IndexRow};
use crate::store::{
    Draft, FhirId, Guard, ResourceType, Stored, Transacted, Transaction, Unmet, Written,
};
use axum::{
    extract::State,
    http::{HeaderMap, Method, StatusCode},
};
use entry::{Does, Nothing, POSTED, Writes, writing_of};
use futures_util::future::join_all;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Different references of one transaction that are conditions: bounds how long others wait.
const MAX_REFERENCES: usize = 200;

/// What the entries of a transaction come to.
#[derive(Default)]
struct Work {
    writes: Vec<Writes>,
    nothing: Vec<Nothing>,
    /// What other entries call each, and conditions of references: as what it is here.
    names: HashMap<String, String>,
    /// What searches have to find for references.
    guards: Vec<Guard>,
    /// Bytes of all that is in hand: a short entry patches, or finds, what may be long.
    bytes: usize,
}

impl Work {
    /// Names what an entry is about.
    fn name(&mut self, (at, entry): (usize, &Entry), here: String) -> Result<(), Failure> {
        let Some(name) = &entry.full_url else {
            return Ok(());
        };
        match self.names.insert(name.clone(), here) {
            None => Ok(()),
            Some(_) => Err(Failure::unmet(Unmet::Twice).of_entry(at)),
        }
    }

    /// Takes so many bytes in hand for an entry.
    fn hold(&mut self, at: usize, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        match self.bytes > MAX_ANSWER_BYTES {
            true => Err(Failure::too_much_changed().of_entry(at)),
            false => Ok(()),
        }
    }

    /// Whether it deletes what an entry is told that is there: in the order of R4 that entry comes after.
    fn deletes_what(&self, one: &Nothing) -> bool {
        one.stored
            .as_ref()
            .is_some_and(|stored| self.deletes(stored.kind, &stored.id))
    }

    fn deletes(&self, kind: ResourceType, id: &FhirId) -> bool {
        let is_it = |one: &&Writes| one.resource.is_none() && one.kind == kind && one.id == *id;
        self.writes.iter().any(|one| is_it(&one))
    }

    /// By what each resource of a type is found that is to be written.
    fn rows_of(&self, api: &FhirApi, kind: ResourceType) -> Vec<(FhirId, Vec<IndexRow>)> {
        let of_kind = self.writes.iter().filter(|one| one.kind == kind);
        let rows = of_kind.filter_map(|one| {
            let tree = Json::parse(one.resource.as_deref()?).ok()?;
            Some((one.id.clone(), query::extract(&tree, &api.base)))
        });
        rows.collect()
    }

    /// What the condition of a reference finds when all is done, where it finds `there` before. `written` is what is written
    /// of the type.
    fn referred_to(
        &self,
        kind: ResourceType,
        (condition, there): (&Condition, Option<&FhirId>),
        written: &[(FhirId, Vec<IndexRow>)],
    ) -> Result<FhirId, Failure> {
        // Of what is written anew its new content tells, where it can.
        let stays = |id: &&FhirId| {
            let is_it = |one: &&Writes| one.kind == kind && one.id == **id;
            match self.writes.iter().find(is_it) {
                None => true,
                Some(one) => one.resource.is_some() && !condition.is_plain(),
            }
        };
        let will_find = |(id, rows): &&(FhirId, Vec<IndexRow>)| condition.will_find(id, rows);
        let written = written.iter().filter(will_find).map(|(id, _)| id);
        let found: Vec<&FhirId> = written.chain(there.filter(stays)).collect();
        match found.as_slice() {
            [] => Err(Failure::nothing_referred_to()),
            [one] => Ok((*one).clone()),
            _ => Err(Failure::several()),
        }
    }

    fn failed(self, api: &FhirApi) {
        let writes = self.writes.into_iter().map(|one| one.asker);
        for asker in writes.chain(self.nothing.into_iter().map(|one| one.asker)) {
            asker.failed(api);
        }
    }
}

/// A transaction is tried again where a search found another than was looked up before.
pub async fn transaction(
    api: &Api,
    headers: &HeaderMap,
    reader: Reader,
    entries: Vec<Entry>,
) -> Result<Vec<Answered>, Failure> {
    no_condition_twice(&entries)?;
    let read = may_be_read(api, headers, &entries).await?;
    if read.len() == entries.len() {
        return Ok(read);
    }
    for _ in 0..MAX_TRIES {
        if let Some(mut answers) = attempt(api, headers, &reader, &entries).await? {
            let (mut all, mut left) = (Vec::with_capacity(entries.len()), MAX_ANSWER_BYTES);
            for (at, entry) in entries.into_iter().enumerate() {
                all.push(match answers.remove(&at) {
                    Some(answer) => answer,
                    None => alone(api, headers, entry, &mut left).await?,
                });
            }
            return Ok(all);
        }
    }
    Err(Failure::contended())
}

/// Two entries that create by one condition would each make one, since neither finds what the other makes.
fn no_condition_twice(entries: &[Entry]) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for (at, entry) in entries.iter().enumerate() {
        let header = entry
            .conditions
            .iter()
            .find(|(name, _)| *name == IF_NONE_EXIST);
        let mut condition = match header {
            Some((_, text)) => conditional::pairs_of(text).map_err(|why| why.of_entry(at))?,
            None if entry.method == Method::PUT => entry.query.clone(),
            None => continue,
        };
        condition.sort_unstable();
        if !condition.is_empty() && !seen.insert((entry.path.clone(), condition)) {
            return Err(Failure::unmet(Unmet::Twice).of_entry(at));
        }
    }
    Ok(())
}

/// What was done of each entry that writes; none where a search found another than was looked up before.
async fn attempt(
    api: &Api,
    headers: &HeaderMap,
    reader: &Reader,
    entries: &[Entry],
) -> Result<Option<HashMap<usize, Answered>>, Failure> {
    let mut work = Work::default();
    let done = match gather(api, headers, reader, entries, &mut work).await {
        Ok(()) => written(api, reader.clone(), &work).await,
        Err(failure) => Err(failure),
    };
    let done = match done {
        Ok(Some(done)) => done,
        Ok(None) => return Ok(None),
        Err(failure) => {
            work.failed(api);
            return Err(failure);
        }
    };
    let mut answers: HashMap<usize, Answered> = HashMap::new();
    let of_writes = done.iter().map(|(written, _)| written.seq);
    let existing = work.nothing.iter().filter_map(|one| one.stored.as_ref());
    let of_existing = existing.map(|stored| stored.seq);
    let last = of_writes.chain(of_existing).max().unwrap_or_default();
    let instants = instants(api, reader, last).await?;
    for (one, (written, draft)) in work.writes.iter().zip(done) {
        let patched = entries
            .get(one.at)
            .filter(|entry| entry.method == Method::PATCH);
        let shown = match draft.as_ref().filter(|_| patched.is_some()) {
            Some(draft) => writing::unless_unreadable(api, headers, draft),
            None => Cow::Borrowed(headers),
        };
        answers.insert(one.at, told(&shown, &instants, written, draft)?);
    }
    for one in &work.nothing {
        let told = match &one.stored {
            Some(stored) => told_of(headers, &instants, stored, true)?,
            None => deleted(None),
        };
        answers.insert(one.at, told);
    }
    Ok(Some(answers))
}

/// What the entries come to, in the order in which it is done.
async fn gather(
    api: &Api,
    headers: &HeaderMap,
    reader: &Reader,
    entries: &[Entry],
    work: &mut Work,
) -> Result<(), Failure> {
    for (at, entry) in entries.iter().enumerate() {
        let does = writing_of(api, headers, reader, (at, entry)).await;
        match does.map_err(|failure| failure.of_entry(at))? {
            Does::Reads => {}
            Does::Writes(one) => {
                let here = format!("{}/{}", one.kind, one.id);
                let bytes = one.resource.as_ref().map_or(0, String::len);
                work.writes.push(*one);
                work.hold(at, bytes)?;
                work.name((at, entry), here)?;
            }
            Does::Nothing(one) => {
                let here = one.stored.as_ref();
                let here = here.map(|stored| format!("{}/{}", stored.kind, stored.id));
                let bytes = one.stored.as_ref().map_or(0, |stored| stored.json.len());
                work.nothing.push(*one);
                work.hold(at, bytes)?;
                if let Some(here) = here {
                    work.name((at, entry), here)?;
                }
            }
        }
    }
    work.writes.sort_by_key(|one| one.turn);
    if let Some(one) = work.nothing.iter().find(|one| work.deletes_what(one)) {
        return Err(Failure::unmet(Unmet::Twice).of_entry(one.at));
    }
    find_references(api, headers, reader, work).await
}

/// What only reads is asked before anything is written too, since a transaction that reads what it is not given fails as a
/// whole. What it reads of its own writes is there afterwards, or is not if it deletes it. The answers, which stand where
/// nothing is written; beside writes nobody is shown them, and what is read afterwards has the row in the log.
async fn may_be_read(
    api: &Api,
    headers: &HeaderMap,
    entries: &[Entry],
) -> Result<Vec<Answered>, Failure> {
    let (mut answers, mut left) = (Vec::new(), MAX_ANSWER_BYTES);
    let reads = |entry: &Entry| matches!(entry.method, Method::GET | Method::HEAD);
    let api = &match entries.iter().all(reads) {
        true => State(Arc::clone(&api.0)),
        false => State(Arc::new(FhirApi {
            access: Arc::new(Unshown(Arc::clone(&api.access))),
            ..FhirApi::clone(api)
        })),
    };
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| reads(entry)) {
        let of_one = entry.path.get(..2);
        let is_written = |other: &&Entry| !reads(other) && other.path.get(..2) == of_one;
        match entries
            .iter()
            .find(|other| of_one.is_some() && is_written(other))
        {
            // A version that was stays after it.
            Some(other) if other.method == Method::DELETE && entry.path.len() == 2 => {
                return Err(Failure::gone().of_entry(at));
            }
            Some(_) => {}
            None => {
                if left == 0 {
                    return Err(Failure::too_much_at_once().of_entry(at));
                }
                let answer = asked(api, headers, entry.clone()).await;
                let answer = answer.map_err(|failure| failure.of_entry(at))?;
                answers.push(told_whole(answer, &mut left).await);
            }
        }
    }
    Ok(answers)
}

/// Looks up what references lead to that are conditions (FHIR R4 http.html#trules).
async fn find_references(
    api: &FhirApi,
    headers: &HeaderMap,
    reader: &Reader,
    work: &mut Work,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for one in &work.writes {
        let text = one.resource.as_deref().unwrap_or_default();
        for reference in bundled::conditional_references(text) {
            wanted.entry(reference).or_insert(one.at);
        }
    }
    if wanted.len() > MAX_REFERENCES {
        return Err(Failure::too_many_entries());
    }
    // Each resource is looked at once, however many references there are.
    let mut written: HashMap<ResourceType, Vec<(FhirId, Vec<IndexRow>)>> = HashMap::new();
    for (raw, at) in wanted {
        let of_entry = |failure: Failure| failure.of_entry(at);
        let text: Result<String, _> = serde_json::from_str(&format!("\"{raw}\""));
        let text = text.map_err(|_| Failure::parameters().of_entry(at))?;
        let Some((name, query)) = text.split_once('?') else {
            continue;
        };
        // What is no type is a URL of somewhere, and judged as one.
        let Some(kind) = ResourceType::parse(name) else {
            continue;
        };
        let pairs = conditional::pairs_of(query).map_err(of_entry)?;
        let condition = Condition::read(api, headers, kind, &pairs, reader).await;
        let condition = condition.map_err(of_entry)?;
        let there = match condition.look(api).await.map_err(of_entry)? {
            Matching::None => None,
            Matching::One(stored) => Some(stored.id),
            Matching::Several => return Err(Failure::several().of_entry(at)),
        };
        let written = written.entry(kind);
        let written = written.or_insert_with(|| work.rows_of(api, kind));
        let here = work.referred_to(kind, (&condition, there.as_ref()), written);
        let here = here.map_err(of_entry)?;
        work.names.insert(raw, format!("{kind}/{here}"));
        work.guards.push(condition.guard(0, there));
    }
    Ok(())
}

/// Judges, writes down and does it; what was done of each, and its content. None where a search found another than was
/// looked up before.
async fn written(
    api: &FhirApi,
    reader: Reader,
    work: &Work,
) -> Result<Option<Vec<(Written, Option<Draft>)>>, Failure> {
    let writes = &work.writes;
    let mut drafts = Vec::with_capacity(writes.len());
    for one in writes {
        let draft = match &one.resource {
            None => None,
            Some(text) => {
                let names = Names {
                    all: &work.names,
                    base: bundled::base_of(one.full_url.as_deref(), &api.base),
                };
                let text = bundled::resolved(text, &names);
                // A patch leaves what was there, which may be no entry's.
                if !one.is_patch && bundled::refers_to_an_entry(&text) {
                    return Err(Failure::no_such_entry().of_entry(one.at));
                }
                let draft = one.asker.draft(api, one.kind, one.id.clone(), &text);
                let draft = draft.map_err(|failure| failure.of_entry(one.at))?;
                Some(match one.turn == POSTED {
                    true => draft.posted(),
                    false => draft,
                })
            }
        };
        drafts.push(draft);
    }
    note_all(api, work, &drafts).await?;
    let changes = writes.iter().zip(&drafts);
    let changes = changes.map(|(one, draft)| one.change(draft.as_ref()));
    let of_writes = writes.iter().filter_map(|one| one.guard.clone());
    let of_existing = work.nothing.iter().map(|one| one.guard.clone());
    let guards = of_writes.chain(of_existing);
    let transaction = Transaction {
        author: reader.0,
        now: (api.now)(),
        changes: changes.collect(),
        guards: guards.chain(work.guards.iter().cloned()).collect(),
    };
    match api.store.transact(transaction).await? {
        Transacted::Done(written) => Ok(Some(written.into_iter().zip(drafts).collect())),
        Transacted::Unmet {
            why: Unmet::Search, ..
        } => Ok(None),
        // Somebody wrote in between: the patch is applied to that.
        Transacted::Unmet {
            at,
            why: Unmet::Version,
        } if writes.get(at).is_some_and(|one| one.patches) => Ok(None),
        Transacted::Unmet { at, why } => {
            let at = writes.get(at).map_or(0, |one| one.at);
            Err(Failure::unmet(why).of_entry(at))
        }
    }
}

/// The row of each entry that writes, and of each that is given what is there.
async fn note_all(api: &FhirApi, work: &Work, drafts: &[Option<Draft>]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (one, draft) in work.writes.iter().zip(drafts) {
        let intent = Intent {
            request: format!("{}/{}", one.kind, one.id),
            patient: draft.as_ref().and_then(|draft| draft.patient().cloned()),
            resources: 1,
        };
        rows.push(one.asker.note(api, intent));
    }
    for one in &work.nothing {
        let there = one.stored.as_ref();
        let intent = Intent {
            request: match there {
                Some(stored) => format!("{}/{}", stored.kind, stored.id),
                None => one.kind.to_string(),
            },
            patient: None,
            resources: u32::from(there.is_some()),
        };
        rows.push(one.asker.note(api, intent));
    }
    for row in join_all(rows).await {
        row?;
    }
    Ok(())
}

fn told(
    headers: &HeaderMap,
    instants: &Instants,
    written: Written,
    draft: Option<Draft>,
) -> Result<Answered, Failure> {
    match draft {
        Some(draft) => {
            let stored = writing::stored_of(&draft, written);
            told_of(headers, instants, &stored, written.existed)
        }
        None => Ok(deleted(
            Some(written.version).filter(|version| *version > 0),
        )),
    }
}

/// Of an entry that deletes. What was not there has no version.
fn deleted(version: Option<u32>) -> Answered {
    Answered {
        resource: None,
        response: Told {
            status: StatusCode::NO_CONTENT.to_string(),
            etag: version.map(|version| format!("W/\"{version}\"")),
            ..Told::default()
        },
    }
}

fn told_of(
    headers: &HeaderMap,
    instants: &Instants,
    stored: &Stored,
    existed: bool,
) -> Result<Answered, Failure> {
    let instant = instants.of(stored);
    let resource = match negotiation::asks_for_representation(headers) {
        true => Some(stored.stamped(&instant)?),
        false => None,
    };
    let status = match existed {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    let Stored {
        kind, id, version, ..
    } = stored;
    Ok(Answered {
        resource,
        response: Told {
            status: status.to_string(),
            location: Some(format!("{kind}/{id}/_history/{version}")),
            etag: Some(format!("W/\"{version}\"")),
            last_modified: Some(instant),
            outcome: None,
        },
    })
}
