//! From a facility's table, imported or made of stays ([`crate::stays`]), to the records that a study learns from: features in the model's order, missing values,
//! scales, and which records are kept from training.
//!
//! With the privacy unit `record` every number of a record, and whether it is trained or judged with, follows from that
//! record and the study alone: means and deviations of a facility would tell of the other records, so studies state their
//! scales ([`crate::study::Scale`]).
//!
//! Whether a study fits is a matter of the table's schema, not of its values: a facility declines with the same words
//! whatever a record says, as no ε covers what it declines. Only where a study promises nothing, which a facility may
//! refuse ([`crate::consent::Allowance::without_privacy`]), the records that it can use are counted.
use crate::{
    study::{Data, Feature, Label, Missing, PrivacyUnit, Problem, Study},
    table::{Column, Table},
    train::Records,
};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;

/// The records of a facility, as a study asks for them. Like them it is not printed.
pub struct Prepared {
    /// To train with.
    pub train: Records,
    /// To judge with.
    pub test: Records,
    /// How many were left out, since they lack a feature or the label.
    pub left_out: usize,
    /// How many records the facility has for the study: those that it can use, where it promises nothing; otherwise all,
    /// since who has which value would be told by who is counted.
    pub counted: usize,
}

/// How an input is scaled: (value − centre) / width.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scaling {
    centre: f64,
    width: f64,
    /// Of how many widths what is farther counts.
    limit: f64,
}

/// A record before it is scaled: its place in the table, its inputs (none where one is missing) and its label.
struct Row {
    place: usize,
    inputs: Vec<Option<f64>>,
    label: bool,
    /// When the event happened or the subject was last seen; 0 in a study that is none of survival.
    time: f64,
}

/// Which records are kept from training, where no column says it.
#[derive(Clone, Copy)]
pub(crate) enum Split<'a> {
    /// A share of the records, each by its own values.
    ByRecord,
    /// These, by their places in the table.
    Given {
        held: &'a [bool],
        /// How many stays were looked at for the table, also those that are no record.
        stays: usize,
    },
}

/// Makes the records of a study from a facility's table.
///
/// # Errors
/// What of the study does not fit the table, each with the study's key. It is told to the coordinator: it names columns,
/// units and what the schema says of them, and nothing of a record.
pub fn prepare(study: &Study, table: &Table) -> Result<Prepared, Vec<Problem>> {
    if study.data.table.is_none() {
        let message = "is not given, and a table cannot stand in for stays";
        return Err(vec![Problem::new("data.table", message)]);
    }
    prepare_from(study, table, Split::ByRecord)
}

/// Makes the records of a study from a table that has its columns.
///
/// # Errors
/// As of [`prepare`].
pub(crate) fn prepare_from(
    study: &Study,
    table: &Table,
    held: Split<'_>,
) -> Result<Prepared, Vec<Problem>> {
    let mut problems = Vec::new();
    let places = places(study, table, &mut problems);
    let label = label(study, table, &mut problems);
    let test = match &study.evaluation.test_column {
        None => None,
        Some(name) => test_column(table, name, &mut problems),
    };
    let (Some(label), true) = (label, problems.is_empty()) else {
        return Err(crate::study::few(problems));
    };
    let rows = rows(study, table, &places, (label, test));
    let left_out = table.records() - rows.len();
    let counted = counted(study, table, held, rows.len())?;
    let held_back: Vec<bool> = match (test, held) {
        (Some(column), _) => table.column(column).map(|of| of == Some(1.0)).collect(),
        (None, Split::ByRecord) => held_back_by_share(study, table),
        (None, Split::Given { held, .. }) => held.to_vec(),
    };
    let split = |wanted: bool| -> Vec<&Row> {
        let part = rows.iter();
        part.filter(|row| held_back[row.place] == wanted).collect()
    };
    let scales = scales(study, &split(false));
    let records = |wanted: bool| {
        let rows = split(wanted);
        let inputs = rows.iter().flat_map(|row| scaled(&row.inputs, &scales));
        let labels = rows.iter().map(|row| row.label).collect();
        let made = if study.model.is_survival() {
            let times = rows.iter().map(|row| row.time).collect();
            Records::survival(scales.len(), inputs.collect(), labels, times)
        } else {
            Records::new(scales.len(), inputs.collect(), labels)
        };
        made.map_err(|_| vec![Problem::new("data", "makes no records of the table")])
    };
    let (train, test) = (records(false)?, records(true)?);
    if train.is_empty() && study.privacy.unit == PrivacyUnit::None {
        let message = "leaves no record to train with";
        return Err(vec![Problem::new("evaluation", message)]);
    }
    Ok(Prepared {
        train,
        test,
        left_out,
        counted,
    })
}

/// How many records the facility has for the study.
fn counted(
    study: &Study,
    table: &Table,
    held: Split<'_>,
    usable: usize,
) -> Result<usize, Vec<Problem>> {
    let least = study.data.minimum_records;
    let what = match held {
        Split::ByRecord => "table's records",
        Split::Given { .. } => "facility's stays",
    };
    let (counted, message) = match (study.privacy.unit, held) {
        (PrivacyUnit::None, _) => (
            usable,
            format!("fewer than {least} of the {what} have every value"),
        ),
        (_, Split::ByRecord) => (
            table.records(),
            format!("the table has fewer than {least} records"),
        ),
        (_, Split::Given { stays, .. }) => {
            (stays, format!("the facility has fewer than {least} stays"))
        }
    };
    if counted < least as usize {
        return Err(vec![Problem::new("data.minimum_records", message)]);
    }
    Ok(counted)
}

/// The column that says who is judged with.
fn test_column(table: &Table, name: &str, problems: &mut Vec<Problem>) -> Option<usize> {
    let at = table.position(name);
    let message = match at.and_then(|at| table.columns().get(at)) {
        None => format!("the table has no column `{name}`"),
        Some(column) if !column.is_yes_or_no() => no_yes_or_no(name),
        Some(_) => return at,
    };
    problems.push(Problem::new("evaluation.test_column", message));
    None
}

fn no_yes_or_no(name: &str) -> String {
    format!(
        "the facility's schema does not say that `{name}` is 0 or 1, by `categories = [0, 1]` or by `codes`"
    )
}

/// Where each feature is in the table: of each feature the columns of each window.
type Places = Vec<Vec<Vec<usize>>>;

fn places(study: &Study, table: &Table, problems: &mut Vec<Problem>) -> Places {
    let data = &study.data;
    let mut places = Vec::new();
    for (index, feature) in data.features.iter().enumerate() {
        let mut found = Vec::new();
        for window in 0..data.windows() {
            let names = data.columns_of(feature, window).into_iter();
            let mut place = |name: String| {
                let at = table.position(&name);
                match at {
                    None => {
                        let path = format!("data.features[{index}].name");
                        let message = format!("the table has no column `{name}`");
                        problems.push(Problem::new(path, message));
                    }
                    Some(at) => unfit(table, at, (index, feature), problems),
                }
                at
            };
            found.push(names.filter_map(&mut place).collect());
        }
        places.push(found);
    }
    places
}

/// What of a feature does not fit its column.
fn unfit(
    table: &Table,
    at: usize,
    (index, feature): (usize, &Feature),
    problems: &mut Vec<Problem>,
) {
    let mut say = |key: &str, message: String| {
        let problem = Problem::new(format!("data.features[{index}].{key}"), message);
        // A fact is in the same column for every window.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    let column = &table.columns()[at];
    let (name, unit) = (&column.name, &column.unit);
    if unit != &feature.unit {
        say(
            "unit",
            format!("`{name}` is in {unit} here, not in {}", feature.unit),
        );
    }
    if feature.categories.is_empty() {
        return;
    }
    let asked = |value: &f64| feature.categories.iter().any(|of| *of as f64 == *value);
    let named = column.named();
    if named.is_empty() {
        say(
            "categories",
            format!("the facility's schema names no categories of `{name}`"),
        );
    } else if let Some(other) = named.iter().find(|value| !asked(value)) {
        say(
            "categories",
            format!("`{name}` may be {other} by the facility's schema, which is not among them"),
        );
    }
}

/// Where a label is.
#[derive(Clone, Copy)]
enum Labelled {
    /// Yes above a value.
    Binary(usize, f64),
    /// The columns of times and of events.
    Survival(usize, usize),
}

/// The label's columns.
fn label(study: &Study, table: &Table, problems: &mut Vec<Problem>) -> Option<Labelled> {
    let mut find = |key: &str, column: &str| {
        let at = table.position(column);
        if at.is_none() {
            let message = format!("the table has no column `{column}`");
            problems.push(Problem::new(format!("data.label.{key}"), message));
        }
        at
    };
    match &study.data.label {
        Label::Binary {
            column,
            positive_above,
            ..
        } => {
            let column = column.as_deref().unwrap_or(Data::LABEL_OF_STAY);
            let at = find("column", column)?;
            let unit = &table.columns()[at].unit;
            if positive_above.is_none() && unit != "1" {
                let message = crate::study::needs_threshold(column, unit);
                problems.push(Problem::new("data.label.positive_above", message));
            }
            Some(Labelled::Binary(at, positive_above.unwrap_or(0.0)))
        }
        Label::Survival { time, event } => {
            let (time, event) = (find("time", time), find("event", event));
            let (time, event) = (time?, event?);
            let columns = table.columns();
            survival((&columns[time], &columns[event]), problems)
                .then_some(Labelled::Survival(time, event))
        }
    }
}

/// Whether columns are those of times and of events, by their schema.
fn survival((time, event): (&Column, &Column), problems: &mut Vec<Problem>) -> bool {
    let before = problems.len();
    let mut say = |key: &str, message: String| {
        problems.push(Problem::new(format!("data.label.{key}"), message));
    };
    if time.unit != "d" {
        say(
            "time",
            format!("is in days (`d`), and in {} here", time.unit),
        );
    } else if time.min.is_none_or(|min| min < 0.0) {
        let name = &time.name;
        say(
            "time",
            format!(
                "the facility's schema does not say that `{name}` is never below 0, by `min = 0`"
            ),
        );
    }
    if event.unit != "1" {
        let (name, unit) = (&event.name, &event.unit);
        say(
            "event",
            format!("is 0 or 1, which has no unit (`1`), and `{name}` is in {unit} here"),
        );
    } else if !event.is_yes_or_no() {
        say("event", no_yes_or_no(&event.name));
    }
    problems.len() == before
}

/// The records that have what they need, and say whether they are judged with. Their inputs are window by window.
fn rows(
    study: &Study,
    table: &Table,
    places: &Places,
    (label, test): (Labelled, Option<usize>),
) -> Vec<Row> {
    let whole = |at: usize| -> Vec<Option<f64>> { table.column(at).collect() };
    let (first, second, above) = match label {
        Labelled::Binary(at, above) => (whole(at), None, above),
        Labelled::Survival(time, event) => (whole(event), Some(whole(time)), 0.0),
    };
    let row = |(place, label): (usize, Option<f64>)| {
        let inputs = inputs(study, table, places, place)?;
        if let Some(test) = test {
            table.value(place, test)?;
        }
        let time = match &second {
            Some(times) => times.get(place).copied().flatten()?,
            None => 0.0,
        };
        Some(Row {
            place,
            inputs,
            label: label? > above,
            time,
        })
    };
    first.into_iter().enumerate().filter_map(row).collect()
}

/// The inputs of a record; none where it lacks one without which it is left out.
fn inputs(study: &Study, table: &Table, places: &Places, place: usize) -> Option<Vec<Option<f64>>> {
    let mut inputs = Vec::new();
    for window in 0..study.data.windows() {
        for (feature, found) in study.data.features.iter().zip(places) {
            for (nth, at) in found.get(window)?.iter().enumerate() {
                let mut value = table.value(place, *at);
                if value.is_none() && feature.missing == Missing::CarryForward {
                    let before = found.get(..window)?.iter().rev();
                    let mut before = before.filter_map(|places| places.get(nth));
                    value = before.find_map(|at| table.value(place, *at));
                }
                if value.is_none() && feature.missing == Missing::DropRecord {
                    return None;
                }
                inputs.extend(of_feature(feature, value));
            }
        }
    }
    Some(inputs)
}

/// The inputs that a feature makes: one for each category but the first, or the value.
fn of_feature(feature: &Feature, value: Option<f64>) -> Vec<Option<f64>> {
    if feature.categories.is_empty() {
        return vec![value];
    }
    let one = |named: &i64| value.map(|value| f64::from(u8::from(*named as f64 == value)));
    feature.categories.iter().skip(1).map(one).collect()
}

/// By place in the table: a share of the records. Whether a record is among them follows from the study's seed and that
/// record's values in all columns, and of equal records from which of them it is: a record more or less moves no other.
fn held_back_by_share(study: &Study, table: &Table) -> Vec<bool> {
    let (seed, share) = (study.training.seed, study.evaluation.test_share);
    let mut equals: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let drawn = |place: usize| {
        let values = (0..table.columns().len()).map(|at| table.value(place, at));
        let bytes = values.flat_map(|value| value.unwrap_or(f64::NAN).to_le_bytes());
        let record = digest(&SHA256, &bytes.collect::<Vec<_>>());
        let nth = equals.entry(record.as_ref().to_vec()).or_default();
        let what = [record.as_ref(), &nth.to_le_bytes()[..]].concat();
        *nth += 1;
        is_held_back(seed, share, &what)
    };
    (0..table.records()).map(drawn).collect()
}

/// Whether something is among the share that is judged with: it follows from the study's seed and itself alone.
pub(crate) fn is_held_back(seed: u64, share: f64, what: &[u8]) -> bool {
    let digest = digest(&SHA256, &[&seed.to_le_bytes()[..], what].concat());
    let (first, _) = digest.as_ref().as_chunks::<8>();
    let drawn = first.first().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (drawn as f64) < share * 2_f64.powi(64)
}

/// The scale of each input: the study's, or that of the facility's own training records.
fn scales(study: &Study, train: &[&Row]) -> Vec<Scaling> {
    let mut scales = Vec::new();
    let windows = (0..study.data.windows()).flat_map(|_| &study.data.features);
    for feature in windows {
        for _ in 0..feature.inputs() {
            let at = scales.len();
            scales.push(match feature.scale {
                Some(scale) => Scaling {
                    centre: scale.centre,
                    width: scale.width,
                    limit: scale.limit.unwrap_or(f64::INFINITY),
                },
                // Categories are 0 and 1 at every facility, also where all stays are of one.
                None if study.hides_records() || is_of_stays(study, feature) => Scaling {
                    centre: 0.0,
                    width: 1.0,
                    limit: f64::INFINITY,
                },
                None => of_records(train.iter().filter_map(|row| row.inputs[at])),
            });
        }
    }
    scales
}

/// Whether a feature is of categories of a study of stays.
fn is_of_stays(study: &Study, feature: &Feature) -> bool {
    study.data.stays.is_some() && !feature.categories.is_empty()
}

/// Mean and standard deviation (of a sample); a width of 1 where nothing varies.
fn of_records(values: impl Iterator<Item = f64>) -> Scaling {
    let values: Vec<f64> = values.collect();
    let count = values.len() as f64;
    let centre = values.iter().sum::<f64>() / count.max(1.0);
    let square = values.iter().map(|value| (value - centre).powi(2));
    let deviation = (square.sum::<f64>() / (count - 1.0).max(1.0)).sqrt();
    Scaling {
        centre,
        width: if deviation > 0.0 { deviation } else { 1.0 },
        limit: f64::INFINITY,
    }
}

/// Of how many widths any value counts at the most: a study whose width is next to nothing would have a facility fail, or
/// not, by a single value.
const FARTHEST: f64 = 1e6;

/// A missing value is 0 when it is scaled: the mean, or the study's centre.
fn scaled(inputs: &[Option<f64>], scales: &[Scaling]) -> Vec<f32> {
    let one = |(value, scale): (&Option<f64>, &Scaling)| match value {
        Some(value) => {
            let scaled = (value - scale.centre) / scale.width;
            let limit = scale.limit.min(FARTHEST);
            // A facility's own mean and deviation may be beyond all numbers, and what is scaled by them none.
            if scaled.is_nan() {
                0.0
            } else {
                scaled.clamp(-limit, limit) as f32
            }
        }
        None => 0.0,
    };
    inputs.iter().zip(scales).map(one).collect()
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
