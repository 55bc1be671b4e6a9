//! A turn of an import: lines of ndjson become one transaction of the store, each judged as a PUT of it would be.
//!
//! The journal says how far the lines are read after their transaction is durable. A turn that is done again writes the
//! same content under the same ids, each once in a turn, and what is there already makes no new version.
use super::super::{
    FhirApi, Interaction, Reader, access::Access, access::Unwritten, offered, outcome::Failure,
    routes::MAX_RESOURCE_BYTES, sight::Sight, writing,
};
use super::files::DONE;
use super::files::Folder;
use super::record::{Asked, Done, Incoming, List, Written};
use super::{Job, Limits, Trouble};
use crate::json::Json;
use crate::store::{Change, Draft, Expect, FhirId, ResourceType, Transacted, Transaction, Unmet};
use crate::subscription::SUBSCRIPTION;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Lines of one transaction, which their bytes may end before: bounds how long others wait for it.
const TURN_LINES: usize = 200;
/// The name of the operation in the log.
pub const IMPORT: &str = "$import";

/// A line, and where it begins.
struct Line {
    number: u64,
    begins: u64,
    text: Result<String, &'static str>,
}

/// Lines that were read.
struct Batch {
    lines: Vec<Line>,
    /// Where the next one begins.
    ends: u64,
    /// The number of the last line that it has.
    next: u64,
}

/// Does one turn.
pub async fn turn(job: &Arc<Job>, api: &FhirApi, limits: Limits) -> Result<(), Trouble> {
    let asked = &job.asked;
    let done = job.done.lock().clone();
    let files = asked.import.as_deref().unwrap_or_default();
    let Some(file) = files.get(done.import.file) else {
        job.end((api.now)(), None).await;
        return Ok(());
    };
    let ((source, name), bytes) = (source(job, api, file), file.bytes);
    let (from, number) = (done.import.offset, done.import.line);
    let read = tokio::task::spawn_blocking(move || {
        let file = source.open(&name, bytes)?;
        read(file, (from, bytes), number, limits.turn_bytes)
    });
    let unread = Trouble::Fault("what is imported cannot be read");
    let Ok(Ok(mut batch)) = read.await else {
        return Err(unread);
    };
    let name = file.name.clone();
    let (mut taken, mut faults) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for line in std::mem::take(&mut batch.lines) {
        match judged(api, asked, line.text).await {
            Ok((draft, expect)) => {
                if !seen.insert((draft.kind(), draft.id().clone())) {
                    // The same resource again is another turn's, which begins behind the line before.
                    (batch.ends, batch.next) = (line.begins, line.number - 1);
                    break;
                }
                taken.push((line.number, Change::Put { draft, expect }));
            }
            Err(failure) if failure.is_ours() => return Err(Trouble::Away),
            Err(failure) => faults.push((line.number, failure)),
        }
    }
    note(api, job, &taken).await?;
    let stored = store(api, asked, taken, &mut faults).await?;
    faults.sort_by_key(|(number, _)| *number);
    let lines: Vec<String> = faults
        .into_iter()
        .map(|(number, failure)| failure.of_line(&name, number).to_string())
        .collect();
    let mut next = done;
    next.import.stored += stored;
    next.import.offset = batch.ends;
    next.import.line = batch.next;
    if batch.ends >= bytes {
        next.import.lines += batch.next;
        next.import.file += 1;
        (next.import.offset, next.import.line) = (0, 0);
    }
    let job = Arc::clone(job);
    let kept = tokio::task::spawn_blocking(move || write(&job, next, &lines, limits.file_bytes));
    kept.await
        .map_err(|_| Trouble::Fault("its files cannot be written"))?
}

/// The folder and the name of a file of an import: of what came with the request the job's own folder, and otherwise the one
/// into which the operator puts files at each node.
fn source(job: &Job, api: &FhirApi, file: &Incoming) -> (Folder, String) {
    let path = Path::new(&file.path);
    let dir = path.parent().unwrap_or(path);
    let is_own = dir
        .file_name()
        .is_some_and(|name| *name == *job.folder.id());
    let folder = match &api.bulk {
        _ if is_own => job.folder.clone(),
        Some(bulk) => Folder::new(bulk.import.clone(), None),
        None => Folder::new(dir.to_owned(), None),
    };
    (folder, file.name.clone())
}

/// Lines behind a place of a file, of which so many bytes count.
fn read(mut file: File, (from, bytes): (u64, u64), number: u64, most: usize) -> io::Result<Batch> {
    file.seek(SeekFrom::Start(from))?;
    let mut rest = BufReader::new(file.take(bytes.saturating_sub(from)));
    let mut batch = Batch {
        lines: Vec::new(),
        ends: from,
        next: number,
    };
    let mut held = 0;
    while batch.lines.len() < TURN_LINES && held < most {
        let (begins, mut text) = (batch.ends, Vec::new());
        let limit = u64::try_from(MAX_RESOURCE_BYTES).unwrap_or(u64::MAX) + 1;
        let mut read = (&mut rest).take(limit).read_until(b'\n', &mut text)?;
        if read == 0 {
            break;
        }
        let is_long = text.last() != Some(&b'\n') && text.len() > MAX_RESOURCE_BYTES;
        if is_long {
            read += skip(&mut rest)?;
        }
        batch.ends += u64::try_from(read).unwrap_or(u64::MAX);
        batch.next += 1;
        held += text.len();
        let text = match is_long {
            true => Err("the line is longer than a resource may be"),
            false => String::from_utf8(text).map_err(|_| "the line is not UTF-8"),
        };
        // The line of a text without an end may be empty.
        if !text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
            batch.lines.push(Line {
                number: batch.next,
                begins,
                text,
            });
        }
    }
    Ok(batch)
}

/// Reads to the end of a line without holding it: how many bytes.
fn skip(rest: &mut impl BufRead) -> io::Result<usize> {
    let mut skipped = 0;
    loop {
        let held = rest.fill_buf()?;
        if held.is_empty() {
            return Ok(skipped);
        }
        let end = held.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(held.len(), |end| end + 1);
        rest.consume(used);
        skipped += used;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

/// What a PUT of a line would be done with.
async fn judged(
    api: &FhirApi,
    asked: &Asked,
    text: Result<String, &'static str>,
) -> Result<(Draft, Expect), Failure> {
    let text = text.map_err(Failure::no_resource)?;
    let (kind, id) = {
        let tree = Json::parse(&text).map_err(|error| Failure::no_resource(&error.to_string()))?;
        let text_of = |name: &str| Some(tree.object()?.text(name)?.to_owned());
        (text_of("resourceType"), text_of("id"))
    };
    let kind = kind.and_then(|kind| ResourceType::parse(&kind));
    let kind = kind.ok_or_else(|| Failure::no_resource("the line is no resource of R4"))?;
    if !offered(kind).contains(&Interaction::Update) {
        return Err(Failure::method());
    }
    if kind.as_str() == SUBSCRIPTION {
        return Err(Failure::subscription_by_itself());
    }
    let part = asked.parts.iter().find(|part| part.kind == kind.as_str());
    let sight = part.and_then(|part| Sight::of(api, kind, &part.only));
    let sight = sight.ok_or_else(Failure::nothing_to_search)?;
    let id: Option<FhirId> = id.and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| Failure::no_resource("an id is expected, as in a PUT"))?;
    writing::check_id(&sight, api, kind, &id).await?;
    let expect = expected(&sight, api, kind, &id).await?;
    let draft = writing::draft(api, kind, id, &text)?;
    match sight.holds(draft.kind(), draft.id(), draft.rows()) {
        true => Ok((draft, expect)),
        false => Err(Failure::beyond_scope()),
    }
}

/// What is there now under the id of a line. An operator chooses ids also where their token does not cover everything of the
/// type; what it does not cover they do not change.
async fn expected(
    sight: &Sight,
    api: &FhirApi,
    kind: ResourceType,
    id: &FhirId,
) -> Result<Expect, Failure> {
    if *sight == Sight::Everything {
        return Ok(Expect::Anything);
    }
    match api.store.read(kind, id).await? {
        None => Ok(Expect::Absent),
        Some(stored) if sight.shows(&stored) => Ok(Expect::Version(stored.version)),
        Some(_) => Err(Failure::not_found()),
    }
}

/// The rows of the writes, before they are done: one for each type.
async fn note(api: &FhirApi, job: &Job, taken: &[(u64, Change)]) -> Result<(), Trouble> {
    let mut counts: BTreeMap<ResourceType, u32> = BTreeMap::new();
    for (_, change) in taken {
        *counts.entry(change.key().0).or_default() += 1;
    }
    let id = job.folder.id();
    for (kind, resources) in counts {
        let row = Access {
            reader: Reader(job.asked.owner.clone()),
            kind,
            interaction: Interaction::Update,
            parameters: vec![IMPORT.to_owned()],
            request: format!("bulk/{id}"),
            patient: None,
            resources,
        };
        let written = api.access.given(row).await;
        written.map_err(|Unwritten| Trouble::Away)?;
    }
    Ok(())
}

/// Stores what can be, in one transaction: how many. Why something cannot is a fault of its line.
async fn store(
    api: &FhirApi,
    asked: &Asked,
    mut taken: Vec<(u64, Change)>,
    faults: &mut Vec<(u64, Failure)>,
) -> Result<u64, Trouble> {
    while !taken.is_empty() {
        let transaction = Transaction {
            author: asked.owner.clone(),
            now: (api.now)(),
            changes: taken.iter().map(|(_, change)| change.clone()).collect(),
            guards: Vec::new(),
        };
        let (at, why) = match api.store.transact(transaction).await? {
            Transacted::Done(written) => {
                return Ok(u64::try_from(written.len()).unwrap_or(u64::MAX));
            }
            Transacted::Unmet { at, why } => (at, why),
        };
        if at >= taken.len() {
            return Err(Trouble::Fault("the store failed"));
        }
        // What was looked at has changed since: it is looked at again.
        if why == Unmet::Version || why == Unmet::Exists {
            return Err(Trouble::Fault("others write the same resources"));
        }
        let (number, _) = taken.remove(at);
        faults.push((number, Failure::unmet(why)));
    }
    Ok(0)
}

/// Adds what is wrong with lines to the file of that, and then says in the journal how far it is.
fn write(job: &Job, mut next: Done, lines: &[String], file_bytes: u64) -> Result<(), Trouble> {
    let _changing = job.changing.lock();
    if !job.folder.exists() {
        return Err(Trouble::Fault("it was deleted"));
    }
    if !lines.is_empty() {
        let text = format!("{}\n", lines.join("\n"));
        if next
            .files
            .last()
            .is_none_or(|file| file.bytes >= file_bytes)
        {
            next.files.push(Written {
                name: format!("outcomes.{}.ndjson", next.files.len()),
                kind: "OperationOutcome".to_owned(),
                list: List::Outcome,
                bytes: 0,
                count: 0,
            });
        }
        if let Some(file) = next.files.last_mut() {
            if !job.folder.append(&file.name, file.bytes, text.as_bytes())? {
                return Err(Trouble::Never("its files are not as they were left"));
            }
            file.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
            file.count += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        }
    }
    job.folder.keep(DONE, &next)?;
    *job.done.lock() = next;
    Ok(())
}
