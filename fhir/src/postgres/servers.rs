//! The servers that one connection string names: one, or a primary and its standbys, of which one is promoted when the
//! primary fails. Who promotes is not decided here; connections are to whichever takes writes now.
//!
//! A primary that returns after another server was promoted still takes writes, and knows nothing of it. PostgreSQL begins a
//! new timeline with each promotion: a server on an older one than was seen is not worked with, and what is connected to it is
//! ended; so it is with two that were both promoted to one timeline, until one of them is stopped.
//! All are asked before one is chosen, so that a node that has seen nothing yet chooses the newest. What a node has seen it
//! knows after a restart too ([`Newest`]). Where the old primary is all that a node reaches that has never seen the new one,
//! it is that server's commits that are not answered: they wait for a standby (`synchronous_standby_names`), which has
//! followed another server since.
use super::timeline::{Newest, TIMELINE_FILE, Worked};
use deadpool_postgres::Connect;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::{
    Client, Config, Error, NoTls,
    config::{Host, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;

mod known;

use known::{Known, Said, Unchosen};

/// A server that does not answer by then is not there now. Less than a connection may take as a whole ([`super::connect`]).
const ANSWERS: Duration = Duration::from_secs(4);
/// How long the others are waited for once one of them takes writes.
const OTHERS: Duration = Duration::from_secs(1);
/// How long a server that takes writes is looked for where there is none: a promotion takes less.
const BRIDGED: Duration = Duration::from_millis(700);
/// Between two looks for one.
const AGAIN: Duration = Duration::from_millis(50);
/// How often each of several servers is asked what it is.
const WATCHED: Duration = Duration::from_millis(250);

/// Whether it takes writes, on which timeline, whose copy it is, and since when it runs.
const ASK: &str = "SELECT current_setting('transaction_read_only') = 'off', CASE WHEN pg_is_in_recovery() THEN 0 \
     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END, \
     (SELECT system_identifier FROM pg_control_system()), \
     (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";

/// A connection, and the task that drives it.
type Link = (Client, JoinHandle<()>);

/// One of them.
struct Server {
    config: Config,
    /// Host and port, for people.
    name: String,
    /// Changes when what is connected to it is to end.
    left: watch::Sender<()>,
    /// Whether it was said that it takes writes and is not worked with.
    said: AtomicBool,
    /// Whether it takes writes on an older timeline than was worked with before this process began.
    is_left: AtomicBool,
}

/// See the head of this file.
pub(super) struct Servers {
    all: Vec<Server>,
    tls: Option<MakeRustlsConnect>,
    known: Mutex<Known>,
    newest: Arc<Newest>,
    /// One looks at all of them at a time.
    choosing: tokio::sync::Mutex<()>,
}

impl Servers {
    /// Those of a configuration, each with what `set` makes of its own, for a node that keeps the newest timeline.
    pub fn of(
        config: &Config,
        tls: Option<ClientConfig>,
        newest: Arc<Newest>,
        set: impl Fn(&mut Config),
    ) -> Arc<Self> {
        let server = |mut config: Config| {
            set(&mut config);
            Server {
                name: name(&config),
                config,
                left: watch::Sender::new(()),
                said: AtomicBool::new(false),
                is_left: AtomicBool::new(false),
            }
        };
        Arc::new(Self {
            all: each(config).into_iter().map(server).collect(),
            tls: tls.map(MakeRustlsConnect::new),
            known: Mutex::new(Known {
                before: newest.worked(),
                ..Known::default()
            }),
            newest,
            choosing: tokio::sync::Mutex::new(()),
        })
    }

    /// Host and port of each.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|server| &server.name[..])
    }

    /// Looks at each of several from time to time, until the last one who uses them is gone.
    pub fn watch(self: &Arc<Self>) {
        if self.all.len() > 1 {
            for at in 0..self.all.len() {
                tokio::spawn(watched(Arc::downgrade(self), at));
            }
        }
    }

    /// A connection to one of them, whatever it is.
    pub async fn dial(&self, at: usize) -> Result<Link, Error> {
        self.dial_for(at, TargetSessionAttrs::Any).await
    }

    async fn dial_for(&self, at: usize, is: TargetSessionAttrs) -> Result<Link, Error> {
        let Some(server) = self.all.get(at) else {
            return nowhere().await;
        };
        let left = server.left.subscribe();
        let mut config = server.config.clone();
        config.target_session_attrs(is);
        Ok(match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, driven(connection, left))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, driven(connection, left))
            }
        })
    }

    /// A connection to the one that takes writes.
    async fn open(&self) -> Result<Link, Error> {
        if self.all.len() == 1 {
            return self.dial_for(0, TargetSessionAttrs::ReadWrite).await;
        }
        let begun = Instant::now();
        loop {
            let opened = self.open_now().await;
            match opened.and_then(|link| self.kept(link)) {
                Ok(link) => return Ok(link),
                Err(why) if begun.elapsed() > BRIDGED => {
                    return match why {
                        Some(error) => Err(error),
                        None => nowhere().await,
                    };
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// A connection to the one that is worked with, once its timeline is kept: whatever is done there, is done with that.
    fn kept(&self, link: Link) -> Result<Link, Option<Error>> {
        let (system, timeline) = {
            let known = self.known.lock();
            (known.system, known.timeline)
        };
        let kept = match system {
            Some(system) => self.newest.keep(Worked { system, timeline }),
            None => Ok(true),
        };
        match kept {
            Ok(true) => return Ok(link),
            // Others of this process have seen a newer one.
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, file = TIMELINE_FILE, "the timeline of PostgreSQL cannot be kept: it is not worked with");
            }
        }
        link.1.abort();
        Err(None)
    }

    /// The name of one that takes writes on an older timeline than was worked with before this process began, if one was seen.
    pub fn left_behind(&self) -> Option<(&str, Worked)> {
        let before = self.known.lock().before?;
        let left = self.all.iter();
        let mut left = left.filter(|server| server.is_left.load(Ordering::Relaxed));
        left.next().map(|server| (server.name.as_str(), before))
    }

    async fn open_now(&self) -> Result<Link, Option<Error>> {
        let current = self.known.lock().current;
        if let Some(at) = current
            && let Ok((link, said)) = self.look(at).await
        {
            if self.known.lock().goes_on(at, &said) {
                return Ok(link);
            }
            link.1.abort();
        }
        let _alone = self.choosing.lock().await;
        self.choose().await
    }

    /// Asks all of them, and gives the connection to the one that is worked with from now on.
    async fn choose(&self) -> Result<Link, Option<Error>> {
        let looks = (0..self.all.len()).map(|at| async move { (at, self.look(at).await) });
        let mut looks: FuturesUnordered<_> = looks.collect();
        let (mut found, mut why) = (Vec::new(), None);
        let mut until = Instant::now() + ANSWERS;
        while let Ok(Some((at, looked))) = timeout_at(until, looks.next()).await {
            match looked {
                Ok((link, said)) => {
                    found.push((at, link, said));
                    let known = self.known.lock();
                    if !known.admits(&said) {
                        continue;
                    }
                    // Promoted since: whatever else there is, is older.
                    if known.timeline > 0 && said.timeline > known.timeline {
                        break;
                    }
                    until = until.min(Instant::now() + OTHERS);
                }
                Err(error) => why = error.or(why),
            }
        }
        drop(looks);
        let said: Vec<_> = found.iter().map(|(at, _, said)| (*at, *said)).collect();
        let (before, chosen) = {
            let mut known = self.known.lock();
            (known.current, known.choose(&said))
        };
        self.complain(&said, chosen);
        let mut kept = None;
        for (at, link, _) in found {
            match chosen {
                Ok(chosen) if chosen == at => kept = Some(link),
                _ => link.1.abort(),
            }
        }
        if let (Ok(at), Some(left)) = (chosen, before)
            && left != at
        {
            self.leave(left);
        }
        if chosen.is_ok_and(|at| before != Some(at)) {
            self.tell();
        }
        kept.ok_or(why)
    }

    /// What one of them is. None where it does not answer in time, or is left meanwhile.
    async fn look(&self, at: usize) -> Result<(Link, Said), Option<Error>> {
        let Some(server) = self.all.get(at) else {
            return Err(None);
        };
        let mut left = server.left.subscribe();
        let looked = async {
            match timeout(ANSWERS, self.dial(at)).await {
                Ok(Ok(link)) => asked(link).await,
                Ok(Err(error)) => Err(Some(error)),
                Err(_) => Err(None),
            }
        };
        tokio::select! {
            looked = looked => looked,
            Ok(()) = left.changed() => Err(None),
        }
    }

    /// Asks one of them by a connection that is kept for that; the connection, unless it is of no use any more.
    async fn hear(&self, at: usize, held: Option<Link>) -> Option<Link> {
        let looked = match held.filter(|(client, _)| !client.is_closed()) {
            Some(link) => asked(link).await,
            None => self.look(at).await,
        };
        let (link, said) = looked.ok()?;
        let left = self.known.lock().learn(at, &said);
        if let Some(left) = left {
            self.leave(left);
            self.tell();
        }
        self.complain(&[(at, said)], Err(Unchosen::None));
        Some(link)
    }

    /// Ends what is connected to one of them: its statements fail, and whoever asked finds another.
    fn leave(&self, at: usize) {
        if let Some(server) = self.all.get(at) {
            server.left.send_replace(());
        }
    }

    fn tell(&self) {
        let (current, timeline) = {
            let known = self.known.lock();
            (known.current, known.timeline)
        };
        match current.and_then(|at| self.all.get(at)) {
            Some(server) => {
                tracing::info!(
                    server = server.name,
                    timeline,
                    "this PostgreSQL is worked with"
                );
            }
            None => tracing::warn!("the PostgreSQL that was worked with is left"),
        }
    }

    /// Says of each that takes writes and is not worked with, once until that changes.
    fn complain(&self, said: &[(usize, Said)], chosen: Result<usize, Unchosen>) {
        for (at, said) in said {
            let (Some(server), is_admitted) = (self.all.get(*at), self.known.lock().admits(said))
            else {
                continue;
            };
            let is_refused = said.writes && (!is_admitted || chosen == Err(Unchosen::Several));
            let before = self.newest.worked();
            let was_left = before.is_some_and(|before| said.worked().is_before(&before));
            server
                .is_left
                .store(said.writes && was_left, Ordering::Relaxed);
            if is_refused && !server.said.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    server = server.name,
                    timeline = said.timeline,
                    "this PostgreSQL takes writes and is not the one of this region: stop it"
                );
            } else if !said.writes {
                server.said.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// How the pool is given connections.
pub(super) struct Reach(pub Arc<Servers>);

impl Connect for Reach {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<Link, Error>> {
        Box::pin(self.0.open())
    }
}

async fn watched(servers: Weak<Servers>, at: usize) {
    let mut held = None;
    loop {
        sleep(WATCHED).await;
        let Some(servers) = servers.upgrade() else {
            return;
        };
        held = servers.hear(at, held).await;
    }
}

async fn asked(link: Link) -> Result<(Link, Said), Option<Error>> {
    let asked = timeout(ANSWERS, link.0.query_one(ASK, &[])).await;
    match asked {
        Ok(Ok(row)) => {
            let said = Said {
                writes: row.get(0),
                timeline: row.get(1),
                system: row.get(2),
                since: row.get(3),
            };
            Ok((link, said))
        }
        Ok(Err(error)) => {
            link.1.abort();
            Err(Some(error))
        }
        Err(_) => {
            link.1.abort();
            Err(None)
        }
    }
}

/// Drives a connection until it ends, or its server is left.
fn driven(
    connection: impl Future<Output = Result<(), Error>> + Send + 'static,
    mut left: watch::Receiver<()>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            ended = connection => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "a connection to PostgreSQL ended");
                }
            }
            Ok(()) = left.changed() => {}
        }
    })
}

/// What the driver says where nothing is named.
async fn nowhere() -> Result<Link, Error> {
    let (client, connection) = Config::new().connect(NoTls).await?;
    let (_, left) = watch::channel(());
    Ok((client, driven(connection, left)))
}

/// A configuration for each server that one names.
fn each(config: &Config) -> Vec<Config> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let count = hosts.len().max(addresses.len());
    if count < 2 {
        return vec![config.clone()];
    }
    let one = |at: usize| {
        let mut own = Config::new();
        match hosts.get(at) {
            Some(Host::Tcp(name)) => _ = own.host(name.clone()),
            Some(Host::Unix(path)) => _ = own.host_path(path),
            None => {}
        }
        if let Some(address) = addresses.get(at) {
            own.hostaddr(*address);
        }
        let ports = config.get_ports();
        if let Some(port) = ports.get(at).or_else(|| ports.first()) {
            own.port(*port);
        }
        if let Some(user) = config.get_user() {
            own.user(user);
        }
        if let Some(password) = config.get_password() {
            own.password(password);
        }
        if let Some(database) = config.get_dbname() {
            own.dbname(database);
        }
        if let Some(options) = config.get_options() {
            own.options(options);
        }
        if let Some(name) = config.get_application_name() {
            own.application_name(name);
        }
        own.ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .keepalives(config.get_keepalives());
        own
    };
    (0..count).map(one).collect()
}

fn name(config: &Config) -> String {
    let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Tcp(name)), _) => name.clone(),
        (Some(Host::Unix(path)), _) => path.display().to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_of_a_connection_string_has_its_own_configuration() {
        let names = |url: &str| {
            let config: Config = url.parse().unwrap();
            let servers = Servers::of(&config, None, Newest::nowhere(), |config| {
                config.options("-cx=1");
            });
            for server in &servers.all {
                assert_eq!(server.config.get_user(), Some("m"));
                assert_eq!(server.config.get_dbname(), Some("x"));
                assert_eq!(server.config.get_options(), Some("-cx=1"));
            }
            let names: Vec<_> = servers.names().map(str::to_owned).collect();
            names.join(" ")
        };
        let read_write = "?target_session_attrs=read-write";
        for (url, expected) in [
            ("postgres://m@a/x".to_owned(), "a:5432"),
            (format!("postgres://m@a:1,b:2/x{read_write}"), "a:1 b:2"),
            ("host=a,b port=3 user=m dbname=x".to_owned(), "a:3 b:3"),
            (
                "host=/run/a,b port=3,4 user=m dbname=x".to_owned(),
                "/run/a:3 b:4",
            ),
        ] {
            assert_eq!(names(&url), expected);
        }
    }
}
