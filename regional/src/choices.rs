//! Patients who opted out of research at their facility, as the facility says: nothing of them is shown to clients that
//! read for research (`research_clients` of the configuration), whenever it came.
//!
//! Kept in the ledger, by who said so: of each patient that a facility names, what it said last holds. A facility speaks
//! for its own patients alone: their pseudonyms are random, and nobody else knows them.
use crate::{api::Bearer, config::RegionalConfig, rates::Rates};
use async_trait::async_trait;
use federation::{
    db::DbError,
    envelope::Intact,
    ledger::{Commit, Handler, Handlers, Ledger},
    port::{PortError, Verdict},
    reason,
};
use fhir::store::FhirId;
use messages::{ResearchChoice, ResearchChoices};
use node::token::TokenServer;
use parking_lot::RwLock;
use prost::Message as _;
use rusqlite::{Connection, params};
use std::sync::Arc;
use types::{PatientPseudonym, Place};

const SCHEMA: &[&str] = &["
CREATE TABLE research_choice(
  place TEXT NOT NULL, patient BLOB NOT NULL, opted_out INTEGER NOT NULL, PRIMARY KEY (place, patient)
) STRICT, WITHOUT ROWID;
"];
const PUT: &str = "INSERT INTO research_choice(place, patient, opted_out) VALUES (?1, ?2, ?3)
  ON CONFLICT (place, patient) DO UPDATE SET opted_out = excluded.opted_out";
const OUT: &str =
    "SELECT DISTINCT patient FROM research_choice WHERE opted_out = 1 ORDER BY patient";

/// Who checks tokens, with the choices that it keeps to.
///
/// # Errors
/// [`PortError`].
pub async fn open(
    config: &RegionalConfig,
    tokens: &TokenServer,
    ledger: &Ledger,
) -> Result<(Bearer, Choices), PortError> {
    let choices = Choices::open(ledger).await?;
    let bearer = Bearer {
        verifier: tokens.verifier(),
        research: config.research_clients.clone().into(),
        choices: Some(choices.clone()),
        rates: Rates::new(config.rate),
    };
    Ok((bearer, choices))
}

/// See the head of this file.
#[derive(Clone)]
pub struct Choices {
    ledger: Ledger,
    out: Arc<RwLock<Arc<[FhirId]>>>,
}

impl Choices {
    /// Those that the ledger holds.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn open(ledger: &Ledger) -> Result<Self, PortError> {
        ledger.tables("research choices", SCHEMA).await?;
        let choices = Self {
            ledger: ledger.clone(),
            out: Arc::default(),
        };
        choices.take(&Place::Global, Vec::new()).await?;
        Ok(choices)
    }

    /// The Patients of whom nothing is shown for research.
    #[must_use]
    pub fn opted_out(&self) -> Vec<FhirId> {
        self.out.read().to_vec()
    }

    /// Takes in what facilities say.
    #[must_use]
    pub fn takes(&self, handlers: Handlers) -> Handlers {
        handlers.on::<ResearchChoices>(TakesChoices(self.clone()))
    }

    /// In force with the commit that keeps it.
    async fn take(&self, from: &Place, choices: Vec<ResearchChoice>) -> Result<(), PortError> {
        let (from, out) = (from.to_string(), Arc::clone(&self.out));
        let step = move |commit: &mut Commit<'_>| -> Result<Arc<[FhirId]>, DbError> {
            for choice in &choices {
                let mut put = commit.tx().prepare_cached(PUT)?;
                put.execute(params![from, &choice.pseudonym[..], choice.opted_out])?;
            }
            Ok(all(commit.tx())?)
        };
        let now = self.ledger.commit("research choices", step).await?;
        *out.write() = now;
        Ok(())
    }
}

fn all(tx: &Connection) -> rusqlite::Result<Arc<[FhirId]>> {
    let mut out = tx.prepare_cached(OUT)?;
    let rows = out.query_map([], |row| Ok(PatientPseudonym::from_bytes(row.get(0)?)))?;
    let ids = rows.map(|row| Ok(row?.to_string().parse().ok()));
    let ids: Vec<Option<FhirId>> = ids.collect::<rusqlite::Result<_>>()?;
    Ok(ids.into_iter().flatten().collect())
}

struct TakesChoices(Choices);

#[async_trait]
impl Handler for TakesChoices {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let body = ResearchChoices::decode(&parcel.body[..]).ok();
            let is_good = |body: &ResearchChoices| {
                let mut each = body.choices.iter();
                each.all(|choice| choice.pseudonym.len() == size_of::<[u8; 16]>())
            };
            let Some(body) = body.filter(is_good) else {
                verdicts.push(Verdict::Quarantined {
                    reason: reason::MALFORMED,
                });
                continue;
            };
            let stored = u32::try_from(body.choices.len()).unwrap_or(u32::MAX);
            self.0.take(from, body.choices).await?;
            verdicts.push(Verdict::Accepted { stored });
        }
        Ok(verdicts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation::{audit::Signer, envelope, policy::Rules, wire::Parcel};
    use std::path::Path;
    use types::Timestamp;

    async fn opened(dir: &Path) -> Choices {
        let here: Place = "regional/eu/eu".parse().unwrap();
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let signer = Signer::new(&here, key);
        let time = Arc::new(|| Timestamp(1_800_000_000_000));
        let rules = Rules::builtin().unwrap();
        let ledger = Ledger::open(&dir.join("ledger.db"), here, rules, signer, time).unwrap();
        Choices::open(&ledger).await.unwrap()
    }

    fn parcel(choices: &[(u8, bool)]) -> Intact {
        let choice = |(patient, opted_out): &(u8, bool)| ResearchChoice {
            pseudonym: vec![*patient; 16].into(),
            opted_out: *opted_out,
        };
        let body = ResearchChoices {
            choices: choices.iter().map(choice).collect(),
            ..ResearchChoices::default()
        };
        sealed(body.encode_to_vec())
    }

    fn sealed(body: Vec<u8>) -> Intact {
        let parcel = Parcel {
            digest: envelope::digest(&body),
            body: body.into(),
            ..Parcel::default()
        };
        Intact::new(parcel).unwrap()
    }

    fn ids(bytes: &[u8]) -> Vec<FhirId> {
        let ids = bytes
            .iter()
            .map(|byte| PatientPseudonym::from_bytes([*byte; 16]));
        ids.map(|id| id.to_string().parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_a_facility_said_last_of_its_patients_holds_at_once_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let choices = opened(dir.path()).await;
        let [one, other] = ["edge/eu/eu/eu-f1", "edge/eu/eu/eu-f2"];
        let [one, other]: [Place; 2] = [one, other].map(|place| place.parse().unwrap());
        let takes = TakesChoices(choices.clone());
        let first = parcel(&[(1, true), (2, true)]);
        let verdicts = takes.apply(&one, &[first.clone(), first]).await.unwrap();
        let accepted = || Verdict::Accepted { stored: 2 };
        assert_eq!(verdicts, [accepted(), accepted()]);
        assert_eq!(choices.opted_out(), ids(&[1, 2]));
        // Another facility cannot take back what this one said.
        takes.apply(&other, &[parcel(&[(1, false)])]).await.unwrap();
        takes.apply(&one, &[parcel(&[(2, false)])]).await.unwrap();
        assert_eq!(choices.opted_out(), ids(&[1]));
        drop((takes, choices));
        let choices = opened(dir.path()).await;
        assert_eq!(choices.opted_out(), ids(&[1]));
        let short = sealed(vec![0x0a, 0x03, 0x0a, 0x01, 0x07]);
        let verdicts = TakesChoices(choices.clone()).apply(&one, &[short]).await;
        let reason = reason::MALFORMED;
        assert_eq!(verdicts.unwrap(), [Verdict::Quarantined { reason }]);
    }
}
