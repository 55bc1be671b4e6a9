//! What an index was made by: a rule for each parameter of each type, kept beside the rows. Where those that a store keeps
//! are not this program's, a job makes the rows of every resource anew, a chunk at a time beside traffic
//! ([`super::ResourceStore::reindex`]), and keeps the rules with its last one. Until then nobody is answered by a parameter
//! that is new for its type, since what it would find is not all there is: [`Unindexed`].
use super::draft::rows_anew;
use super::{Find, Kind, StoreError, Transaction};
use crate::query::{Filter, IndexRow, Param, SortBy, params};
use crate::r4::R4;
use crate::search::Query;
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
    sync::atomic::{AtomicBool, Ordering},
};

/// The version of the code that makes rows of a resource ([`crate::query::extract`]). It is part of every rule: one more
/// has every row made anew. Version 2 leaves a reference out of what is `:missing` that has a display or an identifier alone.
const INDEX_RULES: u32 = 2;
/// The digest of all rules when they were kept first, at version 1. A store that kept none was made by these.
const FIRST: &str = "21c556b0b1779182";

/// Places in the order of commits that are looked at for one chunk: most are of readings, which have no rows.
const SEQS: i64 = 16_384;
/// Resources in one chunk, for which writers wait: some milliseconds.
pub(crate) const RESOURCES: i64 = 32;
/// Bytes of the texts of one chunk, which ends with the resource that reaches them.
pub(crate) const BYTES: usize = 256 << 10;

/// A resource type, and a parameter of it.
pub(crate) type Used = (&'static str, &'static str);
/// The digest of what makes the rows of each parameter.
pub(crate) type Rules = BTreeMap<Used, String>;

/// Those of this program.
pub(crate) static RULES: LazyLock<Rules> = LazyLock::new(|| rules(INDEX_RULES));
/// All of them in one.
pub(crate) static TARGET: LazyLock<String> = LazyLock::new(|| all_of(&RULES));

fn rules(version: u32) -> Rules {
    let all = R4.resources().iter().flat_map(|kind| params(kind));
    all.map(|param| ((param.resource_type, param.code), rule(param, version)))
        .collect()
}

fn rule(param: &Param, version: u32) -> String {
    let parts = param.parts.iter();
    let parts = parts.map(|part| format!("{}={}", part.code, part.expression));
    let parts: Vec<String> = parts.collect();
    digest(&format!(
        "{version}\t{}\t{}\t{}\t{}",
        param.kind.as_str(),
        param.expression,
        param.targets.join("|"),
        parts.join(";")
    ))
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

fn all_of(rules: &Rules) -> String {
    let lines = rules.iter();
    let lines = lines.map(|((kind, param), rule)| format!("{kind}\t{param}\t{rule}\n"));
    digest(&lines.collect::<String>())
}

/// What a store with an index was made by that kept no rules. None is known where the parameters are others by now: then all
/// of them are new.
pub(crate) fn first() -> Rules {
    let first = rules(1);
    match all_of(&first) == FIRST {
        true => first,
        false => Rules::new(),
    }
}

/// What a store keeps: type, parameter and rule.
#[derive(Default)]
pub(crate) struct Kept(HashMap<String, String>);

impl Kept {
    fn key(kind: &str, param: &str) -> String {
        format!("{kind}\t{param}")
    }

    pub fn add(&mut self, (kind, param): (&str, &str), rule: String) {
        self.0.insert(Self::key(kind, param), rule);
    }

    /// Parameters that no row was made for yet.
    pub fn lacks(&self) -> BTreeSet<Used> {
        let all = RULES.keys();
        let lacking = all.filter(|(kind, param)| !self.0.contains_key(&Self::key(kind, param)));
        lacking.copied().collect()
    }

    /// The job that leads to this program's rules; none where they are kept. One that is under way goes on, and where it goes
    /// by another program's rules, nobody knows which rows are by which.
    pub fn job(&self, under_way: Option<Job>, head: i64) -> Option<Job> {
        if let Some(job) = under_way.as_ref().filter(|job| job.target == *TARGET) {
            return Some(job.clone());
        }
        let is_kept = |((kind, param), rule): (&Used, &String)| {
            self.0.get(&Self::key(kind, param)) == Some(rule)
        };
        let walks = under_way.is_some() || !RULES.iter().all(is_kept);
        if !walks && self.0.len() == RULES.len() {
            return None;
        }
        Some(Job {
            // Of a parameter that is no more nothing is made.
            at: if walks { 0 } else { head },
            until: head,
            target: TARGET.clone(),
        })
    }
}

/// A job: up to which place in the order of commits it has come, where it ends, and the rules that it goes by ([`TARGET`]).
/// What is written after it began is behind its end, and by these rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub at: i64,
    pub until: i64,
    pub target: String,
}

/// What one step makes anew.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where the job stands before it.
    pub from: i64,
    /// Where it stands then.
    pub at: i64,
    /// Where it ends.
    pub until: i64,
    pub resources: Vec<Anew>,
    bytes: usize,
}

/// The rows of a resource, but for its source: it may be adopted meanwhile.
#[derive(Debug)]
pub(crate) struct Anew {
    /// Its place: once it has another one, it was written, and its rows are newer than these.
    pub seq: i64,
    pub kind: String,
    pub id: String,
    pub rows: Vec<IndexRow>,
}

impl Chunk {
    /// The next one of a job. It looks no further than [`Chunk::last`].
    pub fn of(job: &Job) -> Self {
        Self {
            from: job.at,
            at: job.at.saturating_add(SEQS).min(job.until),
            until: job.until,
            resources: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds the next resource. `base` is that of this server where a client wrote it, else empty. True when it is full.
    pub fn add(&mut self, seq: i64, key: (String, String), (text, base): (&str, &str)) -> bool {
        self.bytes += text.len();
        let (kind, id) = key;
        self.resources.push(Anew {
            seq,
            kind,
            id,
            rows: rows_anew(text, base),
        });
        let count = i64::try_from(self.resources.len()).unwrap_or(i64::MAX);
        let is_full = count >= RESOURCES || self.bytes >= BYTES;
        if is_full {
            self.at = seq;
        }
        is_full
    }

    pub const fn is_last(&self) -> bool {
        self.at >= self.until
    }

    /// Places that are left then.
    pub fn left(&self) -> u64 {
        u64::try_from(self.until.saturating_sub(self.at)).unwrap_or(0)
    }
}

/// What a store lacks by its rules.
#[derive(Default)]
pub(crate) struct Indexing {
    new: RwLock<BTreeSet<Used>>,
    is_known: AtomicBool,
}

impl Indexing {
    /// With these that are new.
    pub fn of(new: BTreeSet<Used>) -> Self {
        let own = Self::default();
        own.lacks(new);
        own
    }

    /// These are new.
    pub fn lacks(&self, new: BTreeSet<Used>) {
        *self.new.write() = new;
        self.is_known.store(true, Ordering::Release);
    }

    /// Whether what is new was read since there was no job.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// There is no job, or no more.
    pub fn ended(&self) {
        self.is_known.store(false, Ordering::Release);
    }

    /// It has its rows by now.
    pub fn has(&self, used: Used) {
        self.new.write().remove(&used);
    }

    /// Those of what is used that are new.
    pub fn lacking(&self, used: impl FnOnce() -> BTreeSet<Used>) -> Vec<Used> {
        let new = self.new.read();
        if new.is_empty() {
            return Vec::new();
        }
        used().into_iter().filter(|one| new.contains(one)).collect()
    }
}

/// The rows of a parameter are not all made yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{param} of {kind} is being indexed: {percent} % done; try again later")]
pub struct Unindexed {
    /// The resource type.
    pub kind: &'static str,
    /// The parameter.
    pub param: &'static str,
    /// How much of the order of commits the job has passed.
    pub percent: u8,
}

impl Unindexed {
    /// Of the place where a job stands, and its end.
    pub(crate) fn new((kind, param): Used, at: i64, until: i64) -> Self {
        let percent = at.saturating_mul(100).checked_div(until).unwrap_or(0);
        Self {
            kind,
            param,
            percent: u8::try_from(percent.clamp(0, 99)).unwrap_or(0),
        }
    }
}

impl From<Unindexed> for StoreError {
    fn from(unindexed: Unindexed) -> Self {
        Self {
            kind: Kind::Unavailable,
            op: "search",
            source: Some(Box::new(unindexed)),
        }
    }
}

/// Every parameter by which a search looks.
pub(crate) fn of_find(find: &Find) -> BTreeSet<Used> {
    let mut used = BTreeSet::new();
    of_filter(&find.types, &find.filter, &mut used);
    for key in &find.sort {
        if let SortBy::Param(param) = key.by {
            used.extend(find.types.iter().map(|kind| (*kind, param.code)));
        }
    }
    for (kind, filter) in &find.sights {
        of_filter(&[kind], filter, &mut used);
    }
    used
}

/// The same of what clients wrote among readings.
pub(crate) fn of_query(query: &Query) -> BTreeSet<Used> {
    let mut used = BTreeSet::new();
    if let Some(filter) = &query.written {
        of_filter(&[query.kind.as_str()], filter, &mut used);
    }
    used
}

/// The same of what changes expect.
pub(crate) fn of_guards(transaction: &Transaction) -> BTreeSet<Used> {
    let mut used = BTreeSet::new();
    for guard in &transaction.guards {
        of_filter(&[guard.kind.as_str()], &guard.filter, &mut used);
        for (kind, filter) in &guard.sights {
            of_filter(&[kind], filter, &mut used);
        }
    }
    used
}

fn of_filter(types: &[&'static str], filter: &Filter, used: &mut BTreeSet<Used>) {
    match filter {
        Filter::Param { param, .. } | Filter::Missing { param, .. } => {
            used.extend(types.iter().map(|kind| (*kind, param.code)));
        }
        Filter::List(_) => {
            used.insert(("List", "item"));
        }
        Filter::Chain { param, targets } => {
            used.extend(types.iter().map(|kind| (*kind, param.code)));
            for (kind, inner) in targets {
                of_filter(&[kind], inner, used);
                by_url(param, kind, used);
            }
        }
        Filter::Has {
            source,
            reference,
            inner,
        } => {
            used.insert((source, reference.code));
            of_filter(&[source], inner, used);
            for kind in types {
                by_url(reference, kind, used);
            }
        }
        Filter::HasReading { inner, .. } => of_filter(&["Observation"], inner, used),
        Filter::Not(inner) => of_filter(types, inner, used),
        Filter::Any(all) | Filter::All(all) => {
            for inner in all {
                of_filter(types, inner, used);
            }
        }
        Filter::Id(_)
        | Filter::LastUpdated(_)
        | Filter::Commits(_)
        | Filter::Column(_)
        | Filter::Own => {}
    }
}

/// What has a canonical URL is looked for by it.
fn by_url(reference: &Param, kind: &'static str, used: &mut BTreeSet<Used>) {
    if reference.is_canonical() {
        used.extend(["url", "version"].map(|param| (kind, param)));
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
