//! A command as a stream of events (Server-Sent Events, WHATWG HTML §9.2): one event for each step of its history, the
//! last of which ends the stream.
//!
//! A stream also ends by itself before the listener's time for an answer does; a client goes on with `Last-Event-ID`, as
//! every `EventSource` does by itself, and misses nothing.
use super::{Control, rows::Row, shown::command_json};
use axum::{
    http::{HeaderMap, StatusCode},
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
