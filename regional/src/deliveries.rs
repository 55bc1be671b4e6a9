//! Files on their way from the global node to the region's facilities, as blobs.
//!
//! A descriptor comes down first ([`Takes`]) and with it the region's right to fetch the bytes, which it does once, however
//! many of its facilities the file is for. When all of it is here and was checked, each facility is sent the descriptor and
//! fetches it once ([`Deliveries::look`]). What becomes of it at each place goes up to the global node ([`TakesReports`]). The
//! region keeps the bytes until every one of its facilities has them; where the file is for the region itself, until it is
//! taken back.
//!
//! Rows, parcels and audit entries of a step are one commit of the ledger, so that a region that is killed at any moment
//! goes on where it was.
mod rows;

use async_trait::async_trait;
use federation::{
    audit::{Decision, Entry},
    blobs::{self, Blobs, Descriptor, Digest},
    db::DbError,
    envelope::{self, Intact, OpenError},
    ledger::{Commit, Handler, Handlers, Ledger, Shipped},
    port::{PortError, PortErrorKind, Verdict},
    reason,
};
use messages::{
    Body, DeliveryReport, DeliveryReports, FirmwareDelivery, ModelDelivery, PolicyDelivery,
    delivery::{Delivers, Described, WithKind, with_kind},
};
use rows::{Row, State};
use std::{marker::PhantomData, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{EnvelopeId, FacilityId, Id128, Place, Priority, Purpose};

/// How often it is looked for deliveries that can go on (real time); at once when a blob or a descriptor has come.
const TICK: Duration = Duration::from_secs(2);

/// The deliveries of a region.
#[derive(Clone)]
pub struct Deliveries {
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    draw: fn() -> [u8; 16],
    /// A descriptor came.
    come: Arc<Notify>,
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
            come: Arc::default(),
        })
    }

    /// Takes in descriptors from above.
    #[must_use]
    pub fn takes_descriptors(&self, handlers: Handlers) -> Handlers {
        handlers
            .on::<FirmwareDelivery>(Takes::<FirmwareDelivery>::new(self))
            .on::<PolicyDelivery>(Takes::<PolicyDelivery>::new(self))
            .on::<ModelDelivery>(Takes::<ModelDelivery>::new(self))
    }

    /// Takes in what facilities say of deliveries.
    #[must_use]
    pub fn takes_reports(&self, handlers: Handlers) -> Handlers {
        handlers.on::<DeliveryReports>(TakesReports(self.clone()))
    }

    /// Goes on with what can go on, until stopped.
    pub async fn keep(self, stop: CancellationToken) {
        let mut arrivals = self.blobs.arrivals();
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "deliveries wait");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = arrivals.next() => {}
                () = self.come.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Says which blobs have come, and offers them to the facilities that they are for; takes back what is taken back.
    ///
    /// # Errors
    /// [`PortError`]: what was done until then stands.
    pub async fn look(&self) -> Result<(), PortError> {
        let draw = self.draw;
        let come = move |commit: &mut Commit<'_>| {
            for mut row in Row::not_whole(commit.tx())? {
                if blobs::is_whole(commit.tx(), row.digest())? {
                    row.is_whole = true;
                    row.put(commit.tx())?;
                    came(commit, &row, draw)?;
                }
            }
            Row::due(commit.tx())
        };
        let due = self.ledger.commit("look at deliveries", come).await?;
        for (id, facility) in due {
            let step = move |commit: &mut Commit<'_>| tell(commit, id, &facility, draw);
            let told = self.ledger.commit("offer a delivery", step).await;
            match told {
                Ok(()) => {}
                // As much waits for that facility as may: it has its turn later, and holds up no other.
                Err(error) if error.kind == PortErrorKind::Unavailable => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A facility that was put back may lack what it was sent: it is offered again, and what the region no longer has of it is
/// fetched again.
///
/// # Errors
/// [`DbError`]: return it.
pub fn lacked_by(commit: &Commit<'_>, facility: &FacilityId) -> Result<(), DbError> {
    let tx = commit.tx();
    for mut row in Row::of(tx, facility)? {
        let reference = row.described.reference();
        if row.described.withdrawn {
            rows::set_state(tx, row.described.id, facility, State::Withdrawing)?;
            continue;
        }
        match blobs::want(tx, row.descriptor(), &Place::Global, &reference) {
            Ok(()) => {
                row.is_whole = false;
                row.put(tx)?;
                rows::set_state(tx, row.described.id, facility, State::Waiting)?;
            }
            Err(DbError::Full | DbError::TooLarge { .. }) => {
                tracing::error!(id = %row.described.id, %facility, "no room to send a file again");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// All of a blob is here: it is written down, and the global node hears of it.
fn came(commit: &mut Commit<'_>, row: &Row, draw: fn() -> [u8; 16]) -> Result<(), DbError> {
    struct Note<'a>(types::Timestamp, &'a str, &'a Place, &'a Row);
    impl WithKind for Note<'_> {
        type Output = Entry;
        fn with<T: Delivers>(self) -> Entry {
            let Self(now, who, here, row) = self;
            let by = (who, here, row.purpose);
            Entry::of_blob::<T>(
                now,
                Decision::BlobWhole,
                by,
                row.described.id,
                &row.described.sha256,
            )
        }
    }
    let here = commit.place().clone();
    let note = Note(commit.now(), &here.to_string(), &here, row);
    if let Some(entry) = with_kind(row.class, note) {
        commit.note(&entry)?;
    }
    report(commit, row.described.id, "", State::Arrived, draw)
}

/// Tells the global node where a delivery is.
fn report(
    commit: &mut Commit<'_>,
    id: Id128,
    facility: &str,
    state: State,
    draw: fn() -> [u8; 16],
) -> Result<(), DbError> {
    let report = DeliveryReport {
        id: id.as_bytes().to_vec().into(),
        facility: facility.to_owned(),
        state: state.as_str().into(),
        time_ms: commit.now().0,
    };
    let body = DeliveryReports {
        reports: vec![report],
    };
    let how = (Purpose::Operations, Priority::Backlog);
    // What the rules keep here is audited here.
    commit
        .ship(&Place::Global, how, EnvelopeId::from_bytes(draw()), body)
        .map(drop)
}

/// Offers a file to one facility, or takes it back there.
fn tell(
    commit: &mut Commit<'_>,
    id: Id128,
    facility: &FacilityId,
    draw: fn() -> [u8; 16],
) -> Result<(), DbError> {
    struct Offer<'a, 'c> {
        commit: &'a mut Commit<'c>,
        to: &'a Place,
        row: &'a Row,
        id: EnvelopeId,
    }
    impl WithKind for Offer<'_, '_> {
        type Output = Result<Shipped, DbError>;
        fn with<T: Delivers>(self) -> Self::Output {
            let Self {
                commit,
                to,
                row,
                id,
            } = self;
            let mut described = row.described.clone();
            described.facilities.clear();
            let (body, digest) = (T::of(described.to_delivery()), row.digest());
            if !described.withdrawn {
                return commit.offer(to, (row.purpose, id), body, digest);
            }
            blobs::revoke(commit.tx(), digest, to)?;
            commit.ship(to, (row.purpose, Priority::Backlog), id, body)
        }
    }
    let Some(row) = Row::find(commit.tx(), id)? else {
        return Ok(());
    };
    let (Some(jurisdiction), Some(region)) = (
        commit.place().jurisdiction(),
        commit.place().region().cloned(),
    ) else {
        return Ok(());
    };
    let to = Place::Edge {
        jurisdiction,
        region,
        facility: facility.clone(),
    };
    let offer = Offer {
        to: &to,
        row: &row,
        id: EnvelopeId::from_bytes(draw()),
        commit: &mut *commit,
    };
    let refused = match with_kind(row.class, offer).transpose()? {
        None | Some(Shipped::Refused(_)) => true,
        Some(Shipped::Queued(_) | Shipped::Known) => false,
    };
    let state = match (row.described.withdrawn, refused) {
        (true, _) => State::Withdrawn,
        (false, true) => State::Refused,
        (false, false) => State::Sent,
    };
    rows::set_state(commit.tx(), id, facility, state)?;
    if state != State::Sent {
        report(commit, id, facility.as_str(), state, draw)?;
        end(commit, &row)?;
    }
    Ok(())
}

/// The region needs the bytes no longer once no facility waits for them.
fn end(commit: &Commit<'_>, row: &Row) -> Result<(), DbError> {
    let tx = commit.tx();
    if row.is_for_facilities() && !rows::is_awaited(tx, row.described.id)? {
        blobs::release(tx, row.digest(), &row.described.reference())?;
    }
    Ok(())
}

/// Takes in descriptors of one class.
struct Takes<T>(Deliveries, PhantomData<fn() -> T>);

impl<T> Takes<T> {
    fn new(deliveries: &Deliveries) -> Self {
        Self(deliveries.clone(), PhantomData)
    }
}

fn opened<T: Body>(parcel: &Intact) -> Result<T, Verdict> {
    envelope::open(parcel).map_err(|error| match error {
        OpenError::Kind => Verdict::Refused {
            reason: error.reason(),
        },
        OpenError::Malformed => MALFORMED,
    })
}

const MALFORMED: Verdict = Verdict::Quarantined {
    reason: reason::MALFORMED,
};
const TAKEN: Verdict = Verdict::Accepted { stored: 1 };

#[async_trait]
impl<T: Delivers> Handler for Takes<T> {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let described = opened::<T>(parcel)
                .and_then(|message| message.into_delivery().ok_or(MALFORMED))
                .and_then(|delivery| Described::read(&delivery).ok_or(MALFORMED));
            verdicts.push(match (described, Purpose::parse(&parcel.purpose)) {
                (Err(verdict), _) => verdict,
                (Ok(_), None) => MALFORMED,
                (Ok(described), Some(purpose)) => {
                    let row = Row {
                        described,
                        class: T::CLASS,
                        purpose,
                        is_whole: false,
                    };
                    let (from, draw) = (from.clone(), self.0.draw);
                    let step = move |commit: &mut Commit<'_>| take(commit, &from, row, draw);
                    self.0.ledger.commit("take a delivery in", step).await?
                }
            });
        }
        self.0.blobs.stir();
        self.0.come.notify_one();
        Ok(verdicts)
    }
}

/// A descriptor came, for the first time or again.
fn take(
    commit: &mut Commit<'_>,
    from: &Place,
    row: Row,
    draw: fn() -> [u8; 16],
) -> Result<Verdict, DbError> {
    let tx = commit.tx();
    let id = row.described.id;
    let known = Row::find(tx, id)?;
    if row.described.withdrawn {
        let mut row = known.unwrap_or(row);
        row.described.withdrawn = true;
        row.put(tx)?;
        rows::withdraw(tx, id)?;
        blobs::release(tx, row.digest(), &row.described.reference())?;
        report(commit, id, "", State::Withdrawn, draw)?;
        return Ok(TAKEN);
    }
    if let Some(known) = known {
        // The global node was put back, and asks again: it hears what it may have lost.
        if known.is_whole {
            report(commit, id, "", State::Arrived, draw)?;
        }
        for (facility, state) in rows::ended(commit.tx(), id)? {
            report(commit, id, facility.as_str(), state, draw)?;
        }
        return Ok(TAKEN);
    }
    match blobs::want(tx, row.descriptor(), from, &row.described.reference()) {
        Ok(()) => {}
        Err(DbError::Full) => {
            let reason = reason::NO_SPACE;
            return Ok(Verdict::Deferred { reason });
        }
        Err(DbError::TooLarge { .. }) => {
            let reason = reason::TOO_LARGE;
            return Ok(Verdict::Quarantined { reason });
        }
        Err(error) => return Err(error),
    }
    row.put(tx)?;
    for facility in &row.described.facilities {
        rows::set_state(tx, id, facility, State::Waiting)?;
    }
    Ok(TAKEN)
}

/// Takes in what facilities say.
struct TakesReports(Deliveries);

#[async_trait]
impl Handler for TakesReports {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            verdicts.push(match (opened::<DeliveryReports>(parcel), from.facility()) {
                (Err(verdict), _) => verdict,
                (Ok(_), None) => Verdict::Refused {
                    reason: reason::WRONG_SENDER,
                },
                (Ok(body), Some(_)) => {
                    let stored = body.count();
                    let (from, draw) = (from.clone(), self.0.draw);
                    let step = move |commit: &mut Commit<'_>| said(commit, &from, &body, draw);
                    self.0
                        .ledger
                        .commit("what became of deliveries", step)
                        .await?;
                    Verdict::Accepted { stored }
                }
            });
        }
        // What no facility waits for any longer goes at once.
        self.0.blobs.sweep().await?;
        Ok(verdicts)
    }
}

/// What a facility says of deliveries. Of one that is not for it, it says nothing that counts.
fn said(
    commit: &mut Commit<'_>,
    from: &Place,
    body: &DeliveryReports,
    draw: fn() -> [u8; 16],
) -> Result<(), DbError> {
    let Some(facility) = from.facility() else {
        return Ok(());
    };
    for said in &body.reports {
        let state = State::parse(&said.state).filter(|state| state.is_said_below());
        let (Ok(id), Some(state)) = (Id128::try_from(&said.id[..]), state) else {
            continue;
        };
        let Some(row) = Row::find(commit.tx(), id)? else {
            continue;
        };
        if !rows::is_for(commit.tx(), id, facility)? || row.described.withdrawn {
            continue;
        }
        rows::set_state(commit.tx(), id, facility, state)?;
        blobs::revoke(commit.tx(), row.digest(), from)?;
        report(commit, id, facility.as_str(), state, draw)?;
        end(commit, &row)?;
    }
    Ok(())
}

/// The blob of a descriptor.
const fn descriptor(described: &Described) -> Descriptor {
    Descriptor {
        digest: Digest::from_bytes(described.sha256),
        size: described.size,
    }
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
