//! One entry of the audit log, and the one way to write it.
use super::Decision;
use crate::db::DbError;
use crate::floor::Refusal;
use crate::identity::Identity;
use crate::wire::Parcel;
use messages::{Body, class_of};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use types::{DataClass, Place, Purpose, Timestamp};

/// The longest peer name that is written out, in bytes: a certificate's URI of five names fits; a longer one is
/// written as its digest.
const MAX_PEER_BYTES: usize = 255;

/// One entry. Its JSON, keys in this order and no white space, is the leaf. What does not apply is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    v: u8,
    time: String,
    decision: Decision,
    reason: String,
    class: String,
    purpose: String,
    from: String,
    to: String,
    kind: String,
    count: u32,
    id: String,
    digest: String,
}

impl Entry {
    fn blank(time: Timestamp, decision: Decision, reason: &'static str) -> Self {
        Self {
            v: 1,
            time: time.to_rfc3339(),
            decision,
            reason: reason.into(),
            class: String::new(),
            purpose: String::new(),
            from: String::new(),
            to: String::new(),
            kind: String::new(),
            count: 0,
            id: String::new(),
            digest: String::new(),
        }
    }

    /// The sender cleared an envelope and sealed it into this parcel, which it wrote itself.
    #[must_use]
    pub(crate) fn sealed(time: Timestamp, parcel: &Parcel) -> Self {
        Self {
            class: parcel.data_class.clone(),
            purpose: parcel.purpose.clone(),
            from: parcel.from.clone(),
            to: parcel.to.clone(),
            kind: parcel.kind.clone(),
            count: parcel.count,
            id: hex::encode(&parcel.id),
            digest: hex::encode(&parcel.digest),
            ..Self::blank(time, Decision::Cleared, "")
        }
    }

    /// The sender refused to clear an envelope.
    #[must_use]
    pub fn refused<T: Body>(
        time: Timestamp,
        refusal: Refusal,
        (from, to, purpose): (&Place, &Place, Purpose),
        count: u32,
    ) -> Self {
        Self {
            class: T::CLASS.as_str().into(),
            purpose: purpose.as_str().into(),
            from: from.to_string(),
            to: to.to_string(),
            kind: T::KIND.into(),
            count,
            ..Self::blank(time, Decision::Refused, refusal.reason())
        }
    }

    /// A parcel was let in or kept out by its receiver. Words of the parcel that are not from a closed set are left
    /// out, as a peer may have written anything there; `from` is the place that its certificate names.
    #[must_use]
    pub fn of_parcel(
        time: Timestamp,
        decision: Decision,
        reason: &'static str,
        from: &Place,
        to: &Place,
        parcel: &Parcel,
    ) -> Self {
        let known = class_of(&parcel.kind);
        let purpose = Purpose::parse(&parcel.purpose);
        Self {
            class: known.map_or("", DataClass::as_str).into(),
            purpose: purpose.map_or("", Purpose::as_str).into(),
            from: from.to_string(),
            to: to.to_string(),
            kind: known.map_or("", |_| parcel.kind.as_str()).into(),
            count: parcel.count,
            id: hex_of::<16>(&parcel.id),
            digest: hex_of::<32>(&parcel.digest),
            ..Self::blank(time, decision, reason)
        }
    }

    /// A person discarded something in quarantine at this place that is no parcel of it: a note, or a message. `digest` is
    /// the SHA-256 of what it is about.
    #[must_use]
    pub fn discarded(time: Timestamp, reason: &'static str, me: &Place, digest: &[u8]) -> Self {
        Self {
            from: me.to_string(),
            to: me.to_string(),
            digest: hex_of::<32>(digest),
            ..Self::blank(time, Decision::Discarded, reason)
        }
    }

    /// A peer was turned away for what its certificate says.
    #[must_use]
    pub fn peer_denied(time: Timestamp, peer_uri: &str, me: &Place, reason: &'static str) -> Self {
        Self {
            from: printable(peer_uri),
            to: me.to_string(),
            ..Self::blank(time, Decision::PeerDenied, reason)
        }
    }

    /// Something happened between two places, or at one, that is of no parcel. `reason` is a word from a closed set.
    #[must_use]
    pub fn of_event(
        time: Timestamp,
        decision: Decision,
        reason: &'static str,
        (from, to): (&Place, &Place),
        count: u32,
    ) -> Self {
        Self {
            from: from.to_string(),
            to: to.to_string(),
            count,
            ..Self::blank(time, decision, reason)
        }
    }

    /// Somebody said at `me` who lies in a bed, or that nobody does: who said it, and which of the two. Never which bed or
    /// who.
    #[must_use]
    pub fn of_bed(time: Timestamp, who: &str, me: &Place, what: &'static str) -> Self {
        Self {
            class: DataClass::Phi.as_str().into(),
            from: printable(who),
            to: me.to_string(),
            kind: "Bed".into(),
            count: 1,
            ..Self::blank(time, Decision::BedEntered, what)
        }
    }

    /// A research table was imported, read or removed at `me`: by whom, its name, how many records it has, and the SHA-256
    /// of the file that it came from.
    #[must_use]
    pub fn of_dataset(
        time: Timestamp,
        decision: Decision,
        who: &str,
        me: &Place,
        (name, records, digest): (&str, u32, &[u8; 32]),
    ) -> Self {
        Self {
            class: DataClass::Phi.as_str().into(),
            from: printable(who),
            to: me.to_string(),
            kind: "Dataset".into(),
            count: records,
            id: printable(name),
            digest: hex_of::<32>(digest),
            ..Self::blank(time, decision, "")
        }
    }

    /// What the facility `me` made of a round of a study, by itself.
    #[must_use]
    pub fn of_study(time: Timestamp, decision: Decision, me: &Place, study: &str) -> Self {
        Self::of_study_by(time, decision, "", me, study)
    }

    /// What was decided at the facility `me` of a study, and by whom.
    #[must_use]
    pub fn of_study_by(
        time: Timestamp,
        decision: Decision,
        who: &str,
        me: &Place,
        study: &str,
    ) -> Self {
        Self {
            class: DataClass::ModelUpdate.as_str().into(),
            purpose: Purpose::Research.as_str().into(),
            from: printable(who),
            to: me.to_string(),
            kind: "Study".into(),
            id: printable(study),
            ..Self::blank(time, decision, "")
        }
    }

    /// A step of a command to a device, or of its twin: who did it, at which place, the command's name and id, and the
    /// digest of what was signed. Parameters are in the digest alone.
    #[must_use]
    pub fn of_command(
        time: Timestamp,
        (decision, reason): (Decision, &'static str),
        (who, me): (&str, &Place),
        name: &str,
        id: types::Id128,
        signed: Option<&[u8]>,
    ) -> Self {
        Self {
            class: DataClass::Command.as_str().into(),
            from: printable(who),
            to: me.to_string(),
            kind: name.into(),
            count: 1,
            id: id.to_string(),
            digest: signed
                .map(|signed| hex::encode(Sha256::digest(signed)))
                .unwrap_or_default(),
            ..Self::blank(time, decision, reason)
        }
    }

    /// A file that is sent as a blob, at `me`: who did it, its class and purpose, the kind of its descriptor, what the
    /// delivery is called by, and the SHA-256 of its bytes.
    #[must_use]
    pub fn of_blob<T: Body>(
        time: Timestamp,
        decision: Decision,
        (who, me, purpose): (&str, &Place, Purpose),
        id: types::Id128,
        digest: &[u8; 32],
    ) -> Self {
        Self {
            class: T::CLASS.as_str().into(),
            purpose: purpose.as_str().into(),
            from: printable(who),
            to: me.to_string(),
            kind: T::KIND.into(),
            count: 1,
            id: id.to_string(),
            digest: hex_of::<32>(digest),
            ..Self::blank(time, decision, "")
        }
    }

    /// Clinical data was read at `me`, or asked for and not given (45 CFR 164.312(b)): who, in which way, what, and how
    /// many resources were given, or how many requests were given nothing. Values that were asked for, ids among them,
    /// stand here as digests alone.
    #[must_use]
    pub fn of_read(
        time: Timestamp,
        decision: Decision,
        who: &str,
        me: &Place,
        what: &Asked<'_>,
        count: u32,
    ) -> Self {
        let is_identified = matches!(me, Place::Edge { .. });
        let class = match decision {
            Decision::CrosswalkRead
            | Decision::ResearchOptedOut
            | Decision::ResearchOptedIn
            | Decision::ResearchWithheld => DataClass::Phi,
            // What a facility shows of clinical data is identified.
            Decision::DataRead | Decision::DataWritten if is_identified => DataClass::Phi,
            _ => DataClass::Pseudonymous,
        };
        Self {
            class: class.as_str().into(),
            from: printable(who),
            to: me.to_string(),
            kind: what.kind.into(),
            count,
            id: what.about.map(about).unwrap_or_default(),
            digest: what.request.map(digest_of).unwrap_or_default(),
            ..Self::blank(time, decision, what.interaction)
        }
    }

    /// A holder joined at `me` with a kit and is given a certificate (PEM): who, half of the SHA-256 of the kit's code, and
    /// the certificate's fingerprint.
    #[must_use]
    pub fn enrolled(
        time: Timestamp,
        who: &Identity,
        me: &Place,
        kit: &[u8; 32],
        certificate: &str,
    ) -> Self {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes());
        Self {
            from: printable(&who.to_uri()),
            kind: "Certificate".into(),
            count: 1,
            digest: der
                .map(|der| hex::encode(Sha256::digest(&der)))
                .unwrap_or_default(),
            ..Self::of_kit(time, (Decision::Enrolled, ""), me, kit)
        }
    }

    /// The node `who` got its next certificate at `me`, in the place of one with that digest.
    #[must_use]
    pub fn renewed(
        time: Timestamp,
        who: &Identity,
        me: &Place,
        before: &[u8; 32],
        certificate: &str,
    ) -> Self {
        Self {
            reason: "renewed".into(),
            ..Self::enrolled(time, who, me, before, certificate)
        }
    }

    /// A device got its certificate at `me` because its facility says that it may, for a request with that digest.
    #[must_use]
    pub fn device_enrolled(
        time: Timestamp,
        who: &Identity,
        me: &Place,
        request: &[u8; 32],
        certificate: &str,
    ) -> Self {
        Self {
            reason: "device".into(),
            ..Self::enrolled(time, who, me, request, certificate)
        }
    }

    /// Whoever has that kit asked for a certificate at `me`, and got none.
    #[must_use]
    pub fn not_enrolled(time: Timestamp, reason: &'static str, me: &Place, kit: &[u8; 32]) -> Self {
        Self::of_kit(time, (Decision::EnrolmentRefused, reason), me, kit)
    }

    fn of_kit(
        time: Timestamp,
        (decision, reason): (Decision, &'static str),
        me: &Place,
        kit: &[u8; 32],
    ) -> Self {
        Self {
            to: me.to_string(),
            id: hex::encode(kit).chars().take(32).collect(),
            ..Self::blank(time, decision, reason)
        }
    }

    /// What the entry is of: a kind of parcel, or a type of resource and the names of the parameters of a search.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The id of a parcel, or [`about`] whom a read was.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When (real time); none when it is not written as a time.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// What was decided.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        self.decision
    }

    /// Why, from a closed set; empty when it went through.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The place or peer that sent.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The place that was to receive.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The digest, in hexadecimal: of a body, of what was asked for, or of a certificate.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Records in the parcel.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The leaf: one line of JSON.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] never happens: every field is text or a number.
    pub fn encode(&self) -> Result<Vec<u8>, DbError> {
        serde_json::to_vec(self).map_err(|_| DbError::Corrupt("audit entry"))
    }

    /// The entry of a leaf, which must be written exactly as [`Entry::encode`] writes it.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] for anything else.
    pub fn decode(leaf: &[u8]) -> Result<Self, DbError> {
        let entry: Self =
            serde_json::from_slice(leaf).map_err(|_| DbError::Corrupt("audit entry"))?;
        if entry.v == 1 && entry.encode()? == leaf {
            Ok(entry)
        } else {
            Err(DbError::Corrupt("audit entry"))
        }
    }
}

/// What somebody asked to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// In which way, from a closed set.
    pub interaction: &'static str,
    /// Of what: a type, and the names of parameters; never a value.
    pub kind: &'a str,
    /// Whom or what alone it was about, as `Patient/id`.
    pub about: Option<&'a str>,
    /// All of the request.
    pub request: Option<&'a str>,
}

/// How an entry names whom a read was about, such as `Patient/id`: half of its SHA-256, as hexadecimal. Ids are random,
/// so that it says nothing to who does not have them.
#[must_use]
pub fn about(reference: &str) -> String {
    digest_of(reference).chars().take(32).collect()
}

fn digest_of(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// An id or digest of N bytes as hexadecimal; what has another length is not one.
fn hex_of<const N: usize>(bytes: &[u8]) -> String {
    if bytes.len() == N {
        hex::encode(bytes)
    } else {
        String::new()
    }
}

/// A peer's name as written in its certificate, or its digest when it has characters that an identity never has.
fn printable(peer: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
    if peer.len() <= MAX_PEER_BYTES && peer.bytes().all(plain) {
        peer.to_owned()
    } else {
        format!("sha256:{}", hex::encode(Sha256::digest(peer)))
    }
}
