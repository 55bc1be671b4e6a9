//! What the writer is asked to do, how it tells what became of it, and how jobs are gathered for one commit.
use super::{
    StoreError, StoreErrorKind,
    beds::{BedFact, Entered},
    commit::Commit,
    directory::DeviceEntry,
    prepared::Prepared,
    steps::{Corrected, Judged, Late, Swept},
};
use bytes::Bytes;
use federation::{
    audit::Entry,
    envelope::Intact,
    identity::Identity,
    port::{Arrival, Verdict},
    wire::{Hello, Receipt, Welcome},
};
use ingest::{Rejected, RetainedMessage, Stored};
use messages::DeviceRecords;
use node::trace;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use types::{DeviceId, Place};

/// Jobs in one commit: so few that those whom it answers prepare their next ones while the next commit is at work, so
/// many that its fixed cost (fsync, signed head: as much as some hundred rows) hardly counts.
pub(super) const BATCH: usize = 2_048;
/// Bytes of samples in one commit, about: 1 s of a slow disk.
const BATCH_BYTES: usize = 8 << 20;

/// The answer of a step that stores no sample.
pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;
/// The answers to samples, in their order.
pub(super) type Answers = Vec<Result<Stored, Rejected>>;

/// A step of another part of the node, which is done once.
pub(super) type Step = Box<dyn FnOnce(&mut Commit<'_, '_>) -> Result<(), StoreError> + Send>;

/// What the writer is asked to do.
pub(super) enum Job {
    /// Samples that are stored in this order.
    Append(Vec<Prepared>, oneshot::Sender<Answers>),
    Quarantine {
        device: DeviceId,
        reason: &'static str,
        message: Bytes,
        reply: Reply,
    },
    Retain {
        message: RetainedMessage,
        reply: Reply,
    },
    Settle {
        receipts: Vec<Receipt>,
        reply: Reply,
    },
    Devices {
        records: DeviceRecords,
        reply: Reply,
    },
    /// A peer that was turned away, for the audit log.
    TurnedAway {
        peer: Box<Identity>,
        reason: &'static str,
        reply: Reply,
    },
    /// What the region said of where it stands: compared, and followed if it does not agree.
    Resync {
        welcome: Box<Welcome>,
        fresh: [u8; 16],
        reply: oneshot::Sender<Result<Option<Hello>, StoreError>>,
    },
    /// What came down, each with whether it was let in before, to be judged.
    Admit {
        from: Place,
        arrivals: Vec<(Arrival, bool)>,
        reply: oneshot::Sender<Result<Vec<Judged>, StoreError>>,
    },
    /// What was let in, to be taken in.
    Accept {
        from: Place,
        parcels: Arc<Vec<Intact>>,
        reply: oneshot::Sender<Result<Vec<Verdict>, StoreError>>,
    },
    /// Where the region says that it stands as a sender.
    Meet {
        from: Place,
        hello: Box<Hello>,
        reply: oneshot::Sender<Result<Welcome, StoreError>>,
    },
    /// A step of another part of the node.
    Step {
        step: Mutex<Option<Step>>,
        reply: Reply,
    },
    /// Entries for the audit log.
    Note(Vec<Entry>, Reply),
    /// An empty audit log begins.
    BeginLog {
        has_run: bool,
        reply: Reply,
    },
    /// The crosswalk of a device, drawn if it is new.
    Device(
        DeviceId,
        oneshot::Sender<Result<Arc<DeviceEntry>, StoreError>>,
    ),
    /// One step of retention, and the time kept.
    Housekeep(oneshot::Sender<Result<Swept, StoreError>>),
    /// One step of what was stored while nothing might leave.
    ShipLate(oneshot::Sender<Result<Late, StoreError>>),
    /// One step of what the region did not take.
    ShipAgain {
        link_came_up: bool,
        reply: oneshot::Sender<Result<usize, StoreError>>,
    },
    /// An entry of who lies in a bed.
    Enter(Box<BedFact>, oneshot::Sender<Result<Entered, StoreError>>),
    /// One step of what late entries leave to be corrected.
    Correct(oneshot::Sender<Result<Corrected, StoreError>>),
    Close(oneshot::Sender<()>),
}

/// What became of a job, kept until the commit stands.
pub(super) enum Outcome {
    Samples(Answers),
    Done,
    /// There was no room for a message.
    Full,
    /// Against a limit: nothing was stored, and nothing is wrong with the store.
    Refused(&'static str),
    Device(Arc<DeviceEntry>),
    Swept(Swept),
    Late(Late),
    Again(usize),
    /// What to say to the region next; none when both agree.
    Said(Option<Box<Hello>>),
    Entered(Entered),
    Corrected(Corrected),
    Judged(Vec<Judged>),
    Verdicts(Vec<Verdict>),
    Welcome(Box<Welcome>),
    /// The step failed, and nothing of it was done; nothing is wrong with the store.
    Failed(StoreError),
}

impl Job {
    /// The commit stands. A caller that no longer waits has lost its answer, not its sample: it will send it again.
    pub(super) fn tell(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Append(samples, answer), Outcome::Samples(outcomes)) => {
                trace::end_all(samples.into_iter().filter_map(|sample| sample.trace));
                drop(answer.send(outcomes));
            }
            (Self::Device(_, reply), Outcome::Device(entry)) => drop(reply.send(Ok(entry))),
            (Self::Housekeep(reply), Outcome::Swept(swept)) => drop(reply.send(Ok(swept))),
            (Self::ShipLate(reply), Outcome::Late(late)) => drop(reply.send(Ok(late))),
            (Self::ShipAgain { reply, .. }, Outcome::Again(shipped)) => {
                drop(reply.send(Ok(shipped)));
            }
            (Self::Resync { reply, .. }, Outcome::Said(said)) => {
                drop(reply.send(Ok(said.map(|hello| *hello))));
            }
            (Self::Admit { reply, .. }, Outcome::Judged(judged)) => drop(reply.send(Ok(judged))),
            (Self::Accept { reply, .. }, Outcome::Verdicts(verdicts)) => {
                drop(reply.send(Ok(verdicts)));
            }
            (Self::Meet { reply, .. }, Outcome::Welcome(welcome)) => {
                drop(reply.send(Ok(*welcome)));
            }
            (Self::Enter(_, reply), Outcome::Entered(entered)) => drop(reply.send(Ok(entered))),
            (Self::Correct(reply), Outcome::Corrected(step)) => drop(reply.send(Ok(step))),
            (
                Self::Quarantine { reply, .. }
                | Self::Retain { reply, .. }
                | Self::Settle { reply, .. }
                | Self::Devices { reply, .. }
                | Self::Note(_, reply)
                | Self::BeginLog { reply, .. }
                | Self::Step { reply, .. }
                | Self::TurnedAway { reply, .. },
                Outcome::Done,
            ) => drop(reply.send(Ok(()))),
            (job, Outcome::Refused(op)) => {
                job.refuse(&StoreError::new(StoreErrorKind::Refused, op));
            }
            (job, Outcome::Failed(error)) => job.refuse(&error),
            (Self::Close(closed), _) => drop(closed.send(())),
            (job, Outcome::Full) => {
                job.refuse(&StoreError::new(StoreErrorKind::Full, "keep a message"));
            }
            (job, _) => job.refuse(&StoreError::new(StoreErrorKind::Internal, "answer")),
        }
    }

    /// Nothing was stored: the caller must not acknowledge.
    pub(super) fn refuse(self, error: &StoreError) {
        let error = error.without_source();
        match self {
            Self::Append(samples, answer) => {
                let refused = |_: &Prepared| match error.kind {
                    StoreErrorKind::Full => Err(Rejected::Full),
                    _ => Err(Rejected::Unavailable(error.without_source())),
                };
                drop(answer.send(samples.iter().map(refused).collect()));
            }
            Self::Quarantine { reply, .. }
            | Self::Retain { reply, .. }
            | Self::Settle { reply, .. }
            | Self::Devices { reply, .. }
            | Self::Note(_, reply)
            | Self::BeginLog { reply, .. }
            | Self::Step { reply, .. }
            | Self::TurnedAway { reply, .. } => drop(reply.send(Err(error))),
            Self::Admit { reply, .. } => drop(reply.send(Err(error))),
            Self::Accept { reply, .. } => drop(reply.send(Err(error))),
            Self::Meet { reply, .. } => drop(reply.send(Err(error))),
            Self::Resync { reply, .. } => drop(reply.send(Err(error))),
            Self::Device(_, reply) => drop(reply.send(Err(error))),
            Self::Housekeep(reply) => drop(reply.send(Err(error))),
            Self::ShipLate(reply) => drop(reply.send(Err(error))),
            Self::ShipAgain { reply, .. } => drop(reply.send(Err(error))),
            Self::Enter(_, reply) => drop(reply.send(Err(error))),
            Self::Correct(reply) => drop(reply.send(Err(error))),
            Self::Close(closed) => drop(closed.send(())),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Append(samples, _) => samples.iter().map(|sample| sample.packed.len()).sum(),
            Self::Quarantine { message, .. } => message.len(),
            Self::Retain { message, .. } => message.payload.len() + message.properties.len(),
            Self::Accept { parcels, .. } => parcels.iter().map(|parcel| parcel.body.len()).sum(),
            _ => 0,
        }
    }
}

/// Takes what waits, up to the bounds of a commit. A job to close comes last and is handed back.
pub(super) fn fill(
    batch: &mut Vec<Job>,
    first: Job,
    queue: &mut mpsc::Receiver<Job>,
) -> Option<oneshot::Sender<()>> {
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        if let Job::Close(closed) = job {
            return Some(closed);
        }
        bytes += job.bytes();
        batch.push(job);
        let room = batch.len() < BATCH && bytes < BATCH_BYTES;
        next = if room { queue.try_recv().ok() } else { None };
    }
    None
}
