//! A model card (Mitchell et al. 2019) in Markdown: what was learnt from what, how good it is where, what it cost in
//! privacy, and what none of this says.
use fl::{
    course::{Course, Evaluation, Standing},
    metrics::{Interval, Metrics},
    study::{Feature, Missing, Plan, PrivacyUnit, Study},
};
use std::{collections::BTreeMap, fmt::Write as _};

/// The card of a study; none when its text cannot be read, which it was when it began.
pub fn of(course: &Course, sha256: Option<&str>) -> Option<String> {
    let (study, plan, unit) = course.plan().ok()?;
    let mut card = format!("# Model card: {}\n\n", study.name);
    let _ = writeln!(
        card,
        "Study `{}`: {}, {} of {} rounds.\n",
        course.id(),
        standing(course.standing()),
        course.trained(),
        study.training.rounds
    );
    model(&mut card, &study, &plan, sha256);
    data(&mut card, &study);
    sites(&mut card, course);
    card += "## How good it is\n\n";
    match course.evaluation() {
        Some(found) => evaluation(&mut card, &study, found),
        None => card += "It was not judged.\n\n",
    }
    privacy(&mut card, &study, &plan, course.spent(course.trained()));
    card += LIMITS;
    if unit == PrivacyUnit::None {
        card += "- Nothing is promised about single records: whoever holds the model and guesses well may learn of them.\n";
    }
    Some(card)
}

const LIMITS: &str = "## What this does not say

- The model was judged on records of the sites that took part. Elsewhere it may be worse; nobody has tried.
- It is not a medical device, and nothing here was reviewed by a clinician.
- Figures on records that were kept from training are not covered by epsilon: counts of scores were summed under masks.
- Intervals tell of the chance of these records only, not of other sites or times.
";

fn standing(standing: &Standing) -> String {
    match standing {
        Standing::Failed(why) => format!("failed ({})", why.replace('\n', "; ")),
        standing => standing.as_str().to_owned(),
    }
}

fn model(card: &mut String, study: &Study, plan: &Plan, sha256: Option<&str>) {
    let kind = toml_of(&study.model);
    let strategy = &study.training.strategy;
    let _ = writeln!(
        card,
        "## Model\n\n- Kind: {kind}, {} parameters of {} inputs\n- Learnt by `{}`: {} rounds, batches of {}, step width {}, seed {}",
        plan.parameters,
        plan.inputs,
        strategy.name(),
        study.training.rounds,
        study.training.batch,
        study.training.learning_rate,
        study.training.seed
    );
    if let Some(digest) = sha256 {
        let _ = writeln!(card, "- SHA-256 of `model.safetensors`: `{digest}`");
    }
    card.push('\n');
}

fn data(card: &mut String, study: &Study) {
    let from = study.data.table.as_ref().map_or_else(
        || "readings of stays".to_owned(),
        |table| format!("table `{table}` of each site"),
    );
    let label = study.data.label.names().join(", ");
    let _ = writeln!(
        card,
        "## Data\n\n- From: {from}, {} records at least at each\n- Label: {label}\n\n| input | unit | scale | where missing |\n|---|---|---|---|",
        study.data.minimum_records
    );
    for feature in &study.data.features {
        let _ = writeln!(
            card,
            "| {} | {} | {} | {} |",
            cell(&named(feature)),
            cell(&feature.unit),
            scale(feature),
            match feature.missing {
                Missing::DropRecord => "the record is left out",
                Missing::Mean => "the mean",
                Missing::Zero => "zero, after scaling",
                Missing::CarryForward => "the value of the window before, or the mean",
            }
        );
    }
    card.push('\n');
}

/// The name of a feature, and of readings what is taken of which.
fn named(feature: &Feature) -> String {
    let Some(code) = feature.code else {
        return feature.name.clone();
    };
    let taken: Vec<_> = feature.summaries.iter().map(|of| of.as_str()).collect();
    format!("{}: {} of {code}", feature.name, taken.join(", "))
}

fn scale(feature: &Feature) -> String {
    feature.scale.map_or_else(
        || "mean and deviation of the site".to_owned(),
        |scale| {
            let limit = scale
                .limit
                .map_or_else(String::new, |limit| format!(", from −{limit} to {limit}"));
            format!("(value − {}) / {}{limit}", scale.centre, scale.width)
        },
    )
}

fn sites(card: &mut String, course: &Course) {
    let mut took: BTreeMap<&str, (u32, Option<&str>)> = BTreeMap::new();
    for report in course.reports() {
        for (site, own) in &report.sites {
            let of = took.entry(site.as_str()).or_default();
            match &own.missing {
                None if report.failure.is_none() => of.0 += 1,
                None => {}
                Some(why) => of.1 = Some(why),
            }
        }
    }
    card.push_str("## Sites\n\n| site | rounds in the sum | why not in others |\n|---|---|---|\n");
    for (site, (rounds, why)) in took {
        let why = why.map_or_else(String::new, cell);
        let _ = writeln!(card, "| {site} | {rounds} | {why} |");
    }
    card.push('\n');
}

fn evaluation(card: &mut String, study: &Study, found: &Evaluation) {
    let _ = writeln!(
        card,
        "On records that each site kept from training, without any of them leaving it. In brackets the middle 95 % of {} bootstrap samples.\n",
        study.evaluation.resamples
    );
    card.push_str("| | records | accuracy | AUROC | AUPRC | Brier | calibration error | intercept | slope |\n|---|---|---|---|---|---|---|---|---|\n");
    let pooled = found.pooled.iter().map(|metrics| ("all sites", metrics));
    let own = found.sites.iter().map(|(site, own)| (site.as_str(), own));
    for (name, metrics) in pooled.chain(own) {
        let cells = figures(metrics).map(|cell| cell.unwrap_or_else(|| "–".into()));
        let _ = writeln!(
            card,
            "| {name} | {} | {} |",
            metrics.records,
            cells.join(" | ")
        );
    }
    card.push('\n');
}

/// The figures of a model as text, each with its interval: accuracy, AUROC, AUPRC, Brier score, calibration error, and
/// intercept and slope of calibration.
pub fn figures(of: &Metrics) -> [Option<String>; 7] {
    let text = |value: f64, within: Option<Interval>| {
        let within = within.map_or_else(String::new, |within| {
            format!(" [{:.3}, {:.3}]", within.low, within.high)
        });
        Some(format!("{value:.3}{within}"))
    };
    let within = of.intervals;
    [
        text(of.accuracy, within.map(|within| within.accuracy)),
        text(of.auroc, within.map(|within| within.auroc)),
        text(of.auprc, within.map(|within| within.auprc)),
        text(of.brier, within.map(|within| within.brier)),
        text(of.calibration, within.map(|within| within.calibration)),
        of.calibration_intercept.map(|value| format!("{value:.2}")),
        of.calibration_slope.map(|value| format!("{value:.2}")),
    ]
}

fn privacy(card: &mut String, study: &Study, plan: &Plan, spent: Option<f64>) {
    card.push_str("## Privacy\n\n");
    match plan.spend {
        None => card.push_str("No noise was added, and no epsilon is promised. "),
        Some(spend) => {
            let _ = write!(
                card,
                "Epsilon {:.4} at delta {:e}, of each {}: {} steps of a Gaussian with noise multiplier {:.4} on Poisson samples of probability {:.6}, clip {}. ",
                spent.unwrap_or_default(),
                spend.delta,
                spend.unit.as_str(),
                spend.steps,
                spend.noise_multiplier,
                spend.sampling,
                study.privacy.clip.unwrap_or_default()
            );
        }
    }
    if study.aggregation.secure {
        let _ = write!(
            card,
            "Updates were summed under masks: nobody saw the update of a site unless {} of them work together with the region.",
            study.aggregation.colluders + 1
        );
    }
    card.push_str("\n\n");
}

/// A part of a study as it is written there.
fn toml_of(value: &impl serde::Serialize) -> String {
    let text = toml::to_string(value).unwrap_or_default();
    text.trim().replace('\n', ", ")
}

/// Text within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace(['\n', '\r'], " ")
        .replace('<', "&lt;")
}
