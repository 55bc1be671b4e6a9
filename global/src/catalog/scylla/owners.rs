//! Who owns an id, in ScyllaDB or Apache Cassandra: the first claim, by a lightweight transaction (Paxos), once for each
//! device. What is read or put later is compared with it by an ordinary read.
use super::{IN_FLIGHT, ScyllaCatalog, entry, failed, home, wrap, write_time};
use crate::catalog::{Device, Home, Kind, Records, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use std::collections::HashMap;
use types::{CatalogId, Timestamp};

pub(super) const CLAIM: &str = "
INSERT INTO owner_of_device (id, jurisdiction, region, facility) VALUES (?, ?, ?, ?) IF NOT EXISTS";

pub(super) const OWNER: &str = "
SELECT jurisdiction, region, facility FROM owner_of_device WHERE id = ?";

const ALL_CLAIMS: &str = "
SELECT id, jurisdiction, region, facility, updated_ms FROM device_by_id";

const DROP_BY_FACILITY: &str = "
DELETE FROM device_by_facility USING TIMESTAMP ? WHERE jurisdiction = ? AND region = ? AND facility = ? AND id = ?";

const DROP_BY_ID: &str = "
DELETE FROM device_by_id USING TIMESTAMP ? WHERE jurisdiction = ? AND region = ? AND facility = ? AND id = ?";

impl ScyllaCatalog {
    /// Who owns an id: by its claim, or, where none was made since version 2, who put it.
    pub(super) async fn owner(&self, id: CatalogId) -> Result<Option<Home>, StoreError> {
        const OP: &str = "owner";
        let rows = self.read(OP, &self.owner, (id.to_string(),)).await?;
        let row = rows
            .maybe_first_row::<(&str, &str, &str)>()
            .map_err(|error| wrap(OP, Kind::Corrupt, error))?;
        match row {
            Some((jurisdiction, region, facility)) => home(jurisdiction, region, facility)
                .map(Some)
                .ok_or_else(|| StoreError::new(Kind::Corrupt, OP)),
            None => Ok(self.claims(id).await?.into_iter().next().map(|it| it.home)),
        }
    }

    /// What facilities have put under an id, the oldest first.
    pub(super) async fn claims(&self, id: CatalogId) -> Result<Vec<Device>, StoreError> {
        const OP: &str = "device";
        let text = id.to_string();
        let rows = self.read(OP, &self.device, (&text,)).await?;
        let rows = rows
            .rows::<(&str, &str, &str, &str, i64)>()
            .map_err(|error| wrap(OP, Kind::Corrupt, error))?;
        let claims: Result<Vec<Device>, StoreError> = rows
            .map(|row| {
                let (jurisdiction, region, facility, facts, updated) =
                    row.map_err(|error| wrap(OP, Kind::Corrupt, error))?;
                home(jurisdiction, region, facility)
                    .zip(entry(&text, facts, updated))
                    .map(|(home, entry)| Device { home, entry })
                    .ok_or_else(|| StoreError::new(Kind::Corrupt, OP))
            })
            .collect();
        let mut claims = claims?;
        claims.sort_by(|a, b| (a.entry.updated, &a.home).cmp(&(b.entry.updated, &b.home)));
        Ok(claims)
    }

    /// Claims an id for a facility, unless it is owned, and says whether it is the facility's now.
    async fn claim(&self, home: &Home, id: CatalogId) -> Result<bool, StoreError> {
        let owner = self.owner(id).await?;
        let (first, text) = (owner.as_ref().unwrap_or(home), id.to_string());
        let row = (
            text,
            first.jurisdiction.as_str(),
            first.region.as_str(),
            first.facility.as_str(),
        );
        self.run("claim", &self.claim, row).await?;
        Ok(self.owner(id).await?.as_ref() == Some(home))
    }

    /// Whether a facility owns all these ids, after it has claimed those that nobody owned.
    pub(super) async fn owns(&self, records: &Records) -> Result<bool, StoreError> {
        let home = &records.home;
        let ids = || records.devices.iter().map(|entry| entry.id);
        let looks: Vec<_> = ids().map(|id| self.owner(id)).collect();
        let owners: Vec<Option<Home>> = stream::iter(looks)
            .buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        if owners.iter().flatten().any(|owner| owner != home) {
            return Ok(false);
        }
        let free = ids().zip(&owners).filter(|(_, owner)| owner.is_none());
        let claims: Vec<_> = free.map(|(id, _)| self.claim(home, id)).collect();
        let claimed: Vec<bool> = stream::iter(claims)
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(claimed.into_iter().all(|owned| owned))
    }
}

/// Version 1 kept what every facility put under an id. The claim that has stood unchanged for longest is taken for the
/// first; the others are dropped.
pub(super) async fn drop_later_claims(session: &Session) -> Result<(), StoreError> {
    const OP: &str = "migrate";
    type Row = (String, String, String, String, i64);
    let pager = session.query_iter(ALL_CLAIMS, ()).await;
    let pager = pager.map_err(|error| wrap(OP, Kind::Unavailable, error))?;
    let rows = pager
        .rows_stream::<Row>()
        .map_err(|error| wrap(OP, Kind::Corrupt, error))?;
    let rows: Vec<Row> = rows
        .try_collect()
        .await
        .map_err(|error| wrap(OP, Kind::Unavailable, error))?;
    let mut first: HashMap<&str, &Row> = HashMap::new();
    let age = |row: &Row| (row.4, row.1.clone(), row.2.clone(), row.3.clone());
    for row in &rows {
        let kept = first.entry(&row.0).or_insert(row);
        if age(row) < age(kept) {
            *kept = row;
        }
    }
    for row in &rows {
        if first.get(row.0.as_str()).is_some_and(|kept| *kept == row) {
            continue;
        }
        let (id, jurisdiction, region, facility, updated) = row;
        let key = (
            write_time(Timestamp(*updated)),
            jurisdiction,
            region,
            facility,
            id,
        );
        for statement in [DROP_BY_FACILITY, DROP_BY_ID] {
            let done = session.query_unpaged(statement, &key).await;
            done.map_err(|error| failed(OP, error))?;
        }
    }
    Ok(())
}
