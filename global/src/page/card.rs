//! A model card (Mitchell et al. 2019) in Markdown: what was learnt from what, how good it is where, what it cost in
//! privacy, and what none of this says.
use fl::{
    course::{Concordance, Course, Evaluation, Standing},
    metrics::{Interval, Metrics},
    study::{Feature, Missing, Plan, PrivacyUnit, Study},
};
use std::{collections::BTreeMap, fmt::Write as _};
use types::FacilityId;

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
    sites(&mut card, course, study.training.rounds);
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
        Standing::Failed(why) => format!("failed ({})", plain(&why.replace('\n', "; "))),
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

fn sites(card: &mut String, course: &Course, planned: u32) {
    let mut took: BTreeMap<&str, (u32, Option<&str>)> = BTreeMap::new();
    for report in course.reports() {
        // The one after the last judges.
        let trains = report.round <= planned;
        for (site, own) in &report.sites {
            let of = took.entry(site.as_str()).or_default();
            match &own.missing {
                None if report.failure.is_none() && trains => of.0 += 1,
                None => {}
                Some(why) => of.1 = Some(why),
            }
        }
    }
    card.push_str(
        "## Sites\n\n| site | rounds of training in the sum | why not in others |\n|---|---|---|\n",
    );
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
    if let Some(why) = found.silence() {
        let _ = writeln!(card, "No figures: {why}.\n");
        return;
    }
    if let Some(found) = &found.concordance {
        return concordances(card, found);
    }
    table(card, &rows(found.pooled.as_ref(), &found.sites));
    if let Some(personal) = &found.personal {
        card.push_str("After each site tuned the model on its own records:\n\n");
        table(card, &rows(personal.pooled.as_ref(), &personal.sites));
    }
}

/// Where figures of a binary label are of, and they.
pub type Row<'a> = (&'a str, &'a Metrics);

/// The figures of all sites together, and of each.
pub fn rows<'a>(
    pooled: Option<&'a Metrics>,
    sites: &'a BTreeMap<FacilityId, Metrics>,
) -> Vec<Row<'a>> {
    let own = sites.iter().map(|(site, own)| (site.as_str(), own));
    let pooled = pooled.map(|metrics| ("all sites", metrics));
    pooled.into_iter().chain(own).collect()
}

/// Why a row lacks figures.
pub fn lacking(rows: &[Row<'_>]) -> Vec<String> {
    let of = |(name, metrics): &Row<'_>| {
        let why = serde_json::to_value(metrics.why?).ok()?;
        Some(format!(
            "{name}: no area under a curve, since {}.",
            why.as_str()?
        ))
    };
    rows.iter().filter_map(of).collect()
}

fn table(card: &mut String, rows: &[Row<'_>]) {
    card.push_str("| | records | accuracy | AUROC | AUPRC | Brier | calibration error | intercept | slope |\n|---|---|---|---|---|---|---|---|---|\n");
    for (name, metrics) in rows {
        let cells = figures(metrics).map(|cell| cell.unwrap_or_else(|| "–".into()));
        let _ = writeln!(
            card,
            "| {name} | {} | {} |",
            metrics.records,
            cells.join(" | ")
        );
    }
    card.push('\n');
    for why in lacking(rows) {
        let _ = writeln!(card, "- {why}");
    }
    if rows.is_empty() {
        card.push_str("- No site has so many records that figures tell of no one.\n");
    }
    card.push('\n');
}

fn concordances(card: &mut String, found: &Concordance) {
    card.push_str(
        "| | subjects | concordance (Harrell's c over pairs of one site) |\n|---|---|---|\n",
    );
    for (name, subjects, c) in compared(found) {
        let _ = writeln!(card, "| {name} | {subjects} | {c} |");
    }
    card.push('\n');
}

/// The concordance of all sites together, and of each: of where, of how many subjects, and itself with its interval.
pub fn compared(found: &Concordance) -> Vec<(&str, String, String)> {
    let mut rows = Vec::new();
    if let Some(c) = found.pooled {
        let subjects = found.subjects.to_string();
        rows.push(("all sites", subjects, within(c, found.within)));
    }
    for (site, c) in &found.sites {
        let own = found.sites_within.get(site).copied();
        rows.push((site.as_str(), "–".into(), within(*c, own)));
    }
    rows
}

/// A figure with its interval.
fn within(value: f64, within: Option<Interval>) -> String {
    let within = within.map_or_else(String::new, |within| {
        format!(" [{:.3}, {:.3}]", within.low, within.high)
    });
    format!("{value:.3}{within}")
}

/// The figures of a model as text, each with its interval: accuracy, AUROC, AUPRC, Brier score, calibration error, and
/// intercept and slope of calibration.
pub fn figures(of: &Metrics) -> [Option<String>; 7] {
    let all = of.intervals;
    let text = |value: f64, own: Option<Interval>| Some(within(value, own));
    let area = |value: Option<f64>, own: Option<Interval>| value.map(|value| within(value, own));
    [
        text(of.accuracy, all.map(|of| of.accuracy)),
        area(of.auroc, all.and_then(|of| of.auroc)),
        area(of.auprc, all.and_then(|of| of.auprc)),
        text(of.brier, all.map(|of| of.brier)),
        text(of.calibration, all.map(|of| of.calibration)),
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
    plain(text).replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// Text that a site may have said, as text: neither HTML nor a link.
fn plain(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('<', "&lt;")
        .replace('[', "\\[")
}
