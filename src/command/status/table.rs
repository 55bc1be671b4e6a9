//! What was seen, as a table of at most 80 columns and lines that say why. Pure.
use super::{
    State,
    ask::{Answer, SECOND, Seen},
    figures::Figures,
};
use crate::out::WIDTH;
use std::collections::BTreeSet;
use types::{Tier, Timestamp};

/// The whole.
pub fn of(seen: &[Seen], state: State, now: Timestamp) -> String {
    let mut lines = vec![title(seen, state, now), String::new(), head()];
    lines.extend(seen.iter().map(row));
    let whys: Vec<String> = seen.iter().flat_map(whys).collect();
    if !whys.is_empty() {
        lines.push(String::new());
        lines.extend(whys);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn title(seen: &[Seen], state: State, now: Timestamp) -> String {
    let versions: BTreeSet<&str> = seen
        .iter()
        .filter_map(|it| figures(it)?.version.as_deref())
        .collect();
    let versions = match versions.len() {
        0 => String::new(),
        1 => format!(", version {}", versions.into_iter().collect::<String>()),
        many => format!(", {many} versions"),
    };
    let mesh = match seen {
        [one] => one.name.clone(),
        _ => {
            let first = seen.iter().filter(|it| !it.name.ends_with(SECOND));
            let of = |tier| first.clone().filter(|it| it.tier == tier).count();
            let (regions, facilities) = (of(Tier::Regional), of(Tier::Edge));
            format!("regions {regions}, facilities {facilities}")
        }
    };
    let time = now.to_rfc3339();
    fit(
        &format!("{}: {mesh}{versions}; {time}", state.as_str()),
        WIDTH,
    )
}

/// A line of the table.
fn columns(left: [&str; 3], right: [&str; 6]) -> String {
    let [name, state, link] = left;
    let [waiting, oldest, alarms, held, gaps, ends] = right;
    let line = format!(
        "{name:<16} {state:<9} {link:<13} {waiting:>7} {oldest:>6} {alarms:>6} {held:>5} {gaps:>4} {ends:>6}"
    );
    line.trim_end().to_owned()
}

fn head() -> String {
    let right = ["waiting", "oldest", "alarms", "held", "gaps", "ends"];
    columns(["place", "state", "link"], right)
}

fn row(seen: &Seen) -> String {
    let indent = if seen.tier == Tier::Edge { "  " } else { "" };
    let name = fit(&format!("{indent}{}", seen.name), 16);
    let state = seen.state().as_str();
    let Some(it) = figures(seen) else {
        return format!("{name:<16} {state}");
    };
    let oldest = match it.waiting {
        0 => "-".to_owned(),
        _ => span(it.oldest_s),
    };
    let ends = it.certificate_s.map_or_else(|| "-".to_owned(), ends);
    let [waiting, alarms, held, gaps] = [it.waiting, it.alarms, it.held, it.gaps].map(short);
    columns(
        [&name, state, &link(it)],
        [&waiting, &oldest, &alarms, &held, &gaps, &ends],
    )
}

fn link(it: &Figures) -> String {
    match (it.link_up, it.heard_s) {
        (None, _) => "-".to_owned(),
        (Some(up), heard) => {
            let word = if up { "up" } else { "down" };
            let heard = heard.map(|s| format!(", {}", ends(s)));
            format!("{word}{}", heard.unwrap_or_default())
        }
    }
}

/// Why a node is not as it should be, a line for each reason.
fn whys(seen: &Seen) -> Vec<String> {
    let mut whys = Vec::new();
    match &seen.answer {
        Err(why) => whys.push(format!("down: {why}")),
        Ok(answer) => add(&mut whys, answer),
    }
    whys.iter()
        .map(|why| fit(&format!("{:<16} {why}", fit(&seen.name, 16)), WIDTH))
        .collect()
}

fn add(whys: &mut Vec<String>, answer: &Answer) {
    let ready = &answer.ready;
    let failing = ready.failing.iter().map(|why| ("not ready", why));
    let degraded = ready.degraded.iter().map(|why| match why {
        why if why.is_as_it_should_be() => ("waits", why),
        why => ("degraded", why),
    });
    for (word, why) in failing.chain(degraded) {
        whys.push(format!("{word}: {}: {}", why.check, why.reason));
    }
    match &answer.figures {
        Err(why) => whys.push(format!("no figures: {why}")),
        Ok(it) => {
            for (what, left) in it.ending() {
                let says = if left < 0 {
                    format!("{what} ended {} ago", ends(-left))
                } else {
                    format!("{what} ends in {}", ends(left))
                };
                whys.push(says);
            }
        }
    }
}

fn figures(seen: &Seen) -> Option<&Figures> {
    seen.answer.as_ref().ok()?.figures.as_ref().ok()
}

/// A text of at most `width` characters; what is cut off shows.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A count in at most five characters.
fn short(count: u64) -> String {
    match count {
        0..=99_999 => count.to_string(),
        100_000..=9_999_999 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// Whole seconds in the largest unit that fits.
fn ends(seconds: i64) -> String {
    match seconds {
        ..0 => "ended".to_owned(),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Seconds, with a tenth where they are few.
fn span(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        ends(seconds as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            ask::{Ready, Why},
            worst,
        },
        *,
    };

    fn seen(name: &str, tier: Tier, answer: Result<Answer, String>) -> Seen {
        let name = name.to_owned();
        Seen { name, tier, answer }
    }

    fn answer(degraded: &[(&str, &str)], figures: Figures) -> Answer {
        let why = |(check, reason): &(&str, &str)| Why {
            check: (*check).to_owned(),
            reason: (*reason).to_owned(),
        };
        Answer {
            ready: Ready {
                ready: true,
                failing: Vec::new(),
                degraded: degraded.iter().map(why).collect(),
            },
            figures: Ok(figures),
        }
    }

    fn good() -> Figures {
        Figures {
            version: Some("1.0.0".into()),
            link_up: Some(true),
            heard_s: Some(3),
            certificate_s: Some(80 * 86_400),
            ..Figures::default()
        }
    }

    #[test]
    fn one_screen_says_who_is_how_and_why_and_no_line_is_longer_than_a_terminal() {
        let worst_case = Figures {
            link_up: Some(false),
            heard_s: Some(7_000),
            waiting: 123_456_789,
            oldest_s: 172_799.0,
            alarms: 99_999,
            held: 100_000,
            gaps: 1_000,
            certificate_s: Some(-3_700),
            ..good()
        };
        let all = [
            seen("global", Tier::Global, Ok(answer(&[], good()))),
            seen(
                "us",
                Tier::Regional,
                Ok(answer(&[("senders", "wrong-sender")], good())),
            ),
            seen(
                "us (b)",
                Tier::Regional,
                Ok(answer(&[("writer", "standby")], good())),
            ),
            seen(
                "a-facility-with-the-longest-name-there-is",
                Tier::Edge,
                Ok(answer(&[("gap", &"why ".repeat(40))], worst_case)),
            ),
            seen("us-f2", Tier::Edge, Err("no answer within 3s".into())),
        ];
        let state = worst(&all);
        let text = of(&all, state, Timestamp(0));
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(
            text.starts_with("down: regions 1, facilities 2, version 1.0.0"),
            "{text}"
        );
        for says in [
            "us               degraded  up, 3 s             0      -      0     0    0   80 d",
            "us               degraded: senders: wrong-sender",
            "us (b)           ready     up, 3 s             0      -      0     0    0   80 d",
            "us (b)           waits: writer: standby",
            "  us-f2          down",
            "us-f2            down: no answer within 3s",
            "the certificate ended 61 min ago",
        ] {
            assert!(text.contains(says), "{says}\n{text}");
        }
    }

    #[test]
    fn the_worst_node_is_the_state_of_the_mesh() {
        let ready = || seen("a", Tier::Edge, Ok(answer(&[], good())));
        let soon = Figures {
            certificate_s: Some(86_400),
            ..good()
        };
        let soon = seen("b", Tier::Edge, Ok(answer(&[], soon)));
        let lacking = seen("c", Tier::Edge, Ok(answer(&[("link", "down")], good())));
        let starting = seen(
            "d",
            Tier::Edge,
            Ok(Answer {
                ready: Ready::default(),
                figures: Ok(good()),
            }),
        );
        let down = seen("e", Tier::Edge, Err("refused".into()));
        for (other, state, code) in [
            (ready(), State::Ready, 0),
            (soon, State::Degraded, 1),
            (lacking, State::Degraded, 1),
            (starting, State::NotReady, 2),
            (down, State::Down, 2),
        ] {
            let all = [ready(), other];
            assert_eq!(worst(&all), state);
            assert_eq!(state.exit_code(), code);
        }
        assert_eq!(worst(&[]), State::Down);
    }
}
