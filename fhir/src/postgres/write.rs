//! Writing: lock, read what is known, decide, then every row of the transaction in four multi-row statements.
use crate::store::{
    Applied, Decision, Delivery, NewResource, ResourceType, conflicts_of, conflicts_text, decide,
};
use deadpool_postgres::{Object, Transaction};
use futures_util::future::try_join4;
use std::collections::HashMap;
use tokio_postgres::{Error, types::ToSql};
use types::Timestamp;

const LOCK: &str = "UPDATE head SET updated = greatest(updated, $1) RETURNING seq, updated";
const SEEN: &str = "SELECT id, conflicts FROM parcel WHERE id = ANY($1)";
const KNOWN: &str = "SELECT r.type, r.id, r.version, r.body FROM resource r \
     JOIN unnest($1::text[], $2::text[]) AS k(type, id) ON r.type = k.type AND r.id = k.id";
const WRITE: &str = "INSERT INTO resource(seq, type, id, version, updated, body, patient, device, code, category, \
     effective) SELECT seq, type, id, version, $2, body, patient, device, code, category, effective \
     FROM unnest($1::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], \
     $9::text[], $10::text[], $11::bigint[]) \
     AS n(seq, type, id, version, body, patient, device, code, category, effective) \
     ON CONFLICT (type, id) DO UPDATE SET seq = excluded.seq, version = excluded.version, \
     updated = excluded.updated, body = excluded.body";
const REMEMBER: &str = "INSERT INTO history(type, id, version, updated, body) \
     SELECT type, id, version, $1, body FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) \
     AS n(type, id, version, body)";
const SEE: &str = "INSERT INTO parcel(id, conflicts) SELECT * FROM unnest($1::bytea[], $2::text[])";
const HEAD: &str = "UPDATE head SET seq = $1, observations = observations + $2, patients = patients + $3, \
     devices = devices + $4";

type Key = (ResourceType, String);

/// One transaction.
pub async fn apply(
    client: &mut Object,
    deliveries: &[Delivery],
    now: Timestamp,
) -> Result<Vec<Applied>, Error> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let head = transaction.query_one(&lock, &[&now.0]).await?;
    let mut plan = Plan {
        seq: head.get(0),
        updated: head.get(1),
        seen: seen(&transaction, deliveries).await?,
        known: known(&transaction, deliveries).await?,
        ..Plan::default()
    };
    let applied = deliveries
        .iter()
        .map(|delivery| plan.deliver(delivery))
        .collect();
    plan.write(&transaction).await?;
    transaction.commit().await?;
    Ok(applied)
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
) -> Result<HashMap<Key, (u32, String)>, Error> {
    let resources = || deliveries.iter().flat_map(|delivery| &delivery.resources);
    let types: Vec<&str> = resources().map(|one| one.kind().as_str()).collect();
    let ids: Vec<&str> = resources().map(|one| one.id().as_str()).collect();
    let statement = transaction.prepare_cached(KNOWN).await?;
    let rows = transaction.query(&statement, &[&types, &ids]).await?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let kind = ResourceType::parse(row.get(0))?;
            let version = u32::try_from(row.get::<_, i64>(2)).ok()?;
            Some(((kind, row.get(1)), (version, row.get(3))))
        })
        .collect())
}

/// What one transaction will write. Pure but for [`Plan::write`].
#[derive(Default)]
struct Plan<'a> {
    seq: i64,
    updated: i64,
    seen: HashMap<Vec<u8>, Vec<u32>>,
    known: HashMap<Key, (u32, String)>,
    /// The last version of each resource that is written.
    current: HashMap<Key, (i64, u32, &'a NewResource)>,
    /// Every version of versioned types that is written.
    past: Vec<(u32, &'a NewResource)>,
    parcels: Vec<(Vec<u8>, String)>,
    added: [i64; 3],
}

impl<'a> Plan<'a> {
    fn deliver(&mut self, delivery: &'a Delivery) -> Applied {
        let parcel = delivery.parcel.as_bytes().to_vec();
        if let Some(conflicts) = self.seen.get(&parcel) {
            return Applied {
                written: 0,
                conflicts: conflicts.clone(),
            };
        }
        let mut applied = Applied {
            written: 0,
            conflicts: Vec::new(),
        };
        for (position, resource) in (0..).zip(&delivery.resources) {
            match self.put(resource) {
                Decision::Write(_) => applied.written += 1,
                Decision::Same => {}
                Decision::Conflict => applied.conflicts.push(position),
            }
        }
        self.parcels
            .push((parcel.clone(), conflicts_text(&applied.conflicts)));
        self.seen.insert(parcel, applied.conflicts.clone());
        applied
    }

    fn put(&mut self, resource: &'a NewResource) -> Decision {
        let key = (resource.kind(), resource.id().to_string());
        let known = self.known.get(&key);
        let decision = decide(
            known.map(|(version, body)| (*version, body.as_str())),
            resource,
        );
        let Decision::Write(version) = decision else {
            return decision;
        };
        if known.is_none()
            && let Some(at) = ResourceType::ALL
                .iter()
                .position(|one| *one == resource.kind())
        {
            self.added[at] += 1;
        }
        self.seq += 1;
        self.known
            .insert(key.clone(), (version, resource.json().to_owned()));
        self.current.insert(key, (self.seq, version, resource));
        if resource.kind().is_versioned() {
            self.past.push((version, resource));
        }
        decision
    }

    /// The statements do not depend on each other, so they are sent without waiting (pipelined).
    async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
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
        let params: [&(dyn ToSql + Sync); 11] = [
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
        let params: [&(dyn ToSql + Sync); 5] = [&self.updated, &types, &ids, &versions, &bodies];
        transaction.execute(&statement, &params).await
    }

    async fn write_parcels(&self, transaction: &Transaction<'_>) -> Result<u64, Error> {
        let ids: Vec<&[u8]> = self.parcels.iter().map(|row| row.0.as_slice()).collect();
        let conflicts: Vec<&str> = self.parcels.iter().map(|row| row.1.as_str()).collect();
        let statement = transaction.prepare_cached(SEE).await?;
        transaction.execute(&statement, &[&ids, &conflicts]).await
    }
}
