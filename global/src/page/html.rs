//! The pages as HTML: no script, nothing from elsewhere, one style sheet of the node's own.
use super::{card, chart::escape, curves::Curve};
use crate::learning::{Found, Listed};
use fl::{
    course::{Concordance, Course, Report, Standing},
    metrics::{Interval, Metrics},
    study::{Plan, Spend, Study},
};
use std::{collections::BTreeMap, fmt::Write as _};
use types::Timestamp;

/// Seconds after which the page of a running study is loaded again.
const AGAIN: u32 = 5;

/// A page.
fn page(title: &str, again: bool, body: &str) -> String {
    let refresh = if again {
        format!("<meta http-equiv=\"refresh\" content=\"{AGAIN}\">")
    } else {
        String::new()
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">{refresh}<title>{}</title><link rel=\"stylesheet\" href=\"/studies/style.css\"></head><body>{body}</body></html>",
        escape(title)
    )
}

fn header(path: &str) -> String {
    format!(
        "<header><a class=\"home\" href=\"/studies\">MedMesh <span>studies</span></a>{path}<form method=\"post\" action=\"/studies/leave\"><button>Leave</button></form></header>"
    )
}

/// How to come in.
pub fn enter(wrong: Option<&str>) -> String {
    let wrong = wrong.map_or_else(String::new, |why| {
        format!("<p class=\"wrong\" role=\"alert\">{}</p>", escape(why))
    });
    page(
        "MedMesh studies",
        false,
        &format!(
            "<main class=\"enter\"><h1>MedMesh studies</h1>{wrong}<p>Open this page with a link that is good once:</p><pre>medmesh fl open</pre><p>or paste a token of a client with the scope <code>mesh/studies.rs</code>:</p><pre>medmesh token --client data-scientist --region global</pre><form method=\"post\" action=\"/studies/enter\"><label for=\"token\">Token</label><input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"off\" required><button>Open</button></form></main>"
        ),
    )
}

/// There is no such study.
pub fn missing() -> String {
    let body =
        "<main><h1>No study has this name</h1><p><a href=\"/studies\">All studies</a></p></main>";
    page("No such study", false, &(header("") + body))
}

/// All studies.
pub fn list(listed: &Listed, client: &str) -> String {
    let found = &listed.found;
    let mut rows = String::new();
    for (course, at) in found {
        let planned = course.plan().ok().map(|(study, ..)| study.training.rounds);
        let auroc = pooled(course).and_then(|metrics| metrics.auroc);
        let auroc = auroc.map_or_else(|| "–".into(), |auroc| format!("{auroc:.3}"));
        let spent = course.spent(course.trained());
        let _ = write!(
            rows,
            "<tr><td><a href=\"/studies/{id}\">{id}</a></td><td>{}</td><td class=\"n\">{} of {}</td><td class=\"n\">{auroc}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            pill(course.standing()),
            course.trained(),
            planned.unwrap_or_default(),
            spent.map_or_else(|| "–".into(), |epsilon| format!("{epsilon:.3}")),
            time(*at),
            id = course.id(),
        );
    }
    let table = if found.is_empty() {
        "<p class=\"none\">No study was submitted yet: <code>medmesh fl submit study.toml</code></p>".into()
    } else {
        format!(
            "<div class=\"wide\"><table><thead><tr><th>Study</th><th>Status</th><th class=\"n\">Rounds</th><th class=\"n\">AUROC</th><th class=\"n\">ε spent</th><th class=\"n\">Submitted (UTC)</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    };
    let older = listed.next.as_ref().map_or_else(String::new, |last| {
        format!("<p><a href=\"/studies?after={last}\">Older studies</a></p>")
    });
    let again = found
        .iter()
        .any(|(course, _)| *course.standing() == Standing::Running);
    let body = format!(
        "{}<main><h1>Studies</h1><section>{table}</section>{older}<p class=\"soft\">Seen by {}.</p></main>",
        header(""),
        escape(client)
    );
    page("Studies", again, &body)
}

/// One study.
pub fn study((course, at): &Found, sha256: Option<&str>) -> String {
    let id = course.id().as_str();
    let path = format!("<span class=\"path\">{id}</span>");
    let Ok((study, plan, _)) = course.plan() else {
        return missing();
    };
    let why = match course.standing() {
        Standing::Failed(why) => format!("<pre class=\"wrong\">{}</pre>", escape(why)),
        _ => String::new(),
    };
    let charts: String = Curve::ALL
        .map(|curve| match curve.of(course) {
            Some(chart) => format!("<figure>{}</figure>", chart.part()),
            None => format!(
                "<figure class=\"none\"><p>{}</p></figure>",
                curve.absent(&study, course.evaluation().is_some())
            ),
        })
        .concat();
    let body = format!(
        "{}<main><h1>{} {}</h1><p class=\"soft\">submitted {}</p>{why}{}<section><h2>Curves</h2><div class=\"charts\">{charts}</div></section>{}{}{}{}{}<section><h2>study.toml</h2><details><summary>As it was submitted</summary><pre>{}</pre></details></section></main>",
        header(&path),
        escape(study.name.as_str()),
        pill(course.standing()),
        time(*at),
        tiles(course, &study, &plan),
        participants(course, study.training.rounds) + &waiting(course),
        evaluation(course),
        privacy(course, &study, &plan),
        rounds(course, study.training.rounds),
        files(course, sha256),
        escape(course.text())
    );
    let again = *course.standing() == Standing::Running;
    page(id, again, &body)
}

fn pill(standing: &Standing) -> String {
    let word = standing.as_str();
    format!("<span class=\"pill {word}\">{word}</span>")
}

fn time(at_ms: i64) -> String {
    let text = Timestamp(at_ms).to_rfc3339();
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

fn pooled(course: &Course) -> Option<Metrics> {
    course.evaluation()?.pooled
}

fn tile(name: &str, value: &str, more: &str) -> String {
    format!("<div class=\"tile\"><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>")
}

fn tiles(course: &Course, study: &Study, plan: &Plan) -> String {
    let trained = course.trained();
    let mut text = tile(
        "Rounds",
        &trained.to_string(),
        &format!("of {}", study.training.rounds),
    );
    if let Some(metrics) = pooled(course) {
        let of = metrics.intervals;
        let accuracy = between(of.map(|of| of.accuracy));
        if let Some(auroc) = metrics.auroc {
            let within = between(of.and_then(|of| of.auroc));
            text += &tile("AUROC", &format!("{auroc:.3}"), &within);
        }
        text += &tile("Accuracy", &format!("{:.3}", metrics.accuracy), &accuracy);
    }
    let compared = course
        .evaluation()
        .and_then(|found| found.concordance.as_ref());
    if let Some((found, c)) = compared.and_then(|found| Some((found, found.pooled?))) {
        text += &tile("Concordance", &format!("{c:.3}"), &between(found.within));
    }
    text += &match (course.spent(trained), plan.spend) {
        (Some(spent), Some(spend)) => tile(
            "ε spent",
            &format!("{spent:.3}"),
            &format!("of {:.3} a {}", spend.epsilon, spend.unit.as_str()),
        ),
        _ => tile("ε", "none", "nothing is promised"),
    };
    let (mut bytes, mut took) = (0_u64, 0_i64);
    for report in course.reports() {
        bytes = bytes.saturating_add(report.bytes);
        took = took.saturating_add(report.ended_ms - report.began_ms);
    }
    text += &tile("Updates", &amount(bytes), "under masks");
    text += &tile("Time", &duration(took), "in rounds");
    format!("<dl class=\"tiles\">{text}</dl>")
}

fn between(of: Option<Interval>) -> String {
    of.map_or_else(String::new, |of| format!("{:.3} to {:.3}", of.low, of.high))
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.0} MB", bytes as f64 / 1e6),
    }
}

fn duration(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{:.1} s", ms as f64 / 1e3),
        10_000..600_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

/// What part a site had: rounds in the sum, rounds in which it was asked, the last one without it and why.
type Part<'a> = (u32, u32, Option<(u32, &'a str)>);

fn participants(course: &Course, planned: u32) -> String {
    let mut of: BTreeMap<&str, Part<'_>> = BTreeMap::new();
    for report in course.reports() {
        // The one after the last judges.
        let trains = report.round <= planned;
        for (site, own) in &report.sites {
            let site = of.entry(site.as_str()).or_default();
            site.1 += u32::from(trains);
            match &own.missing {
                Some(why) => site.2 = Some((report.round, why)),
                None if report.failure.is_none() && trains => site.0 += 1,
                None => {}
            }
        }
    }
    let mut rows = String::new();
    for (site, (took, asked, why)) in of {
        let why = why.map_or_else(
            || "<span class=\"soft\">in every round</span>".into(),
            |(round, why)| format!("round {round}: {}", escape(why)),
        );
        let _ = write!(
            rows,
            "<tr><td>{site}</td><td class=\"n\">{took} of {asked}</td><td class=\"text\">{why}</td></tr>"
        );
    }
    section(
        "Participants",
        "<th>Site</th><th class=\"n\">Rounds of training in the sum</th><th>Why not, the last time</th>",
        &rows,
        "No round has ended yet.",
    )
}

/// For whom the round waits that the study is in.
fn waiting(course: &Course) -> String {
    let Some(waiting) = course.waiting() else {
        return String::new();
    };
    let what = if waiting.judges {
        "judges the model"
    } else {
        "trains"
    };
    let mut rows = String::new();
    for (site, stands) in &waiting.sites {
        let stands = escape(stands);
        let _ = write!(
            rows,
            "<tr><td>{site}</td><td class=\"text\">{stands}</td></tr>"
        );
    }
    let regions: Vec<_> = waiting.regions.iter().map(ToString::to_string).collect();
    let none = format!(
        "Round {} {what} since {}; no answer yet of {}.",
        waiting.round,
        time(waiting.began_ms),
        regions.join(", ")
    );
    section(
        "Now",
        &format!(
            "<th>Site</th><th>Round {}, which {what}</th>",
            waiting.round
        ),
        &rows,
        &none,
    )
}

fn section(title: &str, heads: &str, rows: &str, none: &str) -> String {
    if rows.is_empty() {
        return format!("<section><h2>{title}</h2><p class=\"none\">{none}</p></section>");
    }
    format!(
        "<section><h2>{title}</h2><div class=\"wide\"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
}

fn evaluation(course: &Course) -> String {
    let Some(found) = course.evaluation() else {
        let none = match course.standing() {
            Standing::Running => "The model is judged after its last round.",
            _ => "The model was not judged.",
        };
        return section("Evaluation", "", "", none);
    };
    if let Some(why) = found.silence() {
        return section("Evaluation", "", "", &format!("No figures: {why}."));
    }
    if let Some(compared) = &found.concordance {
        return concordances(compared);
    }
    let mut text = figures(
        "Evaluation",
        &card::rows(found.pooled.as_ref(), &found.sites),
    );
    if let Some(own) = &found.personal {
        let rows = card::rows(own.pooled.as_ref(), &own.sites);
        text += &figures("Evaluation after each site's own tuning", &rows);
    }
    text
}

fn cell(text: &str) -> String {
    let (value, within) = text.split_once(' ').unwrap_or((text, ""));
    format!("<td class=\"n\">{value}<small>{within}</small></td>")
}

fn concordances(found: &Concordance) -> String {
    let mut rows = String::new();
    for (name, subjects, c) in card::compared(found) {
        let c = cell(&c);
        let _ = write!(
            rows,
            "<tr><td>{name}</td><td class=\"n\">{subjects}</td>{c}</tr>"
        );
    }
    section(
        "Evaluation",
        "<th>Site</th><th class=\"n\">Subjects</th><th class=\"n\">Concordance</th>",
        &rows,
        "No site has so many subjects that the concordance tells of no one.",
    )
}

fn figures(title: &str, found: &[card::Row<'_>]) -> String {
    let mut rows = String::new();
    for (name, metrics) in found {
        let cells = card::figures(metrics).map(|text| cell(text.as_deref().unwrap_or("–")));
        let _ = write!(
            rows,
            "<tr><td>{name}</td><td class=\"n\">{}</td>{}</tr>",
            metrics.records,
            cells.concat()
        );
    }
    let why = card::lacking(found).into_iter();
    let why: String = why
        .map(|why| format!("<p class=\"soft\">{why}</p>"))
        .collect();
    let table = section(
        title,
        "<th>Site</th><th class=\"n\">Records</th><th class=\"n\">Accuracy</th><th class=\"n\">AUROC</th><th class=\"n\">AUPRC</th><th class=\"n\">Brier</th><th class=\"n\">Calibration error</th><th class=\"n\">Intercept</th><th class=\"n\">Slope</th>",
        &rows,
        "No site has so many records that figures tell of no one.",
    );
    table + &why
}

fn privacy(course: &Course, study: &Study, plan: &Plan) -> String {
    let masks = if study.aggregation.secure {
        "Nobody but a site sees its update: regions sum them under masks."
    } else {
        "Updates are seen by their region one by one."
    };
    let Some(Spend {
        unit,
        epsilon,
        delta,
        sampling,
        noise_multiplier,
        steps,
    }) = plan.spend
    else {
        return format!(
            "<section><h2>Privacy</h2><p>{masks} No noise is added: nothing is promised about what the model itself tells.</p></section>"
        );
    };
    let spent = course.spent(course.trained()).unwrap_or_default();
    format!(
        "<section><h2>Privacy</h2><p>{masks} The presence of each {} is hidden.</p><meter min=\"0\" max=\"{epsilon}\" value=\"{spent}\">{spent:.3}</meter><p>ε {spent:.4} of {epsilon:.4} at δ {delta:e}: {steps} steps in all, noise multiplier {noise_multiplier:.4}, sampling {sampling:.6}.</p></section>",
        unit.as_str()
    )
}

fn rounds(course: &Course, planned: u32) -> String {
    let rows: String = course
        .reports()
        .iter()
        .rev()
        .map(|report| round(report, planned))
        .collect();
    section(
        "Rounds",
        "<th class=\"n\">Round</th><th class=\"n\">Sites</th><th class=\"n\">Mean loss</th><th class=\"n\">Time</th><th class=\"n\">Bytes</th><th class=\"n\">ε so far</th><th>Not in the sum</th>",
        &rows,
        "No round has ended yet.",
    )
}

fn round(report: &Report, planned: u32) -> String {
    let told: Vec<_> = report
        .sites
        .values()
        .filter_map(|own| own.told.loss)
        .collect();
    let loss = match told.len() {
        0 => "–".into(),
        sites => format!("{:.4}", told.iter().sum::<f64>() / sites as f64),
    };
    let mut why = String::new();
    if let Some(failure) = &report.failure {
        let _ = write!(why, "<strong>{}</strong> ", escape(failure));
    }
    for (site, own) in &report.sites {
        if let Some(missing) = &own.missing {
            let _ = write!(why, "{site}: {}. ", escape(missing));
        }
    }
    let mut note = match report.attempt {
        1 => String::new(),
        attempt => format!("<small>attempt {attempt}</small>"),
    };
    if report.round > planned {
        note += "<small>judges</small>";
    }
    format!(
        "<tr><td class=\"n\">{}{note}</td><td class=\"n\">{}</td><td class=\"n\">{loss}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"text\">{why}</td></tr>",
        report.round,
        report.members,
        duration(report.ended_ms - report.began_ms),
        amount(report.bytes),
        report
            .epsilon
            .map_or_else(|| "–".into(), |epsilon| format!("{epsilon:.3}")),
    )
}

fn files(course: &Course, sha256: Option<&str>) -> String {
    let Some(digest) = sha256 else {
        return "<section><h2>Model</h2><p class=\"none\">There is a model when the study is done.</p></section>".into();
    };
    let id = course.id();
    let is_there = |name: &&&str| {
        let curve = Curve::ALL.into_iter().find(|curve| curve.file() == **name);
        curve.is_none_or(|curve| curve.of(course).is_some())
    };
    let links: String = super::FILES
        .iter()
        .filter(is_there)
        .map(|name| format!("<li><a href=\"/studies/{id}/{name}\" download>{name}</a></li>"))
        .collect();
    format!(
        "<section><h2>Model</h2><p>{} parameters. SHA-256 of the weights: <code class=\"digest\">{digest}</code></p><ul class=\"files\">{links}</ul></section>",
        course.model().len()
    )
}
