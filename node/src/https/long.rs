//! Places of long bodies, of which one client has a part at most.
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// See the head of this file.
pub(super) struct LongBodies {
    all: Arc<Semaphore>,
    /// Of one client.
    most: usize,
    /// Of those who have a place or wait for one; of others an entry that is dropped with the next one that is made.
    clients: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// A place; it is free again when it is dropped.
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_client: OwnedSemaphorePermit,
}

impl LongBodies {
    /// So many places, of which one client has `most`.
    pub(super) fn new(places: usize, most: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(places)),
            most,
            clients: Mutex::default(),
        }
    }

    /// Waits for a place of a client.
    ///
    /// # Errors
    /// None: the places are never closed.
    pub(super) async fn place(&self, client: &Arc<str>) -> Result<Place, AcquireError> {
        // While it waits for one of its own it stands in nobody's way.
        let of_client = self.of(client).acquire_owned().await?;
        let of_all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Place {
            _of_all: of_all,
            _of_client: of_client,
        })
    }

    fn of(&self, client: &Arc<str>) -> Arc<Semaphore> {
        let mut clients = self.clients.lock();
        if let Some(own) = clients.get(client).and_then(Weak::upgrade) {
            return own;
        }
        clients.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(self.most));
        clients.insert(Arc::clone(client), Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    /// What is done without a wait.
    fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(work).poll(&mut context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_client_has_a_part_of_the_places_and_gives_them_back() {
        let places = LongBodies::new(4, 2);
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        let taken = |client: &Arc<str>| at_once(places.place(client)).and_then(Result::ok);
        let first = taken(&greedy).unwrap();
        let second = taken(&greedy).unwrap();
        assert!(taken(&greedy).is_none());
        let others = [taken(&other).unwrap(), taken(&other).unwrap()];
        drop(first);
        let again = taken(&greedy).unwrap();
        assert!(taken(&"third".into()).is_none(), "there are four places");
        drop((second, again, others));
        assert!(taken(&"third".into()).is_some());
        assert_eq!(places.clients.lock().len(), 1, "who has none is forgotten");
    }
}
