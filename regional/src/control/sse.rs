//! A command as a stream of events (Server-Sent Events, WHATWG HTML §9.2): one event for each step of its history, the
//! last of which ends the stream.
//!
//! A stream also ends by itself before the listener's time for an answer does; a client goes on with `Last-Event-ID`, as
//! every `EventSource` does by itself, and misses nothing.
use super::{Control, rows::Row, shown::command_json};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use std::{convert::Infallible, time::Duration};
use tokio::sync::watch;
use types::Id128;

/// How long a stream lasts; an answer has to be read within a minute (`node::https`).
const LASTS: Duration = Duration::from_secs(45);
/// After how long a client asks again, in milliseconds.
const RETRY: Duration = Duration::from_millis(500);

struct Streaming {
    control: Control,
    /// Of this command alone.
    changed: watch::Receiver<()>,
    id: Id128,
    /// Steps that were told.
    told: usize,
    until: tokio::time::Instant,
    first: bool,
    over: bool,
}

/// The events of a command from the step after `Last-Event-ID` on. Whoever has heard the last of them gets 204, by which an
/// `EventSource` asks no more (WHATWG HTML §9.2.3).
pub fn answer(control: &Control, row: &Row, headers: &HeaderMap) -> Response {
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok());
    let told: usize = last.and_then(|text| text.parse().ok()).unwrap_or(0);
    if row.history.state().is_end() && told >= row.history.events().len() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let state = Streaming {
        changed: control.changes.of(row.id),
        control: control.clone(),
        id: row.id,
        told,
        until: tokio::time::Instant::now() + LASTS,
        first: true,
        over: false,
    };
    Sse::new(stream::unfold(state, next)).into_response()
}

async fn next(mut state: Streaming) -> Option<(Result<Event, Infallible>, Streaming)> {
    loop {
        if state.over {
            return None;
        }
        let id = state.id;
        let found = state
            .control
            .ledger
            .commit("look at a command", move |commit| {
                Row::find(commit.tx(), id)
            });
        let row = found.await.ok().flatten()?;
        let events = row.history.events();
        if let Some(event) = events.get(state.told) {
            state.told += 1;
            state.over = event.state.is_end() && state.told == events.len();
            let mut shown = Event::default()
                .event(event.state.as_str())
                .id(state.told.to_string())
                .data(command_json(&row, state.told).to_string());
            if std::mem::take(&mut state.first) {
                shown = shown.retry(RETRY);
            }
            return Some((Ok(shown), state));
        }
        if row.history.state().is_end() {
            return None;
        }
        tokio::select! {
            changed = state.changed.changed() => changed.ok()?,
            () = tokio::time::sleep_until(state.until) => return None,
        }
    }
}

/// Whether an `Accept` asks for events: it names them, does not refuse them, and weighs JSON no higher (RFC 9110 §12.5.1).
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let events = weight(headers, "text/event-stream");
    events > 0.0 && events >= weight(headers, "application/json")
}

/// The weight of a media type that is named, 0 to 1; 0 of one that is not.
fn weight(headers: &HeaderMap, name: &str) -> f32 {
    let lines = headers.get_all(header::ACCEPT).iter();
    let ranges = lines.filter_map(|line| line.to_str().ok());
    let weights = ranges.flat_map(|line| line.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts
            .next()
            .filter(|named| named.eq_ignore_ascii_case(name))?;
        let given = parts.find_map(|part| {
            let (key, weight) = part.split_once('=')?;
            key.eq_ignore_ascii_case("q").then_some(weight)
        });
        given.map_or(Some(1.0), |weight| weight.parse::<f32>().ok())
    });
    weights.fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn events_are_for_who_names_them_and_likes_json_no_better() {
        let asked = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for &line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            is_asked_for(&headers)
        };
        for lines in [
            &["text/event-stream"][..],
            &["TEXT/Event-Stream; charset=utf-8"],
            &["application/json, text/event-stream"],
            &["application/json;q=0.5", "text/event-stream ; Q=0.9"],
        ] {
            assert!(asked(lines), "{lines:?}");
        }
        assert!(!asked(&[]), "nothing is named");
        for lines in [
            &["*/*"][..],
            &["text/event-stream;q=0"],
            &["text/event-stream;q=much"],
            &["text/event-stream;q=0.1, application/json"],
            &["text/event-streams"],
        ] {
            assert!(!asked(lines), "{lines:?}");
        }
    }
}
