//! What an entry of the audit log says was decided: a closed set.
use serde::{Deserialize, Serialize};
use types::DataClass;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The sender let it go.
    Cleared,
    /// The sender kept it.
    Refused,
    /// The receiver let it in.
    Admitted,
    /// The receiver kept it out.
    Denied,
    /// The receiver did not speak with the peer at all.
    PeerDenied,
    /// The receiver told the sender that it refused a parcel.
    RefusedByPeer,
    /// The receiver told the sender that it could not understand all of a parcel.
    QuarantinedByPeer,
    /// A person had something shipped again that was in quarantine.
    Released,
    /// A person deleted something that was in quarantine.
    Discarded,
    /// The log begins, or its node started again.
    Started,
    /// The sender began a new stream of parcels.
    StreamBegun,
    /// The receiver took a new stream of a sender.
    StreamTaken,
    /// This log, or what the node has of a peer, is older than what the peer was told: it was put back.
    PutBack,
    /// Data is missing that no end has any more, or of which nobody can tell.
    GapDeclared,
    /// A person acknowledged a gap, or that the log was put back.
    GapAcknowledged,
    /// A client read clinical data.
    DataRead,
    /// A client asked to write clinical data, and may: the history of the store says whether it was done.
    DataWritten,
    /// Requests for clinical data came without a good token, and were given nothing.
    ReadUnauthenticated,
    /// A client asked for clinical data that its token does not cover, and was given nothing.
    ReadForbidden,
    /// A client asked for clinical data and was given none: there was none, or the request could not be answered.
    ReadUnanswered,
    /// A person read who is behind a pseudonym, or readings with their patients.
    CrosswalkRead,
    /// A person said who lies in a bed.
    BedEntered,
    /// A person imported a research table into a facility's store.
    DatasetImported,
    /// A research table was read at its facility.
    DatasetRead,
    /// A person removed a research table.
    DatasetRemoved,
    /// A patient opted out of research by a consent at their facility.
    ResearchOptedOut,
    /// A patient opted out of research no longer.
    ResearchOptedIn,
    /// A study was given nothing of patients who opted out: how many stays.
    ResearchWithheld,
    /// A facility takes part in a round of a study.
    StudyJoined,
    /// A facility does not take part in a round of a study.
    StudyDeclined,
    /// A facility has paid for a round of a study.
    StudyDebited,
    /// A person lets a facility take part in a study.
    StudyApproved,
    /// A person has a facility decline a study.
    StudyRefused,
    /// A person has a study wait.
    StudyHeld,
    /// A client asked for a command to a device.
    CommandAsked,
    /// A second client approved a command.
    CommandApproved,
    /// A client that may not approve a command tried to.
    CommandNotApproved,
    /// A facility took a command in.
    CommandDelivered,
    /// A device carried a command out.
    CommandDone,
    /// Region, facility, its staff or the device refused a command.
    CommandRefused,
    /// The time of a command ended before it was carried out.
    CommandExpired,
    /// A command was tried, and is not known to be carried out.
    CommandFailed,
    /// The facility's staff holds commands back, or lets them go on.
    CommandHeld,
    /// A client set what is desired of a device.
    TwinChanged,
    /// A client has a file sent as a blob.
    BlobSent,
    /// All of a blob is at this place, and was checked.
    BlobWhole,
    /// A client takes a file back.
    BlobWithdrawn,
    /// A node joined with its kit, and is given a certificate.
    Enrolled,
    /// Somebody asked for a certificate with a kit that is not good (any more).
    EnrolmentRefused,
}

impl Decision {
    /// The label for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Refused => "refused",
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::PeerDenied => "peer-denied",
            Self::RefusedByPeer => "refused-by-peer",
            Self::QuarantinedByPeer => "quarantined-by-peer",
            Self::Released => "released",
            Self::Discarded => "discarded",
            Self::Started => "started",
            Self::StreamBegun => "stream-begun",
            Self::StreamTaken => "stream-taken",
            Self::PutBack => "put-back",
            Self::GapDeclared => "gap-declared",
            Self::GapAcknowledged => "gap-acknowledged",
            Self::DataRead => "data-read",
            Self::DataWritten => "data-written",
            Self::ReadUnauthenticated => "read-unauthenticated",
            Self::ReadForbidden => "read-forbidden",
            Self::ReadUnanswered => "read-unanswered",
            Self::CrosswalkRead => "crosswalk-read",
            Self::BedEntered => "bed-entered",
            Self::DatasetImported => "dataset-imported",
            Self::DatasetRead => "dataset-read",
            Self::DatasetRemoved => "dataset-removed",
            Self::ResearchOptedOut => "research-opted-out",
            Self::ResearchOptedIn => "research-opted-in",
            Self::ResearchWithheld => "research-withheld",
            Self::StudyJoined => "study-joined",
            Self::StudyDeclined => "study-declined",
            Self::StudyDebited => "study-debited",
            Self::StudyApproved => "study-approved",
            Self::StudyRefused => "study-refused",
            Self::StudyHeld => "study-held",
            Self::CommandAsked => "command-asked",
            Self::CommandApproved => "command-approved",
            Self::CommandNotApproved => "command-not-approved",
            Self::CommandDelivered => "command-delivered",
            Self::CommandDone => "command-done",
            Self::CommandRefused => "command-refused",
            Self::CommandExpired => "command-expired",
            Self::CommandFailed => "command-failed",
            Self::CommandHeld => "command-held",
            Self::TwinChanged => "twin-changed",
            Self::BlobSent => "blob-sent",
            Self::BlobWhole => "blob-whole",
            Self::BlobWithdrawn => "blob-withdrawn",
            Self::Enrolled => "enrolled",
            Self::EnrolmentRefused => "enrolment-refused",
        }
    }
}

/// Counts a decision. A transaction that is rolled back has been counted all the same.
pub fn count(decision: Decision, class: Option<DataClass>) {
    let class = class.map_or("unknown", DataClass::as_str);
    metrics::counter!("medmesh_residency_decisions_total", "decision" => decision.as_str(), "class" => class)
        .increment(1);
}
