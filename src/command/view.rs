//! `medmesh edge beds|series|alarms|watch`: what a facility's own side sees of its running node.
use super::{local_api::LocalApi, node};
use crate::{
    cli::view::{AlarmsArgs, RunningArgs, SeriesArgs, SpanArgs, WatchArgs},
    failure::Failure,
    out,
};
use anyhow::{Context as _, Result};
use edge::config::EdgeConfig;
use serde_json::Value;
use types::Timestamp;

/// Columns of a reading in the list of beds.
const READING: usize = 40;

fn api(args: &RunningArgs) -> Result<LocalApi, Failure> {
    let config: EdgeConfig = node::read(&args.config)?;
    Ok(LocalApi::of(&config)?)
}

/// A text of an answer, shown and never obeyed.
fn text<'a>(value: &'a Value, name: &str, without: &'a str) -> String {
    out::printable(value[name].as_str().unwrap_or(without))
}

/// An instant of an answer, which is milliseconds since 1970, as people read it; none where there is none.
fn instant(value: &Value, name: &str) -> Option<String> {
    Some(Timestamp(value[name].as_i64()?).to_rfc3339())
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// `edge beds`: who lies where now.
pub async fn beds(args: &RunningArgs) -> Result<(), Failure> {
    let answer = api(args)?.get("view/beds", &[]).await?;
    if args.json {
        return Ok(out::line(answer)?);
    }
    let mut any = false;
    for bed in list(&answer, "beds") {
        any = true;
        let since = match instant(bed, "since") {
            Some(since) => format!("since {since}"),
            None => "nothing was entered".into(),
        };
        out::line(format!(
            "{}  {}  {since}",
            text(bed, "bed", ""),
            text(bed, "patient", "nobody")
        ))?;
        for device in list(bed, "devices") {
            out::line(format!("  {}", text(device, "device", "")))?;
            for value in list(device, "values") {
                let reading = reading(value);
                let (freshness, at) = (text(value, "freshness", ""), instant(value, "at"));
                out::text(&last(&reading, &freshness, &at.unwrap_or_default()))?;
            }
        }
    }
    if !any {
        out::line("nothing is known of any bed: see `medmesh edge beds assign --help`")?;
    }
    Ok(())
}

/// A last value of a device: how fresh it is and from when stands behind it, or below it where it is long.
fn last(reading: &str, freshness: &str, at: &str) -> String {
    let behind = format!("{freshness:<10} {at}");
    let behind = behind.trim_end();
    if reading.chars().count() > READING {
        format!("    {reading}\n    {:<READING$} {behind}\n", "")
    } else {
        format!("    {reading:<READING$} {behind}\n")
    }
}

/// A reading as people read it: its name, its value with its unit, or why there is none.
fn reading(value: &Value) -> String {
    let what = match value.get("absent") {
        Some(reason) => format!("absent: {}", reason.as_str().unwrap_or("unknown")),
        None => format!(
            "{} {}",
            value["value"],
            value["unit"].as_str().unwrap_or("")
        ),
    };
    let doubt = if value["implausible"] == true {
        " (implausible)"
    } else {
        ""
    };
    out::printable(&format!(
        "{} {what}{doubt}",
        value["display"].as_str().unwrap_or("?")
    ))
}

/// `edge series`: readings over a time range.
pub async fn series(args: SeriesArgs) -> Result<(), Failure> {
    let whose = [
        ("bed", args.bed),
        ("patient", args.patient),
        ("device", args.device),
        ("code", args.code),
    ];
    pages(&args.node, "view/series", whose.into(), args.span).await
}

/// `edge alarms`: alarms over a time range.
pub async fn alarms(args: AlarmsArgs) -> Result<(), Failure> {
    pages(&args.node, "view/alarms", Vec::new(), args.span).await
}

/// Every page of what is asked for, a line a reading.
async fn pages(
    args: &RunningArgs,
    path: &str,
    mut asked: Vec<(&str, Option<String>)>,
    span: SpanArgs,
) -> Result<(), Failure> {
    asked.extend([("from", span.from), ("until", span.until)]);
    let api = api(args)?;
    let (mut after, mut is_empty) = (None::<String>, true);
    loop {
        let given = asked.iter().map(|(name, value)| (*name, value.as_deref()));
        let given = given.chain([("after", after.as_deref())]);
        let given: Vec<_> = given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let page = api.get(path, &given).await?;
        for point in list(&page, "points") {
            is_empty = false;
            if args.json {
                out::line(point)?;
                continue;
            }
            let alarm = if point["alarm"] == true {
                "  ALARM"
            } else {
                ""
            };
            out::line(format!(
                "{}  {}  {}  {}{alarm}",
                instant(point, "at").unwrap_or_default(),
                text(point, "device", ""),
                text(point, "patient", "nobody"),
                reading(point)
            ))?;
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    if is_empty {
        eprintln!(
            "nothing was stored of that time (--from, --until; a day when they are left out)"
        );
    }
    Ok(())
}

/// `edge watch`: every sample as it is stored, until the node stops.
pub async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let api = api(&args.node)?;
    let alarms = args.alarms.then_some("true");
    let given = [("device", args.device.as_deref()), ("alarms", alarms)];
    let given: Vec<_> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let json = args.node.json;
    api.follow("view/changes", &given, |name, data| match name {
        "missed" if json => Ok(out::line(format!("{{\"missed\":{data}}}"))?),
        "missed" => Ok(out::line(format!("{data} samples were missed"))?),
        _ if json => Ok(out::line(data)?),
        _ => change(data),
    })
    .await?;
    Ok(())
}

fn change(data: &str) -> Result<()> {
    let change: Value = serde_json::from_str(data).context("an event that is not JSON")?;
    let alarm = if change["alarm"] == true {
        "  ALARM"
    } else {
        ""
    };
    let readings: Vec<_> = list(&change, "readings").map(reading).collect();
    Ok(out::line(format!(
        "{}  {}  {}{alarm}",
        instant(&change, "at").unwrap_or_default(),
        text(&change, "device", ""),
        readings.join("; ")
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_instant_is_shown_as_the_node_says_it() {
        let point = json!({"at": Timestamp(1_000), "since": null});
        let at = instant(&point, "at");
        assert_eq!(at.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(instant(&point, "since"), None);
    }

    #[test]
    fn last_values_fit_a_terminal_and_stand_below_each_other() {
        let (at, short) = ("2031-05-06T07:08:09.000Z", "Heart rate 72 /min");
        let long = "Oxygen saturation in arterial blood by pulse oximetry 97 %";
        let texts = [short, long].map(|reading| last(reading, "historical", at));
        assert_eq!(texts.each_ref().map(|text| text.lines().count()), [1, 2]);
        for text in texts {
            let wide = text.lines().find(|line| line.chars().count() > out::WIDTH);
            assert_eq!(wide, None, "{text}");
            let line = text.lines().last().unwrap();
            assert_eq!(line.find("historical"), Some(4 + READING + 1), "{text}");
        }
    }
}
