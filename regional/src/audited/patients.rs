//! Which Patient the digest in a row of the audit log stands for: the log has no id of anybody, the store has all of them.
use federation::audit::about;
use fhir::audit::Whom;
use fhir::axis::Commits;
use fhir::store::{
    FhirId, HistoryQuery, MAX_PAGE, ResourceStore, ResourceType, Scope, StoreError, Stored,
};
use std::collections::HashMap;
use types::{FacilityPseudonym, Id128, PatientPseudonym};

/// Patients that are known by their digests: some 60 MiB. An access to one more is of a digest alone, and so is shown to
/// nobody whose token is bound to a facility.
const MAX_PATIENTS: usize = 500_000;

/// What a Patient is called: a facility's by a pseudonym, one that a client wrote as the client chose.
enum Name {
    Pseudonym(PatientPseudonym),
    Chosen(FhirId),
}

impl Name {
    fn of(id: &FhirId) -> Self {
        match id.as_str().parse::<PatientPseudonym>() {
            Ok(pseudonym) => Self::Pseudonym(pseudonym),
            Err(_) => Self::Chosen(id.clone()),
        }
    }

    fn id(&self) -> Option<FhirId> {
        match self {
            Self::Pseudonym(pseudonym) => pseudonym.to_string().parse().ok(),
            Self::Chosen(id) => Some(id.clone()),
        }
    }
}

/// Those that the store had by a commit.
pub struct Patients {
    known: HashMap<Id128, (Name, Option<FacilityPseudonym>)>,
    /// The last commit that was looked at.
    until: i64,
}

impl Default for Patients {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            // What was stored before commits were numbered is at 0.
            until: -1,
        }
    }
}

impl Patients {
    /// Gets to know those that came since, if one of these is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(
        &mut self,
        store: &dyn ResourceStore,
        mut digests: impl Iterator<Item = &str>,
    ) -> Result<(), StoreError> {
        let is_unknown = |digest: &str| {
            let digest: Option<Id128> = digest.parse().ok();
            digest.is_some_and(|digest| !self.known.contains_key(&digest))
        };
        if !digests.any(is_unknown) {
            return Ok(());
        }
        let head = store.head().await?;
        if head < self.until {
            // It was put back.
            *self = Self::default();
        }
        let mut query = HistoryQuery {
            scope: Scope::Type(ResourceType::Patient),
            commits: Some(Commits {
                after: self.until,
                until: Some(head),
            }),
            updated: None,
            there: None,
            by_id: false,
            after: None,
            count: MAX_PAGE,
        };
        if self.until == head {
            return Ok(());
        }
        loop {
            let page = store.history(&query).await?;
            for stored in &page.versions {
                self.know(stored);
            }
            if page.next.is_none() {
                break;
            }
            query.after = page.next;
        }
        self.until = head;
        Ok(())
    }

    fn know(&mut self, stored: &Stored) {
        let digest = about(&format!("Patient/{}", stored.id));
        let Ok(digest) = digest.parse::<Id128>() else {
            return;
        };
        if self.known.len() < MAX_PATIENTS || self.known.contains_key(&digest) {
            let name = Name::of(&stored.id);
            self.known.insert(digest, (name, stored.source));
        }
    }

    /// Whom a digest stands for, and the facility of that patient.
    #[must_use]
    pub fn whom(&self, digest: &str) -> (Whom, Option<FacilityPseudonym>) {
        if digest.is_empty() {
            return (Whom::Nobody, None);
        }
        let known = digest
            .parse()
            .ok()
            .and_then(|digest| self.known.get(&digest));
        match known.and_then(|(name, facility)| Some((name.id()?, *facility))) {
            Some((id, facility)) => (Whom::Patient(id), facility),
            None => (Whom::Digest(digest.to_owned()), None),
        }
    }
}
