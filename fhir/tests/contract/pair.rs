//! What nodes of one region may rely on between them, on a real PostgreSQL: one writes, and what it put is there.
use libtest_mimic::Failed;
use medmesh_fhir::{
    admit::Holding,
    contract::fixture::{self, START},
    postgres::{KeptChunks, LEASE, Newest, Noted, Pages, Pair, PostgresStore, UNSEEN, Waiting},
    rest::{Reader, Vantages},
    store::{Change, Draft, Expect, Kind, ResourceStore, ResourceType, Transacted, Transaction},
};
use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use storage::{
    chunks::Chunks,
    replica::Kept,
    sqlite::{Reopening, in_doubt},
};
use tokio_postgres::{Client, NoTls};

/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const FILE: &str = "a.db";

type Numbered = Vec<(u32, Vec<u8>)>;

fn page(number: u32, fill: u8) -> (u32, Vec<u8>) {
    (number, vec![fill; 4])
}

pub fn check(what: &str, holds: bool) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what.into()) }
}

pub async fn pair(url: &str) -> Result<Pair, Failed> {
    Ok(Pair::open(url, None).await?)
}

pub async fn client(url: &str) -> Result<Client, Failed> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// As a reader finds the file that had nothing of it.
async fn image(pair: &Pair) -> Result<BTreeMap<u32, Vec<u8>>, Failed> {
    let mut found = BTreeMap::new();
    let mut see = |_, number, bytes: &[u8]| {
        found.insert(number, bytes.to_vec());
        Ok(())
    };
    pair.changed_since(FILE, 0, &mut see).await?;
    Ok(found)
}

/// One holds the lease; the next one gets it when it lapses or is given back, and the one before puts nothing any more.
pub async fn of_two_nodes_one_writes(url: String) -> Result<(), Failed> {
    let (a, b, sql) = (pair(&url).await?, pair(&url).await?, client(&url).await?);
    let first = a.take("a", "node-a").await?.ok_or("the first is refused")?;
    check(
        "a second has it too",
        b.take("b", "node-b").await?.is_none(),
    )?;
    check("nor who runs", a.take("a", "node-a").await?.is_none())?;
    check("a namesake", b.is_called_so("b", "node-a").await?)?;
    check("none", !b.is_called_so("b", "node-b").await?)?;
    check("oneself", !a.is_called_so("a", "node-a").await?)?;
    check("renewed", a.renew(first).await?)?;
    check(
        "put",
        a.put(first, FILE, (4, 1), &[page(1, 1)], None).await?,
    )?;
    // As when nobody has renewed it for so long.
    sql.batch_execute("UPDATE lease SET until = clock_timestamp()")
        .await?;
    check("a former one", !b.is_called_so("b", "node-a").await?)?;
    check("renewed late", a.renew(first).await?)?;
    sql.batch_execute("UPDATE lease SET until = clock_timestamp()")
        .await?;
    let second = b
        .take("b", "node-b")
        .await?
        .ok_or("a lapsed lease is nobody's")?;
    check("a number grows", second > first)?;
    check("another took it", !a.renew(first).await?)?;
    check("named", a.holder().await? == "node-b")?;
    check(
        "fenced",
        !a.put(first, FILE, (4, 1), &[page(1, 9)], Some((0, b"x")))
            .await?,
    )?;
    let all = &mut [Ok(page(1, 9))].into_iter();
    check(
        "fenced whole",
        !a.put_whole(first, FILE, (4, 1), all, None).await?,
    )?;
    a.release(first).await?;
    check(
        "released by another",
        a.take("a", "node-a").await?.is_none(),
    )?;
    check(
        "nothing of it is there",
        image(&b).await? == BTreeMap::from([page(1, 1)]),
    )?;
    check("nor beside it", b.beside(FILE).await?.is_empty())?;
    b.release(second).await?;
    check("given back", a.take("a", "node-a").await?.is_some())
}

/// A put that begins while another node takes the lease waits for that, and puts nothing.
pub async fn a_put_does_not_pass_one_that_takes_the_lease(url: String) -> Result<(), Failed> {
    let (a, mut sql) = (Arc::new(pair(&url).await?), client(&url).await?);
    let number = a.take("a", "a").await?.ok_or("refused")?;
    let taking = sql.transaction().await?;
    taking
        .batch_execute("UPDATE lease SET number = number + 1")
        .await?;
    let putting = tokio::spawn({
        let a = a.clone();
        async move { a.put(number, FILE, (4, 1), &[page(1, 1)], None).await }
    });
    let look = client(&url).await?;
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND query LIKE 'WITH held AS%' AND datname = current_database()";
    let until = tokio::time::Instant::now() + PATIENCE;
    while !look.query_one(waits, &[]).await?.get::<_, bool>(0) {
        check("the put does not wait", tokio::time::Instant::now() < until)?;
    }
    taking.commit().await?;
    check("it put", !putting.await??)?;
    check("something is there", image(&a).await?.is_empty())
}

/// A node that is started again need not wait for its own lease; any other one does.
pub async fn a_holder_that_died_is_followed_at_once_by_itself_alone(
    url: String,
) -> Result<(), Failed> {
    let first = pair(&url).await?;
    let number = first.take("a", "a").await?.ok_or("refused")?;
    drop(first);
    let (again, other, sql) = (pair(&url).await?, pair(&url).await?, client(&url).await?);
    sql.batch_execute("UPDATE lease SET until = clock_timestamp() + interval '1 hour'")
        .await?;
    check("taken by another", other.take("b", "b").await?.is_none())?;
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(next) = again.take("a", "a").await? {
            return check("it grows", next > number);
        }
        check("never", tokio::time::Instant::now() < until)?;
    }
}

/// A clock that stands still.
const STILL: &str = "CREATE FUNCTION clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE sql AS \
     $$ SELECT '2001-01-01T00:00:00Z'::timestamptz $$";

/// A holder whose connection has ended is followed by another one once it reads nothing without asking any more, and never
/// while that is there, or where it has renewed since.
pub async fn a_holder_whose_connection_has_ended_is_followed_by_another_one(
    url: String,
) -> Result<(), Failed> {
    let own = before_the_servers(&url);
    let sql = client(&own).await?;
    sql.batch_execute(STILL).await?;
    let (a, b) = (pair(&own).await?, pair(&own).await?);
    let number = a.take("a", "a").await?.ok_or("refused")?;
    let holds = async |ms: u128| {
        let set =
            format!("UPDATE lease SET until = clock_timestamp() + interval '{ms} milliseconds'");
        sql.batch_execute(&set).await
    };
    let early = (LEASE - UNSEEN).as_millis() - 1;
    holds(early).await?;
    let seen = b.look("b").await?;
    check("its holder lives", seen.lives && !seen.is_own)?;
    check("it is its own", a.look("a").await?.is_own)?;
    check(
        "one that lives",
        b.take_seen(("b", "b"), &seen, true).await?.is_none(),
    )?;
    drop(a);
    let until = tokio::time::Instant::now() + PATIENCE;
    while b.look("b").await?.lives {
        check("it lives for ever", tokio::time::Instant::now() < until)?;
    }
    holds(early + 2).await?;
    let late = b.look("b").await?;
    check(
        "too soon",
        b.take_seen(("b", "b"), &late, true).await?.is_none(),
    )?;
    holds(early).await?;
    check(
        "renewed since",
        b.take_seen(("b", "b"), &late, true).await?.is_none(),
    )?;
    let seen = b.look("b").await?;
    check("one connection", seen.connection == late.connection)?;
    let taken = b.take_seen(("b", "b"), &seen, true).await?;
    check("followed", taken.is_some_and(|next| next > number))
}

/// What is read is what was put: newest pages alone, no page behind the end, what is beside in its order.
pub async fn pages_are_read_as_they_were_put(url: String) -> Result<(), Failed> {
    let (a, b) = (pair(&url).await?, pair(&url).await?);
    let lease = a.take("a", "a").await?.ok_or("refused")?;
    let put = |size, pages: Numbered, beside| {
        let a = &a;
        async move { a.put(lease, FILE, (4, size), &pages, beside).await }
    };
    check("none yet", b.shape(FILE).await?.is_none())?;
    put(
        3,
        vec![page(1, 1), page(2, 1), page(3, 1)],
        Some((0, &b"one"[..])),
    )
    .await?;
    let shape = b.shape(FILE).await?.ok_or("it is there")?;
    put(2, vec![page(1, 2)], Some((3, &b" two"[..]))).await?;
    check(
        "whole",
        image(&b).await? == BTreeMap::from([page(1, 2), page(2, 1)]),
    )?;
    let mut changed = Vec::new();
    let mut see = |_, number, _: &[u8]| {
        changed.push(number);
        Ok(())
    };
    let now = b.changed_since(FILE, shape.number, &mut see).await?;
    check("what changed", changed == [1])?;
    check("shorter", now.is_some_and(|now| now.pages == 2))?;
    check("beside", b.beside(FILE).await? == b"one two")?;
    put(2, Vec::new(), Some((3, &b" 2 and 3"[..]))).await?;
    check("put again", b.beside(FILE).await? == b"one 2 and 3")?;
    put(2, Vec::new(), Some((0, &b"anew"[..]))).await?;
    check("written anew", b.beside(FILE).await? == b"anew")?;
    let torn = &mut [Ok(page(1, 7)), Err(io::Error::other("torn"))].into_iter();
    check(
        "an error",
        a.put_whole(lease, FILE, (4, 2), torn, None).await.is_err(),
    )?;
    check(
        "half",
        image(&b).await? == BTreeMap::from([page(1, 2), page(2, 1)]),
    )?;
    let all = &mut [Ok(page(1, 8))].into_iter();
    check("put", a.put_whole(lease, FILE, (4, 1), all, None).await?)?;
    check("all", image(&b).await? == BTreeMap::from([page(1, 8)]))
}

async fn note(pair: &Pair, jti: &str, now: i64) -> Result<Noted, Failed> {
    Ok(pair.note_assertion(("k", jti), (now + 100, now), 2).await?)
}

/// An assertion is good once at both nodes together, until it ends.
pub async fn an_assertion_is_good_at_one_node(url: String) -> Result<(), Failed> {
    let (a, b) = (pair(&url).await?, pair(&url).await?);
    check("first", note(&a, "1", 0).await? == Noted::First)?;
    check("again", note(&b, "1", 50).await? == Noted::Again)?;
    check("second", note(&b, "2", 50).await? == Noted::First)?;
    check("too many", note(&a, "3", 51).await? == Noted::TooMany)?;
    check(
        "of another",
        a.note_assertion(("o", "1"), (100, 51), 2).await? == Noted::First,
    )?;
    check("it ended", note(&a, "1", 151).await? == Noted::First)
}

/// A ledger's file on two nodes: what its steps have done is read by the other, and the one that was fenced does nothing
/// more.
pub async fn a_files_steps_are_done_once_they_are_in_postgresql(url: String) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join(FILE);
    let (a, b) = (Arc::new(pair(&url).await?), pair(&url).await?);
    let lease = a.take("a", "a").await?.ok_or("refused")?;
    let pages = Arc::new(Pages::new(a.clone(), lease, Instant::now()));
    let fenced = pages.fenced();
    let kept = Kept::new(pages.clone(), FILE, &path, false);
    let connect = |path: &std::path::Path| {
        let connection = rusqlite::Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER)")?;
        Ok(connection)
    };
    let file = Arc::new(Reopening::new(&path, connect(&path)?, connect).kept(Some(kept))?);
    let put = |n: i64| {
        let file = file.clone();
        let step = move || {
            let insert = "INSERT INTO t VALUES (?1)";
            file.step(|connection| connection.execute(insert, [n]), in_doubt)
        };
        tokio::task::spawn_blocking(step)
    };
    let rows = async || -> Result<i64, Failed> {
        let copy = dir.path().join("copy.db");
        std::fs::write(
            &copy,
            image(&b).await?.into_values().flatten().collect::<Vec<_>>(),
        )?;
        let connection = rusqlite::Connection::open(&copy)?;
        Ok(connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
    };
    for n in 1..=20 {
        pages.renewed(Instant::now());
        put(n).await??;
        check("as many as were done", rows().await? == n)?;
    }
    let Some(past) = Instant::now().checked_sub(LEASE) else {
        return Err("this machine has just started".into());
    };
    let read = async || {
        let file = file.clone();
        let look = |connection: &mut rusqlite::Connection| {
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
        };
        tokio::task::spawn_blocking(move || file.step(look, in_doubt)).await
    };
    pages.renewed(past);
    check("not read by one that is renewed", read().await?? == 20)?;
    a.release(lease).await?;
    b.take("b", "b").await?.ok_or("refused")?;
    pages.renewed(past);
    check("read without a lease", read().await?.is_err())?;
    check("said of a read", *fenced.borrow())?;
    check("done although fenced", put(21).await?.is_err())?;
    check("again", put(22).await?.is_err())?;
    check("said", *fenced.borrow())?;
    check("none of it is there", rows().await? == 20)?;
    check("a lease is short", LEASE <= Duration::from_secs(5))
}

/// Deliveries go by the lease: one of a node that was fenced is stored neither then nor afterwards, though what it read
/// before was right; what clients write at either node is.
pub async fn what_a_fenced_node_delivers_is_not_stored(url: String) -> Result<(), Failed> {
    let (a, b) = (pair(&url).await?, pair(&url).await?);
    let first = a.take("a", "a").await?.ok_or("refused")?;
    let of_a = PostgresStore::open(&url, None).await?.by_lease(first);
    let of_b = PostgresStore::open_beside(&url, None, &Newest::nowhere()).await?;
    let applied = of_a.apply(vec![fixture::delivery(1, 0..3)], START).await?;
    check("stored", applied.iter().all(|one| one.written > 0))?;
    a.release(first).await?;
    let second = b.take("b", "b").await?.ok_or("refused")?;
    let before = of_b.head().await?;
    let late = of_a.apply(vec![fixture::delivery(2, 3..6)], START).await;
    let refused = late.err().map(|error| error.kind);
    check(
        "stored by a fenced node",
        refused == Some(Kind::Unavailable),
    )?;
    check("something of it is there", of_b.head().await? == before)?;
    let of_b = of_b.by_lease(second);
    let applied = of_b.apply(vec![fixture::delivery(2, 3..6)], START).await?;
    check("again", applied.iter().all(|one| one.written > 0))?;
    // A node that takes the lease waits for what is being stored by it.
    let mut sql = client(&url).await?;
    let storing = sql.transaction().await?;
    storing
        .batch_execute("SELECT seq FROM head FOR UPDATE")
        .await?;
    let of_b = Arc::new(of_b);
    let delivering = tokio::spawn({
        let of_b = of_b.clone();
        async move { of_b.apply(vec![fixture::delivery(3, 6..9)], START).await }
    });
    let look = client(&url).await?;
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND query LIKE 'UPDATE head SET updated%' AND datname = current_database()";
    let until = tokio::time::Instant::now() + PATIENCE;
    while !look.query_one(waits, &[]).await?.get::<_, bool>(0) {
        check("it does not wait", tokio::time::Instant::now() < until)?;
    }
    look.batch_execute("UPDATE lease SET number = number + 1")
        .await?;
    storing.commit().await?;
    let late = delivering.await?.err().map(|error| error.kind);
    check(
        "stored when it was its turn no more",
        late == Some(Kind::Unavailable),
    )
}

/// What waits is read in its order, once each id, until it is forgotten.
pub async fn rows_wait_in_their_order_until_they_are_forgotten(url: String) -> Result<(), Failed> {
    let (a, b) = (pair(&url).await?, pair(&url).await?);
    for n in 1..=5_u8 {
        let put = if n % 2 == 0 { &a } else { &b };
        put.put_rows(&[n], &[n, n], &[n, n, n]).await?;
    }
    check(
        "others by that id",
        a.put_rows(&[1], b"x", b"x").await.is_err(),
    )?;
    // As when it was not answered: they are there once.
    b.put_rows(&[2], &[2, 2], &[2, 2, 2]).await?;
    let ids = |found: &[Waiting]| found.iter().map(|one| one.id[0]).collect::<Vec<_>>();
    let first = b.waiting_rows(0, 3).await?;
    check("in their order", ids(&first) == [1, 2, 3])?;
    check(
        "whole",
        first[1].rows == [2, 2] && first[1].seal == [2, 2, 2],
    )?;
    let rest = a.waiting_rows(first[2].number, 3).await?;
    check("from a number on", ids(&rest) == [4, 5])?;
    a.forget_rows(&[vec![1], vec![4], vec![9]]).await?;
    check("forgotten", ids(&b.waiting_rows(0, 9).await?) == [2, 3, 5])
}

/// What one commit of a ledger's file costs alone and in a pair, at the same disk: printed, not judged.
pub async fn a_commit_in_a_pair_costs_so_much(url: String) -> Result<(), Failed> {
    const COMMITS: u32 = 200;
    let a = Arc::new(pair(&url).await?);
    let lease = a.take("a", "a").await?.ok_or("refused")?;
    let mut took = Vec::new();
    for is_kept in [false, true] {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(FILE);
        let pages = Arc::new(Pages::new(a.clone(), lease, Instant::now()));
        let kept = is_kept.then(|| Kept::new(pages.clone(), FILE, &path, false));
        let connect = |path: &std::path::Path| {
            let connection = rusqlite::Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER, text TEXT)")?;
            Ok(connection)
        };
        let file = Reopening::new(&path, connect(&path)?, connect).kept(kept)?;
        let all = move || -> Result<Vec<Duration>, rusqlite::Error> {
            let mut took = Vec::new();
            for n in 0..COMMITS {
                pages.renewed(Instant::now());
                let begun = Instant::now();
                // As much as an audit row.
                let insert = "INSERT INTO t VALUES (?1, hex(randomblob(250)))";
                file.step(|connection| connection.execute(insert, [n]), in_doubt)?;
                took.push(begun.elapsed());
            }
            Ok(took)
        };
        let mut times = tokio::task::spawn_blocking(all).await??;
        times.sort_unstable();
        took.push([times[times.len() / 2], times[times.len() * 99 / 100]]);
    }
    println!(
        "a commit alone: p50 {:?}, p99 {:?}; in a pair: p50 {:?}, p99 {:?}",
        took[0][0], took[0][1], took[1][0], took[1][1]
    );
    Ok(())
}

/// Creates a resource as a client does.
pub async fn write(store: &PostgresStore, id: &str) -> Result<Transacted, Kind> {
    let (kind, id) = (ResourceType::parse("Basic").unwrap(), id.parse().unwrap());
    let text = r#"{"resourceType":"Basic","code":{"text":"x"}}"#;
    let draft = Draft::parse(&Holding::Identified, kind, id, text, "").unwrap();
    let expect = Expect::Absent;
    let transaction = Transaction {
        author: "writer".into(),
        now: START,
        changes: vec![Change::Put { draft, expect }],
        guards: Vec::new(),
    };
    let done = store.transact(transaction).await;
    done.map_err(|error| error.kind)
}

/// As after its server was put back. Once somebody has looked where it stands it takes what clients write again.
pub async fn a_store_put_back_takes_nothing_of_clients(url: String) -> Result<(), Failed> {
    let store = PostgresStore::open(&url, None).await?;
    let write = async |id: &str| write(&store, id).await;
    let is_done = |done: Result<Transacted, Kind>| matches!(done, Ok(Transacted::Done(_)));
    check("nothing was looked at", is_done(write("a").await))?;
    let head = store.head().await?;
    store.stands_at(head + 1);
    let refused = write("b").await;
    check("written", refused == Err(Kind::Unavailable))?;
    check("something of it is there", store.head().await? == head)?;
    store.stands_at(head);
    check("it was looked at", is_done(write("b").await))?;
    check("it went on", is_done(write("c").await))
}

/// Whichever server a reader asks, it is shown marks of one order: what it saw at one is at the other too.
pub async fn a_reader_has_one_axis_at_all_servers(url: String) -> Result<(), Failed> {
    let open = async || PostgresStore::open(&url, None).await.map(Arc::new);
    let (a, b) = (open().await?, open().await?);
    check("first", a.reach("r", 5).await?.marks() == [5])?;
    check("then", b.reach("r", 9).await?.marks() == [5, 9])?;
    check("what was there", a.reach("r", 7).await?.marks() == [5, 9])?;
    check("another's", b.reach("s", 7).await?.marks() == [7])?;
    let asking = (0..60_i64).map(|n| {
        let at = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { at.reach("r", 10 + n * 7 % 60).await })
    });
    let mut shown = Vec::new();
    for one in asking.collect::<Vec<_>>() {
        shown.push(one.await??);
    }
    let all = b.reach("r", 0).await?;
    check("kept", all.last() == 69)?;
    for axis in shown {
        check("of one order", all.marks().starts_with(axis.marks()))?;
    }
    // Also where it is served: what bears an instant at one server bears it at the other.
    let (at_a, at_b) = (Vantages::shared(a), Vantages::shared(b));
    let reader = Reader("v".into());
    let seen = at_a.reach(&reader, 40).await?;
    let (before, after) = (
        at_b.reach(&reader, 30).await?,
        at_b.reach(&reader, 50).await?,
    );
    check(
        "at the other",
        before == seen && after.mark_of(35) == seen.mark_of(35),
    )
}

/// By which what the schema has is found before what the server has.
fn before_the_servers(url: &str) -> String {
    match url.strip_suffix('\'') {
        Some(keys) => format!("{keys},pg_catalog'"),
        None => format!("{url}%2Cpg_catalog"),
    }
}

/// Notes how long a transaction may wait for its client when a store looks for its tables, to make them.
const NOTES: &str = "CREATE TABLE seen(idle TEXT); \
     CREATE FUNCTION to_regclass(name TEXT) RETURNS regclass LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO seen VALUES (current_setting('idle_in_transaction_session_timeout')); \
     RETURN pg_catalog.to_regclass(name); END $$";

/// Whoever makes tables, or an index over all there is, has time between two statements, also as one of two nodes.
pub async fn who_makes_tables_has_time_between_two_statements(url: String) -> Result<(), Failed> {
    let own = before_the_servers(&url);
    let sql = client(&own).await?;
    sql.batch_execute(NOTES).await?;
    let _store = PostgresStore::open_as_one_of_two(&own, None, &Newest::nowhere()).await?;
    let seen = sql.query("SELECT idle FROM seen", &[]).await?;
    let seen: Vec<String> = seen.iter().map(|row| row.get(0)).collect();
    check(&format!("{seen:?}"), seen == ["5s"])
}

/// A clock of the schema's own, which is found before the server's.
const CLOCK: &str = "CREATE TABLE shift(by INTERVAL); INSERT INTO shift VALUES ('0'); \
     CREATE FUNCTION clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE sql AS \
     'SELECT pg_catalog.clock_timestamp() + by FROM shift'";

/// That a lease lapses is judged by the clock of the database: those of the nodes may be as wrong as they like, which is
/// the same as that of the database being an hour wrong.
pub async fn a_lease_lapses_by_the_clock_of_the_database(url: String) -> Result<(), Failed> {
    let own = before_the_servers(&url);
    let sql = client(&own).await?;
    sql.batch_execute(CLOCK).await?;
    let goes = async |by: &str| {
        let update = format!("UPDATE shift SET by = by + interval '{by}'");
        sql.batch_execute(&update).await
    };
    let (a, b) = (pair(&own).await?, pair(&own).await?);
    goes("1 hour").await?;
    let first = a.take("a", "a").await?.ok_or("refused")?;
    check("held", b.take("b", "b").await?.is_none())?;
    goes("6 seconds").await?;
    let second = b.take("b", "b").await?.ok_or("it has lapsed")?;
    check("grows", second > first)?;
    goes("-2 hours").await?;
    check("lapsed backwards", a.take("a", "a").await?.is_none())?;
    check("renewed", b.renew(second).await?)?;
    goes("6 seconds").await?;
    check(
        "lapsed after it was renewed",
        a.take("a", "a").await?.is_some(),
    )
}

/// A clock that takes its time.
const SLOW: &str = "CREATE TABLE slow(seconds FLOAT8); INSERT INTO slow VALUES (0); \
     CREATE FUNCTION clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(seconds) FROM slow; RETURN pg_catalog.clock_timestamp(); END $$";

/// A commit that waits for a standby which follows another server is answered never: whoever renews by it has to go on. The
/// server would answer this one in time.
pub async fn a_renewal_that_is_not_answered_has_failed(url: String) -> Result<(), Failed> {
    let own = before_the_servers(&url);
    let sql = client(&own).await?;
    sql.batch_execute(SLOW).await?;
    let node = pair(&own).await?;
    let number = node.take("a", "a").await?.ok_or("refused")?;
    sql.batch_execute("UPDATE slow SET seconds = 18").await?;
    let renewed = node.renew(number).await;
    let failed = renewed.is_err_and(|error| error.kind == Kind::Unavailable);
    check("not waited for", failed)?;
    sql.batch_execute("UPDATE slow SET seconds = 0").await?;
    check("on another connection", node.renew(number).await?)
}

/// The bytes of a file, as they are read together.
fn shown(chunks: &KeptChunks, file: &str) -> io::Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    let mut see = |bytes: &[u8]| {
        all.extend_from_slice(bytes);
        Ok(())
    };
    let length = chunks.show(file, &mut see)?;
    assert!(length.is_none_or(|length| length == all.len() as u64));
    Ok(length.map(|_| all))
}

/// Bytes of files are put and removed by who holds the lease alone, and read as one whoever put them.
pub async fn bytes_of_files_are_kept_by_the_lease_and_read_as_one(
    url: String,
) -> Result<(), Failed> {
    let (a, b) = (Arc::new(pair(&url).await?), Arc::new(pair(&url).await?));
    let first = a.take("a", "a").await?.ok_or("refused")?;
    let at_a = Arc::new(KeptChunks::new(a.clone(), first));
    let own = at_a.clone();
    tokio::task::spawn_blocking(move || -> Result<(), Failed> {
        check("none", shown(&own, "blobs/x")?.is_none())?;
        own.put("blobs/x", 0, b"ab")?;
        own.put("blobs/x", 2, b"cd")?;
        own.put("blobs/y", 0, b"")?;
        own.put("bulk/x", 0, b"other")?;
        check(
            "whole",
            shown(&own, "blobs/x")?.as_deref() == Some(&b"abcd"[..]),
        )?;
        check(
            "empty",
            shown(&own, "blobs/y")?.as_deref() == Some(&b""[..]),
        )?;
        let mut listed = own.list("blobs/")?;
        listed.sort();
        let known = [("blobs/x".to_owned(), 4), ("blobs/y".to_owned(), 0)];
        check("listed", listed == known)?;
        // Whoever goes on from an earlier place has the rest anew.
        own.put("blobs/x", 2, b"XYZ")?;
        own.put("blobs/x", 2, b"X")?;
        check(
            "anew",
            shown(&own, "blobs/x")?.as_deref() == Some(&b"abX"[..]),
        )?;
        // It is as long as it is shown.
        own.put("bulk/x", 2, b"")?;
        check("shorter", own.list("bulk/")? == [("bulk/x".to_owned(), 2)])
    })
    .await??;
    a.release(first).await?;
    let second = b.take("b", "b").await?.ok_or("given back")?;
    let at_b = KeptChunks::new(b, second);
    tokio::task::spawn_blocking(move || -> Result<(), Failed> {
        check(
            "put by the one before",
            at_a.put("blobs/x", 3, b"no").is_err(),
        )?;
        check("removed by it", at_a.remove(&["blobs/x".into()]).is_err())?;
        check(
            "as it was",
            shown(&at_b, "blobs/x")?.as_deref() == Some(&b"abX"[..]),
        )?;
        at_b.put("blobs/x", 3, b"!")?;
        check(
            "goes on",
            shown(&at_b, "blobs/x")?.as_deref() == Some(&b"abX!"[..]),
        )?;
        at_b.remove(&["blobs/x".into(), "blobs/none".into()])?;
        check("removed", shown(&at_b, "blobs/x")?.is_none())?;
        check("the others are there", at_b.list("")?.len() == 2)
    })
    .await?
}

/// Chunks of a file that is longer than what one statement reads or removes.
const LONG: u64 = 16 * 3 + 1;

/// A file of any length is shown, begun anew and removed in statements that are short; what a node that was fenced in the
/// middle of that has removed leaves a shorter file, and no hole.
pub async fn long_files_are_read_and_removed_a_piece_at_a_time(url: String) -> Result<(), Failed> {
    let (a, sql) = (Arc::new(pair(&url).await?), client(&url).await?);
    let lease = a.take("a", "a").await?.ok_or("refused")?;
    // More than one statement may touch of a file at once.
    sql.batch_execute(
        "CREATE TABLE touched(n BIGINT); \
         CREATE FUNCTION touch() RETURNS TRIGGER LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO touched SELECT count(*) FROM gone; RETURN NULL; END $$; \
         CREATE TRIGGER touch AFTER DELETE ON kept_chunk REFERENCING OLD TABLE AS gone \
         FOR EACH STATEMENT EXECUTE FUNCTION touch()",
    )
    .await?;
    let chunks = Arc::new(KeptChunks::new(a.clone(), lease));
    let own = chunks.clone();
    let length =
        |file: &str, chunks: &KeptChunks| shown(chunks, file).map(|all| all.map(|all| all.len()));
    tokio::task::spawn_blocking(move || -> Result<(), Failed> {
        for file in ["blobs/x", "blobs/y", "blobs/z"] {
            for at in 0..LONG {
                own.put(file, at * 2, &[u8::try_from(at)?, 7])?;
            }
        }
        let all = shown(&own, "blobs/x")?.ok_or("it is there")?;
        let right = all
            .chunks(2)
            .enumerate()
            .all(|(at, two)| two == [at as u8, 7]);
        check("in its order", right && all.len() as u64 == LONG * 2)?;
        own.remove(&["blobs/x".into()])?;
        check("removed", length("blobs/x", &own)?.is_none())?;
        check(
            "the next one is there",
            length("blobs/y", &own)? == Some(all.len()),
        )?;
        own.put("blobs/y", 2, b"!")?;
        check(
            "begun anew",
            shown(&own, "blobs/y")?.as_deref() == Some(&[0, 7, b'!'][..]),
        )
    })
    .await??;
    let most = sql.query_one("SELECT max(n) FROM touched", &[]).await?;
    let most: i64 = most.get(0);
    check(&format!("{most} chunks at once"), (1..=16).contains(&most))?;
    // The lease moves when some of a file is removed.
    sql.batch_execute(
        "CREATE FUNCTION lose() RETURNS TRIGGER LANGUAGE plpgsql AS \
         $$ BEGIN UPDATE lease SET number = number + 1; RETURN NULL; END $$; \
         CREATE TRIGGER lose AFTER DELETE ON kept_chunk FOR EACH STATEMENT EXECUTE FUNCTION lose()",
    )
    .await?;
    tokio::task::spawn_blocking(move || -> Result<(), Failed> {
        check("fenced", chunks.remove(&["blobs/z".into()]).is_err())?;
        let left = usize::try_from((LONG - 16) * 2)?;
        check("shorter", length("blobs/z", &chunks)? == Some(left))
    })
    .await?
}

/// What reads is asked once more when its server ends the connection, and not told to whoever asked.
pub async fn a_read_whose_connection_breaks_is_asked_once_more(url: String) -> Result<(), Failed> {
    let store = Arc::new(PostgresStore::open(&url, None).await?);
    let (mut holds, sql) = (client(&url).await?, client(&url).await?);
    let pid = holds.query_one("SELECT pg_backend_pid()", &[]).await?;
    let pid: i32 = pid.get(0);
    let blocked = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE $1 = ANY(pg_blocking_pids(pid))";
    for reads in ["the last place", "by its id"] {
        let lock = holds.transaction().await?;
        lock.batch_execute("LOCK TABLE head IN ACCESS EXCLUSIVE MODE")
            .await?;
        let (own, asked) = (store.clone(), fixture::observation(1));
        let reading = tokio::spawn(async move {
            match reads {
                "by its id" => own.look(asked.kind(), asked.id()).await.map(drop),
                _ => own.head().await.map(drop),
            }
        });
        let begun = Instant::now();
        loop {
            let ended = sql.query_one(blocked, &[&pid]).await?;
            if ended.get::<_, i64>(0) > 0 {
                break;
            }
            check("nothing waits", begun.elapsed() < PATIENCE)?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lock.rollback().await?;
        reading.await??;
    }
    Ok(())
}

/// Of the servers that a connection string names, one that refuses and one that never answers are passed over.
pub async fn a_server_that_is_named_and_away_is_passed_over(url: String) -> Result<(), Failed> {
    let (begin, rest) = url.split_once("127.0.0.1").ok_or("another host")?;
    let port = || -> io::Result<_> {
        let listens = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        Ok((listens.local_addr()?.port(), listens))
    };
    let ((refuses, listens), (silent, _listens)) = (port()?, port()?);
    drop(listens);
    let named = format!("{begin}127.0.0.1:{refuses},127.0.0.1:{silent},127.0.0.1{rest}");
    let store = PostgresStore::open(&named, None).await?;
    check("nothing is there", store.head().await? == 0)?;
    let (a, b) = (pair(&named).await?, pair(&url).await?);
    let lease = a.take("a", "a").await?.ok_or("the first is refused")?;
    check("another server", b.take("b", "b").await?.is_none())?;
    a.release(lease).await?;
    // And where none of them is there, that is said.
    let nobody = format!("{begin}127.0.0.1:{refuses},127.0.0.1:{silent}/x");
    match PostgresStore::open(&nobody, None).await {
        Err(error) if error.kind == Kind::Unavailable => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a server that is not there".into()),
    }
}
