//! The records of a study at this facility: of a table that it has imported, or of its own stays.
use super::{Learner, stays};
use crate::dataset::{DatasetError, Datasets};
use federation::audit::{Asked, Decision, Entry};
use fl::{
    features::{Prepared, prepare},
    objection::Objection,
    order::RoundOrder,
    study::{Problem, Study},
};
use std::sync::Arc;
use store::{Commit, StoreError, StoreErrorKind};

/// How the audit log names what a study reads of stays.
const STAYS: Asked<'static> = Asked {
    interaction: "study",
    kind: "Stay",
    about: None,
    request: None,
};

impl Learner {
    /// The records of a study; what does not fit is an objection.
    pub(super) async fn prepared(
        &self,
        order: &RoundOrder,
        study: &Study,
    ) -> Result<Result<Arc<Prepared>, Vec<Objection>>, StoreError> {
        let objected = |problems: Vec<Problem>| {
            let said = problems.iter().map(ToString::to_string);
            said.map(Objection::Plan).collect::<Vec<_>>()
        };
        let Some(name) = study.data.table.clone() else {
            return Ok(self.of_stays(order, study).await?.map_err(objected));
        };
        let (config, now, study) = (self.config.clone(), self.time.now().real, study.clone());
        let read = tokio::task::spawn_blocking(move || {
            let by = format!("study:{}", study.name);
            let table = Datasets::open(&config).and_then(|mut sets| sets.table(&name, &by, now));
            match table {
                Ok((_, table)) => Ok(prepare(&study, &table).map(Arc::new).map_err(objected)),
                Err(DatasetError::Missing(name)) => {
                    let why = format!("there is no data set `{name}` here");
                    Ok(Err(vec![Objection::Plan(why)]))
                }
                Err(DatasetError::Store(error)) => Err(error),
                Err(_) => Err(internal()),
            }
        });
        read.await.map_err(|_| internal())?
    }

    /// The records of a study of stays. Nobody's are read before it is written down (45 CFR 164.312(b)).
    async fn of_stays(
        &self,
        order: &RoundOrder,
        study: &Study,
    ) -> Result<Result<Arc<Prepared>, Vec<Problem>>, StoreError> {
        let id = order.key.study.to_string();
        // Before stays are looked at: a choice that comes meanwhile has them looked at again.
        let choices = self.store.research_choices();
        let name = format!("{id}\n{choices}\n{}", order.text);
        if let Some((_, last)) = self.last.lock().as_ref().filter(|(of, _)| *of == name) {
            return Ok(Ok(last.clone()));
        }
        let by = format!("study:{}", study.name);
        let mesh = self.time.now().mesh;
        let begin = move |commit: &mut Commit<'_, '_>| {
            let (what, now) = (STAYS, commit.now().real);
            let read = Entry::of_read(now, Decision::CrosswalkRead, &by, commit.place(), &what, 0);
            commit.note(&[read])?;
            stays::as_of(commit.tx(), &id, mesh)
        };
        let until = self.store.in_commit(begin).await?;
        let from = mesh.plus_ms(-self.config.store.retention.as_ms());
        let span = stays::Span { from, until };
        let withheld = stays::withheld(&self.view, span).await?;
        if withheld > 0 {
            let (by, decision) = (format!("study:{}", study.name), Decision::ResearchWithheld);
            let now = self.time.now().real;
            let row = Entry::of_read(now, decision, &by, &self.config.place(), &STAYS, withheld);
            self.store.note(vec![row]).await?;
        }
        let prepared = stays::prepared(&self.view, study, span).await?;
        Ok(prepared.map(|prepared| {
            let prepared = Arc::new(prepared);
            *self.last.lock() = Some((name, prepared.clone()));
            prepared
        }))
    }
}

fn internal() -> StoreError {
    StoreError::new(StoreErrorKind::Internal, "read a data set for a study")
}
