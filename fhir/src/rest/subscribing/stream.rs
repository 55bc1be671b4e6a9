//! The events of a subscription as a stream (Server-Sent Events, WHATWG HTML §9.2), for dashboards: each event is a
//! notification with one event, under its number.
//!
//! A stream ends by itself before the listener's time for an answer does; a client goes on with `Last-Event-ID`, as every
//! `EventSource` does by itself, and misses nothing. One with a number that no event has, as after the store was put back, is
//! refused: its stream would be silent until the numbers are there again.
use super::asked::{number, only, own};
use super::notifying::{Telling, tell};
use super::standing_right;
use crate::rest::access::{Asker, Found};
use crate::rest::{Api, FhirApi, Pairs, Reader, outcome::Failure};
use crate::store::ResourceType;
use crate::subscription::{Event, SUBSCRIPTION, Spec, Standing, Status};
use axum::{
    http::HeaderMap,
    response::{
        IntoResponse,
        sse::{Event as Sent, Sse},
    },
};
use futures_util::stream;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long a stream lasts; an answer has to be read within a minute (`node::https`).
const LASTS: Duration = Duration::from_secs(45);
/// After how long a client asks again.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked for events that another server over the same store wrote.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events that are read at once.
const CHUNK: u16 = 20;

struct Streaming {
    api: Arc<FhirApi>,
    key: i64,
    next: u64,
    waiting: VecDeque<Event>,
    noted: watch::Receiver<u64>,
    until: tokio::time::Instant,
    first: bool,
}

/// The events after `Last-Event-ID`, from `eventsSinceNumber` on, or those that are still to come.
pub fn stream(
    api: &Api,
    headers: &HeaderMap,
    asker: &Asker,
    standing: Standing,
    pairs: &Pairs,
) -> Result<Found, Failure> {
    only(pairs, &["eventsSinceNumber"])?;
    let _spec = own(asker, &standing)?;
    let last = last_event(headers)?;
    if last.is_some_and(|last| last > standing.number) {
        return Err(Failure::no_such_event());
    }
    let since = number(pairs, "eventsSinceNumber")?;
    let next = last
        .map(|last| last.saturating_add(1))
        .or(since)
        .unwrap_or(standing.number.saturating_add(1));
    let state = Streaming {
        api: Arc::clone(&api.0),
        key: standing.key,
        next,
        waiting: VecDeque::new(),
        noted: api.store.event_store().noted(),
        until: tokio::time::Instant::now() + LASTS,
        first: true,
    };
    let id = standing.id.as_ref().map_or("", |id| id.as_str());
    let request = format!("{SUBSCRIPTION}/{id}/$sse");
    let response = Sse::new(stream::unfold(state, next_event)).into_response();
    Ok(Found::new(response, 0, request))
}

/// The event that a client had last. One that cannot be read is not passed over: what came since would be missed.
fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get("last-event-id").filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || Failure::value("Last-Event-ID", "the number of an event is expected");
    number.ok_or_else(wrong).map(Some)
}

async fn next_event(mut state: Streaming) -> Option<(Result<Sent, Infallible>, Streaming)> {
    if std::mem::take(&mut state.first) {
        // A first word, so that a client knows that it is connected.
        let begun = Sent::default().comment("begun").retry(RETRY);
        return Some((Ok(begun), state));
    }
    loop {
        if let Some(event) = state.waiting.pop_front() {
            state.next = event.number.saturating_add(1);
            let text = state.told(&event).await?;
            let sent = Sent::default()
                .event("notification")
                .id(event.number.to_string())
                .data(text);
            return Some((Ok(sent), state));
        }
        let store = state.api.store.event_store();
        let found = store.events(state.key, state.next, u64::MAX, CHUNK).await;
        state.waiting = found.ok()?.into();
        if !state.waiting.is_empty() {
            continue;
        }
        tokio::select! {
            _ = state.noted.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = tokio::time::sleep_until(state.until) => return None,
        }
        if tokio::time::Instant::now() >= state.until {
            return None;
        }
    }
}

impl Streaming {
    /// A notification with one event; none when the stream has to end.
    async fn told(&self, event: &Event) -> Option<String> {
        let all = self.api.store.event_store().subscriptions().await.ok()?;
        let standing = all.into_iter().find(|one| one.key == self.key)?;
        let ended = standing.id.is_none() || standing.status == Status::Off;
        let spec = Spec::of_text(&standing.spec).filter(|_| !ended)?;
        let reader = Reader(spec.author.clone());
        let rights = |kind: ResourceType| standing_right(&self.api, &reader, kind);
        let telling = Telling {
            standing: &standing,
            spec: &spec,
            status: standing.status,
            sort: "event-notification",
            events: std::slice::from_ref(event),
            content: spec.content,
        };
        let told = tell(&self.api, &telling, &rights).await.ok()?;
        for row in told.rows {
            self.api.access.given(row).await.ok()?;
        }
        Some(told.text)
    }
}
