//! From a facility's table, imported or made of stays ([`crate::stays`]), to the records that a study learns from: features in the model's order, missing values,
//! scales, and which records are kept from training.
//!
//! With the privacy unit `record` every number of a record follows from that record and the study alone: means and
//! deviations of a facility would tell of the other records, so studies state their scales ([`crate::study::Scale`]).
use crate::{
    study::{Data, Feature, Label, Missing, Problem, Study},
    table::Table,
    train::Records,
};
use ring::digest::{SHA256, digest};

/// The records of a facility, as a study asks for them. Like them it is not printed.
pub struct Prepared {
    /// To train with.
    pub train: Records,
    /// To judge with.
    pub test: Records,
    /// How many were left out, since they lack a feature or the label.
    pub left_out: usize,
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
    /// A share of the records of each label, by their places in the table.
    ByPlace,
    /// These, by their places in the table.
    Given(&'a [bool]),
}

/// Makes the records of a study from a facility's table.
///
/// # Errors
/// What of the study does not fit the table, each with the study's key. It is told to the coordinator: it names columns
/// and units, and nothing of a record.
pub fn prepare(study: &Study, table: &Table) -> Result<Prepared, Vec<Problem>> {
    if study.data.table.is_none() {
        let message = "is not given, and a table cannot stand in for stays";
        return Err(vec![Problem::new("data.table", message)]);
    }
    prepare_from(study, table, Split::ByPlace)
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
        Some(name) => table.position(name).or_else(|| {
            let message = format!("the table has no column `{name}`");
            problems.push(Problem::new("evaluation.test_column", message));
            None
        }),
    };
    let (Some(label), true) = (label, problems.is_empty()) else {
        return Err(problems);
    };
    let rows = rows(study, table, &places, label);
    let left_out = table.records() - rows.len();
    if rows.len() < study.data.minimum_records as usize {
        let least = study.data.minimum_records;
        let what = if study.data.stays.is_some() {
            "facility's stays"
        } else {
            "table's records"
        };
        let message = format!("fewer than {least} of the {what} have every value");
        return Err(vec![Problem::new("data.minimum_records", message)]);
    }
    let held_back = match (test, held) {
        (Some(column), _) => held_back_by_column(table, column, &rows)?,
        (None, Split::ByPlace) => held_back_by_share(study, &rows),
        (None, Split::Given(held)) => held.to_vec(),
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
        made.map_err(|_| {
            let part = if wanted { "judge" } else { "train" };
            vec![Problem::new(
                "evaluation",
                format!("leaves no record to {part} with"),
            )]
        })
    };
    Ok(Prepared {
        train: records(false)?,
        test: records(true)?,
        left_out,
    })
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
    let known = |value: f64| {
        let mut named = feature.categories.iter();
        feature.categories.is_empty() || named.any(|named| *named as f64 == value)
    };
    if !table.column(at).flatten().all(known) {
        say(
            "categories",
            format!("`{name}` has values here that are not among them"),
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
            let time = time?;
            let unit = &table.columns()[time].unit;
            if unit != "d" {
                let message = format!("is in days (`d`), and in {unit} here");
                problems.push(Problem::new("data.label.time", message));
                return None;
            }
            Some(Labelled::Survival(time, event?))
        }
    }
}

/// The records that have what they need. Their inputs are window by window.
fn rows(study: &Study, table: &Table, places: &Places, label: Labelled) -> Vec<Row> {
    let whole = |at: usize| -> Vec<Option<f64>> { table.column(at).collect() };
    let (first, second, above) = match label {
        Labelled::Binary(at, above) => (whole(at), None, above),
        Labelled::Survival(time, event) => (whole(event), Some(whole(time)), 0.0),
    };
    let row = |(place, label): (usize, Option<f64>)| {
        let inputs = inputs(study, table, places, place)?;
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

/// By place in the table: whether a column of 0 and 1 keeps a record from training.
fn held_back_by_column(
    table: &Table,
    column: usize,
    rows: &[Row],
) -> Result<Vec<bool>, Vec<Problem>> {
    let values: Vec<Option<f64>> = table.column(column).collect();
    let good = |row: &Row| matches!(values[row.place], Some(value) if value == 0.0 || value == 1.0);
    if !rows.iter().all(good) {
        let message = "has other values here than 0 and 1";
        return Err(vec![Problem::new("evaluation.test_column", message)]);
    }
    Ok(values.iter().map(|value| *value == Some(1.0)).collect())
}

/// By place in the table: a share of the records of each label, which follows from the study's seed and their places.
fn held_back_by_share(study: &Study, rows: &[Row]) -> Vec<bool> {
    let seed = study.training.seed.to_le_bytes();
    let mut held_back = vec![false; rows.iter().map(|row| row.place + 1).max().unwrap_or(0)];
    for label in [false, true] {
        let mut order: Vec<_> = rows
            .iter()
            .filter(|row| row.label == label)
            .map(|row| {
                let text = [&seed[..], &(row.place as u64).to_le_bytes()].concat();
                (digest(&SHA256, &text).as_ref().to_vec(), row.place)
            })
            .collect();
        order.sort();
        let share = (order.len() as f64 * study.evaluation.test_share).round() as usize;
        for (_, place) in order.into_iter().take(share) {
            held_back[place] = true;
        }
    }
    held_back
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

/// A missing value is 0 when it is scaled: the mean, or the study's centre.
fn scaled(inputs: &[Option<f64>], scales: &[Scaling]) -> Vec<f32> {
    let one = |(value, scale): (&Option<f64>, &Scaling)| match value {
        Some(value) => {
            let scaled = (value - scale.centre) / scale.width;
            scaled.clamp(-scale.limit, scale.limit) as f32
        }
        None => 0.0,
    };
    inputs.iter().zip(scales).map(one).collect()
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
