//! A deterministic simulation of a mesh: the product's own stores, ledgers, outboxes, inboxes, gates and intakes, on
//! simulated disks, with simulated links, clock and policies, and without sockets or tasks.
//!
//! A seed is drawn into a line of operations ([`ops`], [`draw`]); a [`world`] carries it out, mends everything, waits
//! for rest and asks an independent [`model`] what must be true: nothing acknowledged is lost unless that was said,
//! nothing is there twice, order within (device, priority), residency, owners, and new data flows. A line that fails is
//! made shorter ([`mod@shrink`]) and printed; it is replayed by its text alone:
//!
//! ```sh
//! MEDMESH_SIM='small a00 .00 c10' cargo test --workspace --lib -- a_line_that_is_given_breaks_no_promise
//! ```
//!
//! Every failure that was found stays as a named test in `sim/tests.rs`.
pub mod clock;
pub mod device;
pub mod disk;
pub mod draw;
pub mod model;
pub mod nodes;
pub mod observe;
pub mod ops;
pub mod orders;
pub mod rogue;
pub mod shrink;
pub mod wire;
pub mod world;

#[cfg(test)]
mod tests;

use anyhow::Result;
use disk::Templates;
use model::{Fault, Found};
use ops::{Line, What};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::runtime::Runtime;
use world::World;

/// What failing lines are looked for with.
pub struct Sweep {
    /// The first seed.
    pub first: u64,
    /// How many seeds.
    pub seeds: u64,
    /// What is left out of every line.
    pub skipped: Vec<What>,
    /// Threads.
    pub threads: usize,
}

/// A line that broke a promise, as short as it could be made.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The line.
    pub line: Line,
    /// What it broke.
    pub found: Found,
}

/// Carries out one line, and looks at the mesh in the end if no promise was broken.
///
/// # Errors
/// No mesh could be set up; the inner one: a broken promise.
pub fn carry_out<T>(
    line: &Line,
    runtime: &Runtime,
    worker: usize,
    templates: &Templates,
    look: impl AsyncFn(&World) -> T,
) -> Result<Result<T, Found>> {
    runtime.block_on(async {
        let mut world = World::new(line.shape, worker, templates).await?;
        for op in &line.ops {
            if let Err(found) = world.step(*op).await {
                return Ok(Err(found));
            }
        }
        match world.end().await {
            Ok(()) => Ok(Ok(look(&world).await)),
            Err(found) => Ok(Err(found)),
        }
    })
}

/// Threads on which a runtime's stores do what blocks. Nothing runs beside a step, so that more would only take turns, each
/// with memory of its own to warm up.
const BLOCKING: usize = 2;

/// A runtime for one simulating thread.
///
/// # Errors
/// There is none to be had.
pub fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING)
        .build()?)
}

impl Sweep {
    /// Carries out the line of every seed, and gives the first failure of each kind, shrunk.
    ///
    /// # Errors
    /// A mesh could not be set up.
    pub fn run(&self) -> Result<Vec<Failure>> {
        let templates = Templates::new()?;
        let next = AtomicU64::new(self.first);
        let failures = parking_lot::Mutex::new(BTreeMap::<Fault, Failure>::new());
        std::thread::scope(|scope| {
            let work = |worker| self.work(worker, &templates, &next, &failures);
            let threads: Vec<_> = (0..self.threads)
                .map(|worker| scope.spawn(move || work(worker)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a panic"))?)
        })?;
        Ok(failures.into_inner().into_values().collect())
    }

    fn work(
        &self,
        worker: usize,
        templates: &Templates,
        next: &AtomicU64,
        failures: &parking_lot::Mutex<BTreeMap<Fault, Failure>>,
    ) -> Result<()> {
        let runtime = runtime()?;
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= self.first + self.seeds {
                return Ok(());
            }
            let line = draw::line(seed, &self.skipped);
            let carry_out =
                |line: &Line| carry_out(line, &runtime, worker, templates, async |_| ());
            let Err(found) = carry_out(&line)? else {
                continue;
            };
            if failures.lock().contains_key(&found.fault) {
                continue;
            }
            let failing = |line: &Line| {
                let again = carry_out(line);
                again.ok().and_then(Result::err)
            };
            let same = |line: &Line| failing(line).is_some_and(|it| it.fault == found.fault);
            let line = shrink::shrink(&line, same);
            let found = failing(&line).unwrap_or(found);
            let failure = Failure { seed, line, found };
            failures.lock().insert(failure.found.fault, failure);
        }
    }
}
