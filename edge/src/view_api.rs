//! The facility's view over the node's own HTTPS, for its staff and its programs; nothing of it leaves the facility.
//!
//! | | | |
//! |---|---|---|
//! | `GET /api/v1/view/beds` | | who lies where now, with the last values and how fresh they are |
//! | `GET /api/v1/view/series` | `bed` or `patient` or `device`; `code`, `from`, `until`, `after`, `limit` | readings by source time, a page |
//! | `GET /api/v1/view/alarms` | `from`, `until`, `after`, `limit` | alarms by source time, a page |
//! | `GET /api/v1/view/changes` | `device`, `alarms` | server-sent events: `sample` as it is stored, `missed` with a number when the reader fell behind |
//!
//! Of a bed, a device or a patient that the facility has not, and of which it never stored anything, there is no series: 404.
//! The token is that of [`crate::beds`]. Times are RFC 3339 by the mesh clock. Every answer is written down before it is
//! shown (45 CFR 164.312(b)); of a stream, its beginning.
use crate::{
    beds::{Api, failed, problem, unknown_bed, unknown_device},
    view::{AlarmsAsked, Change, Cursor, FacilityView as _, MAX_PAGE, Page, SeriesAsked, Whose},
};
use axum::{
    Json, Router,
    extract::{Query, RawQuery, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use federation::audit::{Asked, Decision, Entry};
use futures_util::{Stream, stream};
use node::{admission::Known, https::Lasting, query::takes_none};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use store::StoreError;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use types::{Code, DeviceId, Phi, Timestamp};

/// How far back a page begins when it is not said: a day.
const SPAN_MS: i64 = Timestamp::DAY_MS;
/// A stream says at least this often that it is there (real time): a quarter of the time in which it must be read.
const ALIVE: Duration = Duration::from_secs(15);

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/v1/view/beds", get(beds))
        .route("/api/v1/view/series", get(series))
        .route("/api/v1/view/alarms", get(alarms))
        .route("/api/v1/view/changes", get(changes))
}

/// What is asked of a page. Texts are parsed here, so that an error names the parameter.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    bed: Option<String>,
    patient: Option<String>,
    device: Option<String>,
    code: Option<String>,
    from: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listening {
    device: Option<String>,
    alarms: Option<String>,
}

fn parsed<T: std::str::FromStr>(
    text: Option<&String>,
    reason: &'static str,
) -> Result<Option<T>, &'static str> {
    text.map(|text| text.parse().map_err(|_| reason))
        .transpose()
}

impl Span {
    /// From when, until when, behind what, how many.
    fn bounds(
        &self,
        now: Timestamp,
    ) -> Result<(Timestamp, Timestamp, Option<Cursor>, usize), &'static str> {
        const RANGE: &str = "limit: a number from 1 to 3600";
        let from = parsed(self.from.as_ref(), "from: not an RFC 3339 time")?;
        let until = parsed(self.until.as_ref(), "until: not an RFC 3339 time")?;
        let after = parsed(
            self.after.as_ref(),
            "after: not the `next` of a page of this node",
        )?;
        let limit = parsed(self.limit.as_ref(), RANGE)?.unwrap_or(MAX_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(RANGE);
        }
        let until = until.unwrap_or_else(|| now.plus_ms(1));
        let from = from.unwrap_or_else(|| until.plus_ms(-SPAN_MS));
        if from > until {
            return Err("from: is after `until`, which is now when it is left out");
        }
        Ok((from, until, after, limit))
    }

    fn series(mut self, now: Timestamp) -> Result<SeriesAsked, &'static str> {
        const WHOSE: &str = "one of bed, patient and device is needed";
        let (from, until, after, limit) = self.bounds(now)?;
        let whose = match (self.bed.take(), self.patient.take(), self.device.take()) {
            (Some(bed), None, None) => Whose::Bed(bed),
            (None, Some(patient), None) => Whose::Patient(Phi::new(patient)),
            (None, None, Some(device)) => Whose::Device(
                device
                    .parse()
                    .map_err(|_| "device: not the id of a device")?,
            ),
            _ => return Err(WHOSE),
        };
        let code: Option<Code> = parsed(self.code.as_ref(), "code: not a code of this mesh")?;
        Ok(SeriesAsked {
            whose,
            code,
            from,
            until,
            after,
            limit,
        })
    }

    fn alarms(self, now: Timestamp) -> Result<AlarmsAsked, &'static str> {
        let (from, until, after, limit) = self.bounds(now)?;
        if self
            .bed
            .or(self.patient)
            .or(self.device)
            .or(self.code)
            .is_some()
        {
            return Err("alarms: only from, until, after and limit");
        }
        Ok(AlarmsAsked {
            from,
            until,
            after,
            limit,
        })
    }
}

/// Writes down that something is shown.
async fn noted(api: &Api, kind: &str, rows: usize) -> Result<(), StoreError> {
    let what = Asked {
        interaction: "view",
        kind,
        ..Asked::default()
    };
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let now = api.time.now().real;
    let read = Decision::CrosswalkRead;
    let entry = Entry::of_read(now, read, "api-token", &api.here, &what, rows);
    api.store.note(vec![entry]).await
}

async fn beds(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    if let Err(problem) = takes_none(query.as_deref()) {
        return problem.into_response();
    }
    let shown = async {
        let beds = api.facility.beds(api.time.now().mesh).await?;
        noted(&api, "beds", beds.len()).await?;
        Ok(Json(serde_json::json!({ "beds": beds })).into_response())
    };
    shown
        .await
        .unwrap_or_else(|error: StoreError| failed(&error))
}

type Asking<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

const UNKNOWN: &str = "a parameter that there is not: see `medmesh edge series --help`";

async fn series(State(api): State<Api>, asked: Asking<Span>) -> Response {
    let asked = asked.map_err(|_| UNKNOWN);
    match asked.and_then(|Query(asked)| asked.series(api.time.now().mesh)) {
        Ok(asked) => series_of(&api, asked).await,
        Err(reason) => problem(StatusCode::BAD_REQUEST, reason),
    }
}

/// A series that is asked for; of whom or what the facility has not, and never had, there is none.
async fn series_of(api: &Api, asked: SeriesAsked) -> Response {
    let whose = asked.whose.clone();
    let read = api.facility.series(asked).await;
    if matches!(&read, Ok(page) if page.points.is_empty())
        && let Some(refused) = unknown(api, whose).await
    {
        return refused;
    }
    page(api, "series", read).await
}

async fn unknown(api: &Api, whose: Whose) -> Option<Response> {
    match whose {
        Whose::Bed(bed) => unknown_bed(api, &bed).await,
        Whose::Device(device) => unknown_device(api, &device).await,
        Whose::Patient(id) => match api.store.knows_patient(id).await {
            Ok(true) => None,
            Ok(false) => Some(problem(
                StatusCode::NOT_FOUND,
                "patient: nothing was ever entered or measured of one of this id; `medmesh edge beds` shows who lies where",
            )),
            Err(error) => Some(failed(&error)),
        },
    }
}

async fn alarms(State(api): State<Api>, asked: Asking<Span>) -> Response {
    let asked = asked.map_err(|_| UNKNOWN);
    match asked.and_then(|Query(asked)| asked.alarms(api.time.now().mesh)) {
        Ok(asked) => page(&api, "alarms", api.facility.alarms(asked).await).await,
        Err(reason) => problem(StatusCode::BAD_REQUEST, reason),
    }
}

async fn page(api: &Api, kind: &str, read: Result<Page, StoreError>) -> Response {
    let shown = async {
        let page = read?;
        noted(api, kind, page.points.len()).await?;
        Ok(Json(page).into_response())
    };
    shown
        .await
        .unwrap_or_else(|error: StoreError| failed(&error))
}

async fn changes(State(api): State<Api>, asked: Asking<Listening>) -> Response {
    let wanted = asked.map_err(|_| UNKNOWN).and_then(|Query(asked)| {
        let device: Option<DeviceId> =
            parsed(asked.device.as_ref(), "device: not the id of a device")?;
        let alarms: Option<bool> = parsed(asked.alarms.as_ref(), "alarms: true or false")?;
        Ok((device, alarms.unwrap_or(false)))
    });
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reason) => return problem(StatusCode::BAD_REQUEST, reason),
    };
    if let Some(device) = &wanted.0
        && let Some(refused) = unknown_device(&api, device).await
    {
        return refused;
    }
    // Heard before it is written down: what is stored meanwhile is not missed.
    let heard = api.facility.changes();
    if let Err(error) = noted(&api, "changes", 0).await {
        return failed(&error);
    }
    let events = Sse::new(events(heard, wanted)).keep_alive(KeepAlive::new().interval(ALIVE));
    let mut response = events.into_response();
    let extensions = response.extensions_mut();
    extensions.insert(Lasting);
    extensions.insert(Known("api-token".into()));
    response
}

fn events(
    heard: Receiver<Arc<Change>>,
    (device, alarms): (Option<DeviceId>, bool),
) -> impl Stream<Item = Result<Event, Infallible>> {
    let wanted = move |change: &Change| {
        device
            .as_ref()
            .is_none_or(|device| *device == change.device)
            && (change.alarm || !alarms)
    };
    stream::unfold((heard, wanted), |(mut heard, wanted)| async move {
        loop {
            let event = match heard.recv().await {
                Ok(change) if wanted(&change) => {
                    // A change is plain data: it always has its JSON.
                    Event::default().event("sample").json_data(&*change).ok()?
                }
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => {
                    Event::default().event("missed").data(missed.to_string())
                }
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok(event), (heard, wanted)));
        }
    })
}

#[cfg(test)]
#[path = "view_api_tests.rs"]
mod tests;
