//! Files that an operator sends down to regions and facilities, as blobs.
//!
//! A client says what the file is and where it goes ([`Deliveries::begin`]), puts its bytes up piece by piece, from wherever
//! it was interrupted ([`Deliveries::put`]), and when all of it is here and is what its name says, each region that it goes to
//! is sent the descriptor and the right to fetch the bytes, in one commit. The regions say what became of it at every place
//! ([`TakesReports`]). The file is kept here until it is taken back ([`Deliveries::withdraw`]), so that a region that is put
//! back gets it again.
mod rows;
mod settle;

pub use rows::{Delivery, Place as At, State};

use async_trait::async_trait;
use bytes::Bytes;
use federation::{
    audit::{Decision, Entry},
    blobs::{self, Blobs, Bulk as _, Descriptor, Digest, Held, Missing},
    db::DbError,
    envelope::{self, Intact, OpenError},
    ledger::{Commit, Handler, Ledger, Shipped},
    port::{PortError, PortErrorKind, Verdict},
    reason,
};
use messages::{
    Body, DeliveryReports,
    delivery::{Delivers, Described, WithKind, reference, with_kind},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use types::{DataClass, EnvelopeId, FacilityId, Id128, Label, Place, Priority, Purpose, Timestamp};

/// How often it is looked for deliveries that can go on (real time).
const TICK: Duration = Duration::from_secs(2);
/// Files whose bytes are being put up at the same time.
pub const MAX_INCOMING: u32 = 16;
/// Of one client: whoever begins files and never puts them up does not keep every other client from it.
pub const MAX_INCOMING_OF_A_CLIENT: u32 = 8;
/// Deliveries that are known at the same time, those that were taken back among them.
pub const MAX_KEPT: u32 = 10_000;
/// Whoever puts a file up has this long, in milliseconds: then it is taken back. A day.
const MAX_INCOMING_MS: i64 = Timestamp::DAY_MS;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The file's name.
    pub name: Label,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length, in bytes.
    pub size: u64,
    /// What it is.
    pub class: DataClass,
    /// What it is sent for.
    pub purpose: Purpose,
    /// Regions, and facilities.
    pub to: BTreeSet<Place>,
    /// The client.
    pub by: String,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// There is a delivery now.
    Yes(Delivery),
    /// Too many are being put up, or are known.
    TooMany,
    /// There is no room for it.
    NoRoom,
    /// No file is as large.
    TooLarge,
}

/// The deliveries of the global node.
#[derive(Clone)]
pub struct Deliveries {
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    draw: fn() -> [u8; 16],
}

impl Deliveries {
    /// The deliveries that a ledger holds.
    ///
    /// # Errors
    /// [`PortError`] when its tables cannot be made.
    pub async fn open(
        ledger: Ledger,
        blobs: Arc<Blobs<Ledger>>,
        draw: fn() -> [u8; 16],
    ) -> Result<Self, PortError> {
        ledger.tables("deliveries", rows::SCHEMA).await?;
        Ok(Self {
            ledger,
            blobs,
            draw,
        })
    }

    /// The regions that are known.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn regions(&self) -> Result<Vec<Place>, PortError> {
        self.ledger.below().await
    }

    /// Begins a delivery.
    ///
    /// # Errors
    /// [`PortError`]: nothing was begun.
    pub async fn begin(&self, ask: Ask) -> Result<Begun, PortError> {
        let id = Id128::from_bytes((self.draw)());
        let step = move |commit: &mut Commit<'_>| begin(commit, id, ask);
        let begun = self.ledger.commit("begin a delivery", step).await?;
        if let Begun::Yes(delivery) = &begun {
            self.blobs.stir();
            // The same bytes may be here already.
            self.look().await?;
            let found = self.find(delivery.id).await?;
            return Ok(found.map_or(begun, Begun::Yes));
        }
        Ok(begun)
    }

    /// Takes bytes of a file from an offset on: how much of it is here then. Bytes that do not begin where the last ones
    /// ended change nothing; none when the delivery is not being put up.
    ///
    /// # Errors
    /// [`PortError`]: nothing of it counts.
    pub async fn put(
        &self,
        id: Id128,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Option<Delivery>, PortError> {
        let Some(delivery) = self.find(id).await? else {
            return Ok(None);
        };
        if delivery.state == State::Incoming {
            let digest = Digest::from_bytes(delivery.sha256);
            let at = Missing { digest, offset };
            self.blobs.take(&Place::Global, at, bytes).await?;
            if self.held(&delivery) == delivery.size {
                self.look().await?;
            }
        }
        self.find(id).await
    }

    /// How much of a file is here, in bytes.
    #[must_use]
    pub fn held(&self, delivery: &Delivery) -> u64 {
        match self.blobs.files().held(Digest::from_bytes(delivery.sha256)) {
            Ok(Held::Whole) => delivery.size,
            Ok(Held::Part(bytes)) => bytes,
            Err(_) => 0,
        }
    }

    /// One delivery.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn find(&self, id: Id128) -> Result<Option<Delivery>, PortError> {
        let find = move |commit: &mut Commit<'_>| Delivery::find(commit.tx(), id);
        self.ledger.commit("find a delivery", find).await
    }

    /// The newest deliveries.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn list(&self, most: u16) -> Result<Vec<Delivery>, PortError> {
        let list = move |commit: &mut Commit<'_>| Delivery::list(commit.tx(), most);
        self.ledger.commit("list deliveries", list).await
    }

    /// Takes a file back: it is not sent any further, and whoever has it deletes it. None when there is no such delivery.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn withdraw(&self, id: Id128, by: String) -> Result<Option<Delivery>, PortError> {
        let draw = self.draw;
        let step = move |commit: &mut Commit<'_>| {
            let Some(mut delivery) = Delivery::find(commit.tx(), id)? else {
                return Ok(None);
            };
            if delivery.state != State::Withdrawn {
                withdraw(commit, &mut delivery, &by, draw)?;
            }
            Delivery::find(commit.tx(), id)
        };
        let withdrawn = self.ledger.commit("take a delivery back", step).await?;
        self.blobs.sweep().await?;
        Ok(withdrawn)
    }

    /// Goes on with what can go on, until stopped.
    pub async fn keep(self, stop: CancellationToken) {
        let mut arrivals = self.blobs.arrivals();
        if let Err(error) = self.settle().await {
            tracing::warn!(%error, "files that came are not checked");
        }
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "deliveries wait");
            }
            if let Err(error) = self.send_again().await {
                tracing::warn!(%error, "deliveries are not sent again yet");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = arrivals.next() => {}
                () = self.ledger.lacking_added() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Sends what has come as a whole; takes back what nobody puts up any longer.
    async fn look(&self) -> Result<(), PortError> {
        let draw = self.draw;
        let step = move |commit: &mut Commit<'_>| {
            let now = commit.now();
            for mut delivery in Delivery::incoming(commit.tx())? {
                let digest = Digest::from_bytes(delivery.sha256);
                if blobs::is_whole(commit.tx(), digest)? {
                    delivery.state = State::Sent;
                    delivery.put(commit.tx())?;
                    note(commit, &delivery, Decision::BlobWhole, "global")?;
                } else if now.since(delivery.created) > MAX_INCOMING_MS {
                    withdraw(commit, &mut delivery, "global", draw)?;
                }
            }
            Delivery::due(commit.tx())
        };
        let due = self.ledger.commit("look at deliveries", step).await?;
        for (id, region) in due {
            let step = move |commit: &mut Commit<'_>| send(commit, id, &region, draw);
            match self.ledger.commit("send a delivery", step).await {
                Ok(()) => {}
                // As much waits for that region as may: it has its turn later, and holds up no other.
                Err(error) if error.kind == PortErrorKind::Unavailable => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn begin(commit: &mut Commit<'_>, id: Id128, ask: Ask) -> Result<Begun, DbError> {
    let tx = commit.tx();
    let known = Delivery::counts(tx, &ask.by)?;
    if known.incoming >= MAX_INCOMING
        || known.incoming_of_client >= MAX_INCOMING_OF_A_CLIENT
        || known.all >= MAX_KEPT
    {
        return Ok(Begun::TooMany);
    }
    let descriptor = Descriptor {
        digest: Digest::from_bytes(ask.sha256),
        size: ask.size,
    };
    // The bytes come from a client of this very node.
    match blobs::want(tx, descriptor, &Place::Global, &reference(id)) {
        Ok(()) => {}
        Err(DbError::Full) => return Ok(Begun::NoRoom),
        Err(DbError::TooLarge { .. }) => return Ok(Begun::TooLarge),
        Err(error) => return Err(error),
    }
    let now = commit.now();
    let delivery = Delivery {
        id,
        name: ask.name,
        sha256: ask.sha256,
        size: ask.size,
        class: ask.class,
        purpose: ask.purpose,
        by: ask.by,
        created: now,
        state: State::Incoming,
        places: Vec::new(),
    };
    delivery.put(tx)?;
    for place in &ask.to {
        rows::set_place(tx, id, place, (State::Incoming, now))?;
        // A region is always on the way to its facilities.
        if let Some(region) = region_of(place).filter(|region| !ask.to.contains(region)) {
            rows::set_place(tx, id, &region, (State::Incoming, now))?;
        }
    }
    note(commit, &delivery, Decision::BlobSent, &delivery.by)?;
    Delivery::find(tx, id)?
        .map(Begun::Yes)
        .ok_or(DbError::Corrupt("a delivery"))
}

/// The region of a place.
fn region_of(place: &Place) -> Option<Place> {
    Some(Place::Regional {
        jurisdiction: place.jurisdiction()?,
        region: place.region()?.clone(),
    })
}

/// The message of a delivery to one region, and the grant of its blob; or, when it is taken back, the end of both.
struct Send<'a, 'c> {
    commit: &'a mut Commit<'c>,
    to: &'a Place,
    purpose: Purpose,
    id: EnvelopeId,
    described: &'a Described,
}

impl WithKind for Send<'_, '_> {
    type Output = Result<Shipped, DbError>;

    fn with<T: Delivers>(self) -> Self::Output {
        let Self {
            commit,
            to,
            purpose,
            id,
            described,
        } = self;
        let digest = Digest::from_bytes(described.sha256);
        let body = T::of(described.to_delivery());
        if described.withdrawn {
            blobs::revoke(commit.tx(), digest, to)?;
            return commit.ship(to, (purpose, Priority::Backlog), id, body);
        }
        commit.offer(to, (purpose, id), body, digest)
    }
}

/// Sends a delivery to a region, or takes it back there.
fn send(
    commit: &mut Commit<'_>,
    id: Id128,
    region: &Place,
    draw: fn() -> [u8; 16],
) -> Result<(), DbError> {
    let Some(delivery) = Delivery::find(commit.tx(), id)? else {
        return Ok(());
    };
    let of_region = delivery.places.iter().filter(|at| {
        at.place.facility().is_some() && region_of(&at.place).as_ref() == Some(region)
    });
    let facilities: Vec<FacilityId> = of_region
        .filter_map(|at| at.place.facility().cloned())
        .collect();
    let described = Described {
        id,
        name: delivery.name.clone(),
        sha256: delivery.sha256,
        size: delivery.size,
        facilities,
        withdrawn: delivery.state == State::Withdrawn,
    };
    let send = Send {
        to: region,
        purpose: delivery.purpose,
        id: EnvelopeId::from_bytes(draw()),
        described: &described,
        commit: &mut *commit,
    };
    let state = match with_kind(delivery.class, send).transpose()? {
        _ if described.withdrawn => State::Withdrawn,
        None | Some(Shipped::Refused(_)) => State::Refused,
        Some(Shipped::Queued(_) | Shipped::Known) => State::Sent,
    };
    let now = commit.now();
    for at in delivery.places {
        let is_there = at.place == *region || region_of(&at.place).as_ref() == Some(region);
        if is_there {
            rows::set_place(commit.tx(), id, &at.place, (state, now))?;
        }
    }
    Ok(())
}

fn withdraw(
    commit: &mut Commit<'_>,
    delivery: &mut Delivery,
    by: &str,
    draw: fn() -> [u8; 16],
) -> Result<(), DbError> {
    let was_sent = delivery.state == State::Sent;
    delivery.state = State::Withdrawn;
    delivery.put(commit.tx())?;
    let digest = Digest::from_bytes(delivery.sha256);
    blobs::release(commit.tx(), digest, &reference(delivery.id))?;
    note(commit, delivery, Decision::BlobWithdrawn, by)?;
    let now = commit.now();
    for at in &delivery.places {
        match (was_sent, &at.place) {
            (true, Place::Regional { .. }) => send(commit, delivery.id, &at.place, draw)?,
            (true, _) => {}
            (false, place) => {
                rows::set_place(commit.tx(), delivery.id, place, (State::Withdrawn, now))?;
            }
        }
    }
    Ok(())
}

/// Writes down what was done with a file, and by whom.
fn note(
    commit: &mut Commit<'_>,
    delivery: &Delivery,
    decision: Decision,
    who: &str,
) -> Result<(), DbError> {
    struct Note<'a>(Timestamp, Decision, &'a str, &'a Delivery);
    impl WithKind for Note<'_> {
        type Output = Entry;
        fn with<T: Delivers>(self) -> Entry {
            let Self(now, decision, who, delivery) = self;
            let by = (who, &Place::Global, delivery.purpose);
            Entry::of_blob::<T>(now, decision, by, delivery.id, &delivery.sha256)
        }
    }
    let note = Note(commit.now(), decision, who, delivery);
    match with_kind(delivery.class, note) {
        Some(entry) => commit.note(&entry),
        None => Ok(()),
    }
}

/// Takes in what regions say of deliveries.
pub struct TakesReports(pub Deliveries);

#[async_trait]
impl Handler for TakesReports {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let body = envelope::open::<DeliveryReports>(parcel);
            verdicts.push(match body {
                Ok(body) => {
                    let (stored, from) = (body.count(), from.clone());
                    let step = move |commit: &mut Commit<'_>| said(commit, &from, &body);
                    let op = "what became of deliveries";
                    self.0.ledger.commit(op, step).await?;
                    Verdict::Accepted { stored }
                }
                Err(OpenError::Malformed) => Verdict::Quarantined {
                    reason: reason::MALFORMED,
                },
                Err(error) => Verdict::Refused {
                    reason: error.reason(),
                },
            });
        }
        Ok(verdicts)
    }
}

/// What a region says of deliveries that go to it and its facilities; of others it says nothing that counts.
fn said(commit: &mut Commit<'_>, from: &Place, body: &DeliveryReports) -> Result<(), DbError> {
    for said in &body.reports {
        let state = State::parse(&said.state).filter(|state| state.is_said_below());
        let (Ok(id), Some(state)) = (Id128::try_from(&said.id[..]), state) else {
            continue;
        };
        let place = match (said.facility.as_str(), from) {
            ("", region) => region.clone(),
            (
                facility,
                Place::Regional {
                    jurisdiction,
                    region,
                },
            ) => match facility.parse() {
                Ok(facility) => Place::Edge {
                    jurisdiction: *jurisdiction,
                    region: region.clone(),
                    facility,
                },
                Err(_) => continue,
            },
            _ => continue,
        };
        let at = Timestamp(said.time_ms);
        rows::said(commit.tx(), id, &place, (state, at))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
