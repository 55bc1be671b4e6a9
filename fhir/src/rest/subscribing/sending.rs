//! Sends what subscribers are to be told, for as long as the node runs.
//!
//! What a subscription waits for is in the store, so that nothing is lost by an end at any moment: a notification that was
//! taken and not yet noted as taken goes out again, with the same numbers. Of one subscription one notification is under
//! way at a time, which keeps their order; an endpoint that does not answer holds up its own subscription alone.
mod due;
mod settling;

use super::notifying::{Telling, Told, tell};
use super::{Hook, Notification, Untaken, standing_right};
use crate::rest::{FhirApi, Reader};
use crate::store::{Kind, ResourceType, StoreError};
use crate::subscription::retry::{HANDSHAKE_MS, RETRIED_MS};
use crate::subscription::{Channel, Content, Event, Progress, Reason, Spec, Standing, Status};
use due::{Due, is_failing};
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use types::Timestamp;

/// Notifications under way at once: each waits for an endpoint, and holds a body of some megabytes at most.
const MAX_SENDING: usize = 32;
/// How many of these may go to endpoints that did not take the last one: the others keep room.
const MAX_FAILING: usize = 16;
/// How often it is looked for what is due, beside whenever events are written.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long events are gathered before it is looked.
const GATHER: Duration = Duration::from_millis(20);
/// How often the events of a subscription are looked through for old ones.
const TRIM_EVERY_MS: i64 = 3_600_000;

/// See the head of this file.
pub struct Sender {
    api: FhirApi,
    hook: Arc<dyn Hook>,
    /// When the events of each subscription were last looked through, ms since 1970.
    trimmed: Mutex<HashMap<i64, i64>>,
}

impl FhirApi {
    /// Who sends the notifications of this API, if it runs subscriptions.
    #[must_use]
    pub fn sender(&self) -> Option<Sender> {
        let hook = self.subscriptions.as_ref()?.hook.clone();
        Some(Sender {
            api: self.clone(),
            hook,
            trimmed: Mutex::default(),
        })
    }
}

impl Sender {
    /// Sends until `stop`. What is under way then is given up, and sent again by the next one.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut noted = self.api.store.event_store().noted();
        let (mut busy, mut failing) = (HashSet::new(), 0_usize);
        let mut sending = FuturesUnordered::new();
        tokio::pin!(stop);
        loop {
            for due in self.due(&busy).await {
                let has_room = sending.len() < MAX_SENDING && (!due.1 || failing < MAX_FAILING);
                if has_room {
                    busy.insert(due.0.key);
                    failing += usize::from(due.1);
                    sending.push(self.serve(due));
                }
            }
            tokio::select! {
                () = &mut stop => return,
                Some((key, was_failing)) = sending.next(), if !sending.is_empty() => {
                    busy.remove(&key);
                    failing -= usize::from(was_failing);
                }
                _ = noted.changed() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// One step of each subscription of which one is due; how many there were.
    pub async fn turn(&self) -> usize {
        let all = self.due(&HashSet::new()).await;
        let count = all.len();
        for due in all {
            self.serve(due).await;
        }
        count
    }

    /// The subscriptions of which a step is due, the longest due first.
    async fn due(&self, busy: &HashSet<i64>) -> Vec<Due> {
        let standings = match self.api.store.event_store().subscriptions().await {
            Ok(standings) => standings,
            Err(error) => {
                tracing::warn!(%error, "subscriptions cannot be looked at; trying again");
                return Vec::new();
            }
        };
        due::measure(&standings);
        let now = (self.api.now)();
        let trimmed = self.trimmed.lock();
        let is_due = |one: &Standing| {
            let last = trimmed.get(&one.key).copied().unwrap_or(i64::MIN);
            !busy.contains(&one.key)
                && (now.0.saturating_sub(last) >= TRIM_EVERY_MS || due::is_due(one, now))
        };
        let mut due: Vec<Standing> = standings.into_iter().filter(is_due).collect();
        due.sort_by_key(|one| one.progress.due);
        due.into_iter()
            .map(|one| {
                let is_failing = is_failing(&one);
                (one, is_failing)
            })
            .collect()
    }

    async fn serve(&self, (standing, was_failing): Due) -> (i64, bool) {
        if let Err(error) = self.step(&standing).await {
            tracing::warn!(%error, "a subscription is served later");
            // It is due at once; whatever failed gets a moment.
            tokio::time::sleep(LOOK_EVERY).await;
        }
        (standing.key, was_failing)
    }

    async fn step(&self, standing: &Standing) -> Result<(), StoreError> {
        let now = (self.api.now)();
        let spec = Spec::of_text(&standing.spec);
        let is_fetched = spec
            .as_ref()
            .is_some_and(|spec| spec.channel == Channel::Fetched);
        self.trim(standing, is_fetched, now).await?;
        if standing.id.is_none() || matches!(standing.status, Status::Off) {
            return Ok(());
        }
        let Some(spec) = spec.filter(|spec| spec.watch(standing.key).is_some()) else {
            return self.fail_for(standing, None, Reason::Unread).await;
        };
        if spec.end.is_some_and(|end| end <= now.0) {
            return self.settle(standing, &spec, Status::Off, None, false).await;
        }
        if due::is_too_old(standing, now) && !is_fetched && standing.watched {
            return self.fail_for(standing, Some(&spec), Reason::TooOld).await;
        }
        match standing.status {
            Status::Requested => self.handshake(standing, &spec, now).await,
            Status::Active if !standing.watched => {
                self.fail_for(standing, Some(&spec), Reason::TooMany).await
            }
            Status::Active => self.send(standing, &spec, now).await,
            Status::Error | Status::Off => Ok(()),
        }
    }

    /// A subscription that was requested is active once its endpoint has taken a handshake.
    async fn handshake(
        &self,
        standing: &Standing,
        spec: &Spec,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let taken = match &spec.channel {
            Channel::Fetched => Ok(()),
            Channel::RestHook { .. } => {
                let events: &[Event] = &[];
                let telling = Telling {
                    standing,
                    spec,
                    status: Status::Requested,
                    sort: "handshake",
                    events,
                    content: Content::Empty,
                };
                let told = tell(&self.api, &telling, &|_| None).await?;
                self.post(spec, told.text).await
            }
        };
        match taken {
            Ok(()) => {
                self.settle(standing, spec, Status::Active, None, true)
                    .await?;
                self.keep(standing, standing.delivered, &Progress::taken(now))
                    .await
            }
            Err(why) => {
                let given_up = (HANDSHAKE_MS, Reason::NoHandshake);
                self.not_taken(standing, spec, (why, now), given_up).await
            }
        }
    }

    /// The next events, or a heartbeat.
    async fn send(
        &self,
        standing: &Standing,
        spec: &Spec,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Channel::RestHook {
            max_count,
            heartbeat_s,
            ..
        } = &spec.channel
        else {
            return Ok(());
        };
        if now.0 < standing.progress.due {
            return Ok(());
        }
        let from = standing.delivered.saturating_add(1);
        let store = self.api.store.event_store();
        let events = match standing.waits_since {
            Some(_) => {
                store
                    .events(standing.key, from, u64::MAX, *max_count)
                    .await?
            }
            None => Vec::new(),
        };
        let beats = heartbeat_s.is_some_and(|period| {
            now.0
                >= standing
                    .progress
                    .sent
                    .saturating_add(i64::from(period) * 1_000)
        });
        if events.is_empty() && !beats {
            return Ok(());
        }
        let reader = Reader(spec.author.clone());
        let rights = |kind: ResourceType| standing_right(&self.api, &reader, kind);
        let kinds = spec
            .types
            .keys()
            .filter_map(|name| ResourceType::parse(name));
        if !kinds.into_iter().any(|kind| rights(kind).is_some()) {
            return self.fail_for(standing, Some(spec), Reason::NoRight).await;
        }
        let telling = Telling {
            standing,
            spec,
            status: Status::Active,
            sort: match events.is_empty() {
                true => "heartbeat",
                false => "event-notification",
            },
            events: &events,
            content: spec.content,
        };
        let told = tell(&self.api, &telling, &rights).await?;
        self.deliver((standing, spec), told, now).await
    }

    /// Writes down what is told, sends it, and keeps whether it was taken.
    async fn deliver(
        &self,
        (standing, spec): (&Standing, &Spec),
        told: Told,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for row in told.rows {
            // Nothing is told of which there is no row; it is tried again like what was not taken.
            if self.api.access.given(row).await.is_err() {
                return Err(StoreError::new(Kind::Unavailable, "notify: unaudited"));
            }
        }
        match self.post(spec, told.text).await {
            Ok(()) => {
                let count = u64::try_from(told.events).unwrap_or(u64::MAX);
                metrics::counter!("medmesh_fhir_events_delivered_total").increment(count);
                let delivered = told.last.unwrap_or(standing.delivered);
                self.keep(standing, delivered, &Progress::taken(now)).await
            }
            Err(why) => {
                let given_up = (RETRIED_MS, Reason::Unreachable);
                self.not_taken(standing, spec, (why, now), given_up).await
            }
        }
    }

    /// Sends a notification of a rest-hook.
    async fn post(&self, spec: &Spec, body: String) -> Result<(), Untaken> {
        let Channel::RestHook {
            endpoint,
            headers,
            timeout_s,
            ..
        } = &spec.channel
        else {
            return Ok(());
        };
        let timeout = Duration::from_secs(u64::from(*timeout_s));
        let posted = self.hook.post(Notification {
            endpoint,
            headers,
            body,
            timeout,
        });
        let result = match tokio::time::timeout(timeout, posted).await {
            Ok(result) => result,
            Err(_) => Err(Untaken::Late),
        };
        let outcome = result.err().map_or("taken", Untaken::as_str);
        metrics::counter!("medmesh_fhir_notifications_total", "outcome" => outcome).increment(1);
        result
    }

    async fn not_taken(
        &self,
        standing: &Standing,
        spec: &Spec,
        (why, now): (Untaken, Timestamp),
        (after_ms, reason): (i64, Reason),
    ) -> Result<(), StoreError> {
        let progress = standing.progress.failed(now);
        tracing::debug!(
            attempts = progress.attempts,
            why = why.as_str(),
            "a notification was not taken"
        );
        if progress.is_given_up(now, after_ms) {
            return self.fail_for(standing, Some(spec), reason).await;
        }
        self.keep(standing, standing.delivered, &progress).await
    }

    async fn keep(
        &self,
        standing: &Standing,
        delivered: u64,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let store = self.api.store.event_store();
        store.keep_progress(standing.key, delivered, progress).await
    }
}
