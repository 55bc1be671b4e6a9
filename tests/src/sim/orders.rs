//! Cargo that goes down in a simulated mesh: a region orders, its facility keeps what came. An order is a number that no
//! other has; both ends keep it in a table of the product's own stores, by the interfaces that the product's own cargo
//! uses, and what is there is read beside the product by SQL.
use super::model::{Fault, Found};
use anyhow::Result;
use federation::{
    db::DbError,
    envelope::{self, Intact},
    ledger::{self, Ledger},
    port::{PortError, Verdict},
    reason,
};
use messages::{DeviceRecord, DeviceRecords};
use std::collections::{BTreeMap, BTreeSet};
use store::{Commit, Handler, StoreError};
use types::{EnvelopeId, Place, Priority, Purpose};

/// A region's table of what it ordered.
const SENT: &[&str] = &[
    "CREATE TABLE sim_sent (n INTEGER PRIMARY KEY, place TEXT NOT NULL, rank INTEGER NOT NULL) STRICT",
];
/// A facility's table of what came, in the order in which it came.
const CAME: &str = "CREATE TABLE IF NOT EXISTS sim_came (
  at INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE, rank INTEGER NOT NULL, times INTEGER NOT NULL) STRICT";

/// Makes a region's table.
///
/// # Errors
/// It cannot be made.
pub async fn prepare(ledger: &Ledger) -> Result<()> {
    Ok(ledger.tables("simulated orders", SENT).await?)
}

/// An order that goes out.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Its number.
    pub number: i64,
    /// How urgent it is.
    pub priority: Priority,
}

fn ship(
    commit: &mut ledger::Commit<'_>,
    to: &Place,
    order: Order,
    id: [u8; 16],
) -> Result<(), DbError> {
    let body = DeviceRecords {
        devices: vec![DeviceRecord {
            updated_ms: order.number,
            ..DeviceRecord::default()
        }],
        ..DeviceRecords::default()
    };
    let how = (Purpose::Operations, order.priority);
    commit.ship(to, how, EnvelopeId::from_bytes(id), body)?;
    Ok(())
}

/// A region orders, in one commit.
///
/// # Errors
/// It did not.
pub async fn give(
    ledger: &Ledger,
    to: &Place,
    order: Order,
    id: [u8; 16],
) -> Result<(), PortError> {
    let to = to.clone();
    let step = move |commit: &mut ledger::Commit<'_>| {
        let row = (order.number, to.to_string(), order.priority.rank());
        commit
            .tx()
            .execute("INSERT INTO sim_sent VALUES (?1, ?2, ?3)", row)?;
        ship(commit, &to, order, id)
    };
    ledger.commit("order", step).await
}

/// What a region has ordered of a facility, by its own account.
///
/// # Errors
/// It cannot be read.
pub async fn given(ledger: &Ledger, to: &Place) -> Result<Vec<Order>, PortError> {
    let to = to.to_string();
    let step = move |commit: &mut ledger::Commit<'_>| {
        let sql = "SELECT n, rank FROM sim_sent WHERE place = ?1 ORDER BY n";
        let mut query = commit.tx().prepare(sql)?;
        let rows = query.query_map([to], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let order = |row: rusqlite::Result<(i64, u8)>| {
            let (number, rank) = row?;
            let priority = Priority::from_rank(rank).unwrap_or(Priority::Live);
            Ok(Order { number, priority })
        };
        rows.map(order).collect()
    };
    ledger.commit("orders", step).await
}

/// Orders again of each place below what it may lack: whether there was any.
///
/// # Errors
/// Something is left to be ordered again.
pub async fn give_again(ledger: &Ledger, draw: fn() -> [u8; 16]) -> Result<bool, PortError> {
    let lacking = ledger.lacking().await?;
    for place in &lacking {
        for order in given(ledger, place).await? {
            let (to, id) = (place.clone(), draw());
            let step = move |commit: &mut ledger::Commit<'_>| ship(commit, &to, order, id);
            ledger.commit("order again", step).await?;
        }
        ledger.reshipped_to(place).await?;
    }
    Ok(!lacking.is_empty())
}

/// Keeps what comes to a facility.
pub struct Keeps;

impl Handler for Keeps {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        _: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        let Ok(body) = envelope::open::<DeviceRecords>(parcel) else {
            let reason = reason::MALFORMED;
            return Ok(Verdict::Quarantined { reason });
        };
        commit.tx().execute_batch(CAME)?;
        for device in &body.devices {
            commit.tx().execute(
                "INSERT INTO sim_came (n, rank, times) VALUES (?1, ?2, 1)
                 ON CONFLICT (n) DO UPDATE SET times = times + 1",
                (device.updated_ms, parcel.priority),
            )?;
        }
        let stored = parcel.count;
        Ok(Verdict::Accepted { stored })
    }
}

/// What came to a facility: number, rank, and how often, in the order in which it came.
type Came = Vec<(i64, u8, u32)>;

/// Reads what came.
///
/// # Errors
/// It cannot be read.
pub async fn came(store: &store::Store) -> Result<Came, StoreError> {
    store
        .in_commit(|commit| {
            commit.tx().execute_batch(CAME)?;
            let sql = "SELECT n, rank, times FROM sim_came ORDER BY at";
            let mut query = commit.tx().prepare(sql)?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            Ok(query.query_map([], row)?.collect::<Result<_, _>>()?)
        })
        .await
}

/// What is known of a facility's orders beside the product.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Every order that was ever given.
    pub given: BTreeSet<i64>,
    /// Whether its disk, or its region's, was put back: orders may come again.
    pub put_back: bool,
    /// Whether something was refused at first and came again later.
    pub detained: bool,
}

impl Known {
    /// Compares what the region has ordered, by its own account, with what came.
    ///
    /// # Errors
    /// A promise that was broken.
    pub fn judge(&self, given: &[Order], came: &Came) -> Result<(), Found> {
        let numbers: BTreeSet<_> = came.iter().map(|(number, ..)| *number).collect();
        for order in given {
            if !numbers.contains(&order.number) {
                let how = format!("order {} did not come", order.number);
                return Err(Found::new(Fault::Lost, how));
            }
        }
        let mut last = BTreeMap::new();
        for (number, rank, times) in came {
            if !self.given.contains(number) {
                let how = format!("order {number} was given to nobody there");
                return Err(Found::new(Fault::Invented, how));
            }
            if *times > 1 && !self.put_back {
                let how = format!("order {number} was carried out {times} times");
                return Err(Found::new(Fault::Twice, how));
            }
            let before = last.insert(*rank, *number);
            if before.is_some_and(|before| before > *number) && !self.put_back && !self.detained {
                let how = format!("order {number} came behind a later one");
                return Err(Found::new(Fault::Order, how));
            }
        }
        Ok(())
    }
}
