//! Whose data may be used for research, as the facility's consents say (`edge::fhir`): one column of a patient, and what
//! the region was told of it.
//!
//! A choice is in force with the commit that keeps it, of which the audit log has a row; studies ask for it each time that
//! they look at stays. The region is told in the same commit, by the pseudonym alone, in a parcel of kind
//! `ResearchChoices`, and again all of them when either end was put back. Choices are told one after the other at one
//! priority, so that the last one that comes holds.
use super::{
    Store, StoreError,
    commit::Commit,
    feed::{LocalId, LocalIds},
    view::in_one,
};
use federation::audit::{Asked, Decision, Entry};
use messages::{ResearchChoice, ResearchChoices};
use rusqlite::{Connection, params};
use std::{collections::BTreeSet, sync::atomic::Ordering};
use types::{Priority, Purpose};

/// Choices in one parcel.
const IN_PARCEL: u32 = 1_000;

/// The region may lack every choice, or have an older one.
pub(super) fn tell_again(tx: &Connection) -> rusqlite::Result<()> {
    let again = "UPDATE patient SET research_told = 0 WHERE research_choice IS NOT NULL";
    tx.prepare_cached(again)?.execute([])?;
    Ok(())
}

/// Patients by row, and what they are called here.
type Rows = Vec<(i64, LocalId)>;

impl Store {
    /// From now on these have opted out of research, and of the others that are named nobody has: how many choices are
    /// new. The region is told in the same commit.
    ///
    /// # Errors
    /// As any write: nothing has changed then.
    pub async fn opt_out(
        &self,
        out: BTreeSet<String>,
        named: BTreeSet<String>,
    ) -> Result<usize, StoreError> {
        let ids = self.local_ids();
        let changed = self.look(move |db| in_one(db, |db| changes(db, &ids, (&out, &named))));
        let (to_out, to_in) = changed.await?;
        let count = to_out.len() + to_in.len();
        let step = move |commit: &mut Commit<'_, '_>| {
            choose(commit, &to_out, true)?;
            choose(commit, &to_in, false)?;
            tell(commit)
        };
        if count > 0 {
            self.in_commit(step).await?;
            self.0.status.research.fetch_add(1, Ordering::AcqRel);
        }
        Ok(count)
    }

    /// How often choices have changed in this run: whoever keeps something that was made of stays looks at it.
    #[must_use]
    pub fn research_choices(&self) -> u32 {
        self.0.status.research.load(Ordering::Acquire)
    }

    /// The region is told every choice again: whatever it may have lost.
    ///
    /// # Errors
    /// As any write.
    pub async fn tell_choices_again(&self) -> Result<(), StoreError> {
        let any = "SELECT 1 FROM patient WHERE research_choice IS NOT NULL LIMIT 1";
        let any = self
            .look(move |db| Ok(db.prepare_cached(any)?.exists([])?))
            .await?;
        match any {
            true => self.in_commit(|commit| Ok(tell_again(commit.tx())?)).await,
            false => Ok(()),
        }
    }

    /// Tells the region what it was not told.
    ///
    /// # Errors
    /// As any write.
    pub async fn tell_choices(&self) -> Result<(), StoreError> {
        match self.look(|db| Ok(any_untold(db)?)).await? {
            true => self.in_commit(tell).await,
            false => Ok(()),
        }
    }
}

fn any_untold(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM patient WHERE research_told = 0 LIMIT 1")?
        .exists([])
}

/// Who has opted out and is not known to have, and who of those named is known to have and has not.
fn changes(
    db: &Connection,
    ids: &LocalIds,
    (out, named): (&BTreeSet<String>, &BTreeSet<String>),
) -> Result<(Rows, Rows), StoreError> {
    let (mut to_out, mut to_in) = (Vec::new(), Vec::new());
    // Most facilities have nobody who opted out: then there is nothing to look through.
    let only = match out.is_empty() {
        true => "WHERE research_choice IS NOT NULL",
        false => "",
    };
    let mut query = db.prepare(&format!(
        "SELECT row, id, coalesce(research_choice, 0) FROM patient {only}"
    ))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (number, is_out): (i64, bool) = (row.get(0)?, row.get(2)?);
        let id = ids.patient(&row.get::<_, String>(1)?);
        match (out.contains(id.as_str()), is_out) {
            (true, false) => to_out.push((number, id)),
            (false, true) if named.contains(id.as_str()) => to_in.push((number, id)),
            _ => {}
        }
    }
    Ok((to_out, to_in))
}

fn choose(
    commit: &mut Commit<'_, '_>,
    rows: &[(i64, LocalId)],
    is_out: bool,
) -> Result<(), StoreError> {
    let decision = match is_out {
        true => Decision::ResearchOptedOut,
        false => Decision::ResearchOptedIn,
    };
    let now = commit.now().real;
    for (row, id) in rows {
        commit
            .tx()
            .prepare_cached(
                "UPDATE patient SET research_choice = ?2, research_told = 0 WHERE row = ?1",
            )?
            .execute(params![row, is_out])?;
        let about = format!("Patient/{}", id.as_str());
        let what = Asked {
            interaction: "consent",
            kind: "Consent",
            about: Some(&about),
            request: None,
        };
        let entry = Entry::of_read(now, decision, "consent", commit.place(), &what, 1);
        commit.note(&[entry])?;
    }
    Ok(())
}

/// Ships what the region was not told. What the rules keep here is told later.
fn tell(commit: &mut Commit<'_, '_>) -> Result<(), StoreError> {
    loop {
        let tx = commit.tx();
        let mut query = tx.prepare_cached(
            "SELECT row, pseudonym, research_choice FROM patient WHERE research_told = 0 ORDER BY row LIMIT ?1",
        )?;
        let untold = query.query_map([IN_PARCEL], |row| {
            let pseudonym: [u8; 16] = row.get(1)?;
            let choice = ResearchChoice {
                pseudonym: pseudonym.to_vec().into(),
                opted_out: row.get::<_, Option<bool>>(2)?.unwrap_or(false),
            };
            Ok((row.get::<_, i64>(0)?, choice))
        })?;
        let untold: Vec<(i64, ResearchChoice)> = untold.collect::<Result<_, _>>()?;
        if untold.is_empty() {
            return Ok(());
        }
        let mut salt = [0; 16];
        commit.draw(&mut salt);
        let (rows, choices): (Vec<i64>, Vec<ResearchChoice>) = untold.into_iter().unzip();
        let body = ResearchChoices {
            choices,
            salt: salt.to_vec().into(),
        };
        if !commit.ship(Priority::Live, Purpose::Care, body)? {
            return Ok(());
        }
        let mut told = tx.prepare_cached("UPDATE patient SET research_told = 1 WHERE row = ?1")?;
        for row in rows {
            told.execute([row])?;
        }
    }
}
