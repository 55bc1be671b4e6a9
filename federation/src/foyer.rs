//! The foyer of a listener: the connections whose peer is not known yet.
//!
//! Its places are few, and a stranger who says nothing could hold one until its time is over. So nobody waits at the
//! door: when every place is taken, the newcomer takes the place of the oldest one from the address that holds most.
//! Who is honest needs milliseconds and is never the oldest for long; who fills the foyer displaces himself.
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// The places of a listener. Clones share them.
#[derive(Clone, Debug)]
pub struct Foyer {
    limit: usize,
    seated: Arc<Mutex<Seated>>,
}

#[derive(Debug, Default)]
struct Seated {
    next: u64,
    /// By age, the oldest first.
    seats: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A place in the foyer; dropping it leaves it.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    displaced: CancellationToken,
    foyer: Foyer,
}

impl Foyer {
    /// A foyer of so many places, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            seated: Arc::default(),
        }
    }

    /// Takes a place, another's if need be.
    #[must_use]
    pub fn enter(&self, from: IpAddr) -> Seat {
        let mut seated = self.seated.lock();
        if seated.seats.len() >= self.limit {
            seated.displace();
        }
        let (number, displaced) = (seated.next, CancellationToken::new());
        seated.next += 1;
        seated.seats.insert(number, (from, displaced.clone()));
        Seat {
            number,
            displaced,
            foyer: self.clone(),
        }
    }
}

impl Seated {
    fn displace(&mut self) {
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        for (address, _) in self.seats.values() {
            *held.entry(*address).or_default() += 1;
        }
        // Of those that hold as many, whoever has waited longest.
        let most = held.values().max().copied().unwrap_or_default();
        let mut by_age = self.seats.iter();
        let oldest = by_age.find(|(_, (address, _))| held.get(address) == Some(&most));
        let Some(number) = oldest.map(|(number, _)| *number) else {
            return;
        };
        if let Some((_, displaced)) = self.seats.remove(&number) {
            displaced.cancel();
        }
    }
}

impl Seat {
    /// Resolves when a newcomer took the place.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.foyer.seated.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn is_displaced(seat: &Seat) -> bool {
        seat.displaced.is_cancelled()
    }

    #[test]
    fn a_full_foyer_displaces_the_oldest_of_the_address_that_holds_most() {
        let foyer = Foyer::new(3);
        let honest = foyer.enter(OTHER);
        let idle: Vec<_> = (0..2).map(|_| foyer.enter(STRANGER)).collect();
        let newcomer = foyer.enter(OTHER);
        assert!(is_displaced(&idle[0]) && !is_displaced(&idle[1]));
        assert!(!is_displaced(&honest) && !is_displaced(&newcomer));
        let _last = foyer.enter(OTHER);
        assert!(is_displaced(&honest) && !is_displaced(&idle[1]));
    }

    #[test]
    fn who_leaves_makes_room() {
        let foyer = Foyer::new(2);
        let first = foyer.enter(STRANGER);
        for _ in 0..10 {
            drop(foyer.enter(STRANGER));
        }
        assert!(!is_displaced(&first));
    }
}
