//! The mesh clock of a folder: it never goes back, whatever the speeds of the runs in it.
use super::files;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};
use types::{MeshClock, Timestamp};

/// What a folder remembers of its clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The clock of the last run.
    pub clock: MeshClock,
    /// The last mesh instant that was noted.
    pub last: Timestamp,
    /// What was replayed, if anything.
    pub replay: Option<String>,
}

/// The clock of a run that begins at `real`.
///
/// The same replay goes on at the instant where it was noted last; its origin, and with it the time of every value,
/// stays the same. Anything else begins now, or where the last run had got to when that is later.
pub fn next(
    remembered: Option<&Remembered>,
    real: Timestamp,
    speed: f64,
    replay: Option<&str>,
) -> MeshClock {
    let fresh = |mesh_origin| MeshClock {
        real_origin: real,
        mesh_origin,
        speed,
    };
    let Some(before) = remembered else {
        return fresh(real);
    };
    if replay.is_none() || before.replay.as_deref() != replay {
        return fresh(real.max(before.last));
    }
    let origin = before.clock.mesh_origin;
    let scaled = MeshClock {
        speed,
        ..before.clock
    };
    let from_zero = MeshClock {
        real_origin: Timestamp(0),
        mesh_origin: origin,
        speed,
    };
    let elapsed = scaled.real_ms(before.last.since(origin).max(0));
    // A real millisecond is many of the mesh's: rounded up, so that the clock never goes back.
    let short = from_zero.at(Timestamp(elapsed)) < before.last;
    let elapsed = elapsed + i64::from(short);
    MeshClock {
        real_origin: real.plus_ms(-elapsed),
        mesh_origin: origin,
        speed,
    }
}

/// Where a folder's clock is remembered.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("clock.json")
}

/// What a folder remembers; nothing when it is new.
pub fn read(dir: &Path) -> Result<Option<Remembered>> {
    match fs::read(file(dir)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(_) => Ok(None),
    }
}

/// Notes how far the mesh clock has got.
pub fn note(dir: &Path, remembered: &Remembered) -> Result<()> {
    files::replace(&file(dir), &serde_json::to_vec(remembered)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(speed: f64, last: i64, replay: Option<&str>) -> Remembered {
        Remembered {
            clock: MeshClock {
                real_origin: Timestamp(1_000),
                mesh_origin: Timestamp(1_000),
                speed,
            },
            last: Timestamp(last),
            replay: replay.map(str::to_owned),
        }
    }

    #[test]
    fn the_mesh_clock_of_a_folder_never_goes_back() {
        for (before, replay) in [
            (after(600.0, 900_000, None), None),
            (after(600.0, 900_000, None), Some("a")),
            (after(600.0, 900_000, Some("a")), Some("b")),
            (after(600.0, 900_000, Some("a")), Some("a")),
            (after(1.0, 2_000, None), None),
        ] {
            for real in [2_500, 2_000_000] {
                for speed in [1.0, 60.0] {
                    let clock = next(Some(&before), Timestamp(real), speed, replay);
                    let now = clock.at(Timestamp(real));
                    assert!(
                        now.0 + 1 >= before.last.0,
                        "{before:?} {real} {replay:?}: {now:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_same_replay_goes_on_where_it_was_with_the_same_origin() {
        let before = after(600.0, 601_000, Some("a"));
        let clock = next(Some(&before), Timestamp(50_000_000), 60.0, Some("a"));
        assert_eq!(clock.mesh_origin, Timestamp(1_000));
        assert_eq!(clock.at(Timestamp(50_000_000)), Timestamp(601_000));
    }

    #[test]
    fn a_new_folder_and_a_live_mesh_have_the_time_of_now() {
        let now = Timestamp(9_000_000);
        assert_eq!(next(None, now, 60.0, Some("a")).at(now), now);
        assert_eq!(
            next(Some(&after(1.0, 2_000, None)), now, 1.0, None).at(now),
            now
        );
    }
}
