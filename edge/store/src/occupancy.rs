//! Stays of patients, as the entries of beds tell them: a patient who is moved from one bed to another stays, and one who
//! was in no bed meanwhile comes a second time.
use super::{Store, StoreError, beds, view::in_one};
use crate::page::PatientStay;
use fl::stays::Facts;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::BTreeMap;
use types::{CareUnit, Phi, Timestamp};

/// From when to when a patient lay in beds, in ms since 1970; the end of time where nothing says when it ends.
type Interval = (i64, i64);

impl Store {
    /// Every stay that has begun by `now`, in the order in which they began.
    ///
    /// # Errors
    /// As any read.
    pub async fn look_at_stays(&self, now: Timestamp) -> Result<Vec<PatientStay>, StoreError> {
        self.look(move |db| in_one(db, |db| read(db, now))).await
    }
}

fn read(db: &Connection, now: Timestamp) -> Result<Vec<PatientStay>, StoreError> {
    let mut of_patient: BTreeMap<i64, Vec<Interval>> = BTreeMap::new();
    for entries in beds::load(db)?.into_values() {
        let ends = entries.iter().skip(1).map(|(from, _)| *from);
        for ((from, patient), until) in entries.iter().zip(ends.chain([i64::MAX])) {
            if let Some(row) = patient.filter(|_| *from <= now.0) {
                of_patient.entry(row).or_default().push((*from, until));
            }
        }
    }
    let mut stays = Vec::new();
    for (row, intervals) in of_patient {
        let known: Option<Known> = db
            .prepare_cached(
                "SELECT id, birth_date, gender, height_cm, weight_kg, care_unit, coalesce(research_choice, 0)
                 FROM patient WHERE row = ?1",
            )?
            .query_row([row], Known::of)
            .optional()?;
        let Some(known) = known else {
            continue;
        };
        for (from, until) in joined(intervals) {
            stays.push(PatientStay {
                patient: Phi::new(known.id.clone()),
                number: row.unsigned_abs(),
                from: Timestamp(from),
                until: (until <= now.0).then_some(Timestamp(until)),
                facts: known.facts(Timestamp(from)),
                opted_out: known.opted_out,
            });
        }
    }
    stays.sort_by_key(|stay| (stay.from, stay.number));
    Ok(stays)
}

/// Intervals without a gap as one.
fn joined(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut all: Vec<Interval> = Vec::new();
    for (from, until) in intervals {
        match all.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => all.push((from, until)),
        }
    }
    all
}

/// A patient's row.
struct Known {
    id: String,
    birth_date: Option<String>,
    gender: Option<String>,
    height_cm: Option<String>,
    weight_kg: Option<String>,
    care_unit: Option<String>,
    opted_out: bool,
}

impl Known {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            birth_date: row.get(1)?,
            gender: row.get(2)?,
            height_cm: row.get(3)?,
            weight_kg: row.get(4)?,
            care_unit: row.get(5)?,
            opted_out: row.get(6)?,
        })
    }

    fn facts(&self, begun: Timestamp) -> Facts {
        let number = |text: &Option<String>| {
            let number: f64 = text.as_ref()?.parse().ok()?;
            number.is_finite().then_some(number)
        };
        let sex = match self.gender.as_deref() {
            Some("female") => Some(0.0),
            Some("male") => Some(1.0),
            _ => None,
        };
        Facts {
            age: self.birth_date.as_deref().and_then(|born| age(born, begun)),
            sex,
            height: number(&self.height_cm),
            weight: number(&self.weight_kg),
            care_unit: self.care_unit.as_deref().and_then(CareUnit::parse),
        }
    }
}

/// Whole years at an instant of who was born on a date (YYYY, YYYY-MM or YYYY-MM-DD): as many as the parts of the date
/// that are known tell.
fn age(born: &str, at: Timestamp) -> Option<f64> {
    let now = at.to_rfc3339();
    let year = |text: &str| text.get(..4)?.parse::<i32>().ok();
    let had_birthday = now.get(4..born.len()).unwrap_or_default() >= born.get(4..)?;
    let years = year(&now)? - year(born)? - i32::from(!had_birthday);
    (0..=150).contains(&years).then(|| f64::from(years))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_in_whole_years_of_what_is_known_of_a_birth() {
        let at: Timestamp = "2026-03-04T12:00:00Z".parse().unwrap();
        for (born, years) in [
            ("1950", Some(76.0)),
            ("1950-03", Some(76.0)),
            ("1950-04", Some(75.0)),
            ("1950-03-04", Some(76.0)),
            ("1950-03-05", Some(75.0)),
            ("2026", Some(0.0)),
            ("2027", None),
            ("195", None),
            ("", None),
        ] {
            assert_eq!(age(born, at), years, "{born}");
        }
    }

    #[test]
    fn a_move_to_another_bed_goes_on_and_a_return_begins_anew() {
        let stays = joined(vec![(30, 40), (0, 10), (10, 20), (15, 18), (50, i64::MAX)]);
        assert_eq!(stays, [(0, 20), (30, 40), (50, i64::MAX)]);
    }
}
