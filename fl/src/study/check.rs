//! What is wrong with a study, key by key.
use super::{
    Data, FACTS, Feature, Label, Missing, Model, Problem, Strategy, Study, training::Adaptive,
};
use crate::table::MAX_RECORDS;
use std::collections::BTreeSet;

/// The most facilities of a region, as many as secure aggregation takes.
const MAX_SITES: u16 = crate::secagg::Terms::MAX_MEMBERS;
/// The fewest records of a facility: what is known of fewer people than 11 is not published (CMS cell size policy).
const MIN_RECORDS: u32 = 11;
const MAX_FEATURES: usize = 1_000;
const MAX_NAME_BYTES: usize = 64;
const MAX_UNIT_BYTES: usize = 24;
const MAX_CATEGORIES: usize = 100;
const MAX_HOURS: u16 = 24 * 30;
const MAX_WINDOWS: u16 = 1_000;
const MAX_ROUNDS: u32 = 10_000;
const MAX_STEPS: u32 = 1_000_000;
const MAX_BATCH: u32 = 1 << 16;
const MAX_RESAMPLES: u32 = 10_000;
/// The fewest and the most widths at which values may be cut.
const LIMITS: (f64, f64) = (1.0, 1_000.0);

/// The norms that updates may be cut at.
const NORMS: (f64, f64) = (1e-9, 1e9);

/// Collects problems below a key.
struct Found<'a> {
    all: &'a mut Vec<Problem>,
    key: String,
}

impl Found<'_> {
    fn say(&mut self, key: &str, message: impl Into<String>) {
        let dot = if self.key.is_empty() || key.is_empty() {
            ""
        } else {
            "."
        };
        self.all
            .push(Problem::new(format!("{}{dot}{key}", self.key), message));
    }

    fn within(&mut self, key: &str, value: f64, low: f64, high: f64) {
        if !(low..=high).contains(&value) {
            self.say(key, format!("is from {low} to {high}, not {value}"));
        }
    }

    fn positive(&mut self, key: &str, value: f64) {
        if !(value > 0.0 && value.is_finite()) {
            self.say(key, format!("is a number above 0, not {value}"));
        } else if !(value as f32).is_normal() {
            let message =
                "is too large or too small a number: models and records are in single precision";
            self.say(key, format!("{message}, 1.2e-38 to 3.4e38, not {value:e}"));
        }
    }

    /// A norm that updates are cut at. Beyond this a unit of it is no number of a model, or nothing of a model is left.
    fn norm(&mut self, key: &str, value: Option<f64>) {
        let (low, high) = NORMS;
        // What is no norm at all is said already.
        let is_outside =
            |value: &f64| *value > 0.0 && value.is_finite() && !(low..=high).contains(value);
        if let Some(value) = value.filter(is_outside) {
            self.say(key, format!("is from {low:e} to {high:e}, not {value:e}"));
        }
    }

    fn below(&mut self, key: String) -> Found<'_> {
        Found { all: self.all, key }
    }
}

/// Everything that is wrong but for the arithmetic of the plan.
pub fn problems(study: &Study) -> Vec<Problem> {
    let mut all = Vec::new();
    let mut found = Found {
        all: &mut all,
        key: String::new(),
    };
    for at in again(&study.regions) {
        found.say(&format!("regions[{at}]"), "names a region twice");
    }
    found.within("sites", study.sites.into(), 2.0, MAX_SITES.into());
    data(&study.data, &mut found.below("data".into()));
    scales(study, &mut found);
    model(study, &mut found.below("model".into()));
    training(study, &mut found.below("training".into()));
    let deadlines = [
        ("accept_seconds", study.deadlines.accept_seconds),
        ("train_seconds", study.deadlines.train_seconds),
        ("exchange_seconds", study.deadlines.exchange_seconds),
    ];
    for (key, seconds) in deadlines {
        let most = f64::from(super::Deadlines::MAX_SECONDS);
        found
            .below("deadlines".into())
            .within(key, seconds.into(), 1.0, most);
    }
    options(study, &mut found);
    let mut judged = found.below("evaluation".into());
    judged.within("test_share", study.evaluation.test_share, 0.05, 0.9);
    let resamples = study.evaluation.resamples.into();
    judged.within("resamples", resamples, 100.0, MAX_RESAMPLES.into());
    if let Some(column) = &study.evaluation.test_column {
        column_name("test_column", column, &mut judged);
        if study.data.table.is_none() {
            judged.say(
                "test_column",
                "is a column of a table, and `data.table` is not given",
            );
        }
    }
    all
}

/// What is wrong with adaptive clipping, compression and personalisation.
fn options(study: &Study, found: &mut Found) {
    found.norm("aggregation.bound", study.aggregation.bound);
    found.norm("privacy.clip", study.privacy.clip);
    if let Some(adaptive) = study.privacy.adaptive {
        let mut below = found.below("privacy.adaptive".into());
        below.within("quantile", adaptive.quantile, 0.05, 0.95);
        below.within("rate", adaptive.rate, 0.001, 2.0);
    }
    if let Some(compression) = study.aggregation.compression {
        let mut below = found.below("aggregation.compression".into());
        if ![4, 8].contains(&compression.bits) {
            below.say("bits", format!("is 8 or 4, not {}", compression.bits));
        }
        below.positive("range", compression.range);
    }
    if let Some(tuned) = study.personalisation {
        let mut below = found.below("personalisation".into());
        below.within("steps", tuned.steps.into(), 1.0, MAX_STEPS.into());
        below.positive("learning_rate", tuned.learning_rate);
    }
}

fn data(data: &Data, found: &mut Found) {
    if data.table.is_some() == data.stays.is_some() {
        found.say("", "has exactly one of `table` and `stays`");
    }
    if let Some(windows) = data.windows {
        found.within("windows", windows.into(), 2.0, MAX_WINDOWS.into());
        if data.table.is_none() {
            found.say("windows", "are of a table, and `data.table` is not given");
        }
    }
    if data.minimum_records < MIN_RECORDS {
        found.say(
            "minimum_records",
            format!("is {MIN_RECORDS} at least: less would be told of too few people"),
        );
    }
    if data.minimum_records as usize > MAX_RECORDS {
        let message = format!("is {MAX_RECORDS} at most: no facility has more");
        found.say("minimum_records", message);
    }
    if data
        .maximum_records
        .is_some_and(|most| most < data.minimum_records)
    {
        found.say("maximum_records", "is below `minimum_records`");
    }
    if let Some(stays) = data.stays {
        found.within("stays.hours", stays.hours.into(), 1.0, MAX_HOURS.into());
        if let Some(window) = stays.window_hours {
            found.within("stays.window_hours", window.into(), 1.0, stays.hours.into());
        }
    }
    label(data, found);
    if data.features.is_empty() || data.features.len() > MAX_FEATURES {
        let have = data.features.len();
        found.say(
            "features",
            format!("has from 1 to {MAX_FEATURES} features, not {have}"),
        );
    }
    let mut names = BTreeSet::new();
    for (index, feature) in data.features.iter().enumerate() {
        let mut below = found.below(format!("data.features[{index}]"));
        if !names.insert(&feature.name) {
            below.say("name", format!("`{}` is named twice", feature.name));
        }
        if data.stays.is_some() {
            stay_feature(feature, &data.label, &mut below);
        } else {
            table_feature(feature, &data.label, &mut below);
        }
        self::feature(feature, &mut below);
    }
}

/// What is wrong with the label.
fn label(data: &Data, found: &mut Found) {
    match &data.label {
        Label::Binary {
            column,
            code,
            positive_above,
        } => {
            match (column, code, data.stays.is_some()) {
                (Some(column), None, false) => column_name("label.column", column, found),
                (None, Some(_), true) => {}
                (_, _, false) => found.say("label", "has exactly a `column` of the table"),
                (_, _, true) => found.say("label", "has exactly a `code` of the stay's readings"),
            }
            match (positive_above, code) {
                (Some(above), _) if !above.is_finite() => {
                    found.say("label.positive_above", "is no finite number");
                }
                (None, Some(code)) if code.info().unit != "1" => {
                    let unit = code.info().unit;
                    found.say(
                        "label.positive_above",
                        needs_threshold(&code.to_string(), unit),
                    );
                }
                _ => {}
            }
        }
        Label::Survival { time, event } => {
            if data.stays.is_some() {
                found.say(
                    "label.kind",
                    "is `binary` for stays: no reading is a time in days",
                );
            }
            column_name("label.time", time, found);
            column_name("label.event", event, found);
        }
    }
}

/// Of what is measured, nobody knows what is a yes: above 0 it always is.
pub(crate) fn needs_threshold(what: &str, unit: &str) -> String {
    format!("is needed: `{what}` is in {unit}, and a yes is a value above what the study says")
}

/// Places of those in a list that were there before: each is a problem of its own place, so that what stands in for another one
/// that is none is not taken for it.
pub(crate) fn again<T: Ord>(list: &[T]) -> Vec<usize> {
    let mut known = BTreeSet::new();
    let places = list.iter().enumerate();
    places
        .filter_map(|(at, one)| (!known.insert(one)).then_some(at))
        .collect()
}

fn column_name(key: &str, name: &str, found: &mut Found) {
    if let Some(message) = name_problem(name) {
        found.say(key, message);
    }
}

/// What is wrong with the scales of features.
fn scales(study: &Study, found: &mut Found) {
    for (index, feature) in study.data.features.iter().enumerate() {
        let mut below = found.below(format!("data.features[{index}]"));
        match feature.scale {
            Some(_) if !feature.categories.is_empty() => {
                below.say("scale", "is not for categories: they become 0 and 1");
            }
            Some(scale) => {
                below.positive("scale.width", scale.width);
                if !(scale.centre as f32).is_finite() {
                    below.say("scale.centre", "is no finite number of single precision");
                }
                if let Some(limit) = scale.limit {
                    below.within("scale.limit", limit, LIMITS.0, LIMITS.1);
                }
                let mut kinds = feature.summaries.iter().map(|of| of.is_of_value());
                let first = kinds.next();
                let is_mixed = kinds.any(|kind| Some(kind) != first)
                    || (first == Some(false) && feature.summaries.len() > 1);
                if is_mixed {
                    below.say(
                        "summaries",
                        "are not all in the unit of `scale`: give `count` and `trend` a feature of their own, with a scale of their own",
                    );
                }
            }
            None if study.hides_records() && feature.categories.is_empty() => below.say(
                "scale",
                "is needed for the unit `record`: the mean of a facility's records would tell of each of them",
            ),
            None => {}
        }
    }
}

/// What is wrong with the name of a column.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    let good = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (!good).then(|| {
        format!("has 1 to {MAX_NAME_BYTES} of the characters A-Z, a-z, 0-9, '_', '-' and '.'")
    })
}

/// What is wrong with a unit, as far as its letters go.
pub(crate) fn unit_problem(unit: &str) -> Option<String> {
    let printable = unit.bytes().all(|byte| byte.is_ascii_graphic());
    let good = (1..=MAX_UNIT_BYTES).contains(&unit.len()) && printable;
    (!good).then(|| {
        format!("is a UCUM unit of 1 to {MAX_UNIT_BYTES} characters; `1` for what has none")
    })
}

fn feature(feature: &Feature, found: &mut Found) {
    column_name("name", &feature.name, found);
    if let Some(message) = unit_problem(&feature.unit) {
        found.say("unit", message);
    }
    if feature.categories.len() == 1 || feature.categories.len() > MAX_CATEGORIES {
        found.say(
            "categories",
            format!("has from 2 to {MAX_CATEGORIES} values"),
        );
    }
    for at in again(&feature.categories) {
        found.say(&format!("categories[{at}]"), "names a value twice");
    }
    let has_mean = matches!(feature.missing, Missing::Mean | Missing::CarryForward);
    if !feature.categories.is_empty() && has_mean {
        found.say(
            "missing",
            "is `drop-record` or `zero`: categories have no mean",
        );
    }
}

fn table_feature(feature: &Feature, label: &Label, found: &mut Found) {
    if feature.code.is_some() {
        found.say("code", "is of readings, and `data.stays` is not given");
    }
    if !feature.summaries.is_empty() {
        found.say(
            "summaries",
            "are of readings, and `data.stays` is not given",
        );
    }
    let is_label = match label {
        Label::Binary { column, .. } => column.as_ref() == Some(&feature.name),
        Label::Survival { time, event } => time == &feature.name || event == &feature.name,
    };
    if is_label {
        found.say("name", "is the label: a model would only copy it");
    }
}

fn stay_feature(feature: &Feature, label: &Label, found: &mut Found) {
    let Some(code) = feature.code else {
        let fact = FACTS.iter().find(|(name, _)| *name == feature.name);
        match fact {
            None => {
                let facts = FACTS.map(|(name, _)| name).join(", ");
                found.say(
                    "code",
                    format!("is missing; only {facts} are known without readings"),
                );
            }
            Some((name, unit)) if feature.unit != *unit => {
                let have = &feature.unit;
                found.say("unit", format!("is {unit} for {name}, not {have}"));
            }
            Some(_) => {}
        }
        if !feature.summaries.is_empty() {
            found.say("summaries", "are of readings, and `code` is not given");
        }
        return;
    };
    if !feature.categories.is_empty() {
        found.say(
            "categories",
            "are of columns and facts, and readings are numbers",
        );
    }
    if matches!(label, Label::Binary { code: Some(of), .. } if *of == code) {
        found.say("code", "is the label: a model would only copy it");
    }
    // What is no unit at all is said already.
    if feature.unit != code.info().unit && unit_problem(&feature.unit).is_none() {
        found.say(
            "unit",
            format!("is {} for {code}, not {}", code.info().unit, feature.unit),
        );
    }
    if feature.summaries.is_empty() {
        found.say(
            "summaries",
            "says what is taken of the readings, such as [\"mean\", \"last\"]",
        );
    }
    for at in again(&feature.summaries) {
        found.say(&format!("summaries[{at}]"), "names one twice");
    }
}

fn model(study: &Study, found: &mut Found) {
    let survival = matches!(study.data.label, Label::Survival { .. });
    if survival != study.model.is_survival() {
        found.say("kind", "`cox` and a label of kind `survival` go together");
    }
    if study.model.is_sequential() && study.data.windows() < 2 {
        found.say(
            "kind",
            "looks at windows: give `data.windows`, or `data.stays` with `window_hours`",
        );
    }
    let widths: &[u32] = match &study.model {
        Model::Mlp { hidden } => hidden,
        Model::Tcn { channels, kernel } => {
            found.within("kernel", (*kernel).into(), 2.0, Model::MAX_KERNEL.into());
            channels
        }
        Model::Gru { hidden } => {
            found.within("hidden", (*hidden).into(), 1.0, Model::MAX_WIDTH.into());
            &[]
        }
        Model::Logistic {} | Model::Cox {} => &[],
    };
    let layered = matches!(study.model, Model::Mlp { .. } | Model::Tcn { .. });
    let key = if matches!(study.model, Model::Tcn { .. }) {
        "channels"
    } else {
        "hidden"
    };
    if layered && !(1..=Model::MAX_LAYERS).contains(&widths.len()) {
        let have = widths.len();
        found.say(
            key,
            format!("has from 1 to {} layers, not {have}", Model::MAX_LAYERS),
        );
    }
    for (index, width) in widths.iter().enumerate() {
        let key = format!("{key}[{index}]");
        found.within(&key, (*width).into(), 1.0, Model::MAX_WIDTH.into());
    }
    let parameters = study.model.parameters(study.inputs());
    if parameters > Model::MAX_PARAMETERS {
        let most = Model::MAX_PARAMETERS;
        found.say(
            "",
            format!("has {parameters} parameters, and {most} at most can be sent"),
        );
    }
    found.all.extend(crate::large::refused(study, parameters));
}

fn training(study: &Study, found: &mut Found) {
    let training = &study.training;
    found.within("rounds", training.rounds.into(), 1.0, MAX_ROUNDS.into());
    found.within("batch", training.batch.into(), 1.0, MAX_BATCH.into());
    found.positive("learning_rate", training.learning_rate);
    if training.steps.is_some() == training.epochs.is_some() {
        found.say("", "has exactly one of `steps` and `epochs`");
    }
    for (key, count) in [("steps", training.steps), ("epochs", training.epochs)] {
        if let Some(count) = count {
            found.within(key, count.into(), 1.0, MAX_STEPS.into());
        }
    }
    let mut found = found.below("training.strategy".into());
    match &training.strategy {
        Strategy::FedAvg {} | Strategy::Cyclic {} | Strategy::Median {} => {}
        Strategy::FedProx { mu } => found.within("mu", *mu, 0.0, 1e3),
        Strategy::FedAdam(adaptive)
        | Strategy::FedYogi(adaptive)
        | Strategy::FedAdagrad(adaptive) => {
            self::adaptive(adaptive, &mut found);
        }
        Strategy::Scaffold {
            server_learning_rate,
        } => found.positive("server_learning_rate", *server_learning_rate),
        Strategy::TrimmedMean { share } => found.within("share", *share, 0.0, 0.49),
        Strategy::NormBound { norm } => found.positive("norm", *norm),
    }
}

fn adaptive(adaptive: &Adaptive, found: &mut Found) {
    found.positive("server_learning_rate", adaptive.server_learning_rate);
    found.within("beta_1", adaptive.beta_1, 0.0, 0.999_999);
    found.within("beta_2", adaptive.beta_2, 0.0, 0.999_999);
    found.positive("tau", adaptive.tau);
}
