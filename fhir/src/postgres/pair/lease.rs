//! The lease of the node that writes: one row, with a number that only grows, who holds it, and until when by the clock of the
//! database.
//!
//! A holder reads what is its own without asking for [`UNSEEN`] after it asked for the renewal that was given last, by a clock
//! that goes on while its process is paused; after that it asks first. So nobody takes a lease before that time has passed
//! since its last renewal, and what anybody writes is refused by its number once another one has it.
use super::{Pair, failed};
use crate::postgres::{
    again::{Held, leave},
    errors::Trouble,
};
use crate::store::{Kind, StoreError};
use deadpool_postgres::Object;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Row, types::ToSql};

/// How long a lease holds without being renewed.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long the holder reads without asking. One whose connection has ended is followed after that, and not only when its
/// lease has lapsed.
pub const UNSEEN: Duration = Duration::from_millis(400);
/// How long a statement about the lease is waited for. The server ends the wait for a lock before, but none for a standby that
/// follows another server by now.
const ANSWERED: Duration = Duration::from_secs(12);
/// The same where somebody waits for it.
const ANSWERED_SOON: Duration = LEASE;

/// The number of whoever takes it. A standby that is promoted without the last take has the row as it was before: what is
/// taken there is by chance another number than what that take was given, so that never two nodes write by one.
const NEXT: &str =
    "CASE WHEN number = 0 THEN 1 ELSE number + 1 + floor(random() * 1048576)::bigint END";
/// A lease that has lapsed is anybody's; one whose holder's connection is gone is that holder's at once.
const TAKE: &str = "UPDATE lease SET number = NEXT, holder = $1, node = $2, \
     until = clock_timestamp() + $3::float8 * interval '1 millisecond', backend = pg_backend_pid(), began = BEGAN \
     WHERE until <= clock_timestamp() OR (holder = $1 AND NOT LIVES) RETURNING number";
/// One that was not renewed since it was seen: whoever waited for its row meanwhile finds that it was.
const TAKE_SEEN: &str = "UPDATE lease SET number = NEXT, holder = $1, node = $2, \
     until = clock_timestamp() + $3::float8 * interval '1 millisecond', backend = pg_backend_pid(), began = BEGAN \
     WHERE number = $4 AND until::text = $5 AND (until <= clock_timestamp() \
     OR (NOT LIVES AND until <= clock_timestamp() + $6::float8 * interval '1 millisecond')) RETURNING number";
const LOOK: &str = "SELECT number, until::text, \
     CASE WHEN isfinite(until) THEN ceil(extract(epoch FROM until - clock_timestamp()) * 1000)::bigint ELSE 0 END, \
     LIVES, holder = $1 FROM lease";
const RENEW: &str = "UPDATE lease SET until = clock_timestamp() + $2::float8 * interval '1 millisecond', \
     backend = pg_backend_pid(), began = BEGAN WHERE number = $1 RETURNING number";
pub(super) const EXTEND: &str = "UPDATE lease SET until = clock_timestamp() + $2::float8 * interval '1 millisecond' WHERE number = $1";
const BEGAN: &str = "(SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())";
const LIVES: &str = "EXISTS (SELECT 1 FROM pg_stat_activity a \
     WHERE a.pid = lease.backend AND (a.backend_start IS NULL OR a.backend_start = lease.began))";
const NAMESAKE: &str = "SELECT until > clock_timestamp() AND holder <> $1 AND node = $2 FROM lease";
/// Whoever sees that need not find out whether its holder lives.
const RELEASE: &str = "UPDATE lease SET until = '-infinity' WHERE number = $1";
/// How the database writes that.
const NOBODYS: &str = "-infinity";

/// The connection by whose life others see that the holder lives, and how many there were before it.
#[derive(Default)]
pub(super) struct HeldConnection {
    client: Option<Object>,
    before: u64,
}

/// What is seen of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub number: i64,
    /// Until when it holds, as the database writes it: another text once it was renewed.
    pub until: String,
    /// How long it holds from now on, in ms; not above 0 once it has lapsed.
    pub left_ms: i64,
    /// Whether its holder's connection is there.
    pub lives: bool,
    /// Whether its holder is the one that looks.
    pub is_own: bool,
    /// The connection on which this was seen, by its number. What one connection has seen, its server has seen without having
    /// begun anew.
    pub connection: u64,
}

impl Seen {
    /// Whether nobody holds it: it was never taken, or it was given back.
    #[must_use]
    pub fn is_nobodys(&self) -> bool {
        self.until == NOBODYS
    }
}

impl Pair {
    /// Runs a statement on the one connection that stays: its row, and the number of the connection.
    async fn on_held(
        &self,
        (op, sql): (&'static str, &str),
        params: &[&(dyn ToSql + Sync)],
        within: Duration,
    ) -> Result<(Option<Row>, u64), StoreError> {
        let late = |_| StoreError::new(Kind::Unavailable, op);
        let mut held = timeout(within, self.held.lock()).await.map_err(late)?;
        let client = match held.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                held.before += 1;
                timeout(within, self.client(op)).await.map_err(late)??
            }
        };
        let sql = sql
            .replace("BEGAN", BEGAN)
            .replace("LIVES", LIVES)
            .replace("NEXT", NEXT);
        let asked = async {
            let statement = client.prepare_cached(&sql).await?;
            client.query_opt(&statement, params).await
        };
        let answered = timeout(within, asked).await;
        let Ok(answered) = answered else {
            // The next one begins on another connection.
            drop(Object::take(client));
            return Err(StoreError::new(Kind::Unavailable, op));
        };
        match answered {
            Ok(row) => {
                held.client = Some(client);
                Ok((row, held.before))
            }
            Err(error) => {
                let failed = failed(op, &error);
                let trouble = Trouble::Engine(error);
                if trouble.has_broken() {
                    leave(Some(client), &trouble);
                } else {
                    held.client = Some(client);
                }
                Err(failed)
            }
        }
    }

    /// Takes the lease for a node, if nobody else holds it: the number that it writes by. `holder` tells this node's data
    /// directory from every other one, `node` is its name for people.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn take(&self, holder: &str, node: &str) -> Result<Option<i64>, StoreError> {
        let params: [&(dyn ToSql + Sync); 3] = [&holder, &node, &lease_ms()];
        let taken = self.on_held(("take the lease", TAKE), &params, ANSWERED);
        Ok(taken.await?.0.map(|row| row.get(0)))
    }

    /// What is seen of the lease by the one that is called so ([`Pair::take`]).
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn look(&self, holder: &str) -> Result<Seen, StoreError> {
        let params: [&(dyn ToSql + Sync); 1] = [&holder];
        let looked = self.on_held(("look at the lease", LOOK), &params, ANSWERED_SOON);
        let (row, connection) = looked.await?;
        let none = || StoreError::new(Kind::Corrupt, "look at the lease");
        let row = row.ok_or_else(none)?;
        Ok(Seen {
            number: row.get(0),
            until: row.get(1),
            left_ms: row.get(2),
            lives: row.get(3),
            is_own: row.get(4),
            connection,
        })
    }

    /// As [`Pair::take`], if the lease was not renewed since it was seen, and has lapsed; or if its holder `is_gone`, whose
    /// connection is gone indeed, and nothing was renewed for [`UNSEEN`].
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn take_seen(
        &self,
        (holder, node): (&str, &str),
        seen: &Seen,
        is_gone: bool,
    ) -> Result<Option<i64>, StoreError> {
        let early_ms = match is_gone {
            true => lease_ms() - UNSEEN.as_secs_f64() * 1_000.0,
            false => 0.0,
        };
        let params: [&(dyn ToSql + Sync); 6] = [
            &holder,
            &node,
            &lease_ms(),
            &seen.number,
            &seen.until,
            &early_ms,
        ];
        let taken = self.on_held(("take the lease", TAKE_SEEN), &params, ANSWERED);
        Ok(taken.await?.0.map(|row| row.get(0)))
    }

    /// Renews a lease. False when another node has taken it: this one is to end.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn renew(&self, number: i64) -> Result<bool, StoreError> {
        self.renew_within(number, ANSWERED).await
    }

    /// The same while somebody waits for it: again, for a while, where the engine was away.
    ///
    /// # Errors
    /// By what the engine says; [`Kind::Unavailable`] also when it does not say it soon.
    pub(in crate::postgres) async fn renew_soon(&self, number: i64) -> Result<bool, StoreError> {
        let mut held = Held::begin();
        loop {
            let renewed = self.renew_within(number, ANSWERED_SOON).await;
            let is_away = renewed
                .as_ref()
                .is_err_and(|error| error.kind == Kind::Unavailable);
            if !(is_away && held.pause().await) {
                return renewed;
            }
        }
    }

    async fn renew_within(&self, number: i64, within: Duration) -> Result<bool, StoreError> {
        let params: [&(dyn ToSql + Sync); 2] = [&number, &lease_ms()];
        let renewed = self.on_held(("renew the lease", RENEW), &params, within);
        Ok(renewed.await?.0.is_some())
    }

    /// Gives a lease back, so that another node need not wait until it lapses.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn release(&self, number: i64) -> Result<(), StoreError> {
        let client = self.client("release the lease").await?;
        let released = client.execute(RELEASE, &[&number]).await;
        released.map_err(|error| failed("release the lease", &error))?;
        Ok(())
    }

    /// The name of the node that had the lease last.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn holder(&self) -> Result<String, StoreError> {
        let client = self.client("read the lease").await?;
        let row = client.query_one("SELECT node FROM lease", &[]).await;
        Ok(row
            .map_err(|error| failed("read the lease", &error))?
            .get(0))
    }

    /// Whether another holder than this one has the lease now, and the name of this one's node.
    ///
    /// # Errors
    /// By what the engine says.
    pub async fn is_called_so(&self, holder: &str, node: &str) -> Result<bool, StoreError> {
        let client = self.client("read the lease").await?;
        let row = client.query_one(NAMESAKE, &[&holder, &node]).await;
        Ok(row
            .map_err(|error| failed("read the lease", &error))?
            .get(0))
    }
}

pub(super) fn lease_ms() -> f64 {
    LEASE.as_secs_f64() * 1_000.0
}
