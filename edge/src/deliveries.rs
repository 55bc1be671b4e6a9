//! Files that the global node sends down to the facility, as blobs.
//!
//! A descriptor comes from the region and is taken in within the store's commit ([`Takes`]); with it the facility wants the
//! bytes, which the link fetches. When all of them are here and were checked, that is written down and the region is told
//! ([`keep`]), in one commit. The facility keeps the file until it is taken back. Its staff lists what there is, and finds it as
//! a file of the data directory (`medmesh edge blobs`).
use crate::{beds::failed, context::Shared};
use axum::{
    Json, Router,
    extract::State as Of,
    response::{IntoResponse, Response},
    routing::get,
};
use federation::{
    audit::{Decision, Entry},
    blobs::{self, Blobs, Descriptor, Digest},
    envelope::{self, Intact, OpenError},
    port::Verdict,
    reason,
};
use messages::{
    DeliveryReport, DeliveryReports, FirmwareDelivery, ModelDelivery, PolicyDelivery,
    delivery::{Delivers, Described, WithKind, with_kind},
};
use rusqlite::{Connection, Row as SqlRow};
use serde_json::{Value, json};
use std::{convert::Infallible, marker::PhantomData, sync::Arc, time::Duration};
use store::{Commit, Handler, Handlers, Store, StoreError, StoreErrorKind};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{DataClass, Id128, Label, Place, Priority, Purpose, Timestamp};

/// How often it is looked for files that have come (real time); at once when a blob has.
const TICK: Duration = Duration::from_secs(2);
/// Files that are looked at or listed at once.
const MAX_LOOK: u32 = 1_000;

/// A file that comes or has come.
struct Row {
    id: Id128,
    name: Label,
    sha256: [u8; 32],
    size: u64,
    class: DataClass,
    purpose: Purpose,
    /// When its descriptor came (real time).
    come: Timestamp,
    /// When all of it was here (real time), and the region was told.
    arrived: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, sha256, size, class, purpose, come_ms, arrived_ms";

impl Row {
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Option<Self>> {
        let text = |column| row.get::<_, String>(column);
        let (name, class, purpose) = (text(1)?, text(4)?, text(5)?);
        let size: i64 = row.get(3)?;
        let known = name.parse().ok().zip(DataClass::parse(&class));
        let Some(((name, class), purpose)) = known.zip(Purpose::parse(&purpose)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: Id128::from_bytes(row.get(0)?),
            name,
            sha256: row.get(2)?,
            size: size.unsigned_abs(),
            class,
            purpose,
            come: Timestamp(row.get(6)?),
            arrived: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        }))
    }

    fn all(tx: &Connection, which: &str) -> Result<Vec<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM delivery {which} LIMIT ?1");
        let mut query = tx.prepare_cached(&sql)?;
        let rows = query.query_map([MAX_LOOK], Self::read)?;
        let known = |row: rusqlite::Result<Option<Self>>| {
            row?.ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, "read a delivery"))
        };
        rows.map(known).collect()
    }

    fn put(&self, tx: &Connection) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT OR REPLACE INTO delivery ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        );
        tx.prepare_cached(&sql)?.execute((
            self.id.as_bytes(),
            self.name.as_str(),
            self.sha256,
            i64::try_from(self.size).unwrap_or(i64::MAX),
            self.class.as_str(),
            self.purpose.as_str(),
            self.come.0,
            self.arrived.map(|at| at.0),
        ))?;
        Ok(())
    }

    const fn descriptor(&self) -> Descriptor {
        Descriptor {
            digest: Digest::from_bytes(self.sha256),
            size: self.size,
        }
    }
}

/// Takes in descriptors of every class that is sent down as a file.
pub(crate) fn handlers(handlers: Handlers, come: &Arc<Notify>) -> Handlers {
    handlers
        .on::<FirmwareDelivery>(Arc::new(Takes::<FirmwareDelivery>::new(come)))
        .on::<PolicyDelivery>(Arc::new(Takes::<PolicyDelivery>::new(come)))
        .on::<ModelDelivery>(Arc::new(Takes::<ModelDelivery>::new(come)))
}

/// Takes in descriptors of one class.
struct Takes<T>(Arc<Notify>, PhantomData<fn() -> T>);

impl<T> Takes<T> {
    fn new(come: &Arc<Notify>) -> Self {
        Self(come.clone(), PhantomData)
    }
}

const MALFORMED: Verdict = Verdict::Quarantined {
    reason: reason::MALFORMED,
};

fn described<T: Delivers>(parcel: &Intact) -> Result<(Described, Purpose), Verdict> {
    let message = envelope::open::<T>(parcel).map_err(|error| match error {
        OpenError::Kind => Verdict::Refused {
            reason: error.reason(),
        },
        OpenError::Malformed => MALFORMED,
    })?;
    let described = message.into_delivery().as_ref().and_then(Described::read);
    described
        .zip(Purpose::parse(&parcel.purpose))
        .ok_or(MALFORMED)
}

impl<T: Delivers> Handler for Takes<T> {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        _: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        match described::<T>(parcel) {
            Ok((described, purpose)) => take::<T>(commit, described, purpose),
            Err(verdict) => Ok(verdict),
        }
    }

    fn committed(&self) {
        self.0.notify_one();
    }
}

/// A descriptor came, for the first time or again.
fn take<T: Delivers>(
    commit: &mut Commit<'_, '_>,
    described: Described,
    purpose: Purpose,
) -> Result<Verdict, StoreError> {
    const TAKEN: Verdict = Verdict::Accepted { stored: 1 };
    let reference = described.reference();
    let digest = Digest::from_bytes(described.sha256);
    if described.withdrawn {
        commit.release(digest, &reference)?;
        let deleted = commit
            .tx()
            .prepare_cached("DELETE FROM delivery WHERE id = ?1")?
            .execute([described.id.as_bytes()])?;
        if deleted > 0 {
            let (now, here) = (commit.now().real, commit.place().clone());
            let by = (&*commit.region().to_string(), &here, purpose);
            let what = Decision::BlobWithdrawn;
            commit.note(&[Entry::of_blob::<T>(
                now,
                what,
                by,
                described.id,
                &described.sha256,
            )])?;
        }
        return Ok(TAKEN);
    }
    let size = described.size;
    match commit.want(Descriptor { digest, size }, &reference) {
        Ok(()) => {}
        Err(error) if error.kind == StoreErrorKind::Full => {
            let reason = reason::NO_SPACE;
            return Ok(Verdict::Deferred { reason });
        }
        Err(error) => return Err(error),
    }
    // One that came before is looked at anew, so that the region hears of it again.
    let row = Row {
        id: described.id,
        name: described.name,
        sha256: described.sha256,
        size,
        class: T::CLASS,
        purpose,
        come: commit.now().real,
        arrived: None,
    };
    row.put(commit.tx())?;
    Ok(TAKEN)
}

/// Says which files have come, until stopped.
pub(crate) async fn keep(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), Infallible> {
    let mut arrivals = shared.blobs.arrivals();
    loop {
        match look(&shared.store, &shared.blobs).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "files that come wait"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = shared.come.notified() => shared.blobs.stir(),
            () = arrivals.next() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Tells the region of files that have come, and deletes what nothing needs any longer.
async fn look(store: &Store, blobs: &Blobs<Store>) -> Result<(), StoreError> {
    let waits = |db: &Connection| Ok(Row::all(db, "WHERE arrived_ms IS NULL")?.len());
    if store.read(waits).await? > 0 {
        store.in_commit(arrived).await?;
    }
    // What cannot be deleted is tried again by the store's upkeep.
    let _later = blobs.sweep().await;
    Ok(())
}

fn arrived(commit: &mut Commit<'_, '_>) -> Result<(), StoreError> {
    struct Whole<'a>(Timestamp, &'a Place, &'a Row);
    impl WithKind for Whole<'_> {
        type Output = Entry;
        fn with<T: Delivers>(self) -> Entry {
            let Self(now, here, row) = self;
            let who = here.to_string();
            let by = (who.as_str(), here, row.purpose);
            Entry::of_blob::<T>(now, Decision::BlobWhole, by, row.id, &row.sha256)
        }
    }
    let (now, here) = (commit.now().real, commit.place().clone());
    let mut reports = Vec::new();
    for mut row in Row::all(commit.tx(), "WHERE arrived_ms IS NULL")? {
        if !blobs::is_whole(commit.tx(), row.descriptor().digest)? {
            continue;
        }
        row.arrived = Some(now);
        row.put(commit.tx())?;
        if let Some(entry) = with_kind(row.class, Whole(now, &here, &row)) {
            commit.note(&[entry])?;
        }
        reports.push(DeliveryReport {
            id: row.id.as_bytes().to_vec().into(),
            facility: String::new(),
            state: "arrived".into(),
            time_ms: now.0,
        });
    }
    if reports.is_empty() {
        return Ok(());
    }
    // What the rules keep in the facility is audited there.
    commit
        .ship(
            Priority::Backlog,
            Purpose::Operations,
            DeliveryReports { reports },
        )
        .map(drop)
}

/// `GET /api/v1/blobs`: the files that came; who may ask is the caller's to check.
pub(crate) fn router(store: Store, blobs: Arc<Blobs<Store>>) -> Router {
    Router::new()
        .route("/api/v1/blobs", get(list))
        .with_state((store, blobs))
}

async fn list(Of((store, blobs)): Of<(Store, Arc<Blobs<Store>>)>) -> Response {
    let all = |db: &Connection| Row::all(db, "ORDER BY come_ms DESC");
    match store.read(all).await {
        Ok(rows) => {
            let items: Vec<_> = rows.iter().map(|row| shown(row, &blobs)).collect();
            Json(json!({ "items": items })).into_response()
        }
        Err(error) => failed(&error),
    }
}

fn shown(row: &Row, blobs: &Blobs<Store>) -> Value {
    let digest = row.descriptor().digest;
    let held = match blobs.files().held(digest) {
        Ok(blobs::Held::Whole) => row.size,
        Ok(blobs::Held::Part(bytes)) => bytes,
        Err(_) => 0,
    };
    let path = blobs.files().path(digest).ok().flatten();
    json!({
        "id": row.id.to_string(),
        "name": row.name.as_str(),
        "class": row.class.as_str(),
        "purpose": row.purpose.as_str(),
        "sha256": digest.to_string(),
        "size": row.size,
        "held": held,
        "come": row.come.to_rfc3339(),
        "arrived": row.arrived.map(Timestamp::to_rfc3339),
        "path": path,
    })
}
