//! The real outbox in memory, an inbox and a gate that keep the promises of the ports and count, and a line that breaks.
use crate::{
    audit,
    envelope::Intact,
    identity::Identity,
    outbox::{self, Leases, Settled},
    port::{
        Arrival, Depths, Gate, Inbox, LeaseLimits, Outbox, PeerAudit, PortError, PortErrorKind,
        Verdict,
    },
    wire::{Hello, Parcel, Receipt, Welcome},
};
use async_trait::async_trait;
use parking_lot::Mutex;
use prost::Message as _;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use types::{Place, Priority, Timestamp};

/// The outbox's own tables and leases, as an edge and a ledger use them, around parcels that no rule has cleared.
struct OutboxState {
    db: Connection,
    leases: Leases,
    me: Place,
    to: Place,
    /// The number of `to` in these tables.
    peer: i64,
    sum: Settled,
    releases: usize,
    most_leased_bytes: [usize; 3],
}

impl OutboxState {
    fn new(me: Place, to: Place) -> Self {
        let db = Connection::open_in_memory().unwrap();
        audit::schema(&db).unwrap();
        outbox::schema(&db).unwrap();
        outbox::know(&db, &me, &to).unwrap();
        let peer = i64::from(outbox::is_below(&to, &me));
        Self {
            peer,
            db,
            leases: Leases::default(),
            me,
            to,
            sum: Settled::default(),
            releases: 0,
            most_leased_bytes: [0; 3],
        }
    }

    /// The parcels of a priority that wait, as far as they are leased.
    fn leased(&self, priority: Priority) -> Vec<Parcel> {
        let all = LeaseLimits {
            parcels: usize::MAX,
            bytes: usize::MAX,
        };
        let mut parcels = outbox::lease_from(&self.db, &self.to, priority, 0, all).unwrap();
        parcels.retain(|parcel| parcel.seq <= self.leases.after(&self.to, priority));
        parcels
    }
}

pub struct MemOutbox {
    from: String,
    to: String,
    state: Mutex<OutboxState>,
    added: Notify,
}

/// Makes the digest that of the body.
pub fn seal(parcel: &mut Parcel) {
    parcel.digest = Sha256::digest(&parcel.body).to_vec().into();
}

impl MemOutbox {
    pub fn new(from: &str, to: &str) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            state: Mutex::new(OutboxState::new(from.parse().unwrap(), to.parse().unwrap())),
            added: Notify::new(),
        }
    }

    pub fn add(&self, priority: Priority, bytes: usize) {
        self.add_bent(priority, |parcel| {
            parcel.body = vec![7; bytes].into();
            seal(parcel);
        });
    }

    pub fn add_bent(&self, priority: Priority, bend: impl Fn(&mut Parcel)) {
        let rank = priority.rank();
        let state = self.state.lock();
        let counted = "UPDATE outbox_counter SET last = last + 1, parcels = parcels + 1
             WHERE priority = ?1 AND peer = ?2 RETURNING last";
        let row = state
            .db
            .query_row(counted, (rank, state.peer), |row| row.get(0));
        let seq: i64 = row.unwrap();
        let mut parcel = Parcel {
            id: [[rank; 8], seq.to_be_bytes()].concat().into(),
            priority: u32::from(rank),
            seq: seq.unsigned_abs(),
            from: self.from.clone(),
            to: self.to.clone(),
            ..Parcel::default()
        };
        seal(&mut parcel);
        bend(&mut parcel);
        let add_bytes =
            "UPDATE outbox_counter SET bytes = bytes + ?3 WHERE priority = ?1 AND peer = ?2";
        let bytes = parcel.body.len() as i64;
        let added = (rank, state.peer, bytes);
        state.db.execute(add_bytes, added).unwrap();
        let insert = "INSERT INTO outbox (key, id, digest, parcel) VALUES (?1, ?2, ?3, ?4)";
        let key = i64::from(rank) * (1 << 56) + state.peer * (1 << 40) + seq;
        // As the outbox has it: the digest with which it was sealed, whatever came of the body.
        let digest = &parcel.digest[..];
        let row = (key, &parcel.id[..], digest, parcel.encode_to_vec());
        state.db.execute(insert, row).unwrap();
        self.added.notify_one();
    }

    fn depths(&self) -> Depths {
        let state = self.state.lock();
        outbox::depths(&state.db, &state.to).unwrap()
    }

    pub fn waiting(&self) -> usize {
        self.depths().0.iter().sum::<u64>() as usize
    }

    pub fn leased(&self) -> usize {
        let state = self.state.lock();
        let leased = Priority::ALL.map(|priority| state.leased(priority).len());
        leased.iter().sum()
    }

    pub fn added_in(&self, priority: Priority) -> u64 {
        let last = "SELECT last FROM outbox_counter WHERE priority = ?1 AND peer = ?2";
        let state = self.state.lock();
        let row = state
            .db
            .query_row(last, (priority.rank(), state.peer), |row| row.get(0));
        row.map(i64::unsigned_abs).unwrap()
    }

    /// Parcels with a final answer.
    pub fn settled(&self) -> usize {
        let sum = &self.state.lock().sum;
        (sum.accepted + sum.held()) as usize
    }

    pub fn deferred(&self) -> usize {
        self.state.lock().sum.deferred as usize
    }

    pub fn releases(&self) -> usize {
        self.state.lock().releases
    }

    pub fn refused(&self) -> Vec<(u64, String)> {
        let state = self.state.lock();
        let rows = outbox::held(&state.db, 0, u32::MAX).unwrap();
        let rows = rows.into_iter();
        rows.map(|held| (held.origin.1, held.reason.to_owned()))
            .collect()
    }

    pub fn most_leased_bytes(&self, priority: Priority) -> usize {
        self.state.lock().most_leased_bytes[usize::from(priority.rank())]
    }
}

#[async_trait]
impl Outbox for MemOutbox {
    async fn hello(&self, to: &Place) -> Result<Hello, PortError> {
        let state = self.state.lock();
        outbox::know(&state.db, &state.me, to).unwrap();
        Ok(outbox::hello(&state.db, to).unwrap())
    }

    async fn resync(
        &self,
        _: &Place,
        _: &Welcome,
        _: [u8; 16],
    ) -> Result<Option<Hello>, PortError> {
        Ok(None)
    }

    async fn lease(
        &self,
        to: &Place,
        priority: Priority,
        limits: LeaseLimits,
    ) -> Result<Vec<Parcel>, PortError> {
        let state = &mut *self.state.lock();
        let after = state.leases.after(to, priority);
        let parcels = outbox::lease_from(&state.db, to, priority, after, limits).unwrap();
        state.leases.take(to, priority, &parcels);
        let held = state.leased(priority);
        let held: usize = held.iter().map(|parcel| parcel.body.len()).sum();
        let most = &mut state.most_leased_bytes[usize::from(priority.rank())];
        *most = held.max(*most);
        Ok(parcels)
    }

    async fn settle(&self, to: &Place, receipts: Vec<Receipt>) -> Result<(), PortError> {
        let state = &mut *self.state.lock();
        let settled = outbox::settle(&state.db, (&state.me, to), &receipts, Timestamp(0)).unwrap();
        state.sum.add(settled);
        state.leases.settle(to, &receipts);
        Ok(())
    }

    async fn release(&self, to: &Place) -> Result<(), PortError> {
        let mut state = self.state.lock();
        state.releases += 1;
        state.leases.release(to);
        Ok(())
    }

    async fn depths(&self, _: &Place) -> Result<Depths, PortError> {
        Ok(self.depths())
    }

    async fn added(&self, _: &Place) {
        self.added.notified().await;
    }
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct InboxState {
    last: HashMap<(String, u32), u64>,
    refused: HashSet<(u32, u64)>,
    order: Vec<(Priority, u64)>,
    duplicates: usize,
    failures: usize,
    hook: Option<Hook>,
}

pub struct MemInbox {
    state: Mutex<InboxState>,
    paused: watch::Sender<bool>,
}

impl Default for MemInbox {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            paused: watch::Sender::new(false),
        }
    }
}

impl MemInbox {
    pub fn order(&self) -> Vec<(Priority, u64)> {
        self.state.lock().order.clone()
    }

    pub fn applied(&self, priority: Priority) -> Vec<u64> {
        let order = self.order().into_iter();
        order
            .filter(|(p, _)| *p == priority)
            .map(|(_, seq)| seq)
            .collect()
    }

    pub fn duplicates(&self) -> usize {
        self.state.lock().duplicates
    }

    pub fn fail_next(&self, times: usize) {
        self.state.lock().failures = times;
    }

    /// Runs once, when parcels are stored and nobody knows yet.
    pub fn after_next_accept(&self, hook: impl FnOnce() + Send + 'static) {
        self.state.lock().hook = Some(Box::new(hook));
    }

    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    pub fn resume(&self) {
        self.paused.send_replace(false);
    }
}

#[async_trait]
impl Inbox for MemInbox {
    async fn accept(&self, from: &Place, parcels: Vec<Intact>) -> Result<Vec<Verdict>, PortError> {
        let mut paused = self.paused.subscribe();
        paused.wait_for(|paused| !paused).await.unwrap();
        let hook = {
            let mut state = self.state.lock();
            if state.failures > 0 {
                state.failures -= 1;
                return Err(PortError {
                    kind: PortErrorKind::Unavailable,
                    op: "accept",
                    source: None,
                });
            }
            state.hook.take()
        };
        let verdicts = parcels
            .iter()
            .map(|parcel| self.apply(from, parcel))
            .collect();
        if let Some(hook) = hook {
            hook();
            // The line is broken by the time the receipts are signed.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(verdicts)
    }

    async fn meet(&self, _: &Place, _: &Hello) -> Result<Welcome, PortError> {
        Ok(Welcome::default())
    }

    async fn head(&self) -> Result<String, PortError> {
        Ok(String::new())
    }
}

impl MemInbox {
    fn apply(&self, from: &Place, parcel: &Parcel) -> Verdict {
        let state = &mut *self.state.lock();
        let sender = (from.to_string(), parcel.priority);
        let last = state.last.entry(sender).or_default();
        while state.refused.contains(&(parcel.priority, *last + 1)) {
            *last += 1;
        }
        if parcel.seq <= *last {
            state.duplicates += 1;
        } else if parcel.seq == *last + 1 {
            *last += 1;
            let priority = Priority::from_rank(parcel.priority as u8).unwrap();
            state.order.push((priority, parcel.seq));
        } else {
            return Verdict::Deferred {
                reason: "out-of-order",
            };
        }
        Verdict::Accepted { stored: 1 }
    }
}

/// Refuses the sequences it is told to, and remembers whom it turned away.
#[derive(Default)]
pub struct MemGate {
    ledger: Option<Arc<MemInbox>>,
    refuse: Mutex<HashMap<u64, &'static str>>,
    turned_away: Mutex<Vec<(Identity, &'static str)>>,
}

impl MemGate {
    pub fn new(ledger: &Arc<MemInbox>) -> Self {
        Self {
            ledger: Some(Arc::clone(ledger)),
            ..Self::default()
        }
    }

    pub fn refuse(&self, seq: u64, reason: &'static str) {
        self.refuse.lock().insert(seq, reason);
    }

    pub fn turned_away_last(&self) -> (Identity, &'static str) {
        self.turned_away.lock().last().unwrap().clone()
    }

    pub fn turned_away_count(&self) -> usize {
        self.turned_away.lock().len()
    }
}

#[async_trait]
impl PeerAudit for MemGate {
    async fn turned_away(&self, peer: &Identity, reason: &'static str) -> Result<(), PortError> {
        self.turned_away.lock().push((peer.clone(), reason));
        Ok(())
    }
}

#[async_trait]
impl Gate for MemGate {
    async fn admit(&self, _: &Place, arrivals: &mut [Arrival]) -> Result<(), PortError> {
        let refuse = self.refuse.lock();
        for arrival in arrivals {
            let parcel = &arrival.parcel;
            arrival.fault = arrival.fault.or_else(|| refuse.get(&parcel.seq).copied());
            if let (Some(_), Some(ledger)) = (arrival.fault, &self.ledger) {
                let mut state = ledger.state.lock();
                state.refused.insert((parcel.priority, parcel.seq));
            }
        }
        Ok(())
    }
}

/// A line between two ends that can be broken and turned to another end.
pub struct Proxy {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    line: watch::Sender<usize>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            target: Arc::new(Mutex::new(target)),
            line: watch::Sender::new(0),
            connections: Arc::default(),
        };
        let (target, line) = (Arc::clone(&proxy.target), proxy.line.clone());
        let connections = Arc::clone(&proxy.connections);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let address = *target.lock();
                let mut broken = line.subscribe();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(address).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = broken.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    pub fn turn_to(&self, target: SocketAddr) {
        *self.target.lock() = target;
    }

    pub fn breaker(&self) -> impl FnOnce() + Send + use<> {
        let line = self.line.clone();
        move || line.send_modify(|breaks| *breaks += 1)
    }

    pub fn breaks(&self) -> usize {
        *self.line.borrow()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}
