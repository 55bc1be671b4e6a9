//! The worker: a process of its own that is given a round and the facility's records by its standard input, and gives
//! back one update by its standard output. It is told nothing else: no configuration, no key, no address.
//!
//! It lowers its own priority and gives up the right to open anything, files and sockets alike, before it reads what it
//! works on; a bound of its memory is the kernel's.
//!
//! A worker that is killed has changed nothing and said nothing: another one is given the same job, and where no noise is
//! promised it comes to the same bits. One that says why it cannot do its job is not asked again.
use fl::{
    features::Prepared,
    order::RoundOrder,
    site::{self, Job, Made},
    train::Records,
    update::Memory,
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::{
    io::{Read, Write},
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// The arguments by which the binary is a worker.
pub const WORKER_COMMAND: [&str; 2] = ["fl", "worker"];
/// How long a worker may take: as long as a step of a round may.
const LONGEST: Duration = Duration::from_secs(fl::study::Deadlines::MAX_SECONDS as u64);
/// How many workers are started for a job, one after another.
const MOST_WORKERS: u32 = 4;
/// How long it is waited before the next one: what killed the last may pass.
const BEFORE_NEXT: Duration = Duration::from_secs(1);
/// The longest description of a job, in bytes: a study and a model.
const MAX_JOB_BYTES: u32 = 8 << 20;

/// What a worker says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(
    clippy::large_enum_variant,
    reason = "one of them is written and read in a process"
)]
enum Said {
    Made(Made),
    Failed(String),
}

/// Has a worker, which a binary is, work on a round.
pub(super) async fn work(
    binary: &Path,
    order: &RoundOrder,
    prepared: &Prepared,
    (seed, memory): (Option<[u8; 32]>, Option<Memory>),
    model: Option<Vec<u8>>,
) -> Result<Made, String> {
    let model = model.unwrap_or_default();
    let (train, test) = (&prepared.train, &prepared.test);
    let job = Job {
        order: order.clone(),
        seed,
        inputs: train.inputs(),
        train: train.len(),
        test: test.len(),
        survival: train.has_times(),
        memory,
        model_bytes: model.len(),
    };
    let mut given = serde_json::to_vec(&job).map_err(|_| failed("cannot be told its job"))?;
    let length = u32::try_from(given.len()).map_err(|_| failed("has too long a job"))?;
    given.splice(0..0, length.to_le_bytes());
    given.extend(model);
    given.extend(train.to_bytes());
    given.extend(test.to_bytes());
    let done = timeout(LONGEST, answer(binary, &given, BEFORE_NEXT)).await;
    done.map_err(|_| failed("took too long"))?
}

/// What comes of a job, of the first worker that lives to say it.
async fn answer(binary: &Path, given: &[u8], before_next: Duration) -> Result<Made, String> {
    let mut started = 1;
    loop {
        let said = exchange(binary, given).await;
        let why = match said {
            Ok(said) => match read(&said) {
                Some(made) => return made,
                None => failed("said nothing that makes sense"),
            },
            Err(why) => why,
        };
        if started == MOST_WORKERS {
            return Err(why);
        }
        tracing::warn!(%why, started, "another worker is started for the same job");
        started += 1;
        tokio::time::sleep(before_next).await;
    }
}

/// What a worker said: a description after its length, and the numbers of an update behind it, four bytes each.
fn read(said: &[u8]) -> Option<Result<Made, String>> {
    let (length, rest) = said.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, numbers) = rest.split_at_checked(length)?;
    let mut made = match serde_json::from_slice(text).ok()? {
        Said::Failed(why) => return Some(Err(why)),
        Said::Made(made) => made,
    };
    let (numbers, rest) = numbers.as_chunks();
    made.numbers = numbers.iter().map(|n| u32::from_le_bytes(*n)).collect();
    rest.is_empty().then_some(Ok(made))
}

/// Writes what [`read`] reads.
fn say(mut said: Said, mut output: impl Write) -> std::io::Result<()> {
    let numbers = match &mut said {
        Said::Made(made) => std::mem::take(&mut made.numbers),
        Said::Failed(_) => Vec::new(),
    };
    let text = serde_json::to_vec(&said)?;
    let length = u32::try_from(text.len()).map_err(std::io::Error::other)?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(&text)?;
    output.write_all(&fl::large::to_bytes(&numbers))?;
    output.flush()
}

async fn exchange(binary: &Path, given: &[u8]) -> Result<Vec<u8>, String> {
    let mut worker = Command::new(binary)
        .args(WORKER_COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| failed("cannot be started"))?;
    let mut input = worker.stdin.take().ok_or_else(|| failed("has no input"))?;
    let tell = async move {
        // A worker that ends early says why by its output, or by its exit code.
        let _ended = input.write_all(given).await;
        drop(input);
    };
    let (output, ()) = tokio::join!(worker.wait_with_output(), tell);
    let output = output.map_err(|_| failed("was lost"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(failed("was killed, or ended without an update"))
    }
}

fn failed(what: &str) -> String {
    format!("the worker {what}")
}

/// What a worker does: reads a job, works, and writes what came of it.
///
/// # Errors
/// When input or output break, or the input is no job.
pub fn work_here(mut input: impl Read, output: impl Write) -> std::io::Result<()> {
    let invalid = |what: &'static str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_JOB_BYTES {
        return Err(invalid("the job is too long"));
    }
    let mut text = Vec::new();
    input.by_ref().take(length.into()).read_to_end(&mut text)?;
    let job: Job = serde_json::from_slice(&text).map_err(|_| invalid("is no job"))?;
    let mut rest = Vec::new();
    input.read_to_end(&mut rest)?;
    let said = match done(&job, &rest) {
        Ok(made) => Said::Made(made),
        Err(why) => Said::Failed(why),
    };
    say(said, output)
}

fn done(job: &Job, bytes: &[u8]) -> Result<Made, String> {
    let width = Records::width(job.inputs, job.survival);
    let (model, bytes) = bytes
        .split_at_checked(job.model_bytes)
        .ok_or("the model is not whole")?;
    let order = match job.order.large {
        Some(_) => job.order.with_model(model),
        None => Ok(job.order.clone()),
    };
    let order = order.map_err(|error| error.to_string())?;
    let (train, test) = bytes
        .split_at_checked(job.train.saturating_mul(width))
        .ok_or("the records are not whole")?;
    let records = |bytes| {
        let read = Records::of_bytes(job.inputs, job.survival, bytes);
        read.map_err(|error| error.to_string())
    };
    let (train, test) = (records(train)?, records(test)?);
    let mut random = match job.seed {
        Some(seed) => StdRng::from_seed(seed),
        None => StdRng::from_os_rng(),
    };
    let made = site::work(&order, (&train, &test), job.memory.as_ref(), &mut random);
    made.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_job_is_refused_and_a_job_that_cannot_be_done_says_why() {
        let mut output = Vec::new();
        assert!(work_here(&[1, 0, 0, 0, b'{'][..], &mut output).is_err());
        assert!(work_here(&u32::MAX.to_le_bytes()[..], &mut output).is_err());
        let order = RoundOrder {
            key: fl::order::RoundKey {
                study: "heart-1".parse().unwrap(),
                round: 1,
                attempt: 1,
            },
            text: "name = 3".into(),
            aim: fl::order::Aim::Train,
            model: vec![0.0; 2],
            large: None,
            code: None,
            signature: None,
        };
        let job = Job {
            order,
            seed: Some([1; 32]),
            inputs: 1,
            train: 1,
            test: 1,
            survival: false,
            memory: None,
            model_bytes: 0,
        };
        let text = serde_json::to_vec(&job).unwrap();
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        let records = [0, 0, 128, 63, 1].repeat(2);
        let given = [&length[..], &text, &records].concat();
        work_here(&given[..], &mut output).unwrap();
        let said = read(&output).unwrap();
        assert!(said.unwrap_err().contains("invalid type"));
        assert_eq!(
            done(&job, &records[..3]).unwrap_err(),
            "the records are not whole"
        );
    }

    /// A worker in a folder that is killed so many times, and then says what it is told to; each leaves a letter behind.
    fn mortal(dir: &Path, killed: usize, says: &str) -> std::path::PathBuf {
        let (script, left) = (dir.join("worker"), dir.join("left").display().to_string());
        let text = format!(
            "#!/bin/sh\nprintf x >> '{left}'\nread all < '{left}'\nif [ ${{#all}} -le {killed} ]; then kill -9 $$; fi\n{says}\n"
        );
        let written = dir.join("written");
        std::fs::write(&written, text).unwrap();
        // Copied by another process: nothing that this one forks meanwhile has the file open to be written.
        let copied = std::process::Command::new("/bin/cp")
            .args([&written, &script])
            .status();
        assert!(copied.unwrap().success());
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
        std::fs::set_permissions(&script, mode).unwrap();
        script
    }

    #[tokio::test]
    async fn a_worker_that_is_killed_is_started_again_and_one_that_says_why_is_not() {
        let sorry = r#"printf '\017\000\000\000{"failed":"no"}'"#;
        let most = usize::try_from(MOST_WORKERS).unwrap();
        for (killed, says, started, expected) in [
            (0, sorry, 1, "no"),
            (most - 1, sorry, most, "no"),
            (
                most,
                sorry,
                most,
                "the worker was killed, or ended without an update",
            ),
            (
                0,
                "printf x",
                most,
                "the worker said nothing that makes sense",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let worker = mortal(dir.path(), killed, says);
            let why = answer(&worker, b"a job", Duration::ZERO).await.unwrap_err();
            assert_eq!(why, expected);
            let left = std::fs::read(dir.path().join("left")).unwrap();
            assert_eq!(left.len(), started, "{expected}");
        }
    }
}
