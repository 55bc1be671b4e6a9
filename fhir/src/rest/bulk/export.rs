//! A turn of an export: pages of the type in hand become lines of a file, until there are some MiB of them or the type is
//! through. The file is durable before the journal says so.
use super::super::{FhirApi, vantage::Instants};
use super::files::DONE;
use super::record::{Asked, Done, List, Written};
use super::whose::Judge;
use super::{Job, Limits, Trouble};
use crate::axis::Axis;
use crate::store::{Extent, ExtentPage, FhirId, ResourceType, Stored, Whose};
use serde_json::json;
use std::sync::Arc;
use types::Timestamp;

/// Room that is left on the disk for what the node itself keeps, in bytes.
const SPARE_BYTES: u64 = 256 << 20;

/// What one turn found.
struct Lines {
    text: Vec<u8>,
    count: u64,
    done: Done,
}

/// Does one turn.
pub async fn turn(job: &Arc<Job>, api: &FhirApi, limits: Limits) -> Result<(), Trouble> {
    let asked = &job.asked;
    let (last, _) = api.store.last().await?;
    if last < asked.until {
        return Err(Trouble::Never(
            "the server was put back to an older copy of its data; ask again",
        ));
    }
    if asked.marks.is_none() && !(api.true_times)() {
        return Err(Trouble::Never(
            "the server may not say any more when it stored what it shows; ask again",
        ));
    }
    let done = job.done.lock().clone();
    if done.part >= asked.parts.len() {
        job.end((api.now)(), None).await;
        return Ok(());
    }
    let place = done.place(asked);
    let (kind, after) = place.ok_or(Trouble::Never("what was asked for cannot be read"))?;
    let lines = lines(api, asked, (kind, after), done, limits).await?;
    let job = Arc::clone(job);
    let kept = tokio::task::spawn_blocking(move || write(&job, kind, lines, limits.file_bytes));
    kept.await
        .map_err(|_| Trouble::Fault("its files cannot be written"))?
}

/// The lines of the type in hand behind a place, and the journal after them but for their file.
async fn lines(
    api: &FhirApi,
    asked: &Asked,
    (kind, after): (ResourceType, Option<FhirId>),
    mut done: Done,
    limits: Limits,
) -> Result<Lines, Trouble> {
    let beyond = Trouble::Never("the token's scopes cannot be read any more");
    let part = asked
        .parts
        .get(done.part)
        .ok_or(Trouble::Never("it has no such part"))?;
    let judge = Judge::of(api, kind, part, &asked.of).ok_or(beyond)?;
    let instants = instants(asked)?;
    let mut lines = Lines {
        text: Vec::new(),
        count: 0,
        done: Done::default(),
    };
    let mut extent = Extent {
        after_commit: asked.after_commit,
        since: asked.since.map(Timestamp),
        whose: match kind.is_indexed() {
            true => Whose::Everybody,
            false => asked.of.whose(),
        },
        deleted: done.deleted,
        after,
        ..Extent::of(kind, asked.until, limits.page)
    };
    for _ in 0..limits.turn_pages {
        let ExtentPage { resources, next } = api.store.extent(&extent).await?;
        for stored in &resources {
            match done.deleted {
                true => gone(api, &judge, stored, &mut lines).await?,
                false if judge.takes(stored) => {
                    lines.add(&stored.stamped_text(&instants.of(stored))?);
                }
                false => {}
            }
        }
        extent.after = next;
        if extent.after.is_none() || lines.text.len() >= limits.turn_bytes {
            break;
        }
    }
    done.after = extent.after.as_ref().map(ToString::to_string);
    if extent.after.is_none() {
        let is_next = done.deleted || !asked.is_new;
        done.part += usize::from(is_next);
        done.deleted = !is_next;
    }
    lines.done = done;
    Ok(lines)
}

impl Lines {
    /// A line of ndjson has no line breaks: in JSON they are white space, or escaped.
    fn add(&mut self, json: &str) {
        self.text
            .extend(json.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        self.text.push(b'\n');
        self.count += 1;
    }
}

fn instants(asked: &Asked) -> Result<Instants, Trouble> {
    match &asked.marks {
        None => Ok(Instants::True),
        Some(marks) => {
            let axis = Axis::of_text(marks);
            let axis = axis.ok_or(Trouble::Never("what the client was shown cannot be read"))?;
            Ok(Instants::Logical(axis))
        }
    }
}

/// That a resource was deleted, as a Bundle that deletes it (Bulk Data Access 2.0.0, "Deleted Items").
async fn gone(
    api: &FhirApi,
    judge: &Judge<'_>,
    stored: &Stored,
    lines: &mut Lines,
) -> Result<(), Trouble> {
    let (kind, id) = (stored.kind, &stored.id);
    let before = match stored.version.checked_sub(1) {
        Some(version) => api.store.vread(kind, id, version).await?,
        None => None,
    };
    if judge.tells_deleted(before.as_ref().filter(|before| !before.is_deleted())) {
        let entry = json!({"request": {"method": "DELETE", "url": format!("{kind}/{id}")}});
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
        lines.add(&bundle.to_string());
    }
    Ok(())
}

/// Adds the lines to the file of their type, and then says so in the journal.
fn write(job: &Job, kind: ResourceType, lines: Lines, file_bytes: u64) -> Result<(), Trouble> {
    // Held all the while: who deletes the job waits.
    let _changing = job.changing.lock();
    if !job.folder.exists() {
        return Err(Trouble::Fault("it was deleted"));
    }
    let mut next = lines.done;
    if !lines.text.is_empty() {
        let room = storage::disk::room(job.folder.dir())?;
        let bytes = u64::try_from(lines.text.len()).unwrap_or(u64::MAX);
        if room.free < SPARE_BYTES.saturating_add(bytes) {
            return Err(Trouble::Never("the server's disk has no room for it"));
        }
        let is_of_deleted = job.done.lock().deleted;
        let list = if is_of_deleted {
            List::Deleted
        } else {
            List::Output
        };
        let file = file_for(&mut next.files, kind, list, file_bytes);
        let file = file.ok_or(Trouble::Fault("its files cannot be written"))?;
        if !job.folder.append(&file.name, file.bytes, &lines.text)? {
            return Err(Trouble::Never("its files are not as they were left"));
        }
        file.bytes += bytes;
        file.count += lines.count;
    }
    job.folder.keep(DONE, &next)?;
    *job.done.lock() = next;
    Ok(())
}

/// The file that lines of a type go to: the last one, or a new one where that is full or another's.
fn file_for(
    files: &mut Vec<Written>,
    kind: ResourceType,
    list: List,
    file_bytes: u64,
) -> Option<&mut Written> {
    let is_open =
        |file: &Written| file.kind == kind.as_str() && file.list == list && file.bytes < file_bytes;
    if !files.last().is_some_and(is_open) {
        let of_kind = files
            .iter()
            .filter(|file| file.kind == kind.as_str() && file.list == list);
        let number = of_kind.count();
        let prefix = if list == List::Deleted {
            "deleted."
        } else {
            ""
        };
        files.push(Written {
            name: format!("{prefix}{kind}.{number}.ndjson"),
            kind: kind.to_string(),
            list,
            bytes: 0,
            count: 0,
        });
    }
    files.last_mut()
}
