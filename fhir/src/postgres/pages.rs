//! The pages of a node's SQLite files in the PostgreSQL of its region, under the node's lease.
use super::{Pair, UNSEEN, pair::OLDER};
use crate::store::StoreError;
use parking_lot::Mutex;
use std::{error::Error as _, io, sync::Arc, time::Instant};
use storage::replica::{Appended, Change, NotPut, Page, Replica};
use tokio::{runtime::Handle, sync::watch};

/// Where the node that holds a lease keeps its files. Its steps block; they are taken on threads that may.
pub struct Pages {
    pair: Arc<Pair>,
    lease: i64,
    runtime: Handle,
    fenced: watch::Sender<bool>,
    /// Just before the lease was asked for that was given last.
    asked: Mutex<Instant>,
    /// When PostgreSQL asked for the last page of a whole file, which is put under a lock on the lease.
    held: Mutex<Option<Instant>>,
}

impl Pages {
    /// For the holder of the lease of that number, which was asked for at an instant, on the runtime of this call.
    #[must_use]
    pub fn new(pair: Arc<Pair>, lease: i64, asked: Instant) -> Self {
        Self {
            pair,
            lease,
            runtime: Handle::current(),
            fenced: watch::Sender::new(false),
            asked: Mutex::new(asked),
            held: Mutex::new(None),
        }
    }

    /// The lease was renewed, for which was asked at an instant.
    pub fn renewed(&self, asked: Instant) {
        *self.asked.lock() = asked;
    }

    /// Follows whether something could not be put because another node has the lease now.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.subscribe()
    }

    /// When a whole file that was put went on last, if one was: the lease cannot be renewed meanwhile, nor taken.
    #[must_use]
    pub fn held(&self) -> Option<Instant> {
        *self.held.lock()
    }

    async fn put_change(&self, file: &str, change: Change<'_>) -> Result<bool, NotPut> {
        let shape = (change.page_bytes, change.pages);
        let beside = change.beside.as_ref();
        let beside = beside.map(|Appended { at, bytes }| (*at, &bytes[..]));
        let put = if change.is_whole {
            // Each page is asked for under the lock, when those before it were taken.
            let goes_on = |_: &io::Result<Page>| *self.held.lock() = Some(Instant::now());
            let mut pages = change.changed.inspect(goes_on);
            let put = self
                .pair
                .put_whole(self.lease, file, shape, &mut pages, beside);
            put.await
        } else {
            let pages: Vec<Page> = change.changed.collect::<Result<_, _>>()?;
            self.pair.put(self.lease, file, shape, &pages, beside).await
        };
        put.map_err(|error| match error.op {
            OLDER => NotPut::Older,
            _ => NotPut::Unavailable(said(&error)),
        })
    }
}

impl Replica for Pages {
    fn put(&self, file: &str, change: Change<'_>) -> Result<(), NotPut> {
        if self.runtime.block_on(self.put_change(file, change))? {
            return Ok(());
        }
        self.fenced.send_replace(true);
        Err(NotPut::Fenced)
    }

    /// By this machine's own clock, which goes on while the process is paused: the lease began later than it was asked for.
    /// Where that was longer ago than nobody else may have it, it is renewed first: it is this node's then, at a moment after
    /// whatever was read.
    fn is_newest(&self) -> Result<(), NotPut> {
        if self.asked.lock().elapsed() < UNSEEN {
            return Ok(());
        }
        let asked = Instant::now();
        let renewed = self.runtime.block_on(self.pair.renew_soon(self.lease));
        if renewed.map_err(|error| NotPut::Unavailable(said(&error)))? {
            self.renewed(asked);
            return Ok(());
        }
        self.fenced.send_replace(true);
        Err(NotPut::Fenced)
    }
}

fn said(error: &StoreError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
