//! SUBSCRIBE and UNSUBSCRIBE of a device: granted filter by filter, retained messages first and complete.
//!
//! Retained messages come from the journal, so they outlive the process. They are delivered at the subscription's QoS,
//! at most 1: the journal keeps no QoS of its own. A subscription whose retained messages cannot be read is refused, not
//! granted with some of them missing.
use super::{
    acl::Denied,
    connection::Connection,
    decode::Version,
    encode::{self, Reason},
    message::{Subscription, least},
    outbound::Delivery,
};
use bytes::Bytes;
use rumqttd::protocol::{self, Filter, QoS, RetainForwardRule};

type Retained = Vec<(String, Bytes)>;

impl Connection<'_> {
    pub(super) async fn subscribe(&mut self, pkid: u16, filters: Vec<Filter>) {
        let checks: Vec<Result<(), Denied>> = filters
            .iter()
            .map(|filter| self.client.own.check_filter(&filter.path))
            .collect();
        // The mailbox stands before the retained messages are read, so no message falls between the two.
        let retained = match checks.iter().any(Result::is_ok) {
            true => self.open_with_retained().await,
            false => Some(Retained::new()),
        };
        let mut codes = Vec::with_capacity(filters.len());
        let mut first = Vec::new();
        for (filter, check) in filters.into_iter().zip(checks) {
            let code = match (check, &retained) {
                (Err(denied), _) => Err(denied_reason(denied)),
                (Ok(()), None) => Err(Reason::UNSPECIFIED),
                (Ok(()), Some(retained)) => self.grant(filter, retained, &mut first),
            };
            codes.push(match (code, self.client.version) {
                (Ok(qos), _) => qos as u8,
                (Err(reason), Version::V5) => reason.0,
                (Err(_), Version::V4) => Reason::UNSPECIFIED.0,
            });
        }
        encode::suback(self.client.version, pkid, &codes, &mut self.out);
        for delivery in first {
            self.session.outbound.push(delivery);
        }
        self.close_if_unused();
    }

    pub(super) fn unsubscribe(&mut self, pkid: u16, filters: &[String]) {
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
        encode::unsuback(self.client.version, pkid, &codes, &mut self.out);
        self.close_if_unused();
    }

    /// Opens the mailbox if need be and reads the device's retained messages; `None` when either fails.
    async fn open_with_retained(&mut self) -> Option<Retained> {
        let prefix = self.client.own.prefix();
        if self.session.mailbox.is_none() {
            match self.ctx.hub.open(&self.client.device, prefix).await {
                Ok(mailbox) => self.session.mailbox = Some(mailbox),
                Err(error) => {
                    tracing::error!(%error, "subscription not opened");
                    return None;
                }
            }
        }
        match self.ctx.journal.retained(prefix).await {
            Ok(retained) => Some(retained),
            Err(error) => {
                tracing::error!(%error, "retained messages not read");
                None
            }
        }
    }

    fn grant(
        &mut self,
        filter: Filter,
        retained: &Retained,
        first: &mut Vec<Delivery>,
    ) -> Result<QoS, Reason> {
        let mailbox = self.session.mailbox.as_ref().ok_or(Reason::UNSPECIFIED)?;
        let subscriptions = mailbox.subscriptions();
        let known = subscriptions.iter().any(|old| old.filter == filter.path);
        if !known && subscriptions.len() >= self.ctx.limits.subscriptions {
            return Err(Reason::QUOTA);
        }
        let new = mailbox.subscribe(Subscription {
            filter: filter.path.clone(),
            qos: filter.qos,
            no_local: filter.nolocal,
            as_published: filter.preserve_retain,
        });
        let wanted = match filter.retain_forward_rule {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => new,
            RetainForwardRule::Never => false,
        };
        // The journal returned what lies below the device's own prefix; it is checked again: another device's
        // message must not get here whatever the journal does.
        let own = |topic: &str| topic.starts_with(self.client.own.prefix());
        for (topic, payload) in retained.iter().filter(|_| wanted) {
            if own(topic) && protocol::matches(topic, &filter.path) {
                first.push(Delivery {
                    topic: Bytes::copy_from_slice(topic.as_bytes()),
                    payload: payload.clone(),
                    qos: least(filter.qos, QoS::AtLeastOnce),
                    retain: true,
                });
            }
        }
        Ok(filter.qos)
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
