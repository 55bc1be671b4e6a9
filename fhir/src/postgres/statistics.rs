//! What the planner of PostgreSQL knows of the tables. Of one that has just grown it knows nothing until the engine's own
//! daemon comes by, a minute or more later, and plans searches of thousands of rows as if there were a few: a second instead
//! of a millisecond. So the tables are looked at (`ANALYZE`) whenever what was written has doubled.
//!
//! This has a thread and a connection of its own, so that nobody who writes waits for it.
use super::{failed, thread};
use crate::query::sql::TABLES;
use crate::store::{Kind, StoreError};
use deadpool_postgres::Pool;
use tokio::sync::watch;

/// The name of the thread.
const STATISTICS: &str = "fhir-statistics";
/// Rows after which the tables are looked at for the first time: with fewer any plan is quick.
const FIRST: u64 = 256;
/// Rows after which the engine's own daemon is left to it: a tenth more is then more than it lets pass.
const LAST: u64 = 1 << 20;

/// Counts what is written. The thread ends with it.
pub struct Statistics(watch::Sender<u64>);

impl Statistics {
    /// Starts the thread. `pool` is for it alone.
    pub fn start(pool: Pool) -> Result<Self, StoreError> {
        let (written, seen) = watch::channel(0);
        thread::start(STATISTICS, move || run(pool, seen))?;
        Ok(Self(written))
    }

    /// So many resources were written.
    pub fn written(&self, resources: usize) {
        let more = u64::try_from(resources).unwrap_or(u64::MAX);
        self.0
            .send_modify(|written| *written = written.saturating_add(more));
    }
}

/// Looks at the tables as they grow, until nobody writes any more. What fails is tried again when they have grown again.
async fn run(pool: Pool, mut written: watch::Receiver<u64>) {
    let mut next = FIRST;
    while next <= LAST && written.changed().await.is_ok() {
        let now = *written.borrow_and_update();
        if now < next {
            continue;
        }
        next = match look(&pool).await {
            Ok(()) => now.saturating_mul(2),
            Err(_) => now.saturating_add(FIRST),
        };
        // The next time may be far off.
        drop(pool.retain(|_, _| false));
    }
}

async fn look(pool: &Pool) -> Result<(), StoreError> {
    let unavailable = |_| StoreError::new(Kind::Unavailable, "statistics");
    let client = pool.get().await.map_err(unavailable)?;
    let searched = TABLES.iter().map(|table| table.name);
    for table in ["resource", "history"].into_iter().chain(searched) {
        let looked = client.batch_execute(&format!("ANALYZE {table}")).await;
        looked.map_err(|error| failed("statistics", &error))?;
    }
    Ok(())
}
