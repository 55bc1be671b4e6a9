//! Studies as text for a terminal.
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// One line about a study.
pub fn headline(study: &Value) -> String {
    let word = |key: &str| study[key].as_str().unwrap_or("-").to_owned();
    let spent = study["epsilon"]
        .as_f64()
        .map_or_else(String::new, |epsilon| {
            format!("  epsilon {epsilon:.3} of each {}", word("unit"))
        });
    format!(
        "{}  {}  {} of {} rounds{spent}{}",
        word("study"),
        word("status"),
        study["rounds"],
        study["rounds_planned"],
        waited_for(study)
    )
}

/// The sites of a round that have not answered, or the regions of which none is known.
fn waited_for(study: &Value) -> String {
    let waiting = &study["waiting"];
    let sites = waiting["sites"].as_object().into_iter().flatten();
    let silent = sites.filter(|(_, stands)| *stands == "has not answered");
    let mut names: Vec<_> = silent.map(|(site, _)| site.as_str()).collect();
    if waiting["sites"].as_object().is_some_and(Map::is_empty) {
        let regions = waiting["regions"].as_array().into_iter().flatten();
        names.extend(regions.filter_map(Value::as_str));
    }
    if names.is_empty() {
        return String::new();
    }
    format!("  waits for {}", names.join(", "))
}

/// How the sites of the round stand that a study is in; none when it is in none, or nothing is known yet.
pub fn waiting(study: &Value) -> Option<String> {
    let waiting = &study["waiting"];
    let sites = waiting["sites"].as_object().filter(|of| !of.is_empty())?;
    let mut text = round_of(waiting, waiting["judges"] == true) + " goes on";
    for (site, stands) in sites {
        let _ = write!(text, "; {site} {}", stands.as_str().unwrap_or_default());
    }
    Some(text)
}

/// The number of a round, what it is for, and how often it was begun.
fn round_of(of: &Value, judges: bool) -> String {
    let mut text = format!("round {}", of["round"]);
    if judges {
        text += " (judging)";
    }
    if of["attempt"].as_i64().unwrap_or_default() > 1 {
        let _ = write!(text, ", attempt {}", of["attempt"]);
    }
    text
}

/// Why a study failed, unless the last of its rounds has said so.
pub fn why(study: &Value) -> &str {
    let why = study["why"].as_str().unwrap_or_default();
    let rounds = study["progress"].as_array();
    let last = rounds.and_then(|rounds| rounds.last());
    let said = last.and_then(|report| report["failure"].as_str());
    if said == Some(why) { "" } else { why }
}

/// A study with its rounds and its figures.
pub fn whole(study: &Value) -> String {
    let mut text = headline(study) + "\n";
    for line in why(study).lines() {
        let _ = writeln!(text, "  {line}");
    }
    for report in study["progress"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  {}", round(report, study));
    }
    if let Some(waiting) = waiting(study) {
        let _ = writeln!(text, "  {waiting}");
    }
    let evaluation = &study["evaluation"];
    evaluated(&mut text, evaluation, "");
    evaluated(&mut text, &evaluation["personal"], " after tuning");
    text
}

fn evaluated(text: &mut String, of: &Value, when: &str) {
    if of["pooled"].is_object() {
        let _ = writeln!(text, "  all sites{when}  {}", figures(&of["pooled"]));
    }
    if let Some(why) = of["why"].as_str() {
        let _ = writeln!(text, "  no figures{when}: {why}");
    }
    for (site, own) in of["sites"].as_object().into_iter().flatten() {
        let _ = writeln!(text, "  {site}{when}  {}", figures(own));
    }
}

fn figures(of: &Value) -> String {
    let figure = |key: &str| {
        let within = &of["intervals"][key];
        let within = match (within["low"].as_f64(), within["high"].as_f64()) {
            (Some(low), Some(high)) => format!(" ({low:.3} to {high:.3})"),
            _ => String::new(),
        };
        of[key]
            .as_f64()
            .map_or("-".into(), |value| format!("{value:.4}{within}"))
    };
    if of["concordance"].is_number() {
        return format!("concordance {}", figure("concordance"));
    }
    let why = of["why"].as_str();
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    format!(
        "accuracy {}  auroc {}  auprc {}  brier {}  calibration {}{why}",
        figure("accuracy"),
        figure("auroc"),
        figure("auprc"),
        figure("brier"),
        figure("calibration")
    )
}

/// A round of a study: how many are in the sum, loss, time, bytes, ε, then each site and why it is not in the sum.
pub fn round(report: &Value, study: &Value) -> String {
    let number = |key: &str| report[key].as_i64().unwrap_or_default();
    let took = number("ended_ms") - number("began_ms");
    let sites = || report["sites"].as_object().into_iter().flatten();
    let losses: Vec<_> = sites()
        .filter_map(|(_, own)| own["told"]["loss"].as_f64())
        .collect();
    let planned = study["rounds_planned"].as_i64();
    let mut text = round_of(report, planned.is_some_and(|all| number("round") > all));
    let _ = write!(text, ": {} of {} sites", report["members"], sites().count());
    if !losses.is_empty() {
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let _ = write!(text, ", loss {mean:.4}");
    }
    let _ = write!(text, ", {took} ms, {} bytes", report["bytes"]);
    if let Some(epsilon) = report["epsilon"].as_f64() {
        let _ = write!(text, ", epsilon {epsilon:.3}");
    }
    let failure = report["failure"].as_str().unwrap_or_default();
    for (site, own) in sites() {
        let _ = match (own["missing"].as_str(), own["told"]["loss"].as_f64()) {
            // The failure names whoever is missing, with the same words.
            (Some(why), _) if failure.contains(&format!("{site} {why}")) => Ok(()),
            (Some(why), _) => write!(text, "; {site} not: {why}"),
            (None, Some(loss)) => write!(text, "; {site} loss {loss:.4}"),
            (None, None) => write!(text, "; {site}"),
        };
        if let Some(note) = own["note"].as_str() {
            let _ = write!(text, " ({note})");
        }
    }
    if !failure.is_empty() {
        let _ = write!(text, "; failed: {failure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_round_says_who_took_part_or_why_not_loss_time_bytes_and_epsilon() {
        let report = json!({"round": 3, "attempt": 2, "members": 2, "bytes": 360, "began_ms": 1_000, "ended_ms": 1_250,
            "epsilon": 0.5, "sites": {
                "us-f1": {"told": {"loss": 0.5}}, "us-f2": {"told": {"loss": 0.7}},
                "us-f3": {"told": {}, "missing": "declined: plan: there is no data set `heart` here"}}});
        assert_eq!(
            round(&report, &json!({"rounds_planned": 15})),
            "round 3, attempt 2: 2 of 3 sites, loss 0.6000, 250 ms, 360 bytes, epsilon 0.500; us-f1 loss 0.5000; us-f2 loss 0.7000; us-f3 not: declined: plan: there is no data set `heart` here"
        );
    }

    #[test]
    fn a_study_that_failed_says_why_once_and_the_round_that_judges_is_called_so() {
        let why = "round 2: region us: 1 of 2 members that are needed are left in the step `invite`; us-f2 declined: plan: no";
        let report = json!({"round": 2, "attempt": 1, "members": 0, "bytes": 0, "began_ms": 0, "ended_ms": 10, "failure": why,
            "sites": {
                "us-f1": {"told": {}, "note": "was scaled down"},
                "us-f2": {"told": {}, "missing": "declined: plan: no"}}});
        let study = json!({"study": "heart-1", "status": "failed", "rounds": 1, "rounds_planned": 1, "why": why,
            "progress": [report]});
        let text = whole(&study);
        assert_eq!(text.matches("declined: plan: no").count(), 1, "{text}");
        assert!(text.contains("  round 2 (judging): 0 of 2 sites"), "{text}");
        assert!(text.contains("us-f1 (was scaled down)"), "{text}");
        let early =
            json!({"study": "heart-1", "status": "failed", "why": "regions: none", "progress": []});
        assert!(whole(&early).contains("  regions: none\n"));
    }

    #[test]
    fn a_round_that_waits_says_who_takes_part_and_for_whom_it_waits() {
        let study = json!({"study": "heart-1", "status": "running", "rounds": 0, "rounds_planned": 3, "progress": [],
            "waiting": {"round": 1, "attempt": 1, "judges": false, "regions": ["us"], "sites": {
                "us-f1": "takes part", "us-f2": "has not answered", "us-f3": "declined: plan: no"}}});
        assert_eq!(
            whole(&study),
            "heart-1  running  0 of 3 rounds  waits for us-f2\n  round 1 goes on; us-f1 takes part; us-f2 has not answered; us-f3 declined: plan: no\n"
        );
        let mut unknown = study;
        unknown["waiting"]["sites"] = json!({});
        let line = "heart-1  running  0 of 3 rounds  waits for us\n";
        assert_eq!(whole(&unknown), line);
    }

    #[test]
    fn figures_of_each_kind_of_model_are_shown_with_their_intervals() {
        let c = json!({"concordance": 0.71, "records": 80, "intervals": {"concordance": {"low": 0.6, "high": 0.8}}});
        let tuned = json!({"accuracy": 0.9, "auroc": null, "auprc": null, "brier": 0.1, "calibration": 0.05,
            "why": "no record that was kept from training has the label"});
        let study = json!({"study": "heart-1", "status": "done", "rounds": 1, "rounds_planned": 1, "progress": [],
            "evaluation": {"pooled": c, "sites": {"us-f1": c}, "personal": {"pooled": tuned, "sites": {}}}});
        let text = whole(&study);
        for line in [
            "  all sites  concordance 0.7100 (0.600 to 0.800)\n",
            "  us-f1  concordance 0.7100 (0.600 to 0.800)\n",
            "  all sites after tuning  accuracy 0.9000  auroc -  auprc -  brier 0.1000  calibration 0.0500 (no record that was kept from training has the label)\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let silent = json!({"study": "heart-1", "status": "done", "rounds": 1, "rounds_planned": 1, "progress": [],
            "evaluation": {"pooled": null, "sites": {}, "why": "of few nothing is told"}});
        assert!(whole(&silent).ends_with("  no figures: of few nothing is told\n"));
    }
}
