//! SUBSCRIBE and UNSUBSCRIBE of a device: granted filter by filter, retained messages first and complete.
//!
//! Retained messages come from the journal, so they outlive the process; each is delivered at the lower of its own QoS
//! and the subscription's (MQTT-3.3.1-5, MQTT-3.8.4-8). A subscription whose retained messages cannot be read, or find no
//! room in the session's queue, is refused, not granted with some of them missing.
use super::{
    acl::Denied,
    connection::Connection,
    decode::{Filter, RetainHandling, Version},
    encode::{self, Reason},
    end::End,
    message::{Delivery, Subscription, least},
    room::Share,
    viewers,
};
use bytes::Bytes;
use rumqttd::protocol::{self, QoS};
use std::time::Instant;
use types::RetainedMessage;

type Stored = Vec<RetainedMessage>;

impl Connection<'_> {
    pub(super) async fn subscribe(
        &mut self,
        pkid: u16,
        filters: Vec<Filter>,
        now: Instant,
    ) -> Result<(), End> {
        let checks: Vec<Result<(), Denied>> = filters
            .iter()
            .map(|filter| self.client.own.check_filter(&filter.path))
            .collect();
        // The mailbox stands before the retained messages are read, so no message falls between the two.
        let stored = match checks.iter().any(Result::is_ok) {
            true => self.open_with_stored().await,
            false => Some(Stored::new()),
        };
        let mut codes = Vec::with_capacity(filters.len());
        for (filter, check) in filters.into_iter().zip(checks) {
            let code = match (check, &stored) {
                (Err(denied), _) => Err(denied_reason(denied)),
                (Ok(()), None) => Err(Reason::UNSPECIFIED),
                (Ok(()), Some(stored)) => self.grant(filter, stored, now),
            };
            codes.push(match (code, self.client.version) {
                (Ok(qos), _) => qos as u8,
                (Err(reason), Version::V5) => reason.0,
                (Err(_), Version::V4) => Reason::UNSPECIFIED.0,
            });
        }
        let before = self.out.len();
        encode::suback(self.client.version, pkid, &codes, &mut self.out);
        self.close_if_unused();
        self.fits(before)
    }

    pub(super) fn unsubscribe(&mut self, pkid: u16, filters: &[String]) -> Result<(), End> {
        let codes: Vec<u8> = filters
            .iter()
            .map(|filter| {
                let mailbox = self.session.mailbox.as_ref();
                match mailbox.is_some_and(|mailbox| mailbox.unsubscribe(filter)) {
                    true => Reason::SUCCESS.0,
                    false => Reason::NO_SUBSCRIPTION.0,
                }
            })
            .collect();
        let before = self.out.len();
        encode::unsuback(self.client.version, pkid, &codes, &mut self.out);
        self.close_if_unused();
        self.fits(before)
    }

    /// MQTT-3.1.2-24: an answer that is longer than the client takes is not sent. It cannot be left out either, so the
    /// connection ends.
    fn fits(&mut self, before: usize) -> Result<(), End> {
        if self.out.len() - before <= self.client.packet_bytes {
            return Ok(());
        }
        self.out.truncate(before);
        Err(End::Fault(Reason::TOO_LARGE))
    }

    /// Opens the mailbox if need be and reads the device's retained messages; `None` when either fails.
    async fn open_with_stored(&mut self) -> Option<Stored> {
        let prefix = self.client.own.prefix();
        if self.session.mailbox.is_none() {
            let room = self.session.room.clone();
            let way = match self.client.own.is_of_viewer() {
                true => viewers::way(&self.client.device),
                false => prefix.to_owned(),
            };
            match self.ctx.hub.open(&self.client.device, &way, room).await {
                Ok(mailbox) => self.session.mailbox = Some(mailbox),
                Err(error) => {
                    tracing::error!(%error, "subscription not opened");
                    return None;
                }
            }
        }
        if self.client.own.is_of_viewer() {
            // Nothing of it is retained. That it hears from now on is written down before it does.
            let noted = self.ctx.noted.get()?;
            return noted.note(&self.client.device).await.then(Stored::new);
        }
        match self.ctx.backend.retained(prefix).await {
            Ok(stored) => Some(stored),
            Err(error) => {
                tracing::error!(%error, "retained messages not read");
                None
            }
        }
    }

    /// Makes or replaces one subscription and queues its retained messages, or does nothing at all.
    fn grant(&mut self, filter: Filter, stored: &Stored, now: Instant) -> Result<QoS, Reason> {
        let mailbox = self
            .session
            .mailbox
            .as_ref()
            .map(std::sync::Arc::clone)
            .ok_or(Reason::UNSPECIFIED)?;
        let subscriptions = mailbox.subscriptions();
        let known = subscriptions.iter().any(|old| old.filter == filter.path);
        if !known && subscriptions.len() >= self.ctx.limits.subscriptions {
            return Err(Reason::QUOTA);
        }
        let wanted = match filter.retained {
            RetainHandling::Always => true,
            RetainHandling::New => !known,
            RetainHandling::Never => false,
        };
        let queued = match wanted {
            true => self.queued(&filter, stored, now).ok_or(Reason::QUOTA)?,
            false => Vec::new(),
        };
        for (delivery, share) in queued {
            self.session.outbound.push_stored(delivery, share);
        }
        mailbox.subscribe(Subscription {
            filter: filter.path,
            qos: filter.qos,
            no_local: filter.no_local,
            as_published: filter.as_published,
        });
        Ok(filter.qos)
    }

    /// The retained messages of a filter with their shares of the room; none for what waits already. `None` when
    /// the session's room does not hold them.
    fn queued(
        &self,
        filter: &Filter,
        stored: &Stored,
        now: Instant,
    ) -> Option<Vec<(Delivery, Option<Share>)>> {
        let own = &self.client.own;
        let wanted = |message: &&RetainedMessage| {
            // The journal returned what lies below the device's own prefix; it is checked again: another device's
            // message must not get here whatever the journal does.
            message.topic.starts_with(own.prefix())
                && protocol::matches(&message.topic, &filter.path)
                // What the device may publish it did publish; No Local keeps that from it (MQTT-3.8.3-3).
                && !(filter.no_local && own.publishable(message.topic.as_bytes()).is_some())
        };
        let mut queued = Vec::new();
        for message in stored.iter().filter(wanted) {
            let delivery = Delivery {
                topic: Bytes::copy_from_slice(message.topic.as_bytes()),
                payload: message.payload.clone().into(),
                qos: least(
                    filter.qos,
                    protocol::qos(message.qos).unwrap_or(QoS::AtLeastOnce),
                ),
                retain: true,
                properties: message.properties.clone().into(),
                lapses: message.lapses_in.and_then(|left| now.checked_add(left)),
            };
            let share = match self.session.outbound.awaits(&delivery) {
                true => None,
                false => Some(self.session.room.share(delivery.bytes())?),
            };
            queued.push((delivery, share));
        }
        Some(queued)
    }

    fn close_if_unused(&mut self) {
        let mailbox = self.session.mailbox.as_ref();
        if mailbox.is_some_and(|mailbox| mailbox.subscriptions().is_empty()) {
            self.session.mailbox = None;
            self.ctx.hub.close(&self.client.device);
        }
    }
}

const fn denied_reason(denied: Denied) -> Reason {
    match denied {
        Denied::Shared => Reason::NO_SHARED,
        Denied::Foreign => Reason::NOT_AUTHORIZED,
        Denied::Malformed => Reason::BAD_FILTER,
    }
}
