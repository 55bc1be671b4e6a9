//! The records of a study of stays, from the facility's own readings as [`FacilityView`] gives them.
//!
//! A study looks at the facility as it was when the study first came: who is trained with and judged with is the same in
//! every round, and after a restart. What came in later, and stays of which something has been deleted since, are not
//! looked at; nor are the stays of a patient who has opted out of research, from the moment on in which they have, in the
//! rounds of a study that runs too.
use crate::view::{FacilityView, MAX_PAGE, PatientStay, Point, SeriesAsked, Whose};
use fl::{
    features::Prepared,
    stays::{Measured, Stay, StayTable},
    study::{Problem, Study},
};
use rusqlite::{Connection, params};
use store::{StoreError, StoreErrorKind};
use types::{Flags, Timestamp, Value};

/// As of which instant a study looks at the facility: now, when it first asks.
pub(super) fn as_of(tx: &Connection, study: &str, now: Timestamp) -> Result<Timestamp, StoreError> {
    tx.prepare_cached(
        "INSERT INTO study_as_of (study, at_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?
    .execute(params![study, now.0])?;
    let at = tx
        .prepare_cached("SELECT at_ms FROM study_as_of WHERE study = ?1")?
        .query_row([study], |row| row.get(0))?;
    Ok(Timestamp(at))
}

/// Which stays are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Those that began then or later: of all of them everything is kept.
    pub from: Timestamp,
    /// As of when.
    pub until: Timestamp,
}

/// The records of a study; what does not fit is said.
pub(super) async fn prepared(
    view: &dyn FacilityView,
    study: &Study,
    span: Span,
) -> Result<Result<Prepared, Vec<Problem>>, StoreError> {
    let Some(mut table) = StayTable::of(study) else {
        let op = "read the stays of a study that is not one of stays";
        return Err(StoreError::new(StoreErrorKind::Internal, op));
    };
    for stay in view.stays(span.until).await? {
        if stay.opted_out {
            continue;
        }
        let long_enough = span.until.since(stay.from) >= table.least_ms();
        if stay.from < span.from || (stay.until.is_none() && !long_enough) {
            continue;
        }
        let read = read(view, &stay, span, &table).await?;
        table.push(&read);
    }
    Ok(table.prepare())
}

/// How many stays a study is given nothing of, since their patients have opted out.
pub(super) async fn withheld(view: &dyn FacilityView, span: Span) -> Result<u32, StoreError> {
    let stays = view.stays(span.until).await?;
    let withheld = stays
        .iter()
        .filter(|stay| stay.opted_out && stay.from >= span.from);
    Ok(u32::try_from(withheld.count()).unwrap_or(u32::MAX))
}

/// A stay with the readings that a study asks for.
async fn read(
    view: &dyn FacilityView,
    stay: &PatientStay,
    span: Span,
    table: &StayTable<'_>,
) -> Result<Stay, StoreError> {
    let mut asked = SeriesAsked {
        whose: Whose::Patient(stay.patient.clone()),
        code: None,
        from: stay.from,
        until: stay.until.unwrap_or(span.until),
        after: None,
        limit: MAX_PAGE,
    };
    let mut readings = Vec::new();
    loop {
        let page = view.series(asked.clone()).await?;
        let known = page
            .points
            .iter()
            .filter(|point| point.arrived <= span.until);
        let wanted = known.filter(|point| table.wants(point.reading.code));
        readings.extend(wanted.filter_map(|point| measured(point, stay.from)));
        match page.next {
            Some(next) => asked.after = Some(next),
            None => break,
        }
    }
    Ok(Stay {
        patient: stay.number,
        facts: stay.facts,
        readings,
    })
}

/// A reading as it is learnt from; none of what is implausible, in doubt, or no value.
fn measured(point: &Point, begun: Timestamp) -> Option<Measured> {
    let doubt = [
        Flags::IMPLAUSIBLE,
        Flags::IMPLAUSIBLE_FOR_CODE,
        Flags::CLOCK_UNTRUSTED,
    ];
    let reading = &point.reading;
    if doubt.into_iter().any(|flag| reading.flags.contains(flag)) {
        return None;
    }
    match &reading.value {
        Value::Quantity(decimal) => Some(Measured {
            code: reading.code,
            unit: reading.unit,
            at_ms: point.at.since(begun),
            value: decimal.approximate(),
        }),
        Value::Absent(_) => None,
    }
}

#[cfg(test)]
#[path = "stays_tests.rs"]
mod tests;
