//! Whose an id is, in SQLite: a facility's, a client's, or nobody's yet.
use crate::store::{Delivery, NewResource, ResourceType};
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const OWNER: &str = "SELECT CASE WHEN author IS NULL THEN source ELSE '' END FROM resource \
     WHERE type = ?1 AND id = ?2";
/// What a client wrote and deleted stays the client's.
const OF_CLIENTS: &str = "SELECT k.value FROM json_each(?2) k WHERE EXISTS \
     (SELECT 1 FROM history h WHERE h.type = ?1 AND h.id = k.value AND h.author IS NOT NULL)";

/// Which resources that are referred to are another source's, by type and id: each is looked up once.
pub(super) type Foreign = HashMap<(ResourceType, String), bool>;

/// Under which ids of a delivery, and of those that it refers to, clients have written: with one look for each type. What has no
/// resource now and is among them a client deleted.
pub(super) fn of_clients(
    transaction: &Connection,
    delivery: &Delivery,
) -> rusqlite::Result<HashSet<(ResourceType, String)>> {
    let mut ids: BTreeMap<ResourceType, BTreeSet<&str>> = BTreeMap::new();
    for resource in &delivery.resources {
        let own = (resource.kind(), resource.id());
        for (kind, id) in resource.references().chain([own]) {
            ids.entry(kind).or_default().insert(id.as_str());
        }
    }
    let mut found = HashSet::new();
    for (kind, ids) in ids {
        let ids: Vec<&str> = ids.into_iter().collect();
        let ids = serde_json::Value::from(ids).to_string();
        let mut of_clients = transaction.prepare_cached(OF_CLIENTS)?;
        let rows = of_clients.query_map([kind.as_str(), ids.as_str()], |row| row.get(0))?;
        for id in rows {
            let id: String = id?;
            found.insert((kind, id));
        }
    }
    Ok(found)
}

/// Whether a resource refers to one that is another source's.
pub(super) fn refers_to_foreign(
    transaction: &Connection,
    resource: &NewResource,
    (source, of_clients): (&str, &HashSet<(ResourceType, String)>),
    looked_up: &mut Foreign,
) -> rusqlite::Result<bool> {
    let mut foreign = false;
    for (kind, id) in resource.references() {
        let key = (kind, id.as_str().to_owned());
        if let Some(known) = looked_up.get(&key) {
            foreign |= *known;
            continue;
        }
        let owner: Option<Option<String>> = transaction
            .prepare_cached(OWNER)?
            .query_row([kind.as_str(), id.as_str()], |row| row.get(0))
            .optional()?;
        let is = match owner {
            Some(owner) => owner.is_some_and(|owner| owner != source),
            None => of_clients.contains(&key),
        };
        looked_up.insert(key, is);
        foreign |= is;
    }
    Ok(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::fixture;

    #[test]
    fn the_ids_of_a_delivery_under_which_clients_wrote_are_found_at_once() {
        let connection = Connection::open_in_memory().unwrap();
        let table = "CREATE TABLE history(type TEXT, id TEXT, author TEXT)";
        connection.execute_batch(table).unwrap();
        let delivery = fixture::delivery(1, 0..9);
        let [first, second, ..] = &delivery.resources[..] else {
            panic!("there are several")
        };
        let reading = delivery.resources.last().unwrap();
        let (patient, device) = (ResourceType::Patient, ResourceType::Device);
        let referred = reading.references().next().unwrap();
        let write = |kind: ResourceType, id: &str, author: Option<&str>| {
            let row = "INSERT INTO history VALUES (?1, ?2, ?3)";
            let row = connection.execute(row, (kind.as_str(), id, author));
            row.unwrap();
        };
        write(first.kind(), first.id().as_str(), Some("ehr"));
        write(second.kind(), second.id().as_str(), None);
        write(referred.0, referred.1.as_str(), Some("ehr"));
        write(patient, "elsewhere", Some("ehr"));
        write(device, first.id().as_str(), None);
        let found = of_clients(&connection, &delivery).unwrap();
        let key = |kind: ResourceType, id: &str| (kind, id.to_owned());
        let expected = HashSet::from([
            key(first.kind(), first.id().as_str()),
            key(referred.0, referred.1.as_str()),
        ]);
        assert_eq!(found, expected);
    }
}
