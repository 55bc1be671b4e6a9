//! Every engine against the one suite: `cargo test --workspace --test contract`.
//!
//! An engine that is not asked for is reported as ignored; one asked for and out of reach fails.
#[path = "contract/away.rs"]
mod away;
#[path = "contract/linear.rs"]
mod linear;
#[path = "contract/pair.rs"]
mod pair;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use medmesh_fhir::contract::{Asked, CASES, Engine, Redelivering, fixture};
use medmesh_fhir::postgres::PostgresStore;
use medmesh_fhir::query::sql::TABLES;
use medmesh_fhir::sqlite::SqliteStore;
use medmesh_fhir::store::{Kind, ResourceStore};
use std::{env, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use types::{Secret, Timestamp};

/// The connection string of a PostgreSQL in which schemas may be made and dropped.
const POSTGRES: &str = "MEDMESH_TEST_POSTGRES_URL";
/// The file of the authority of its certificate, which is for the name `localhost` alone.
const POSTGRES_CA: &str = "MEDMESH_TEST_POSTGRES_CA";
/// The connection string of one that does not wait for its disk and speaks no TLS.
const POSTGRES_UNSAFE: &str = "MEDMESH_TEST_POSTGRES_UNSAFE_URL";

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let asked_for = env::var(POSTGRES).is_ok();
    for at in 0..CASES.len() {
        trials.push(trial("sqlite", true, at, |_| Box::new(Sqlite::new())));
        trials.push(trial("sqlite-redelivering", true, at, |_| {
            Box::new(Redelivered(Sqlite::new()))
        }));
        trials.push(trial("postgres", asked_for, at, |at| {
            Box::new(Postgres::new(at))
        }));
    }
    trials.push(linear("sqlite", true, || Box::new(Sqlite::new())));
    let at = CASES.len() + 2;
    trials.push(linear("postgres", asked_for, move || {
        Box::new(Postgres::new(at))
    }));
    trials.extend(pairs(at + 1, asked_for));
    let durable = || runtime()?.block_on(commits_wait_for_the_disk());
    let name =
        "resources::postgres::a_commit_waits_for_the_disk_whatever_the_connection_string_asks";
    trials.push(Trial::test(name, durable).with_ignored_flag(!asked_for));
    let known = || runtime()?.block_on(what_has_grown_is_known_to_the_planner());
    let name = "resources::postgres::what_has_grown_is_known_to_the_planner";
    trials.push(Trial::test(name, known).with_ignored_flag(!asked_for));
    let is_unsafe_there = env::var(POSTGRES_UNSAFE).is_ok();
    let refused = || runtime()?.block_on(what_does_not_wait_for_its_disk_is_refused());
    let name = "resources::postgres::a_server_that_does_not_wait_for_its_disk_is_refused";
    trials.push(Trial::test(name, refused).with_ignored_flag(!is_unsafe_there));
    let has_tls = is_unsafe_there && asked_for && env::var(POSTGRES_CA).is_ok();
    let tls = || runtime()?.block_on(tls_is_spoken_or_nothing());
    let name = "resources::postgres::where_tls_is_asked_for_a_known_authority_vouches_for_the_servers_name";
    trials.push(Trial::test(name, tls).with_ignored_flag(!has_tls));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(
    engine: &str,
    asked_for: bool,
    at: usize,
    fresh: impl FnOnce(usize) -> Box<dyn Engine> + Send + 'static,
) -> Trial {
    let case = &CASES[at];
    let name = format!("resources::{engine}::{}", case.name);
    let test = Trial::test(name, move || {
        runtime()?.block_on((case.run)(fresh(at).as_ref()));
        Ok(())
    });
    test.with_ignored_flag(!asked_for)
}

/// Of what two servers over one database promise together.
fn linear(
    engine: &str,
    asked_for: bool,
    fresh: impl FnOnce() -> Box<dyn Engine> + Send + 'static,
) -> Trial {
    let name =
        format!("resources::{engine}::of_clients_that_create_by_one_condition_one_is_answered_201");
    let test = move || {
        let engine = fresh();
        let promise =
            linear::of_clients_that_create_by_one_condition_one_is_answered_201(engine.as_ref());
        runtime()?.block_on(promise)
    };
    Trial::test(name, test).with_ignored_flag(!asked_for)
}

/// What is asked of the database of a connection string.
type Case = fn(String) -> BoxFuture<'static, Result<(), Failed>>;

/// Of what the nodes of one region share, and of the servers of its PostgreSQL.
fn cases_of_pairs() -> [(&'static str, Case); 18] {
    [
        ("of_two_nodes_one_writes", |url| {
            Box::pin(pair::of_two_nodes_one_writes(url))
        }),
        ("a_put_does_not_pass_one_that_takes_the_lease", |url| {
            Box::pin(pair::a_put_does_not_pass_one_that_takes_the_lease(url))
        }),
        (
            "a_holder_that_died_is_followed_at_once_by_itself_alone",
            |url| Box::pin(pair::a_holder_that_died_is_followed_at_once_by_itself_alone(url)),
        ),
        ("pages_are_read_as_they_were_put", |url| {
            Box::pin(pair::pages_are_read_as_they_were_put(url))
        }),
        ("an_assertion_is_good_at_one_node", |url| {
            Box::pin(pair::an_assertion_is_good_at_one_node(url))
        }),
        (
            "a_files_steps_are_done_once_they_are_in_postgresql",
            |url| {
                Box::pin(pair::a_files_steps_are_done_once_they_are_in_postgresql(
                    url,
                ))
            },
        ),
        ("what_a_fenced_node_delivers_is_not_stored", |url| {
            Box::pin(pair::what_a_fenced_node_delivers_is_not_stored(url))
        }),
        ("a_store_put_back_takes_nothing_of_clients", |url| {
            Box::pin(pair::a_store_put_back_takes_nothing_of_clients(url))
        }),
        ("rows_wait_in_their_order_until_they_are_forgotten", |url| {
            Box::pin(pair::rows_wait_in_their_order_until_they_are_forgotten(url))
        }),
        ("a_lease_lapses_by_the_clock_of_the_database", |url| {
            Box::pin(pair::a_lease_lapses_by_the_clock_of_the_database(url))
        }),
        ("a_renewal_that_is_not_answered_has_failed", |url| {
            Box::pin(pair::a_renewal_that_is_not_answered_has_failed(url))
        }),
        ("a_reader_has_one_axis_at_all_servers", |url| {
            Box::pin(pair::a_reader_has_one_axis_at_all_servers(url))
        }),
        (
            "bytes_of_files_are_kept_by_the_lease_and_read_as_one",
            |url| {
                Box::pin(pair::bytes_of_files_are_kept_by_the_lease_and_read_as_one(
                    url,
                ))
            },
        ),
        ("who_makes_tables_has_time_between_two_statements", |url| {
            Box::pin(pair::who_makes_tables_has_time_between_two_statements(url))
        }),
        ("long_files_are_read_and_removed_a_piece_at_a_time", |url| {
            Box::pin(pair::long_files_are_read_and_removed_a_piece_at_a_time(url))
        }),
        ("a_commit_in_a_pair_costs_so_much", |url| {
            Box::pin(pair::a_commit_in_a_pair_costs_so_much(url))
        }),
        ("a_read_whose_connection_breaks_is_asked_once_more", |url| {
            Box::pin(pair::a_read_whose_connection_breaks_is_asked_once_more(url))
        }),
        ("a_server_that_is_named_and_away_is_passed_over", |url| {
            Box::pin(pair::a_server_that_is_named_and_away_is_passed_over(url))
        }),
    ]
}

/// Of a holder, or a PostgreSQL, that is away.
fn cases_away() -> [(&'static str, Case); 5] {
    [
        (
            "a_holder_whose_connection_has_ended_is_followed_by_another_one",
            |url| {
                Box::pin(pair::a_holder_whose_connection_has_ended_is_followed_by_another_one(url))
            },
        ),
        (
            "what_finds_its_server_away_for_a_moment_is_answered",
            |url| {
                Box::pin(away::what_finds_its_server_away_for_a_moment_is_answered(
                    url,
                ))
            },
        ),
        (
            "a_write_is_done_again_unless_its_commit_was_asked_for",
            |url| {
                Box::pin(away::a_write_is_done_again_unless_its_commit_was_asked_for(
                    url,
                ))
            },
        ),
        ("a_lease_that_a_standby_never_had_is_nobodys", |url| {
            Box::pin(away::a_lease_that_a_standby_never_had_is_nobodys(url))
        }),
        (
            "pages_that_a_standby_never_had_are_put_there_again",
            |url| {
                Box::pin(away::pages_that_a_standby_never_had_are_put_there_again(
                    url,
                ))
            },
        ),
    ]
}

fn pairs(at: usize, asked_for: bool) -> Vec<Trial> {
    let trial = |(number, (name, case)): (usize, (&str, Case))| {
        let test = move || {
            runtime()?.block_on(async {
                let engine = Postgres::new(at + number);
                engine.make().await;
                case(engine.url()).await
            })
        };
        Trial::test(format!("pair::postgres::{name}"), test).with_ignored_flag(!asked_for)
    };
    cases_of_pairs()
        .into_iter()
        .chain(cases_away())
        .enumerate()
        .map(trial)
        .collect()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

async fn commits_wait_for_the_disk() -> Result<(), Failed> {
    let engine = Postgres::new(CASES.len());
    engine.make().await;
    let url = engine.url();
    let off = match url.strip_suffix('\'') {
        Some(url) => format!("{url} -csynchronous_commit=off'"),
        None => format!("{url}%20-csynchronous_commit%3Doff"),
    };
    let store = PostgresStore::open(&off, None).await?;
    match store.commit_waits_for().await?.as_str() {
        "on" => Ok(()),
        other => Err(format!("a commit waits for {other}").into()),
    }
}

/// Without the engine's own daemon, which comes by after a minute or so.
async fn what_has_grown_is_known_to_the_planner() -> Result<(), Failed> {
    let engine = Postgres::new(CASES.len() + 40);
    engine.make().await;
    let store = PostgresStore::open(&engine.url(), None).await?;
    let (sql, connection) = tokio_postgres::connect(&engine.url(), NoTls).await?;
    tokio::spawn(connection);
    sql.batch_execute("ALTER TABLE resource SET (autovacuum_enabled = false)")
        .await?;
    // Of a table that was never looked at the engine says -1.
    let known = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'resource'::regclass";
    for (number, most) in [(0, 400), (1, 1_300)] {
        let delivery = fixture::delivery(number, number * 400..most);
        store.apply(vec![delivery], Timestamp(0)).await?;
        let mut found: i64 = -1;
        for _ in 0..600 {
            found = sql.query_one(known, &[]).await?.get(0);
            if found >= i64::from(most) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if found < i64::from(most) {
            return Err(format!("of {most} rows {found} are known").into());
        }
    }
    Ok(())
}

async fn what_does_not_wait_for_its_disk_is_refused() -> Result<(), Failed> {
    match PostgresStore::open(&env::var(POSTGRES_UNSAFE)?, None).await {
        Err(error) if error.kind == Kind::Refused => Ok(()),
        Err(error) => Err(format!("refused as {error}").into()),
        Ok(_) => Err("a server without fsync was taken".into()),
    }
}

async fn tls_is_spoken_or_nothing() -> Result<(), Failed> {
    let engine = Postgres::new(CASES.len() + 1);
    engine.make().await;
    let file = PathBuf::from(env::var(POSTGRES_CA)?);
    let authority = std::fs::read(&file)?;
    // Of the same folder, and no issuer of what the server shows.
    let other = std::fs::read(file.with_file_name("server.pem"))?;
    let with_tls = |url: &str| {
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}sslmode=require")
    };
    let by_address = with_tls(&engine.url());
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let store = PostgresStore::open(&by_name, Some(&authority)).await?;
    if !store.speaks_tls().await? {
        return Err("TLS was asked for and is not spoken".into());
    }
    let no_tls = with_tls(&env::var(POSTGRES_UNSAFE)?).replace("127.0.0.1", "localhost");
    for (what, url, authority) in [
        ("another authority", &by_name, &other),
        ("a certificate for another name", &by_address, &authority),
        ("a server without TLS", &no_tls, &authority),
    ] {
        if PostgresStore::open(url, Some(authority)).await.is_ok() {
            return Err(format!("{what} was taken").into());
        }
    }
    Ok(())
}

struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.0.path().join("fhir.db")).expect("its file")
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn open_bounded(&self, most_pending: u64) -> Arc<dyn ResourceStore> {
        let path = self.0.path().join("fhir.db");
        Arc::new(
            SqliteStore::open_bounded(&path, Secret::default(), most_pending).expect("a store"),
        )
    }

    async fn cost(&self, asked: &Asked) -> u64 {
        let store = SqliteStore::open(&self.0.path().join("fhir.db")).expect("a store");
        store.cost(asked).await.expect("its instructions")
    }

    fn most_of_a_row(&self) -> u64 {
        150
    }

    fn searches_by_the_page(&self) -> bool {
        false
    }

    // It has no statistics.
    async fn settled(&self) {}

    async fn run(&self, sql: &str) {
        self.file().execute_batch(sql).expect("it runs");
    }

    async fn number(&self, sql: &str) -> i64 {
        let found = self.file().query_row(sql, [], |row| row.get(0));
        found.expect("a number")
    }
}

struct Redelivered(Sqlite);

#[async_trait]
impl Engine for Redelivered {
    async fn open_bounded(&self, most_pending: u64) -> Arc<dyn ResourceStore> {
        Arc::new(Redelivering(self.0.open_bounded(most_pending).await))
    }

    async fn cost(&self, asked: &Asked) -> u64 {
        self.0.cost(asked).await
    }

    fn most_of_a_row(&self) -> u64 {
        self.0.most_of_a_row()
    }

    fn searches_by_the_page(&self) -> bool {
        self.0.searches_by_the_page()
    }

    async fn settled(&self) {
        self.0.settled().await;
    }

    async fn run(&self, sql: &str) {
        self.0.run(sql).await;
    }

    async fn number(&self, sql: &str) -> i64 {
        self.0.number(sql).await
    }
}

/// A schema of its own for each case, emptied before.
struct Postgres {
    url: String,
    schema: String,
    made: tokio::sync::OnceCell<()>,
}

impl Postgres {
    fn new(at: usize) -> Self {
        Self {
            url: env::var(POSTGRES).expect("asked for: the connection string"),
            schema: format!("medmesh_contract_{at}"),
            made: tokio::sync::OnceCell::new(),
        }
    }

    async fn make(&self) {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .expect("PostgreSQL is reached");
        let connection = tokio::spawn(connection);
        let schema = &self.schema;
        let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
        client.batch_execute(&sql).await.expect("a schema");
        drop(client);
        let _ = connection.await;
    }

    /// A connection of its own, and what works on it.
    async fn connected(&self) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls)
            .await
            .expect("PostgreSQL is reached");
        let working = tokio::spawn(async move { drop(connection.await) });
        (client, working)
    }

    fn url(&self) -> String {
        let schema = &self.schema;
        if !self.url.contains("://") {
            return format!("{} options='-csearch_path={schema}'", self.url);
        }
        let mark = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{mark}options=-csearch_path%3D{schema}", self.url)
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn open_bounded(&self, most_pending: u64) -> Arc<dyn ResourceStore> {
        self.made.get_or_init(|| self.make()).await;
        let store = PostgresStore::open_bounded(&self.url(), None, most_pending).await;
        Arc::new(store.expect("a store"))
    }

    async fn cost(&self, asked: &Asked) -> u64 {
        let store = PostgresStore::open(&self.url(), None).await;
        let cost = store.expect("a store").cost(asked).await;
        cost.expect("its blocks")
    }

    /// An index is three or four blocks deep, and a row is of two of them and of a table.
    fn most_of_a_row(&self) -> u64 {
        12
    }

    fn searches_by_the_page(&self) -> bool {
        true
    }

    async fn settled(&self) {
        let (sql, connection) = tokio_postgres::connect(&self.url(), NoTls)
            .await
            .expect("PostgreSQL is reached");
        let connection = tokio::spawn(connection);
        let searched = TABLES.iter().map(|table| table.name);
        for table in ["resource", "history"].into_iter().chain(searched) {
            let looked = sql.batch_execute(&format!("ANALYZE {table}")).await;
            looked.expect("it looks at a table");
        }
        drop(sql);
        let _ = connection.await;
    }

    async fn run(&self, sql: &str) {
        let (client, connection) = self.connected().await;
        client.batch_execute(sql).await.expect("it runs");
        drop(client);
        let _ = connection.await;
    }

    async fn number(&self, sql: &str) -> i64 {
        let (client, connection) = self.connected().await;
        let row = client.query_one(sql, &[]).await.expect("a row");
        drop(client);
        let _ = connection.await;
        row.get(0)
    }
}
