//! The servers that one connection string names: one, or a primary and its standbys, of which one is promoted when the
//! primary fails. Who promotes is not decided here; connections are to whichever takes writes now.
//!
//! A primary that returns after another server was promoted still takes writes, and knows nothing of it. PostgreSQL begins a
//! new timeline with each promotion: a server on an older one than was seen is not worked with, and what is connected to it is
//! ended; so it is with two that were both promoted to one timeline, until one of them is stopped.
//! All are asked before one is chosen, so that a node that has seen nothing yet chooses the newest. Where the old
//! primary is all that such a node reaches, it is that server's commits that are not answered: they wait for a standby
//! (`synchronous_standby_names`), which has followed another server since.
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

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    writes: bool,
    /// 0 of one that takes no writes.
    timeline: i32,
    /// The same for a server and its copies.
    system: i64,
    /// In µs since 1970: of two addresses of one server the same.
    since: i64,
}

/// What is known of all of them together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    system: Option<i64>,
    /// The newest on which a server took writes.
    timeline: i32,
    /// Since when the one that is worked with runs.
    since: i64,
    /// The one that is worked with.
    current: Option<usize>,
}

/// No server can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unchosen {
    /// None takes writes on the newest timeline.
    None,
    /// More than one does.
    Several,
}

impl Known {
    fn admits(&self, said: &Said) -> bool {
        let is_own = self.system.is_none_or(|own| own == said.system);
        said.writes && said.timeline >= self.timeline && is_own
    }

    /// The one to work with from now on.
    fn choose(&mut self, said: &[(usize, Said)]) -> Result<usize, Unchosen> {
        let fit = said.iter().filter(|(_, said)| self.admits(said));
        let newest = fit.clone().max_by_key(|(at, said)| {
            // The first that was named of two that are as new.
            (said.timeline, std::cmp::Reverse(*at))
        });
        let &(at, chosen) = newest.ok_or(Unchosen::None)?;
        let is_other = |said: &Said| {
            let is_same = said.since == chosen.since && said.system == chosen.system;
            let is_older = said.system == chosen.system && said.timeline < chosen.timeline;
            !is_same && !is_older
        };
        if fit.clone().any(|(_, said)| is_other(said)) {
            return Err(Unchosen::Several);
        }
        *self = Self {
            system: Some(chosen.system),
            timeline: chosen.timeline,
            since: chosen.since,
            current: Some(at),
        };
        Ok(at)
    }

    /// Takes in what one of them says between two choices. The one that is worked with no longer, if there is one.
    fn learn(&mut self, at: usize, said: &Said) -> Option<usize> {
        let is_current = self.current == Some(at);
        if is_current && !self.admits(said) {
            return self.current.take();
        }
        if !self.admits(said) || self.system.is_none() {
            return None;
        }
        if !is_current && said.timeline == self.timeline {
            // Both were promoted. Two names of one server that has just begun anew are found to be one by the next choice.
            return self.current.take_if(|_| said.since != self.since);
        }
        (self.timeline, self.since) = (said.timeline, said.since);
        let before = self.current.replace(at);
        before.filter(|_| !is_current)
    }
}

/// One of them.
struct Server {
    config: Config,
    /// Host and port, for people.
    name: String,
    /// Changes when what is connected to it is to end.
    left: watch::Sender<()>,
    /// Whether it was said that it takes writes and is not worked with.
    said: AtomicBool,
}

/// See the head of this file.
pub(super) struct Servers {
    all: Vec<Server>,
    tls: Option<MakeRustlsConnect>,
    known: Mutex<Known>,
    /// One looks at all of them at a time.
    choosing: tokio::sync::Mutex<()>,
}

impl Servers {
    /// Those of a configuration, each with what `set` makes of its own.
    pub fn of(config: &Config, tls: Option<ClientConfig>, set: impl Fn(&mut Config)) -> Arc<Self> {
        let server = |mut config: Config| {
            set(&mut config);
            Server {
                name: name(&config),
                config,
                left: watch::Sender::new(()),
                said: AtomicBool::new(false),
            }
        };
        Arc::new(Self {
            all: each(config).into_iter().map(server).collect(),
            tls: tls.map(MakeRustlsConnect::new),
            known: Mutex::default(),
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
            match self.open_now().await {
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

    async fn open_now(&self) -> Result<Link, Option<Error>> {
        let current = self.known.lock().current;
        if let Some(at) = current
            && let Ok((link, said)) = self.look(at).await
        {
            if self.known.lock().admits(&said) {
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

    fn primary(timeline: i32) -> Said {
        Said {
            writes: true,
            timeline,
            system: 7,
            since: i64::from(timeline),
        }
    }

    const STANDBY: Said = Said {
        writes: false,
        timeline: 0,
        system: 7,
        since: 100,
    };

    #[test]
    fn the_one_that_takes_writes_on_the_newest_timeline_is_chosen_and_an_older_one_never_again() {
        let mut known = Known::default();
        assert_eq!(known.choose(&[(0, STANDBY)]), Err(Unchosen::None));
        assert_eq!(known.choose(&[(1, STANDBY), (0, primary(1))]), Ok(0));
        // The old primary has returned, and is named first.
        let both = [(0, primary(1)), (1, primary(2))];
        assert_eq!(known.choose(&both), Ok(1));
        assert_eq!(known.choose(&both[..1]), Err(Unchosen::None));
        assert_eq!(Known::default().choose(&both), Ok(1));
        // It follows the new one now; and a server of another cluster is nobody's.
        assert_eq!(known.choose(&[(0, STANDBY), (1, primary(2))]), Ok(1));
        let foreign = Said {
            system: 8,
            ..primary(9)
        };
        assert_eq!(known.choose(&[(0, foreign)]), Err(Unchosen::None));
    }

    #[test]
    fn of_two_that_were_both_promoted_none_is_chosen_and_two_names_of_one_are_one() {
        let twin = Said {
            since: 50,
            ..primary(2)
        };
        let foreign = Said {
            system: 8,
            ..primary(1)
        };
        for two in [twin, foreign] {
            let mut known = Known::default();
            let said = [(0, primary(2)), (1, two)];
            assert_eq!(known.choose(&said), Err(Unchosen::Several), "{two:?}");
            assert_eq!(known, Known::default());
        }
        let same = [(1, primary(2)), (0, primary(2))];
        assert_eq!(Known::default().choose(&same), Ok(0));
    }

    #[test]
    fn the_one_in_use_is_left_once_another_was_promoted_to_its_timeline_too() {
        let anew = Said {
            since: 60,
            ..primary(2)
        };
        let twin = Said {
            since: 70,
            ..primary(2)
        };
        let mut known = Known::default();
        assert_eq!(known.choose(&[(0, primary(2)), (1, STANDBY)]), Ok(0));
        // Another name of it, also when it has begun anew.
        assert_eq!(known.learn(1, &primary(2)), None);
        assert_eq!(known.learn(0, &anew), None);
        assert_eq!(known.learn(1, &anew), None);
        assert_eq!(known.current, Some(0));
        assert_eq!(known.learn(1, &twin), Some(0));
        assert_eq!(known.current, None);
        for (at, said) in [(0, anew), (1, twin)] {
            assert_eq!(known.learn(at, &said), None);
            assert_eq!(known.current, None);
        }
        let both = [(0, anew), (1, twin)];
        assert_eq!(known.choose(&both), Err(Unchosen::Several));
        // And a third one that was promoted after them is worked with.
        assert_eq!(known.learn(2, &primary(3)), None);
        assert_eq!(known.current, Some(2));
    }

    #[test]
    fn a_server_is_left_once_another_was_promoted_or_it_takes_no_writes() {
        let mut known = Known::default();
        // Nothing is learned before a first choice was made among all.
        assert_eq!(known.learn(1, &primary(1)), None);
        assert_eq!(known.choose(&[(0, primary(1)), (1, STANDBY)]), Ok(0));
        assert_eq!(known.learn(0, &primary(1)), None);
        assert_eq!(known.learn(1, &STANDBY), None);
        assert_eq!(known.learn(1, &primary(2)), Some(0));
        assert_eq!((known.current, known.timeline), (Some(1), 2));
        assert_eq!(known.learn(0, &primary(1)), None);
        assert_eq!(known.current, Some(1));
        assert_eq!(known.learn(1, &STANDBY), Some(1));
        assert_eq!(known.current, None);
        // What was seen is remembered.
        assert_eq!(known.choose(&[(0, primary(1))]), Err(Unchosen::None));
    }

    #[test]
    fn each_server_of_a_connection_string_has_its_own_configuration() {
        let names = |url: &str| {
            let config: Config = url.parse().unwrap();
            let servers = Servers::of(&config, None, |config| {
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
