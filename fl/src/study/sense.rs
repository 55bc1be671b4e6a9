//! What a study says that makes no sense, though it can be run: refused where it is handed in. One that runs already, or has
//! ended, is read without these rules, which it may be older than.
use super::{Adaptive, Data, Feature, Label, Missing, Problem, Strategy, Study};
use crate::{metrics::SMALLEST_CELL, site::MAX_ROW};

/// The largest ε of a study: beyond it what is seen may be e^100 times as likely with a record as without it, and that is no
/// promise.
const MAX_EPSILON: f64 = 100.0;
/// The largest category: a table holds numbers of 53 bits, and beyond this two categories may be one.
const MAX_CATEGORY: u64 = 1 << 53;
/// The fewest updates of which a median is not their mean.
const MEDIAN_OF: u16 = 3;

/// Everything of it, in the order of the file.
pub fn problems(study: &Study) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut say = |path: String, message: String| found.push(Problem::new(path, message));
    let data = &study.data;
    if let Label::Survival { time, event } = &data.label
        && time == event
    {
        say(
            "data.label.event".into(),
            "is `label.time`: when is not whether".into(),
        );
    }
    for (index, feature) in data.features.iter().enumerate() {
        if feature.missing == Missing::CarryForward && data.windows() < 2 {
            say(
                format!("data.features[{index}].missing"),
                "is `carry-forward` of windows, and a record has one: give `windows`, or `window_hours` of stays".into(),
            );
        }
        let beyond = |category: &i64| category.unsigned_abs() > MAX_CATEGORY;
        if let Some(at) = feature.categories.iter().position(beyond) {
            say(
                format!("data.features[{index}].categories[{at}]"),
                format!(
                    "is {MAX_CATEGORY} at most: beyond it a table's numbers are not told apart"
                ),
            );
        }
        let names = data.label.names();
        if data.windows.is_some() && names.iter().any(|name| is_of(data, feature, name)) {
            say(
                format!("data.features[{index}].name"),
                "has the label as one of its windows: a model would only copy it".into(),
            );
        }
    }
    let (inputs, windows) = (data.inputs(), data.windows());
    let row = inputs.saturating_mul(windows);
    if row > MAX_ROW {
        say(
            "data.features".into(),
            format!(
                "make {inputs} inputs x {windows} windows = {row} numbers of a record, and {MAX_ROW} at most are worked with"
            ),
        );
    }
    strategy(study, &mut say);
    // What is no number is said already.
    let most = |epsilon: &f64| *epsilon > MAX_EPSILON && epsilon.is_finite();
    if let Some(epsilon) = study.privacy.epsilon.filter(most) {
        say(
            "privacy.epsilon".into(),
            format!(
                "{epsilon} promises nothing, and {MAX_EPSILON} is the most; the unit `none` says so"
            ),
        );
    }
    let Some(column) = &study.evaluation.test_column else {
        found.extend(judged_with(study));
        return found;
    };
    let mut wrong = |message: &str| say("evaluation.test_column".into(), message.into());
    if data.label.names().contains(column) {
        wrong("is the label: it says who has it, not who is judged with");
    }
    if data.features.iter().any(|of| is_of(data, of, column)) {
        wrong("is a feature too: it would be the same for every record that is trained with");
    }
    found
}

/// Whether so few records would be judged with that nothing may be told of them: of fewer no figure is told, and what is
/// summed would be of so few.
pub fn judged_with(study: &Study) -> Option<Problem> {
    let (records, share) = (study.data.minimum_records, study.evaluation.test_share);
    if study.evaluation.test_column.is_some() || !(0.0..=1.0).contains(&share) {
        // Who a column names is known at the facilities alone; what is no share is said already.
        return None;
    }
    let quorum = study.aggregation.quorum;
    // As many as are kept on average.
    let each = (f64::from(records) * share).floor();
    let all = f64::from(quorum) * each;
    (all < SMALLEST_CELL as f64).then(|| {
        let message = format!(
            "{quorum} sites (`aggregation.quorum`) x {each} of {records} records (`data.minimum_records`) are {all} to judge with, and figures are told of {SMALLEST_CELL} at least"
        );
        Problem::new("evaluation.test_share", message)
    })
}

/// Whether a column of a table is one of a feature's.
fn is_of(data: &Data, feature: &Feature, column: &str) -> bool {
    let Some(windows) = data.windows else {
        return feature.name == column;
    };
    // As `Data::columns_of` names them, which would be a name for each of very many windows here.
    let window = column.strip_prefix(feature.name.as_str());
    let window = window.and_then(|rest| rest.strip_prefix('.'));
    window.is_some_and(|digits| {
        let at = digits.parse::<u16>().unwrap_or_default();
        (1..=windows).contains(&at) && at.to_string() == digits
    })
}

/// Options of a strategy that change nothing, or take from it what it is for.
fn strategy(study: &Study, say: &mut impl FnMut(String, String)) {
    let aggregation = &study.aggregation;
    match &study.training.strategy {
        Strategy::TrimmedMean { share } => trimmed(*share, aggregation.quorum, say),
        Strategy::Median {} if aggregation.quorum < MEDIAN_OF => {
            let quorum = aggregation.quorum;
            say(
                "aggregation.quorum".into(),
                format!(
                    "of {quorum} updates the median is the mean, which one bad update moves as far as it likes: {MEDIAN_OF} at least for `median`"
                ),
            );
        }
        Strategy::FedAdagrad(of) => {
            let usual = Adaptive::usual();
            for (key, given) in [
                ("beta_1", of.beta_1 != usual.0),
                ("beta_2", of.beta_2 != usual.1),
            ] {
                if given {
                    say(
                        format!("training.strategy.{key}"),
                        "is of `fed-adam` and `fed-yogi`: `fed-adagrad` forgets nothing".into(),
                    );
                }
            }
        }
        _ => {}
    }
    if let (Some(compression), Some(bound)) = (aggregation.compression, aggregation.bound)
        && compression.range > bound
        && compression.range.is_finite()
    {
        let range = compression.range;
        say(
            "aggregation.compression.range".into(),
            format!(
                "is {range:e}, and an update is cut to a norm of {bound:e} (`aggregation.bound`), beyond which no coordinate of it is: the numbers would stay small, and be rounded away"
            ),
        );
    }
}

/// A share that leaves out nobody, of as many as may answer, is a mean that is no better than `fed-avg`.
fn trimmed(share: f64, quorum: u16, say: &mut impl FnMut(String, String)) {
    let quorum = f64::from(quorum);
    if (0.0..=0.49).contains(&share) && share * quorum < 1.0 {
        // Rounded up, so that it is enough.
        let least = (1_000.0 / quorum).ceil() / 1_000.0;
        say(
            "training.strategy.share".into(),
            format!(
                "of a quorum of {quorum} is less than one at either end, so that nothing is left out: at least {least:.3}"
            ),
        );
    }
}
