//! What a person at the facility says to a study, by `medmesh edge plans`, beside the running node.
use crate::{config::EdgeConfig, dataset::DatasetError};
use federation::{
    audit::{self, Decision, Entry, Signer},
    pki,
};
use fl::{course::REGION_GRACE_MS, ledger::Ledger, order};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};
use store::{self, StoreError};
use types::{Place, Timestamp};

/// Texts of studies of which no person has said anything, at the most: each has up to 64 KiB. An older one would be new if it
/// came again.
const MOST_UNDECIDED: u32 = 1_000;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Nothing yet: the study waits.
    Waiting,
    /// To decide later: the study waits.
    Held,
    /// It may be, within what the facility allows.
    Approved,
    /// It may not be.
    Refused,
}

impl Decided {
    const ALL: [Self; 4] = [Self::Waiting, Self::Held, Self::Approved, Self::Refused];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Approved => "approved",
            Self::Refused => "refused",
        }
    }
}

/// How a study that came stands at the facility, as far as that is known here: a region says of each round that it is over,
/// and nothing of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// A round asks whether the facility takes part, and was not answered.
    Asked,
    /// The facility takes part in a round.
    Running,
    /// No round of it is here now, and another one may come.
    Between,
    /// Its model was judged here, or no round of it came for as long as one may take.
    Ended,
}

impl Stands {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Running => "running",
            Self::Between => "between-rounds",
            Self::Ended => "ended",
        }
    }
}

/// How a study stands of which something came, or was decided, at `last`.
pub(super) fn stands(
    db: &Connection,
    (study, text): (&str, &str),
    last: Timestamp,
    now: Timestamp,
) -> Result<Stands, StoreError> {
    let has = |query: &str| db.prepare_cached(query)?.exists([study]);
    if has("SELECT 1 FROM study_member WHERE study = ?1")? {
        return Ok(Stands::Running);
    }
    if has("SELECT 1 FROM study_ask WHERE study = ?1 AND step <> 'over'")? {
        return Ok(Stands::Asked);
    }
    let over: (Option<i64>, Option<i64>) = db
        .prepare_cached("SELECT max(round), max(at_ms) FROM study_done WHERE study = ?1")?
        .query_row([study], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Ok(study) = order::parse(text) else {
        // What is no study was declined.
        return Ok(Stands::Ended);
    };
    // The round after the last one judges.
    let rounds = i64::from(study.training.rounds);
    let is_judged = over.0.is_some_and(|over| over > rounds);
    let patience = study.round_ms().saturating_add(REGION_GRACE_MS);
    let last = over.1.map_or(last.0, |over| over.max(last.0));
    let is_silent = now.0 > last.saturating_add(patience);
    Ok(match is_judged || is_silent {
        true => Stands::Ended,
        false => Stands::Between,
    })
}

/// A study that came to the facility.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The study, as the global node calls it.
    pub study: String,
    /// SHA-256 of its text, in hexadecimal digits: what was decided is for this text alone.
    pub digest: String,
    /// The text.
    pub text: String,
    /// What was decided.
    pub decided: Decided,
    /// How it stands.
    pub stands: Stands,
    /// Who decided; nobody where the configuration decides.
    pub by: String,
    /// When it came, or was decided.
    pub at: Timestamp,
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn stored(word: &str) -> Decided {
    let found = Decided::ALL
        .into_iter()
        .find(|known| known.as_str() == word);
    found.unwrap_or(Decided::Waiting)
}

/// What is decided of a study, which is written down when it comes for the first time.
pub(super) fn decided(
    tx: &Connection,
    (study, _, text): (&str, &str, &str),
    by_itself: bool,
    now: Timestamp,
) -> Result<Decided, StoreError> {
    let digest = digest(text);
    let found: Option<String> = tx
        .prepare_cached("SELECT decided FROM study_consent WHERE study = ?1 AND digest = ?2")?
        .query_row([study, &digest], |row| row.get(0))
        .optional()?;
    match (found.as_deref().map(stored), by_itself) {
        (Some(found @ (Decided::Approved | Decided::Refused | Decided::Held)), _) => Ok(found),
        (Some(_), true) => Ok(Decided::Approved),
        (Some(found), false) => Ok(found),
        (None, _) => {
            let decided = if by_itself {
                Decided::Approved
            } else {
                Decided::Waiting
            };
            tx.prepare_cached(
                "INSERT INTO study_consent (study, digest, text, decided, by, at_ms) VALUES (?1, ?2, ?3, ?4, '', ?5)",
            )?
            .execute(params![study, digest, text, decided.as_str(), now.0])?;
            tx.prepare_cached(
                "DELETE FROM study_consent WHERE by = '' AND (study, digest) NOT IN (
                   SELECT study, digest FROM study_consent WHERE by = '' ORDER BY at_ms DESC, study LIMIT ?1)",
            )?
            .execute([MOST_UNDECIDED])?;
            Ok(decided)
        }
    }
}

pub(super) fn is_refused(tx: &Connection, (study, text): (&str, &str)) -> Result<bool, StoreError> {
    Ok(tx
        .prepare_cached(
            "SELECT 1 FROM study_consent WHERE study = ?1 AND digest = ?2 AND decided = 'refused'",
        )?
        .exists([study, &digest(text)])?)
}

/// The studies that came to a facility, for its own staff.
pub struct Plans {
    db: Connection,
    here: Place,
    signer: Signer,
}

impl Plans {
    /// Opens them.
    ///
    /// # Errors
    /// When there is no store, or it or the signing key cannot be used.
    pub fn open(config: &EdgeConfig) -> Result<Self, DatasetError> {
        let key = store::read_facility_key(&config.key_file)?;
        let here = config.place();
        let signing = pki::load_signing_key(&config.tls.signing_key)?;
        Ok(Self {
            db: store::open_beside(&config.data_dir, &key)?,
            signer: Signer::new(&here, signing),
            here,
        })
    }

    /// All of them as they stand at `now` (real time), the newest first.
    ///
    /// # Errors
    /// As any read.
    pub fn list(&self, now: Timestamp) -> Result<Vec<Waiting>, DatasetError> {
        let mut statement = self.db.prepare(
            "SELECT study, digest, text, decided, by, at_ms FROM study_consent ORDER BY at_ms DESC, study LIMIT 1000",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Waiting {
                study: row.get(0)?,
                digest: row.get(1)?,
                text: row.get(2)?,
                decided: stored(&row.get::<_, String>(3)?),
                stands: Stands::Between,
                by: row.get(4)?,
                at: Timestamp(row.get(5)?),
            })
        })?;
        let mut found = rows.collect::<Result<Vec<_>, _>>()?;
        for one in &mut found {
            one.stands = stands(&self.db, (&one.study, &one.text), one.at, now)?;
        }
        Ok(found)
    }

    /// Decides: false when there is no such study. It is in the audit log who did.
    ///
    /// # Errors
    /// As any write.
    pub fn decide(
        &mut self,
        study: &str,
        decided: Decided,
        (by, now): (&str, Timestamp),
    ) -> Result<bool, DatasetError> {
        let Self { db, here, signer } = self;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = tx.execute(
            "UPDATE study_consent SET decided = ?2, by = ?3, at_ms = ?4 WHERE study = ?1",
            params![study, decided.as_str(), by, now.0],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        let decision = match decided {
            Decided::Approved => Decision::StudyApproved,
            Decided::Refused => Decision::StudyRefused,
            Decided::Held | Decided::Waiting => Decision::StudyHeld,
        };
        let time = audit::time_beside(&tx, now)?;
        let entry = Entry::of_study_by(time, decision, by, here, study);
        audit::append(&tx, &entry)?;
        audit::sign_head(&tx, signer)?;
        tx.commit()?;
        Ok(true)
    }

    /// What the facility has spent, across all studies; none while its configuration has no `[learning]`.
    ///
    /// # Errors
    /// As any read.
    pub fn ledger(&self, config: &EdgeConfig) -> Result<Option<Ledger>, DatasetError> {
        let Some(learning) = &config.learning else {
            return Ok(None);
        };
        Ok(Some(super::rows::ledger(&self.db, learning.budget)?))
    }

    /// Under which name a facility signs its ledger: another than that of its audit log, so that neither is taken for the
    /// other.
    #[must_use]
    pub fn ledger_name(config: &EdgeConfig) -> String {
        format!("{}/ledger", audit::origin(&config.place()))
    }

    /// A text as a note that the facility signs, and the key that it is verified with.
    #[must_use]
    pub fn sign_ledger(&self, text: &str) -> (String, String) {
        let name = format!("{}/ledger", audit::origin(&self.here));
        self.signer.sign_text(text, &name)
    }

    /// The plan of a study that waits, as text for a person: what is wrong with it where it has none.
    #[must_use]
    pub fn summary(waiting: &Waiting) -> String {
        match order::read(&waiting.text) {
            Err(why) => why,
            Ok((study, plan)) => {
                let spend = plan.spend.map_or_else(
                    || "promises no privacy".to_owned(),
                    |spend| {
                        format!(
                            "epsilon {:.3} at delta {:e} of each {}",
                            spend.epsilon,
                            spend.delta,
                            spend.unit.as_str()
                        )
                    },
                );
                let table = study.data.table.as_ref();
                let from = table.map_or("readings of stays".into(), |name| format!("table {name}"));
                format!(
                    "{from}, {} features, {} rounds, {spend}",
                    study.data.features.len(),
                    study.training.rounds
                )
            }
        }
    }
}
