//! What the server says of a subscription, as another version of its Subscription; and which events are forgotten.
use super::Sender;
use crate::admit::Holding;
use crate::rest::subscribing::subscription;
use crate::store::{Change, Draft, Expect, Kind, StoreError, Transaction};
use crate::subscription::retry::KEPT_MS;
use crate::subscription::{Channel, Event, Reason, Spec, Standing, Status, Watching};
use serde_json::{Map, Value};
use types::Timestamp;

/// Events that are looked through, and forgotten, at once.
const CHUNK: u16 = 1_000;
/// Chunks in one step: others wait for the writer.
const MAX_CHUNKS: usize = 20;

impl Sender {
    /// Puts it into error. Where events can still be delivered when it is requested again, it stays watched.
    pub(super) async fn fail_for(
        &self,
        standing: &Standing,
        spec: Option<&Spec>,
        reason: Reason,
    ) -> Result<(), StoreError> {
        if standing.status == Status::Error && !standing.watched {
            return Ok(());
        }
        let watched = reason == Reason::Unreachable;
        let none = Spec {
            author: String::new(),
            topic: String::new(),
            filters: Vec::new(),
            types: std::collections::BTreeMap::new(),
            base: String::new(),
            other_bases: Vec::new(),
            written: 0,
            channel: Channel::Fetched,
            content: crate::subscription::Content::Empty,
            end: None,
        };
        let spec = spec.unwrap_or(&none);
        self.settle(standing, spec, Status::Error, Some(reason), watched)
            .await
    }

    /// Writes its status, unless a client wrote the Subscription meanwhile: that is looked at next.
    pub(super) async fn settle(
        &self,
        standing: &Standing,
        spec: &Spec,
        status: Status,
        reason: Option<Reason>,
        watched: bool,
    ) -> Result<(), StoreError> {
        let Some(id) = standing.id.clone() else {
            return Ok(());
        };
        let (store, kind) = (&self.api.store, subscription());
        let stored = store.read(kind, &id).await?;
        let Some(stored) = stored.filter(|stored| stored.version == standing.version) else {
            return Ok(());
        };
        let corrupt = || StoreError::new(Kind::Corrupt, "settle a subscription");
        let text = with_status(&stored.json, status, reason).ok_or_else(corrupt)?;
        // It was judged when the client wrote it; the server changes what is its own.
        let draft = Draft::parse(&Holding::Identified, kind, id, &text, &spec.base);
        let draft = draft.map_err(|_| corrupt())?.with_watching(Watching {
            spec: standing.spec.clone(),
            status,
            watched,
            is_fetched: spec.channel == Channel::Fetched,
        });
        let transaction = Transaction {
            author: spec.author.clone(),
            now: (self.api.now)(),
            changes: vec![Change::Put {
                draft,
                expect: Expect::Version(standing.version),
            }],
            guards: Vec::new(),
        };
        store.transact(transaction).await?;
        Ok(())
    }

    /// Forgets events that are kept no longer: those that were taken, or that nobody waits for.
    pub(super) async fn trim(
        &self,
        standing: &Standing,
        is_fetched: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let store = self.api.store.event_store();
        let is_gone = standing.id.is_none();
        let is_waited_for = !is_gone && !is_fetched && standing.watched;
        let until = match is_waited_for {
            true => standing.delivered,
            false => standing.number,
        };
        let over = standing.number.saturating_sub(store.most_pending());
        let before = now.0.saturating_sub(KEPT_MS);
        let is_old = |event: &&Event| is_gone || event.at.0 < before || event.number <= over;
        for _ in 0..MAX_CHUNKS {
            let events = store.events(standing.key, 0, until, CHUNK).await?;
            let old = events.iter().take_while(is_old).last();
            match old {
                Some(event) => store.forget_events(standing.key, event.number).await?,
                None if is_gone => {
                    self.trimmed.lock().remove(&standing.key);
                    return store.forget_events(standing.key, 0).await;
                }
                None => {
                    self.trimmed.lock().insert(standing.key, now.0);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The Subscription with another status.
fn with_status(text: &str, status: Status, reason: Option<Reason>) -> Option<String> {
    let mut members: Map<String, Value> = serde_json::from_str(text).ok()?;
    members.insert("status".to_owned(), status.as_str().into());
    members.shift_remove("error");
    if let Some(reason) = reason {
        members.insert("error".to_owned(), reason.text().into());
    }
    serde_json::to_string(&members).ok()
}
