//! What the record of a patient refers to and is nobody's: who treated, where, and with what (FHIR R4
//! patient-operation-everything.html: "and any resource referenced from those, including binaries and attachments").
//!
//! It stands behind the resources of the first page of which one refers to it, once: the link to the next page remembers
//! what was shown. What is of patients is shown of this one alone, whoever else is referred to; what is in the compartment of
//! none and names another one, as a Task may, or a Device that is theirs now, is not shown either.
use super::super::{including::Added, outcome::Failure};
use super::{Asked, Compartment};
use crate::bases::Bases;
use crate::json::Json;
use crate::query::{Filter, Target, split_reference, sql::Bind};
use crate::r4::R4;
use crate::store::{Find, FindPlace, MAX_PAGE, ResourceType, Sights, Stored};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Resources that a link remembers, the last ones: it stays short, and what was shown long before may be shown again.
const MAX_SEEN: usize = 200;
/// Bytes of the digest by which it knows one.
const DIGEST_BYTES: usize = 8;
/// Ids in one query.
const CHUNK: usize = 200;
/// References of one page that are looked up, whether anything is there or not. A page with more is refused: one resource
/// has room for tens of thousands.
const MAX_REFERRED: usize = 5_000;

/// What was shown on the pages before, in that order.
pub struct Seen(Vec<String>);

impl Seen {
    /// Of the place that a link goes on from.
    pub fn of(from: Option<&FindPlace>) -> Self {
        let key = from.and_then(|place| place.keys.first());
        Self(match key {
            Some(Bind::Text(text)) => text.split(' ').map(str::to_owned).collect(),
            _ => Vec::new(),
        })
    }

    /// What a link remembers, as keys of its place.
    pub fn keys(&self) -> Vec<Bind> {
        let from = self.0.len().saturating_sub(MAX_SEEN);
        let last = self.0.get(from..).unwrap_or_default();
        match last.is_empty() {
            true => Vec::new(),
            false => vec![Bind::Text(last.join(" "))],
        }
    }

    /// Whether it was not there before; it is now.
    fn add(&mut self, kind: ResourceType, id: &str) -> bool {
        let digest = Sha256::digest(format!("{kind}/{id}"));
        let bytes: Vec<u8> = digest.iter().take(DIGEST_BYTES).copied().collect();
        let name = URL_SAFE_NO_PAD.encode(bytes);
        let is_new = !self.0.contains(&name);
        if is_new {
            self.0.push(name);
        }
        is_new
    }
}

impl Compartment<'_> {
    /// What resources refer to, of the types that are asked for, but for what was shown before.
    pub(super) async fn referred(
        &self,
        asked: &Asked,
        page: &[Stored],
        seen: &mut Seen,
    ) -> Result<Vec<Stored>, Failure> {
        let mut references = BTreeSet::new();
        for stored in page {
            if let Ok(tree) = Json::parse(&stored.json) {
                refers(&tree, self.api.bases(), &mut references);
            }
        }
        let mut wanted: BTreeMap<ResourceType, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        for (kind, id) in references {
            let is_asked = asked.types.as_ref().is_none_or(|all| all.contains(&kind));
            if is_asked && is_nobodys(kind) && seen.add(kind, &id) {
                count += 1;
                if count > MAX_REFERRED {
                    return Err(Failure::too_many_included());
                }
                wanted.entry(kind).or_default().push(id);
            }
        }
        let (mut all, mut added) = (Vec::new(), Added::default());
        for (kind, ids) in wanted {
            let Some(sight) = self.api.may_search(self.headers, kind) else {
                continue;
            };
            let mut sights = Sights::new();
            sight.clone().add_to(&mut sights, kind)?;
            for chunk in ids.chunks(CHUNK) {
                let ids = Filter::Id(chunk.to_vec());
                let mut find = Find {
                    sights: sights.clone(),
                    ..Find::of(kind, Filter::All(vec![ids, asked.since.clone()]), MAX_PAGE)
                };
                loop {
                    let mut found = self.api.store.find(&find).await?;
                    found
                        .resources
                        .retain(|stored| sight.shows(stored) && !self.names_another(stored));
                    added.add(&found.resources)?;
                    all.extend(found.resources);
                    find.after = found.next;
                    if find.after.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(all)
    }

    /// Whether a resource names another patient than the one whose record this is; so does one that cannot be read.
    fn names_another(&self, stored: &Stored) -> bool {
        let Ok(tree) = Json::parse(&stored.json) else {
            return true;
        };
        let mut named = BTreeSet::new();
        refers(&tree, self.api.bases(), &mut named);
        named
            .iter()
            .any(|(kind, id)| *kind == ResourceType::Patient && id.as_str() != self.id.as_str())
    }
}

/// Whether resources of a type are in the compartment of no patient.
fn is_nobodys(kind: ResourceType) -> bool {
    R4.compartment("Patient", kind.as_str()).is_empty()
}

/// Adds what a value refers to here, and where it has attachments.
fn refers(value: &Json<'_>, bases: Bases<'_>, found: &mut BTreeSet<(ResourceType, String)>) {
    match value {
        Json::Object(object) => {
            for (name, value) in &object.0 {
                match (name.as_ref(), value) {
                    ("reference" | "url", Json::Text(text)) => found.extend(target(text, bases)),
                    _ => refers(value, bases, found),
                }
            }
        }
        Json::List(list) => {
            for value in list {
                refers(value, bases, found);
            }
        }
        _ => {}
    }
}

fn target(text: &str, bases: Bases<'_>) -> Option<(ResourceType, String)> {
    match split_reference(text, bases)? {
        Target::Local(kind, id, _) => Some((ResourceType::parse(kind)?, id.to_owned())),
        Target::Elsewhere(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_remembers_the_last_that_were_shown() {
        let mut seen = Seen::of(None);
        assert_eq!(seen.keys(), []);
        let device = ResourceType::Device;
        for number in 0..=MAX_SEEN {
            assert!(seen.add(device, &number.to_string()));
            assert!(!seen.add(device, &number.to_string()));
        }
        let place = FindPlace {
            keys: seen.keys(),
            kind: device,
            id: "d".parse().unwrap(),
        };
        let mut again = Seen::of(Some(&place));
        assert_eq!(again.keys(), seen.keys());
        assert!(!again.add(device, "1") && again.add(device, "0"));
        assert!(again.add(ResourceType::Patient, "1"));
    }
}
