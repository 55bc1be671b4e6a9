//! Whose an id is, in SQLite: a facility's, a client's, or nobody's yet.
use crate::store::{NewResource, ResourceType};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;

const OWNER: &str = "SELECT CASE WHEN author IS NULL THEN source ELSE '' END FROM resource \
     WHERE type = ?1 AND id = ?2";
/// What a client wrote and deleted stays the client's.
const DELETED: &str =
    "SELECT EXISTS (SELECT 1 FROM history WHERE type = ?1 AND id = ?2 AND author IS NOT NULL)";

/// Which resources that are referred to are another source's, by type and id: each is looked up once.
pub(super) type Foreign = HashMap<(ResourceType, String), bool>;

/// Whether a client wrote what was under an id that has no resource now.
pub(super) fn was_clients(transaction: &Connection, key: [&str; 2]) -> rusqlite::Result<bool> {
    let mut deleted = transaction.prepare_cached(DELETED)?;
    deleted.query_row(key, |row| row.get(0))
}

/// Whether a resource refers to one that is another source's.
pub(super) fn refers_to_foreign(
    transaction: &Connection,
    resource: &NewResource,
    source: &str,
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
            None => was_clients(transaction, [kind.as_str(), id.as_str()])?,
        };
        looked_up.insert(key, is);
        foreign |= is;
    }
    Ok(foreign)
}
