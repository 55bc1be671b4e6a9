//! Fan-out through rumqttd's router, with its defects fenced off.
//!
//! The router gets one link to publish by and one link per subscribed session, and of its features only these: connect,
//! one QoS 0 subscription to the device's whole prefix, publish without retain or properties, forward, disconnect. What
//! it does badly is done here or in [`super::outbound`]: filters, retained messages, QoS, packet ids, sessions.
//!
//! * How a message is delivered is settled by the subscriptions of the moment at which it is published (MQTT-3.8.4-4): a
//!   later one changes nothing of what waits. It waits here, and a number of ours goes through the router in front of its
//!   payload. The router's memory is bounded and it drops the oldest silently; a gap in the numbers shows that, and ends
//!   the session, so that the client sees it (session present 0) instead of missing a command.
//! * A link that leaves says so while it holds its lock: a wake-up of a link that is gone ends the router's thread by a
//!   panic, and a late DISCONNECT would hit whoever got the same slot.
//! * A message takes its share of the session's room ([`super::room`]) before it goes to the router, so that what waits
//!   there counts too.
//! * `Unschedule` is answered at once, or delivery stops after 200 messages.
//! * The router's thread cannot be ended: it holds a sender of its own channel. After shutdown it has no link, takes no
//!   time and sleeps until the process ends.
use super::{
    message::{self, Delivery, Message, Subscription},
    meters::Meters,
    room::{Room, Share},
};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkRx, LinkTx},
    protocol::{Disconnect, DisconnectReasonCode, Packet, QoS},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::DeviceId;

/// What the router keeps per subscribed device: segments of this many bytes …
const SEGMENT_BYTES: usize = 128 << 10;
/// … this many of them. Sessions empty their link at once, so this is slack, not storage.
const SEGMENTS: usize = 4;
/// Messages that the router hands to a link before it waits for it.
const LINK_BURST: u64 = 200;
/// Messages that wait for the router; beyond it they are dropped, and a session that misses more than QoS 0 ends.
const MAX_UNROUTED: usize = 10_000;
/// How long the router may take to confirm a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Mail {
    /// The messages that are in the router, in their order.
    routed: VecDeque<(Delivery, Share)>,
    messages: VecDeque<(Delivery, Share)>,
    /// Number of the next message.
    expected: u64,
}

/// Where the router's messages for one session wait, connected or not.
pub(super) struct Mailbox {
    room: Arc<Room>,
    subscriptions: RwLock<Vec<Subscription>>,
    mail: Mutex<Mail>,
    /// A message arrived, or one was lost.
    pub(super) arrived: Notify,
    lost: AtomicBool,
    link: Mutex<Option<LinkTx>>,
    closed: CancellationToken,
}

impl Mailbox {
    /// The session's subscriptions.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        self.subscriptions.read().clone()
    }

    /// Adds a subscription, or replaces the one of the same filter. True: it is new.
    pub(super) fn subscribe(&self, subscription: Subscription) -> bool {
        let mut subscriptions = self.subscriptions.write();
        let same = |old: &&mut Subscription| old.filter == subscription.filter;
        if let Some(old) = subscriptions.iter_mut().find(same) {
            *old = subscription;
            return false;
        }
        subscriptions.push(subscription);
        true
    }

    /// Removes a subscription. False: there was none.
    pub(super) fn unsubscribe(&self, filter: &str) -> bool {
        let mut subscriptions = self.subscriptions.write();
        let before = subscriptions.len();
        subscriptions.retain(|subscription| subscription.filter != filter);
        subscriptions.len() < before
    }

    /// The next message, as the subscriptions delivered it when it was published.
    pub(super) fn take(&self) -> Option<(Delivery, Share)> {
        self.mail.lock().messages.pop_front()
    }

    /// Whether messages wait in it.
    pub(super) fn has_mail(&self) -> bool {
        !self.mail.lock().messages.is_empty()
    }

    /// Whether a message was lost that the session should have got.
    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// A message cannot be kept: the session ends, and nothing of it waits any longer.
    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        let mut mail = self.mail.lock();
        mail.messages = VecDeque::new();
        mail.routed = VecDeque::new();
        drop(mail);
        self.arrived.notify_one();
    }

    fn delivery(&self, message: &Message) -> Option<Delivery> {
        match self.lost() {
            true => None,
            false => message.delivery(&self.subscriptions.read()),
        }
    }

    fn put(&self, payload: &[u8]) {
        let Some(number) = message::number(payload) else {
            return;
        };
        let mut mail = self.mail.lock();
        if self.lost() {
            return;
        }
        match mail.routed.pop_front() {
            Some(routed) if number == mail.expected => {
                mail.expected += 1;
                mail.messages.push_back(routed);
                drop(mail);
                self.arrived.notify_one();
            }
            _ => {
                drop(mail);
                self.lose();
            }
        }
    }

    /// Moves what the router forwards into the mailbox, until the session ends.
    async fn fill(self: Arc<Self>, mut link: LinkRx) {
        loop {
            let next = tokio::select! {
                () = self.closed.cancelled() => return,
                next = link.next() => next,
            };
            match next {
                Ok(Some(Notification::Forward(forward))) => {
                    self.put(&forward.publish.payload);
                }
                Ok(Some(Notification::Unschedule)) => {
                    let held = self.link.lock();
                    if held.is_none() || link.ready().is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => return self.lose(),
            }
        }
    }

    fn close(&self) {
        self.closed.cancel();
        if let Some(link) = self.link.lock().take() {
            let disconnect = Disconnect {
                reason_code: DisconnectReasonCode::NormalDisconnection,
            };
            link.buffer()
                .push_back(Packet::Disconnect(disconnect, None));
            // An empty unsubscription behind it wakes the router, which stops reading at the DISCONNECT.
            let mut link = link;
            let _ = link.unsubscribe("");
        }
    }
}

/// The router's thread is gone, has no slot left, or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the router does not answer")]
pub struct RouterGone;

type NewLink = dyn Fn(&str) -> Result<(LinkTx, LinkRx), RouterGone> + Send + Sync;

struct Publisher {
    link: LinkTx,
    /// Numbers of the subscribed devices' next messages.
    numbers: HashMap<DeviceId, u64>,
}

/// The router and who is subscribed.
pub(super) struct Hub {
    new_link: Arc<NewLink>,
    publisher: Mutex<Publisher>,
    /// The publisher's side of the router, which ends with the router's thread.
    router: tokio::sync::Mutex<LinkRx>,
    mailboxes: RwLock<HashMap<DeviceId, Arc<Mailbox>>>,
    meters: Arc<Meters>,
    tasks: TaskTracker,
}

impl Hub {
    /// Starts a router for at most `sessions` subscribed sessions.
    pub(super) fn start(
        sessions: usize,
        meters: Arc<Meters>,
        tasks: TaskTracker,
    ) -> Result<Self, RouterGone> {
        let config = RouterConfig {
            max_connections: sessions + 1,
            max_outgoing_packet_count: LINK_BURST,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        };
        let router = Router::new(0, config).spawn();
        let new_link: Arc<NewLink> = Arc::new(move |name| {
            match LinkBuilder::new(name, router.clone())
                .dynamic_filters(true)
                .build()
            {
                Ok((tx, rx, _)) => Ok((tx, rx)),
                Err(_) => Err(RouterGone),
            }
        });
        // A name that no device can have (`types::Name` begins with a letter).
        let (link, inbox) = new_link("0-publisher")?;
        Ok(Self {
            new_link,
            publisher: Mutex::new(Publisher {
                link,
                numbers: HashMap::new(),
            }),
            router: tokio::sync::Mutex::new(inbox),
            mailboxes: RwLock::default(),
            meters,
            tasks,
        })
    }

    /// Resolves when the router's thread has ended: no message reaches any session from then on.
    pub(super) async fn router_ended(&self) {
        let mut router = self.router.lock().await;
        while router.next().await.is_ok() {}
    }

    /// Hands a message to the router, if the device's session has a subscription for it. Never waits for a subscriber. False:
    /// there was no room for it.
    pub(super) fn publish(&self, device: &DeviceId, message: &Message) -> bool {
        self.publish_by(device, message, message.topic.clone())
    }

    /// As [`Hub::publish`], through the router by a topic of the receiver's own: the router hands what it gets to everyone who
    /// subscribed to its topic, and several hear the same.
    pub(super) fn publish_by(&self, device: &DeviceId, message: &Message, way: Bytes) -> bool {
        let mailbox = self.mailboxes.read().get(device).cloned();
        let Some((mailbox, delivery)) =
            mailbox.and_then(|mailbox| mailbox.delivery(message).map(|it| (mailbox, it)))
        else {
            return true;
        };
        let mut publisher = self.publisher.lock();
        let unrouted = publisher.link.buffer().len();
        let share = match unrouted < MAX_UNROUTED {
            true => mailbox.room.share(message.bytes()),
            false => None,
        };
        let Some(share) = share else {
            self.meters.dropped.increment(1);
            if message.qos != QoS::AtMostOnce {
                mailbox.lose();
            }
            return false;
        };
        let Some(number) = publisher.numbers.get_mut(device) else {
            return true;
        };
        let this = *number;
        *number += 1;
        mailbox.mail.lock().routed.push_back((delivery, share));
        let sent = publisher.link.publish(way, message.routed(this));
        drop(publisher);
        if sent.is_err() {
            mailbox.lose();
        }
        true
    }

    /// Whether a device's session is subscribed to anything.
    pub(super) fn has_mailbox(&self, device: &DeviceId) -> bool {
        self.mailboxes.read().contains_key(device)
    }

    /// Opens the mailbox of a device whose messages begin with `prefix`.
    pub(super) async fn open(
        &self,
        device: &DeviceId,
        prefix: &str,
        room: Arc<Room>,
    ) -> Result<Arc<Mailbox>, RouterGone> {
        let (new_link, name) = (Arc::clone(&self.new_link), device.to_string());
        let built = tokio::task::spawn_blocking(move || new_link(&name)).await;
        let (mut tx, mut rx) = built.map_err(|_| RouterGone)??;
        tx.subscribe(format!("{prefix}#")).map_err(|_| RouterGone)?;
        let confirmed = async {
            loop {
                match rx.next().await {
                    Ok(Some(Notification::DeviceAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(_) => return Err(RouterGone),
                }
            }
        };
        let mailbox = Arc::new(Mailbox {
            room,
            subscriptions: RwLock::default(),
            mail: Mutex::default(),
            arrived: Notify::new(),
            lost: AtomicBool::new(false),
            link: Mutex::new(Some(tx)),
            closed: CancellationToken::new(),
        });
        match tokio::time::timeout(SUBSCRIBE_TIMEOUT, confirmed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                mailbox.close();
                return Err(RouterGone);
            }
        }
        self.publisher.lock().numbers.insert(device.clone(), 0);
        self.mailboxes
            .write()
            .insert(device.clone(), Arc::clone(&mailbox));
        self.tasks.spawn(Arc::clone(&mailbox).fill(rx));
        Ok(mailbox)
    }

    /// Ends the subscriptions of a device's session.
    pub(super) fn close(&self, device: &DeviceId) {
        let mailbox = self.mailboxes.write().remove(device);
        self.publisher.lock().numbers.remove(device);
        if let Some(mailbox) = mailbox {
            mailbox.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_the_router_s_thread_is_seen() {
        let meters = Arc::new(Meters::register());
        let hub = Hub::start(1, meters, TaskTracker::new()).unwrap();
        let now = tokio::time::timeout(Duration::from_millis(1), hub.router_ended()).await;
        assert!(now.is_err(), "it lives");
        // The known defect of the router: a wake-up of a link that is gone ends its thread by a panic.
        let (mut link, waker) = (hub.new_link)("gone").unwrap();
        let disconnect = Disconnect {
            reason_code: DisconnectReasonCode::NormalDisconnection,
        };
        link.buffer()
            .push_back(Packet::Disconnect(disconnect, None));
        let _ = link.unsubscribe("");
        let wake = async {
            loop {
                let _ = waker.ready();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = async {
            tokio::select! {
                () = hub.router_ended() => {}
                () = wake => {}
            }
        };
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, seen)
            .await
            .expect("the end is seen");
    }
}
