//! What surely did nothing, or may be done twice, is asked again for a short time: an engine that recovers from a crash, or a
//! standby that is promoted, is there within that mostly, and whoever asked is answered late instead of being told to ask
//! again. A commit that was asked for and not answered is none of that: it may be there.
use super::errors::Trouble;
use crate::store::StoreError;
use deadpool_postgres::{Object, Pool, PoolError, TimeoutType};
use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::Error;

/// For how long: what is answered after that is not answered within a second.
const HELD: Duration = Duration::from_millis(900);
/// At least for so long after it failed first: what broke after a long time is asked once more all the same.
const ONCE_MORE: Duration = Duration::from_millis(300);
/// The shortest time between two tries. By chance it is up to twice that, so that not all who wait ask at once.
const PAUSE_MS: u64 = 25;

/// For how long something is asked again.
pub struct Held {
    until: Instant,
    is_again: bool,
}

impl Held {
    /// From now on.
    pub fn begin() -> Self {
        Self {
            until: Instant::now() + HELD,
            is_again: false,
        }
    }

    /// A connection. The first time it is waited for as long as the pool lets one wait, and later until there is no time left.
    pub async fn connection(&self, pool: &Pool) -> Result<Object, Trouble> {
        if !self.is_again {
            return pool.get().await.map_err(Trouble::Connection);
        }
        let got = timeout_at(self.until, pool.get()).await;
        let got = got.unwrap_or(Err(PoolError::Timeout(TimeoutType::Create)));
        got.map_err(Trouble::Connection)
    }

    /// Waits before it is asked again. False when there is no time left.
    pub async fn pause(&mut self) -> bool {
        let left = self.failed(Instant::now());
        if left.is_zero() {
            return false;
        }
        let more = RandomState::new().hash_one(()) % PAUSE_MS;
        sleep(left.min(Duration::from_millis(PAUSE_MS + more))).await;
        true
    }

    /// How much time there is left, where it failed at an instant.
    fn failed(&mut self, now: Instant) -> Duration {
        if !self.is_again {
            self.until = self.until.max(now + ONCE_MORE);
        }
        self.is_again = true;
        self.until.saturating_duration_since(now)
    }
}

/// A connection; nothing was begun where there is none, so it is asked for again.
pub async fn connected(pool: &Pool, op: &'static str) -> Result<Object, StoreError> {
    let mut held = Held::begin();
    loop {
        let got = held.connection(pool).await;
        let trouble = match got {
            Ok(client) => return Ok(client),
            Err(trouble) => trouble,
        };
        if !(trouble.is_away() && held.pause().await) {
            return Err(trouble.told(op));
        }
    }
}

/// Asks what may be done twice, again where the engine was away. What asks gives its connection back, if it still has it.
pub async fn again<T, F>(
    pool: &Pool,
    op: &'static str,
    ask: impl Fn(Object) -> F + Send + Sync,
) -> Result<T, StoreError>
where
    T: Send,
    F: Future<Output = (Option<Object>, Result<T, Error>)> + Send,
{
    let mut held = Held::begin();
    loop {
        let got = held.connection(pool).await;
        let trouble = match got {
            Err(trouble) => trouble,
            Ok(client) => match ask(client).await {
                (_, Ok(done)) => return Ok(done),
                (client, Err(error)) => {
                    let trouble = Trouble::Engine(error);
                    leave(client, &trouble);
                    trouble
                }
            },
        };
        if !(trouble.is_away() && held.pause().await) {
            return Err(trouble.told(op));
        }
    }
}

/// Takes a connection on which something failed out of its pool if it broke: whoever asks next has another one.
pub fn leave(client: Option<Object>, trouble: &Trouble) {
    if let Some(client) = client.filter(|_| trouble.has_broken()) {
        drop(Object::take(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_again_for_its_time_and_once_more_where_it_broke_after_that() {
        for (first_ms, until_ms) in [(0, 900), (500, 900), (700, 1_000), (5_000, 5_300)] {
            let begun = Instant::now();
            let at = |ms| begun + Duration::from_millis(ms);
            let mut held = Held {
                until: begun + HELD,
                is_again: false,
            };
            let left = Duration::from_millis(until_ms - first_ms);
            assert_eq!(held.failed(at(first_ms)), left);
            assert_eq!(held.failed(at(until_ms - 1)), Duration::from_millis(1));
            assert_eq!(held.failed(at(until_ms)), Duration::ZERO);
        }
    }
}
