//! One connection of one device: a single task that reads, commits, answers and writes, all at the same time.
//!
//! Publishes are decoded into jobs as long as the window has room. One commit is in hand at a time; what arrives
//! meanwhile makes the next one, so a burst costs one commit, and answers leave in the order of the publishes
//! (MQTT-4.6.0-2, -3). Nothing is spawned per message.
use super::{
    Context, Topic,
    admission::Client,
    commit::{Committer, Job, Settled, Step, Verdict},
    decode::{self, Packet, Publish, Version},
    encode::{self, Ack, Reason},
    end::End,
    frame,
    message::Message,
    outbound::Due,
    seats::{Saying, Session},
};
use bytes::BytesMut;
use ring::digest;
use rumqttd::protocol::QoS;
use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

/// Encoded bytes that may wait for the socket before nothing more is read or sent to subscribers.
pub(super) const MAX_UNWRITTEN: usize = 256 << 10;

type Committing = Pin<Box<dyn Future<Output = Vec<Settled>> + Send>>;

/// A connection without its socket: bytes in, bytes out, and the commit in hand.
pub(super) struct Connection<'a> {
    pub(super) ctx: &'a Context,
    pub(super) client: &'a Client,
    pub(super) session: &'a mut Session,
    pub(super) input: BytesMut,
    pub(super) out: BytesMut,
    committer: Committer,
    jobs: Vec<Job>,
    committing: Option<Committing>,
    in_hand: usize,
    /// Bytes of the publishes that are not answered yet.
    unanswered: usize,
    /// Whole packets that were read.
    pub(super) packets: u64,
    /// A publish could not be acknowledged: nothing behind it may be.
    mute: bool,
    /// A SUBSCRIBE or UNSUBSCRIBE that waits for the publishes before it: what they said is a retained message by then, or
    /// is delivered by the subscriptions before, never both.
    waiting: Option<Packet>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        ctx: &'a Context,
        client: &'a Client,
        session: &'a mut Session,
        input: BytesMut,
    ) -> Self {
        Self {
            ctx,
            client,
            session,
            input,
            out: BytesMut::new(),
            committer: Committer {
                device: client.device.clone(),
                version: client.version,
                backend: ctx.backend.clone(),
                meters: ctx.meters.clone(),
                answers: ctx.answers.get().cloned(),
                certificate: client.certificate.clone(),
            },
            jobs: Vec::new(),
            committing: None,
            in_hand: 0,
            unanswered: 0,
            packets: 0,
            mute: false,
            waiting: None,
        }
    }

    /// Whether more may be read: the window has room, and so has the socket's other direction.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_none()
            && self.unsettled() < usize::from(self.ctx.limits.receive_maximum)
            && self.unanswered < self.ctx.limits.unanswered_bytes
            && self.out.len() < MAX_UNWRITTEN
    }

    /// Publishes without a verdict.
    const fn unsettled(&self) -> usize {
        self.jobs.len() + self.in_hand
    }

    /// Reacts to every whole packet of the input, as far as there is room.
    pub(super) async fn react(&mut self) -> Result<(), End> {
        loop {
            if self.unsettled() == 0
                && let Some(packet) = self.waiting.take()
            {
                self.resubscribe(packet).await?;
            }
            if !self.has_room() {
                return Ok(());
            }
            let Some(frame) = frame::next(&mut self.input, self.ctx.limits.packet_bytes)? else {
                return Ok(());
            };
            self.packets += 1;
            match decode::packet(self.client.version, frame)? {
                Packet::Publish(publish) => self.published(publish, Instant::now())?,
                packet @ (Packet::Subscribe { .. } | Packet::Unsubscribe { .. }) => {
                    self.waiting = Some(packet);
                }
                other => self.answered(&other)?,
            }
        }
    }

    /// A SUBSCRIBE or UNSUBSCRIBE whose turn it is.
    async fn resubscribe(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Subscribe { pkid, filters } => {
                self.subscribe(pkid, filters, Instant::now()).await?;
                // What can go at once does: the next SUBSCRIBE gets its own copies (MQTT-3.8.4-4).
                self.deliver(Instant::now())
            }
            Packet::Unsubscribe { pkid, filters } => self.unsubscribe(pkid, &filters),
            _ => Ok(()),
        }
    }

    fn published(&mut self, publish: Publish, now: Instant) -> Result<(), End> {
        let exactly_once = publish.qos == QoS::ExactlyOnce;
        let saying = exactly_once.then(|| saying(&publish));
        let earlier = match exactly_once {
            true => self.session.received.get(&publish.pkid),
            false => None,
        };
        let unreleased = self.session.received.len();
        if exactly_once
            && earlier.is_none()
            && unreleased >= usize::from(self.ctx.limits.receive_maximum)
        {
            return Err(End::Fault(Reason::RECEIVE_MAXIMUM));
        }
        let repeated = earlier.is_some() && earlier == saying.as_ref();
        let step = self.step(&publish, repeated)?;
        let expiry = publish
            .expiry
            .map(|seconds| Duration::from_secs(seconds.into()));
        let message = Message {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            by_device: true,
            properties: publish.properties,
            lapses: expiry.and_then(|expiry| now.checked_add(expiry)),
        };
        self.unanswered += message.bytes();
        self.jobs.push(Job {
            pkid: publish.pkid,
            message,
            saying,
            step,
        });
        Ok(())
    }

    /// What is to be done with a publish. `repeated`: the same words under the same packet id had their PUBREC, and that
    /// id was not released. A packet id alone decides nothing: a client that lost its state begins its ids anew, and what
    /// it then says is another message. What is stored goes to the node in any case, which knows it by its identity.
    fn step(&self, publish: &Publish, repeated: bool) -> Result<Step, End> {
        let version = self.client.version;
        Ok(match self.client.own.publishable(&publish.topic) {
            None if version == Version::V4 => {
                self.ctx.meters.unauthorized.increment(1);
                return Err(End::Fault(Reason::NOT_AUTHORIZED));
            }
            None => Step::Refuse(Reason::NOT_AUTHORIZED),
            Some(Topic::Answer) => Step::Answer,
            Some(Topic::Status) if repeated => Step::Repeat,
            Some(Topic::Status) if publish.retain => Step::Retain,
            Some(Topic::Status) => Step::Pass,
            // Deletes the retained message; there is no sample in it (MQTT-3.3.1-6).
            Some(_) if publish.retain && publish.payload.is_empty() => Step::Retain,
            Some(topic) => Step::Store {
                alarm: topic == Topic::Alarm,
            },
        })
    }

    /// Packets that are answered at once, or that answer ours.
    fn answered(&mut self, packet: &Packet) -> Result<(), End> {
        let version = self.client.version;
        match *packet {
            Packet::PubAck(pkid) => {
                self.session.outbound.acknowledged(pkid);
            }
            Packet::PubRec { pkid, refused } => {
                let release = self.session.outbound.received(pkid, refused);
                let reason = if release {
                    Reason::SUCCESS
                } else {
                    Reason::UNKNOWN_PKID
                };
                if !refused {
                    encode::ack(version, Ack::PubRel, pkid, reason, &mut self.out);
                }
            }
            Packet::PubComp(pkid) => {
                self.session.outbound.completed(pkid);
            }
            Packet::PubRel(pkid) => {
                let known = self.session.received.remove(&pkid).is_some();
                let reason = if known {
                    Reason::SUCCESS
                } else {
                    Reason::UNKNOWN_PKID
                };
                encode::ack(version, Ack::PubComp, pkid, reason, &mut self.out);
            }
            Packet::PingReq => encode::pong(&mut self.out),
            Packet::Disconnect { with_will, expiry } => return Err(self.left(with_will, expiry)),
            Packet::Publish(_) | Packet::Subscribe { .. } | Packet::Unsubscribe { .. } => {}
        }
        Ok(())
    }

    /// MQTT 5 §3.14.2.2.2: a session that was to end with the connection cannot be prolonged.
    fn left(&self, with_will: bool, expiry: Option<u32>) -> End {
        match expiry {
            Some(1..) if self.client.expiry.is_zero() => End::Fault(Reason::PROTOCOL_ERROR),
            _ => End::Left { with_will, expiry },
        }
    }

    /// Begins the next commit, if none is in hand and there is something to commit.
    pub(super) fn begin_commit(&mut self) {
        if self.committing.is_none() && !self.jobs.is_empty() {
            self.in_hand = self.jobs.len();
            let jobs = std::mem::take(&mut self.jobs);
            self.committing = Some(Box::pin(self.committer.clone().commit(jobs)));
        }
    }

    /// The commit in hand; never resolves when there is none.
    pub(super) async fn committed(committing: &mut Option<Committing>) -> Vec<Settled> {
        match committing {
            Some(commit) => commit.await,
            None => std::future::pending().await,
        }
    }

    /// For `select!`, which must borrow it apart from the rest.
    pub(super) fn parts(&mut self) -> (&mut Option<Committing>, &mut BytesMut, &mut BytesMut) {
        (&mut self.committing, &mut self.input, &mut self.out)
    }

    /// Answers what a commit settled, in order, and tells the subscribers.
    pub(super) fn settle(&mut self, settled: Vec<Settled>) -> Result<(), End> {
        self.committing = None;
        self.in_hand = 0;
        let answered: usize = settled.iter().map(|done| done.message.bytes()).sum();
        self.unanswered = self.unanswered.saturating_sub(answered);
        let mut end = Ok(());
        for done in settled {
            if end.is_ok() && !self.mute {
                end = self.acknowledge(&done);
            }
            if done.verdict == (Verdict::Done { fresh: true }) {
                self.ctx.hub.publish(&self.client.device, &done.message);
            }
        }
        self.mute |= end.is_err();
        end
    }

    fn acknowledge(&mut self, done: &Settled) -> Result<(), End> {
        let version = self.client.version;
        let (ack, reason) = match (done.message.qos, done.verdict) {
            (QoS::AtMostOnce, _) => return Ok(()),
            // Any acknowledgement, whatever its reason, would end the client's duty to keep it (MQTT-4.4.0-2).
            (_, Verdict::Later) => return Err(End::Later),
            (QoS::AtLeastOnce, Verdict::Done { .. }) => (Ack::PubAck, Reason::SUCCESS),
            (QoS::ExactlyOnce, Verdict::Done { .. }) => {
                let saying = done.saying.unwrap_or_default();
                self.session.received.insert(done.pkid, saying);
                (Ack::PubRec, Reason::SUCCESS)
            }
            (QoS::AtLeastOnce, Verdict::Refused(reason)) => (Ack::PubAck, reason),
            // The packet id is free again (MQTT-4.3.3-9).
            (QoS::ExactlyOnce, Verdict::Refused(reason)) => {
                self.session.received.remove(&done.pkid);
                (Ack::PubRec, reason)
            }
        };
        encode::ack(version, ack, done.pkid, reason, &mut self.out);
        Ok(())
    }

    /// Encodes what the session owes, as far as window and socket allow.
    pub(super) fn deliver(&mut self, now: Instant) -> Result<(), End> {
        if self.session.is_lost() {
            return Err(End::Lost);
        }
        while self.out.len() < MAX_UNWRITTEN {
            if self.session.outbound.waiting() == 0
                && let Some((delivery, share)) =
                    self.session.mailbox.as_ref().and_then(|mail| mail.take())
            {
                self.session.outbound.push(delivery, share);
            }
            match self.session.outbound.next(self.client.window, now) {
                Some(due) => self.send(due, now),
                // What had lapsed was dropped: behind it more may wait.
                None if self.session.outbound.waiting() == 0
                    && self
                        .session
                        .mailbox
                        .as_ref()
                        .is_some_and(|mail| mail.has_mail()) => {}
                None => break,
            }
        }
        Ok(())
    }

    fn send(&mut self, due: Due, now: Instant) {
        let version = self.client.version;
        match due {
            Due::Release(pkid) => {
                encode::ack(version, Ack::PubRel, pkid, Reason::SUCCESS, &mut self.out);
            }
            Due::Publish {
                delivery,
                pkid,
                repeated,
            } => {
                let message = encode::Outgoing {
                    topic: &delivery.topic,
                    payload: &delivery.payload,
                    qos: delivery.qos,
                    retain: delivery.retain,
                    repeated,
                    pkid,
                    properties: &delivery.properties,
                    expiry: delivery.lapses.map(|lapses| seconds_left(lapses, now)),
                };
                // MQTT-3.1.2-25: what the client does not take is as good as sent.
                if message.len(version) > self.client.packet_bytes {
                    self.ctx.meters.dropped.increment(1);
                    self.session.outbound.forget(pkid);
                } else {
                    encode::publish(version, message, &mut self.out);
                }
            }
        }
    }

    /// Finishes what was received: everything is committed and answered as far as it may be.
    pub(super) async fn drain(&mut self) {
        loop {
            self.begin_commit();
            let Some(commit) = self.committing.as_mut() else {
                return;
            };
            let settled = commit.await;
            // The connection ends anyway; a verdict of "later" has muted the answers.
            let _ = self.settle(settled);
        }
    }
}

/// What a QoS 2 publish says.
fn saying(publish: &Publish) -> Saying {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&[u8::from(publish.retain)]);
    hash.update(&publish.topic.len().to_be_bytes());
    hash.update(&publish.topic);
    hash.update(&publish.payload);
    let mut saying = Saying::default();
    saying.copy_from_slice(hash.finish().as_ref());
    saying
}

/// MQTT-3.3.2-6: the interval that was received less the time waited, in seconds; a second that has begun is left.
fn seconds_left(lapses: Instant, now: Instant) -> u32 {
    let left = lapses.saturating_duration_since(now);
    let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}
