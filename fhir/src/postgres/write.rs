//! Writing: lock, read what is known, decide, then every row of the transaction in four multi-row statements.
use super::{events, general::index};
use crate::query::IndexRow;
use crate::store::{
    Applied, Decision, Delivery, Known, NewResource, ResourceType, conflicts_of, conflicts_text,
    decide, row_of_source, rows_of,
};
use crate::subscription::Noting;
use deadpool_postgres::{Object, Transaction};
use futures_util::future::try_join4;
use std::collections::{BTreeMap, HashMap, HashSet};
use tokio_postgres::{Error, types::ToSql};
use types::Timestamp;

/// Locks the order of commits, whoever writes.
pub const LOCK: &str =
    "UPDATE head SET updated = greatest(updated, $1) RETURNING seq, updated, watching";
const SEEN: &str = "SELECT id, conflicts FROM parcel WHERE id = ANY($1)";
/// What a client wrote is no facility's, also after it was deleted: it has an owner that no source is.
const KNOWN: &str = "SELECT r.type, r.id, r.version, r.body, \
     CASE WHEN r.author IS NULL THEN r.source ELSE '' END FROM resource r \
     JOIN unnest($1::text[], $2::text[]) AS k(type, id) ON r.type = k.type AND r.id = k.id \
     UNION ALL SELECT k.type, k.id, 0, '', '' FROM unnest($1::text[], $2::text[]) AS k(type, id) \
     WHERE EXISTS (SELECT 1 FROM history h WHERE h.type = k.type AND h.id = k.id AND h.author IS NOT NULL) \
     AND NOT EXISTS (SELECT 1 FROM resource c WHERE c.type = k.type AND c.id = k.id)";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, patient, device, code, category, \
     effective, source) SELECT seq, type, id, version, $2, body, patient, device, code, category, effective, source \
     FROM unnest($1::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], \
     $9::text[], $10::text[], $11::bigint[], $12::text[]) \
     AS n(seq, type, id, version, body, patient, device, code, category, effective, source) \
     ON CONFLICT (type, id) DO UPDATE SET seq = excluded.seq, version = excluded.version, \
     updated = excluded.updated, body = excluded.body, source = excluded.source, \
     patient = excluded.patient, device = excluded.device, code = excluded.code, category = excluded.category, \
     effective = excluded.effective";
const ADOPT: &str = "UPDATE resource r SET source = n.source \
     FROM unnest($1::text[], $2::text[], $3::text[]) AS n(type, id, source) \
     WHERE r.type = n.type AND r.id = n.id AND r.source IS NULL";
const OFFER: &str = "INSERT INTO facility(place, pseudonym) SELECT * FROM unnest($1::text[], $2::text[]) \
     ON CONFLICT (place) DO NOTHING";
const PSEUDONYMS: &str = "SELECT place, pseudonym FROM facility WHERE place = ANY($1)";
const REMEMBER: &str = "INSERT INTO history(type, id, version, updated, body, seq) \
     SELECT type, id, version, $1, body, seq \
     FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[]) \
     AS n(type, id, version, body, seq)";
/// The first version of what usually has one: it is among the past ones from now on.
const DEMOTE: &str = "INSERT INTO history(type, id, version, updated, body, seq) \
     SELECT r.type, r.id, r.version, r.updated, r.body, r.seq FROM resource r \
     JOIN unnest($1::text[], $2::text[]) AS k(type, id) ON r.type = k.type AND r.id = k.id";
const SEE: &str = "INSERT INTO parcel(id, conflicts) SELECT * FROM unnest($1::bytea[], $2::text[])";
/// Until the commit nobody else can take it.
const HOLDS: &str = "SELECT number FROM lease WHERE number = $1 FOR SHARE";
pub const HEAD: &str = "UPDATE head SET seq = $1, observations = observations + $2, patients = patients + $3, \
     devices = devices + $4";

type Key = (ResourceType, String);

/// One transaction; and how many events were written. None when it goes by a lease that another node has now: nothing is
/// stored.
pub async fn apply(
    client: &mut Object,
    deliveries: &[Delivery],
    (now, lease): (Timestamp, Option<i64>),
    watches: &events::Cache,
) -> Result<Option<(Vec<Applied>, u64)>, Error> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let head = transaction.query_one(&lock, &[&now.0]).await?;
    let mut plan = Plan {
        seq: head.get(0),
        updated: head.get(1),
        seen: seen(&transaction, deliveries).await?,
        known: known(&transaction, deliveries).await?,
        pseudonyms: pseudonyms(&transaction, deliveries).await?,
        noting: Noting::new(watches.watches(&transaction, head.get(2)).await?),
        ..Plan::default()
    };
    let applied = deliveries
        .iter()
        .map(|delivery| plan.deliver(delivery))
        .collect();
    plan.write(&transaction).await?;
    let events = events::write(
        &transaction,
        &plan.noting.events,
        (plan.updated, watches.most_pending),
    )
    .await?;
    // Looked at last, since the lease cannot be renewed meanwhile; its row is held until the commit.
    if !holds(&transaction, lease).await? {
        return Ok(None);
    }
    transaction.commit().await?;
    Ok(Some((applied, events)))
}

/// Whether the lease is still this node's, where it goes by one.
pub async fn holds(transaction: &Transaction<'_>, lease: Option<i64>) -> Result<bool, Error> {
    let Some(lease) = lease else {
        return Ok(true);
    };
    let statement = transaction.prepare_cached(HOLDS).await?;
    Ok(transaction
        .query_opt(&statement, &[&lease])
        .await?
        .is_some())
}

async fn seen(
    transaction: &Transaction<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<Vec<u8>, Vec<u32>>, Error> {
    let ids: Vec<&[u8]> = deliveries
        .iter()
        .map(|delivery| &delivery.parcel.as_bytes()[..])
        .collect();
    let statement = transaction.prepare_cached(SEEN).await?;
    let rows = transaction.query(&statement, &[&ids]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), conflicts_of(row.get(1))))
        .collect())
}

async fn known(
    transaction: &Transaction<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<Key, Known>, Error> {
    let resources = || deliveries.iter().flat_map(|delivery| &delivery.resources);
    let own = resources().map(|one| (one.kind(), one.id()));
    let referred = resources().flat_map(NewResource::references);
    let keys: HashSet<_> = own.chain(referred).collect();
    let types: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
    let ids: Vec<&str> = keys.iter().map(|key| key.1.as_str()).collect();
    let statement = transaction.prepare_cached(KNOWN).await?;
    let rows = transaction.query(&statement, &[&types, &ids]).await?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let kind = ResourceType::parse(row.get(0))?;
            let known = Known {
                version: u32::try_from(row.get::<_, i64>(2)).ok()?,
                json: row.get(3),
                source: row.get(4),
            };
            Some(((kind, row.get(1)), known))
        })
        .collect())
}

/// The pseudonyms of the sources, by place: those that they have, or those that are offered now.
async fn pseudonyms(
    transaction: &Transaction<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<String, String>, Error> {
    let offered: BTreeMap<&str, String> = deliveries
        .iter()
        .rev()
        .map(|one| (one.source.place.as_str(), one.source.fresh.to_string()))
        .collect();
    let places: Vec<&str> = offered.keys().copied().collect();
    let select = transaction.prepare_cached(PSEUDONYMS).await?;
    let mut rows = transaction.query(&select, &[&places]).await?;
    if rows.len() < places.len() {
        let fresh: Vec<&str> = offered.values().map(String::as_str).collect();
        let offer = transaction.prepare_cached(OFFER).await?;
        transaction.execute(&offer, &[&places, &fresh]).await?;
        rows = transaction.query(&select, &[&places]).await?;
    }
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What one transaction will write. Pure but for [`Plan::write`].
#[derive(Default)]
struct Plan<'a> {
    seq: i64,
    updated: i64,
    seen: HashMap<Vec<u8>, Vec<u32>>,
    known: HashMap<Key, Known>,
    /// By place.
    pseudonyms: HashMap<String, String>,
    /// Resources that nobody owned until now, and who does.
    adopted: Vec<(Key, String)>,
    /// The last version of each resource that is written.
    current: HashMap<Key, (i64, u32, &'a NewResource, String)>,
    /// Every version of versioned types that is written.
    past: Vec<(u32, &'a NewResource, i64)>,
    /// What is stored with its only version so far, and gets another one.
    demoted: Vec<Key>,
    parcels: Vec<(Vec<u8>, String)>,
    added: [i64; 3],
    noting: Noting,
}

impl<'a> Plan<'a> {
    fn deliver(&mut self, delivery: &'a Delivery) -> Applied {
        let parcel = delivery.parcel.as_bytes().to_vec();
        if let Some(conflicts) = self.seen.get(&parcel) {
            return Applied {
                conflicts: conflicts.clone(),
                ..Applied::default()
            };
        }
        let source = self.pseudonyms.get(&delivery.source.place);
        let source = source.cloned().unwrap_or_default();
        let mut applied = Applied {
            foreign: self.foreign(delivery, &source),
            ..Applied::default()
        };
        if !applied.foreign.is_empty() {
            return applied;
        }
        for (position, resource) in (0..).zip(&delivery.resources) {
            match self.put(resource, &source) {
                Decision::Write(_) => applied.written += 1,
                Decision::Same | Decision::Adopt => {}
                Decision::Conflict => applied.conflicts.push(position),
                Decision::Foreign => applied.foreign.push(position),
            }
        }
        self.parcels
            .push((parcel.clone(), conflicts_text(&applied.conflicts)));
        self.seen.insert(parcel, applied.conflicts.clone());
        applied
    }

    /// Positions of resources that are another source's, or refer to one that is.
    fn foreign(&self, delivery: &Delivery, source: &str) -> Vec<u32> {
        let is_foreign = |kind: ResourceType, id: &str| {
            let known = self.known.get(&(kind, id.to_owned()));
            known.is_some_and(|known| known.is_of_another(source))
        };
        let all = (0..).zip(&delivery.resources);
        let foreign = all.filter(|(_, one)| {
            let mut referred = one.references();
            is_foreign(one.kind(), one.id().as_str())
                || referred.any(|(kind, id)| is_foreign(kind, id.as_str()))
        });
        foreign.map(|(position, _)| position).collect()
    }

    fn put(&mut self, resource: &'a NewResource, source: &str) -> Decision {
        let key = (resource.kind(), resource.id().to_string());
        let known = self.known.get_mut(&key);
        let decision = decide(known.as_deref(), resource, source);
        let Decision::Write(version) = decision else {
            if let (Decision::Adopt, Some(known)) = (decision, known) {
                known.source = Some(source.to_owned());
                self.adopted.push((key, source.to_owned()));
            }
            return decision;
        };
        if known.is_none()
            && let Some(added) = resource.kind().of_mut(&mut self.added)
        {
            *added += 1;
        }
        if known.is_some() && !resource.kind().is_versioned() {
            match self.current.get(&key) {
                Some((seq, version, before, _)) => self.past.push((*version, *before, *seq)),
                None => self.demoted.push(key.clone()),
            }
        }
        self.seq += 1;
        self.noting.deliver(resource, source, (version, self.seq));
        let now = Known {
            version,
            json: resource.json().to_owned(),
            source: Some(source.to_owned()),
        };
        self.known.insert(key.clone(), now);
        let row = (self.seq, version, resource, source.to_owned());
        self.current.insert(key, row);
        if resource.kind().is_versioned() {
            self.past.push((version, resource, self.seq));
        }
        decision
    }

    /// The statements do not depend on each other, so they are sent without waiting (pipelined).
    async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        self.demote(transaction).await?;
        let [observations, patients, devices] = self.added;
        let head = async {
            let statement = transaction.prepare_cached(HEAD).await?;
            let params: [&(dyn ToSql + Sync); 4] = [&self.seq, &observations, &patients, &devices];
            transaction.execute(&statement, &params).await
        };
        try_join4(
            self.write_current(transaction),
            self.write_past(transaction),
            self.write_parcels(transaction),
            head,
        )
        .await?;
        self.write_index(transaction).await?;
        // After the rows that are written: one of them may be adopted by what follows it.
        self.write_adopted(transaction).await
    }

    async fn write_adopted(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.adopted.is_empty() {
            return Ok(());
        }
        let adopted = self.adopted.iter();
        let types: Vec<_> = adopted.clone().map(|row| row.0.0.as_str()).collect();
        let ids: Vec<_> = adopted.clone().map(|row| row.0.1.as_str()).collect();
        let sources: Vec<_> = adopted.map(|row| row.1.as_str()).collect();
        let statement = transaction.prepare_cached(ADOPT).await?;
        let params: [&(dyn ToSql + Sync); 3] = [&types, &ids, &sources];
        transaction.execute(&statement, &params).await?;
        let indexed = self.adopted.iter().filter(|row| row.0.0.is_indexed());
        let rows: Vec<(&str, &str, [IndexRow; 1])> = indexed
            .map(|((kind, id), source)| (kind.as_str(), id.as_str(), [row_of_source(source)]))
            .collect();
        let rows: Vec<index::Found<'_>> = rows
            .iter()
            .map(|(kind, id, rows)| (*kind, *id, rows.as_slice()))
            .collect();
        index::add(transaction, &rows).await
    }

    /// What the resources are found by that have an index: few among many readings.
    async fn write_index(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let indexed = self
            .current
            .values()
            .filter(|row| row.2.kind().is_indexed());
        let indexed: Vec<_> = indexed.collect();
        let known: Vec<_> = indexed.iter().filter(|row| row.1 > 1).collect();
        if !known.is_empty() {
            let types: Vec<&str> = known.iter().map(|row| row.2.kind().as_str()).collect();
            let ids: Vec<&str> = known.iter().map(|row| row.2.id().as_str()).collect();
            index::forget(transaction, &types, &ids).await?;
        }
        let mut rows: Vec<(&str, &str, Vec<IndexRow>)> = Vec::with_capacity(indexed.len());
        for (_, _, resource, source) in indexed {
            let (kind, id) = (resource.kind().as_str(), resource.id().as_str());
            rows.push((kind, id, rows_of(resource.json(), Some(source))));
        }
        let rows: Vec<index::Found<'_>> = rows
            .iter()
            .map(|(kind, id, rows)| (*kind, *id, rows.as_slice()))
            .collect();
        index::add(transaction, &rows).await
    }

    /// Before anything is written: it copies what is current.
    async fn demote(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.demoted.is_empty() {
            return Ok(());
        }
        let types: Vec<_> = self.demoted.iter().map(|key| key.0.as_str()).collect();
        let ids: Vec<_> = self.demoted.iter().map(|key| key.1.as_str()).collect();
        let statement = transaction.prepare_cached(DEMOTE).await?;
        transaction.execute(&statement, &[&types, &ids]).await?;
        Ok(())
    }

    async fn write_current(&self, transaction: &Transaction<'_>) -> Result<u64, Error> {
        let mut rows: Vec<_> = self.current.values().collect();
        rows.sort_unstable_by_key(|(seq, ..)| *seq);
        macro_rules! column {
            ($row:ident => $value:expr) => {
                rows.iter().map(|$row| $value).collect::<Vec<_>>()
            };
        }
        let seqs = column!(row => row.0);
        let types = column!(row => row.2.kind().as_str());
        let ids = column!(row => row.2.id().as_str());
        let versions = column!(row => i64::from(row.1));
        let bodies = column!(row => row.2.json());
        let patients = column!(row => row.2.index().patient.as_ref().map(|id| id.as_str()));
        let devices = column!(row => row.2.index().device.as_ref().map(|id| id.as_str()));
        let codes = column!(row => row.2.index().code.map(|code| code.to_string()));
        let categories = column!(row => row.2.index().category.map(|one| one.as_str()));
        let times = column!(row => row.2.index().effective.map(|time| time.0));
        let sources = column!(row => row.3.as_str());
        let params: [&(dyn ToSql + Sync); 12] = [
            &seqs,
            &self.updated,
            &types,
            &ids,
            &versions,
            &bodies,
            &patients,
            &devices,
            &codes,
            &categories,
            &times,
            &sources,
        ];
        let statement = transaction.prepare_cached(WRITE).await?;
        transaction.execute(&statement, &params).await
    }

    async fn write_past(&self, transaction: &Transaction<'_>) -> Result<u64, Error> {
        let types: Vec<_> = self.past.iter().map(|row| row.1.kind().as_str()).collect();
        let ids: Vec<_> = self.past.iter().map(|row| row.1.id().as_str()).collect();
        let versions: Vec<_> = self.past.iter().map(|row| i64::from(row.0)).collect();
        let bodies: Vec<_> = self.past.iter().map(|row| row.1.json()).collect();
        let statement = transaction.prepare_cached(REMEMBER).await?;
        let seqs: Vec<i64> = self.past.iter().map(|row| row.2).collect();
        let params: [&(dyn ToSql + Sync); 6] =
            [&self.updated, &types, &ids, &versions, &bodies, &seqs];
        transaction.execute(&statement, &params).await
    }

    async fn write_parcels(&self, transaction: &Transaction<'_>) -> Result<u64, Error> {
        let ids: Vec<&[u8]> = self.parcels.iter().map(|row| row.0.as_slice()).collect();
        let conflicts: Vec<&str> = self.parcels.iter().map(|row| row.1.as_str()).collect();
        let statement = transaction.prepare_cached(SEE).await?;
        transaction.execute(&statement, &[&ids, &conflicts]).await
    }
}
