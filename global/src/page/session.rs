//! How a browser comes in: by a link that is good once, which a client asks for with its token, or by the token itself in
//! a form. Either gives a cookie that may read studies and change nothing.
//!
//! Links and cookies are 256 random bits, of which this process keeps the SHA-256 only. They end with it.
use node::clock::Clock;
use parking_lot::Mutex;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use std::{collections::VecDeque, sync::Arc};
use types::Timestamp;

/// How long a link may be followed, in ms: it is followed at once.
pub const LINK_LIFE_MS: i64 = 60_000;
/// How long a cookie is good, in ms: a study is watched for as long.
pub const SESSION_LIFE_MS: i64 = 8 * 3_600_000;
/// Links or cookies of one client at a time; one more costs it its oldest.
const MOST_OF_A_CLIENT: usize = 16;
/// Links or cookies at a time: one more costs the oldest of all.
const MOST: usize = 1_000;

/// Links that were not followed yet, and browsers that are in.
#[derive(Clone)]
pub struct Sessions {
    clock: Clock,
    links: Arc<Mutex<Granted>>,
    cookies: Arc<Mutex<Granted>>,
}

/// What was given to whom until when, the oldest first.
type Granted = VecDeque<([u8; 32], Arc<str>, Timestamp)>;

impl Sessions {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            links: Arc::default(),
            cookies: Arc::default(),
        }
    }

    /// A link's secret for a client.
    pub fn link(&self, client: Arc<str>) -> String {
        self.give(&self.links, client, LINK_LIFE_MS)
    }

    /// The cookie for whoever follows a link, once; none when nobody was given it, or it is too late.
    pub fn follow(&self, secret: &str) -> Option<String> {
        let (now, digest) = (self.clock.real(), digest(secret));
        let (_, client, until) = {
            let mut links = self.links.lock();
            let at = links.iter().position(|(known, ..)| *known == digest)?;
            links.remove(at)?
        };
        (until > now).then(|| self.open(client))
    }

    /// A cookie for a client that has shown its token.
    pub fn open(&self, client: Arc<str>) -> String {
        self.give(&self.cookies, client, SESSION_LIFE_MS)
    }

    /// Whose cookie this is; none when it is nobody's any more.
    pub fn whose(&self, cookie: &str) -> Option<Arc<str>> {
        let (now, digest) = (self.clock.real(), digest(cookie));
        let cookies = self.cookies.lock();
        let found = cookies.iter().find(|(known, ..)| *known == digest);
        found
            .filter(|(_, _, until)| *until > now)
            .map(|(_, client, _)| client.clone())
    }

    /// Ends a cookie.
    pub fn end(&self, cookie: &str) {
        let digest = digest(cookie);
        self.cookies.lock().retain(|(known, ..)| *known != digest);
    }

    fn give(&self, to: &Mutex<Granted>, client: Arc<str>, life_ms: i64) -> String {
        let mut secret = [0_u8; 32];
        rand::rng().fill_bytes(&mut secret);
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = self.clock.real();
        let mut given = to.lock();
        given.retain(|(_, _, until)| *until > now);
        let of_client = || given.iter().filter(|(_, of, _)| *of == client);
        if of_client().count() >= MOST_OF_A_CLIENT {
            let oldest = given.iter().position(|(_, of, _)| *of == client);
            oldest.and_then(|at| given.remove(at));
        } else if given.len() >= MOST {
            given.pop_front();
        }
        given.push_back((digest(&secret), client, now.plus_ms(life_ms)));
        secret
    }
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_once_and_a_cookie_until_it_is_ended() {
        let sessions = Sessions::new(Clock::new(None));
        let link = sessions.link("data-scientist".into());
        assert_eq!(sessions.whose(&link), None, "a link is no cookie");
        let cookie = sessions.follow(&link).unwrap();
        assert_eq!(sessions.follow(&link), None);
        assert_eq!(sessions.follow("0"), None);
        assert_eq!(sessions.whose(&cookie).as_deref(), Some("data-scientist"));
        sessions.end(&cookie);
        assert_eq!(sessions.whose(&cookie), None);
    }

    #[test]
    fn a_client_that_asks_for_ever_more_costs_nobody_but_itself() {
        let sessions = Sessions::new(Clock::new(None));
        let other = sessions.open("other".into());
        let first = sessions.open("one".into());
        for _ in 0..MOST_OF_A_CLIENT {
            sessions.open("one".into());
        }
        assert_eq!(sessions.whose(&first), None);
        assert!(sessions.whose(&other).is_some());
        assert_eq!(sessions.cookies.lock().len(), MOST_OF_A_CLIENT + 1);
    }
}
