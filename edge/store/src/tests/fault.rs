//! The store on a disk with faults, and on a real file system that is too small.
use crate::{
    Condition, Store, StoreErrorKind,
    testbed::{LIMITS, hand, opened, options, receipt, sample},
};
use federation::{port::Outbox, wire::Outcome};
use ingest::{Journal, Rejected, Stored};
use messages::ReadingBatch;
use storage::fault::{Faults, Survivors, register};
use tempfile::TempDir;
use types::Priority;

/// A folder in memory where there is one: what survives is what [`Faults`] says, so that the real disk's fsyncs, of which
/// there are thousands, prove nothing and cost minutes.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

fn open(dir: &TempDir, vfs: &'static str) -> Store {
    Store::open_on(options(dir.path(), hand()), Some(vfs)).unwrap()
}

async fn stored(store: &Store, seq: u64) -> Stored {
    store.append(sample("m1", seq)).await.unwrap()
}

/// How many samples and how many readings in parcels a store holds, and whether SQLite and the audit log find
/// everything in order.
async fn contents(store: &Store) -> (i64, usize) {
    let rows = store
        .read(|db| {
            let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            assert_eq!(check, "ok");
            let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
            let place = "edge/eu/eu/eu-f1".parse().unwrap();
            federation::audit::verify(db, &federation::audit::origin(&place), &key, &[]).unwrap();
            Ok(db.query_row("SELECT count(*) FROM sample", [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    let mut readings = 0;
    for priority in Priority::ALL {
        for parcel in store.lease(store.region(), priority, LIMITS).await.unwrap() {
            let batch: ReadingBatch = opened(&parcel);
            readings += batch.readings.len();
        }
    }
    store.release(store.region()).await.unwrap();
    (rows, readings)
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_store_goes_on_when_there_is_space_again() {
    let (dir, disk) = (TempDir::new().unwrap(), register("full"));
    let store = open(&dir, "full");
    let mut acknowledged = 0;
    for seq in 0..20 {
        assert_eq!(stored(&store, seq).await, Stored::New);
        acknowledged += 1;
    }
    disk.set_full(true);
    let mut refused = 0;
    for seq in 20..200 {
        match store.append(sample("m1", seq)).await {
            Ok(Stored::New) => acknowledged += 1,
            Err(Rejected::Full) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(store.condition(), Condition::Full);
    disk.set_full(false);
    assert_eq!(stored(&store, 999).await, Stored::New);
    assert_eq!(store.condition(), Condition::Good);
    assert_eq!(
        contents(&store).await,
        (acknowledged + 1, 2 * (acknowledged as usize + 1))
    );
}

#[tokio::test]
async fn a_disk_that_turns_read_only_refuses_and_the_store_goes_on_afterwards() {
    let (dir, disk) = (TempDir::new().unwrap(), register("read-only"));
    let store = open(&dir, "read-only");
    assert_eq!(stored(&store, 1).await, Stored::New);
    disk.set_read_only(true);
    for _ in 0..2 {
        let answer = store.append(sample("m1", 2)).await;
        assert!(
            matches!(answer, Err(Rejected::Unavailable(_))),
            "{answer:?}"
        );
    }
    assert_eq!(store.condition(), Condition::Unavailable);
    disk.set_read_only(false);
    assert_eq!(stored(&store, 1).await, Stored::Duplicate);
    assert_eq!(stored(&store, 2).await, Stored::New);
    assert_eq!(contents(&store).await, (2, 4));
}

#[tokio::test]
async fn a_failed_fsync_acknowledges_nobody_and_loses_no_later_commit_at_a_power_loss() {
    let (dir, disk) = (folder(), register("fsync"));
    let store = open(&dir, "fsync");
    let mut acknowledged = Vec::new();
    for seq in 0..12 {
        // At a commit, at the log written into the database when it is opened again, and at both.
        match seq {
            3 => disk.fail_syncs(1),
            5 => disk.fail_syncs(2),
            8 => disk.fail_syncs(3),
            _ => {}
        }
        if store.append(sample("m1", seq)).await.is_ok() {
            acknowledged.push(seq);
        }
    }
    assert!(acknowledged.len() < 12 && acknowledged.contains(&11));
    for survivors in Survivors::ALL {
        assert_survived(disk, &dir, survivors, &acknowledged, "fsync").await;
    }
}

#[tokio::test]
async fn the_alarm_of_a_conflict_whose_commit_failed_is_raised_the_next_time() {
    let (dir, disk) = (TempDir::new().unwrap(), register("conflict"));
    let store = open(&dir, "conflict");
    stored(&store, 1).await;
    let mut other = sample("m1", 1);
    other.readings.pop();
    disk.fail_syncs(1);
    let answer = store.append(other.clone()).await;
    assert!(
        matches!(answer, Err(Rejected::Unavailable(_))),
        "{answer:?}"
    );
    for _ in 0..2 {
        let answer = store.append(other.clone()).await;
        assert!(
            matches!(answer, Err(Rejected::Conflict { .. })),
            "{answer:?}"
        );
    }
    assert_eq!(
        store
            .depths(store.region())
            .await
            .unwrap()
            .of(Priority::Alarm),
        1
    );
}

/// Opens what a power loss leaves behind, on a good disk.
async fn assert_survived(
    disk: &Faults,
    dir: &TempDir,
    survivors: Survivors,
    acknowledged: &[u64],
    when: &str,
) {
    let found = folder();
    disk.after_power_loss(survivors, found.path());
    let context = format!("{when}, {survivors:?}");
    let key = "store.key";
    std::fs::copy(dir.path().join(key), found.path().join(key)).unwrap();
    let store = Store::open(options(found.path(), hand()))
        .unwrap_or_else(|error| panic!("{context}: {error} {:?}", error.source));
    let (samples, readings) = contents(&store).await;
    assert_eq!(readings, 2 * samples as usize, "half a commit: {context}");
    for seq in acknowledged {
        assert_eq!(stored(&store, *seq).await, Stored::Duplicate, "{context}");
    }
    store.close().await;
}

/// Commits, a checkpoint, a clean stop and a new start. Returns what was acknowledged before the power failed.
async fn live_until_the_power_fails(dir: &TempDir, vfs: &'static str) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for start in [0, 4] {
        let Ok(store) = Store::open_on(options(dir.path(), hand()), Some(vfs)) else {
            return acknowledged;
        };
        for seq in start..start + 4 {
            if store.append(sample("m1", seq)).await.is_ok() {
                acknowledged.push(seq);
            }
        }
        let _answer = store.housekeep().await;
        store.close().await;
    }
    acknowledged
}

#[tokio::test]
async fn after_a_power_loss_at_any_write_every_acknowledged_sample_is_there_once() {
    let mut write = 0;
    loop {
        write += 1;
        let name: &'static str = Box::leak(format!("power-{write}").into_boxed_str());
        let (dir, disk) = (folder(), register(name));
        disk.fail_power_at(write);
        let acknowledged = live_until_the_power_fails(&dir, name).await;
        for survivors in Survivors::ALL {
            assert_survived(disk, &dir, survivors, &acknowledged, name).await;
        }
        if !disk.is_off() {
            assert_eq!(acknowledged.len(), 8);
            break;
        }
    }
    assert!(write > 50, "only {write} writes were seen");
}

#[tokio::test]
async fn a_corrupted_database_is_said_to_be_corrupt_and_takes_nothing_in() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(options(dir.path(), hand())).unwrap();
    for seq in 0..200 {
        stored(&store, seq).await;
    }
    store.close().await;
    let path = dir.path().join(Store::FILE);
    let good = std::fs::read(&path).unwrap();
    let corrupt = |range: std::ops::Range<usize>| {
        let mut bad = good.clone();
        for byte in &mut bad[range] {
            *byte ^= 0x55;
        }
        std::fs::write(&path, bad).unwrap();
        Store::open(options(dir.path(), hand()))
    };
    // The first page: at once.
    assert_eq!(
        corrupt(100..200).err().unwrap().kind,
        StoreErrorKind::Corrupt
    );
    // Everything behind it: when it is read, at the latest.
    let kind = match corrupt(4_096..good.len()) {
        Err(error) => error.kind,
        Ok(store) => {
            let answer = store.append(sample("m1", 1)).await;
            let Err(Rejected::Unavailable(error)) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(store.condition(), Condition::Corrupt);
            error.kind
        }
    };
    assert_eq!(kind, StoreErrorKind::Corrupt);
    // Cut off in the middle of a page.
    std::fs::write(&path, &good[..good.len() / 2 + 77]).unwrap();
    let opened = Store::open(options(dir.path(), hand()));
    assert_eq!(
        opened.err().map(|error| error.kind),
        Some(StoreErrorKind::Corrupt)
    );
}

/// A file system in memory of a few MiB.
struct Small(TempDir);

impl Small {
    fn mount() -> Self {
        let dir = TempDir::new().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(mounted.unwrap().success(), "a tmpfs is mounted");
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _status = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test]
#[cfg_attr(not(may_mount), ignore = "this process may not mount a tmpfs")]
async fn a_real_file_system_that_is_full_refuses_and_the_store_goes_on_when_there_is_space_again() {
    let small = Small::mount();
    let store = Store::open(options(small.0.path(), hand())).unwrap();
    let ballast = small.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let mut acknowledged = Vec::new();
    for seq in 0.. {
        match store.append(sample("m1", seq)).await {
            Ok(Stored::New) => acknowledged.push(seq),
            Err(Rejected::Full | Rejected::Unavailable(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged.len() > 10);
    assert_ne!(store.condition(), Condition::Good);
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(stored(&store, 1_000_000).await, Stored::New);
    for seq in &acknowledged {
        assert_eq!(stored(&store, *seq).await, Stored::Duplicate);
    }
    let first = store
        .lease(store.region(), Priority::Backlog, LIMITS)
        .await
        .unwrap();
    let receipts = first
        .iter()
        .map(|parcel| receipt(parcel, Outcome::Accepted));
    store
        .settle(store.region(), receipts.collect())
        .await
        .unwrap();
    store.close().await;
}
