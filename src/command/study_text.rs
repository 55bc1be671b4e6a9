//! Studies as text for a terminal.
use serde_json::Value;
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
        "{}  {}  {} of {} rounds{spent}",
        word("study"),
        word("status"),
        study["rounds"],
        study["rounds_planned"]
    )
}

/// A study with its rounds and its figures.
pub fn whole(study: &Value) -> String {
    let mut text = headline(study) + "\n";
    for line in study["why"].as_str().unwrap_or_default().lines() {
        let _ = writeln!(text, "  {line}");
    }
    for report in study["progress"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  {}", round(report));
    }
    let pooled = &study["evaluation"]["pooled"];
    if pooled.is_object() {
        let _ = writeln!(text, "  all sites  {}", figures(pooled));
    }
    let sites = study["evaluation"]["sites"].as_object();
    for (site, own) in sites.into_iter().flatten() {
        let _ = writeln!(text, "  {site}  {}", figures(own));
    }
    text
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
    format!(
        "accuracy {}  auroc {}  auprc {}  brier {}  calibration {}",
        figure("accuracy"),
        figure("auroc"),
        figure("auprc"),
        figure("brier"),
        figure("calibration")
    )
}

/// A round: how many are in the sum, loss, time, bytes, ε, then each site and why it is not in the sum.
pub fn round(report: &Value) -> String {
    let number = |key: &str| report[key].as_i64().unwrap_or_default();
    let took = number("ended_ms") - number("began_ms");
    let sites = || report["sites"].as_object().into_iter().flatten();
    let losses: Vec<_> = sites()
        .filter_map(|(_, own)| own["told"]["loss"].as_f64())
        .collect();
    let mut text = format!("round {}", report["round"]);
    if number("attempt") > 1 {
        let _ = write!(text, ", attempt {}", report["attempt"]);
    }
    let _ = write!(text, ": {} of {} sites", report["members"], sites().count());
    if !losses.is_empty() {
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let _ = write!(text, ", loss {mean:.4}");
    }
    let _ = write!(text, ", {took} ms, {} bytes", report["bytes"]);
    if let Some(epsilon) = report["epsilon"].as_f64() {
        let _ = write!(text, ", epsilon {epsilon:.3}");
    }
    for (site, own) in sites() {
        let _ = match (own["missing"].as_str(), own["told"]["loss"].as_f64()) {
            (Some(why), _) => write!(text, "; {site} not: {why}"),
            (None, Some(loss)) => write!(text, "; {site} loss {loss:.4}"),
            (None, None) => write!(text, "; {site}"),
        };
    }
    if let Some(why) = report["failure"].as_str() {
        let _ = write!(text, "; failed: {why}");
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
            round(&report),
            "round 3, attempt 2: 2 of 3 sites, loss 0.6000, 250 ms, 360 bytes, epsilon 0.500; us-f1 loss 0.5000; us-f2 loss 0.7000; us-f3 not: declined: plan: there is no data set `heart` here"
        );
    }
}
