//! What a study says that makes no sense, though it can be run: refused where it is handed in. One that runs already, or has
//! ended, is read without these rules, which it may be older than.
use super::{Label, Missing, Problem, Strategy, Study};
use crate::metrics::SMALLEST_CELL;

/// The largest ε of a study: beyond it what is seen may be e^100 times as likely with a record as without it, and that is no
/// promise.
const MAX_EPSILON: f64 = 100.0;

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
    }
    if let Strategy::TrimmedMean { share } = study.training.strategy {
        trimmed(share, study.aggregation.quorum, &mut say);
    }
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
    if data.features.iter().any(|of| of.name == *column) {
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
