//! What is promised while a PostgreSQL is away for a moment: what surely did nothing is done again, and nothing else.
use super::pair::{check, client, pair, write};
use libtest_mimic::Failed;
use medmesh_fhir::{
    contract::fixture,
    postgres::{LEASE, Noted, Pages, PostgresStore},
    store::{Kind, ResourceStore, Transacted},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};
use storage::replica::Replica;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Connections that are closed at once after a cut.
const REFUSED: u32 = 3;

/// A way to a server that may be cut.
struct Way {
    url: String,
    cut: watch::Sender<()>,
    refuses: Arc<AtomicU32>,
}

impl Way {
    /// To the server of a connection string.
    async fn to(url: &str) -> Result<Self, Failed> {
        let (begin, rest) = url.split_once("127.0.0.1:").ok_or("another host")?;
        let end = rest.find(|next: char| !next.is_ascii_digit());
        let (port, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let port: u16 = port.parse()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let (cut, refuses) = (watch::Sender::new(()), Arc::<AtomicU32>::default());
        let (ends, left) = (cut.clone(), refuses.clone());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let less = |left: u32| left.checked_sub(1);
                if left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                    .is_ok()
                {
                    continue;
                }
                let mut ended = ends.subscribe();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::select! {
                        carried = copy_bidirectional(&mut from, &mut to) => carried.map(drop),
                        _ = ended.changed() => Ok(()),
                    }
                });
            }
        });
        let url = format!("{begin}127.0.0.1:{own}{rest}");
        Ok(Self { url, cut, refuses })
    }

    /// Ends what is connected, and closes the next few connections.
    fn cut(&self) {
        self.refuses.store(REFUSED, Ordering::SeqCst);
        self.cut.send_replace(());
    }

    /// Whether all of these were closed.
    fn is_tried(&self) -> Result<(), Failed> {
        check("not cut", self.refuses.load(Ordering::SeqCst) == 0)
    }
}

/// Whatever may be done twice or surely was not done is answered once the server is there again.
pub async fn what_finds_its_server_away_for_a_moment_is_answered(
    url: String,
) -> Result<(), Failed> {
    let way = Way::to(&url).await?;
    let store = PostgresStore::open(&way.url, None).await?;
    let node = pair(&way.url).await?;
    let lease = node.take("a", "a").await?.ok_or("refused")?;
    let asked = fixture::observation(1);
    way.cut();
    check("the last place", store.head().await? == 0)?;
    way.is_tried()?;
    way.cut();
    let (found, _) = store.look(asked.kind(), asked.id()).await?;
    check("by its id", found.is_none())?;
    way.is_tried()?;
    way.cut();
    check("shown", store.reach("r", 5).await?.marks() == [5])?;
    way.is_tried()?;
    way.cut();
    let done = write(&store, "a").await;
    check("written", matches!(done, Ok(Transacted::Done(_))))?;
    way.is_tried()?;
    way.cut();
    node.put_rows(&[1], &[1], &[1]).await?;
    way.is_tried()?;
    way.cut();
    let page = [(1, vec![1; 4])];
    check("put", node.put(lease, "a.db", (4, 1), &page, None).await?)?;
    way.is_tried()?;
    way.cut();
    let noted = node.note_assertion(("k", "1"), (100, 0), 2).await?;
    check("used", noted == Noted::First)?;
    way.is_tried()?;
    // A holder that reads what is its own asks for its lease first, and so is told late as well.
    let pages = Pages::new(Arc::new(node), lease, begun()?);
    way.cut();
    let newest = tokio::task::spawn_blocking(move || pages.is_newest()).await?;
    check("its own", newest.is_ok())?;
    way.is_tried()
}

/// When a lease was asked for that nobody believes any more.
fn begun() -> Result<Instant, Failed> {
    let begun = Instant::now().checked_sub(LEASE);
    begun.ok_or_else(|| "this machine has just started".into())
}

/// Ends the server's process that fires it, the first so many times.
const ENDS: &str = "CREATE SEQUENCE tries; CREATE FUNCTION ends() RETURNS TRIGGER LANGUAGE plpgsql AS \
     $$ BEGIN IF nextval('tries') <= TG_ARGV[0]::bigint THEN PERFORM pg_terminate_backend(pg_backend_pid()); \
     PERFORM pg_sleep(60); END IF; RETURN NULL; END $$;";

/// A write whose connection ends before its commit was asked for is done again, and once; one whose commit was asked for
/// is not, since it may be there: that is said.
pub async fn a_write_is_done_again_unless_its_commit_was_asked_for(
    url: String,
) -> Result<(), Failed> {
    let store = PostgresStore::open(&url, None).await?;
    let sql = client(&url).await?;
    let tries = async || -> Result<i64, Failed> {
        let row = sql.query_one("SELECT last_value FROM tries", &[]).await?;
        Ok(row.get(0))
    };
    sql.batch_execute(ENDS).await?;
    sql.batch_execute(
        "CREATE TRIGGER ends BEFORE INSERT ON resource FOR EACH STATEMENT EXECUTE FUNCTION ends(2)",
    )
    .await?;
    let done = write(&store, "a").await;
    check("not done", matches!(done, Ok(Transacted::Done(_))))?;
    check("tried", tries().await? == 3)?;
    check("once", store.head().await? == 1)?;
    sql.batch_execute(
        "DROP TRIGGER ends ON resource; ALTER SEQUENCE tries RESTART; \
         CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON resource DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION ends(9)",
    )
    .await?;
    let refused = write(&store, "b").await.err();
    check("said", refused == Some(Kind::Unavailable))?;
    check("tried again", tries().await? == 1)?;
    sql.batch_execute("DROP TRIGGER ends ON resource").await?;
    let done = write(&store, "b").await;
    check("then", matches!(done, Ok(Transacted::Done(_))))
}

/// A standby that is promoted without the last take does not know it: what is taken there is another lease.
pub async fn a_lease_that_a_standby_never_had_is_nobodys(url: String) -> Result<(), Failed> {
    let (a, b, sql) = (pair(&url).await?, pair(&url).await?, client(&url).await?);
    let first = a.take("a", "a").await?.ok_or("refused")?;
    sql.batch_execute("UPDATE lease SET until = clock_timestamp()")
        .await?;
    let lost = b.take("b", "b").await?.ok_or("it has lapsed")?;
    let before =
        "UPDATE lease SET number = $1, holder = 'a', node = 'a', until = clock_timestamp()";
    sql.execute(before, &[&first]).await?;
    let next = a.take("a", "a").await?.ok_or("it has lapsed")?;
    check("it grows", next > first)?;
    check("two renew it", !b.renew(lost).await?)?;
    let page = [(1, vec![1; 4])];
    check("two put", !b.put(lost, "a.db", (4, 1), &page, None).await?)
}

/// A standby that is promoted without the last changes of a file takes no further one, which would be about pages that it has
/// not, but all of the file; and who follows finds it changed.
pub async fn pages_that_a_standby_never_had_are_put_there_again(url: String) -> Result<(), Failed> {
    let (node, sql) = (pair(&url).await?, client(&url).await?);
    let lease = node.take("a", "a").await?.ok_or("refused")?;
    let put = |page: u32, fill: u8| {
        let node = &node;
        async move {
            let pages = [(page, vec![fill; 4])];
            node.put(lease, "a.db", (4, 2), &pages, None).await
        }
    };
    for (page, fill) in [(1, 1), (2, 1), (1, 2)] {
        check("put", put(page, fill).await?)?;
    }
    // As it was before the last one.
    sql.batch_execute(
        "UPDATE kept_file SET number = 2; UPDATE kept_page SET number = 1, bytes = 'aaaa' WHERE page = 1",
    )
    .await?;
    let refused = put(2, 3).await.err().map(|error| error.kind);
    check("put on what is older", refused == Some(Kind::Corrupt))?;
    let all = &mut [Ok((1_u32, vec![2_u8; 4])), Ok((2, vec![3; 4]))].into_iter();
    let put_all = node.put_whole(lease, "a.db", (4, 2), all, None);
    check("all of it", put_all.await?)?;
    let mut changed = Vec::new();
    let mut see = |_, page, _: &[u8]| {
        changed.push(page);
        Ok(())
    };
    node.changed_since("a.db", 3, &mut see).await?;
    changed.sort_unstable();
    check("changed", changed == [1, 2])?;
    check("and the next", put(1, 4).await?)
}
