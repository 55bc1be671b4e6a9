//! What was seen, as JSON: for programs. Keys are only added, never changed.
use super::{
    State,
    ask::{Seen, Why},
    figures::Figures,
};
use serde_json::{Value, json};
use types::Timestamp;

/// The whole.
pub fn of(seen: &[Seen], state: State, now: Timestamp) -> Value {
    json!({
        "state": state.as_str(),
        "time": now.to_rfc3339(),
        "places": seen.iter().map(place).collect::<Vec<_>>(),
    })
}

fn place(seen: &Seen) -> Value {
    let mut place = json!({
        "name": seen.name,
        "tier": seen.tier.as_str(),
        "state": seen.state().as_str(),
    });
    match &seen.answer {
        Err(why) => place["error"] = why.as_str().into(),
        Ok(answer) => {
            place["failing"] = whys(&answer.ready.failing);
            place["degraded"] = whys(&answer.ready.degraded);
            match &answer.figures {
                Ok(figures) => add(&mut place, figures),
                Err(why) => place["no_metrics"] = why.as_str().into(),
            }
        }
    }
    place
}

fn whys(whys: &[Why]) -> Value {
    let one = |why: &Why| json!({"check": why.check, "reason": why.reason});
    whys.iter().map(one).collect()
}

fn add(place: &mut Value, figures: &Figures) {
    let link = figures
        .link_up
        .map(|up| json!({"up": up, "heard_seconds": figures.heard_s}));
    for (key, value) in [
        ("version", json!(figures.version)),
        ("link", json!(link)),
        ("waiting", json!(figures.waiting)),
        ("oldest_seconds", json!(figures.oldest_s)),
        ("alarms_waiting", json!(figures.alarms)),
        ("held", json!(figures.held)),
        ("gaps", json!(figures.gaps)),
        ("certificate_left_seconds", json!(figures.certificate_s)),
        ("crl_left_seconds", json!(figures.list_s)),
        ("authority_left_seconds", json!(figures.authority_s)),
    ] {
        place[key] = value;
    }
}
