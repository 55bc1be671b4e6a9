//! Tokens of clients that ask for longer than a token lives: each is asked for anew, at whichever node answers, well before
//! its end.
use anyhow::{Context, Result};
use medmesh_tests::https::{Https, assertion};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};

/// A token lives for 300 s.
const RENEWED: Duration = Duration::from_secs(60);
/// A node that gives none by then is asked again in its turn.
const WAITS: Duration = Duration::from_secs(5);

type Given = BTreeMap<&'static str, String>;

/// The tokens that are good now, by the names of their clients.
#[derive(Clone)]
pub struct Tokens {
    given: Arc<Mutex<Given>>,
    _renewing: Arc<Renewing>,
}

/// Ends with the last of those who use its tokens.
struct Renewing(JoinHandle<()>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tokens {
    /// Those that were given already, renewed at two authorities from now on, for clients as `mesh.json` has them.
    pub fn keep(https: &Https, clients: Value, nodes: [String; 2], given: Given) -> Self {
        let given = Arc::new(Mutex::new(given));
        let (https, own) = (https.clone(), given.clone());
        let renewing = async move {
            loop {
                tokio::time::sleep(RENEWED).await;
                let names: Vec<_> = all(&own).keys().copied().collect();
                for name in names {
                    for node in &nodes {
                        let asked = timeout(WAITS, ask(&https, &clients[name], node)).await;
                        if let Ok(Ok(token)) = asked {
                            all(&own).insert(name, token);
                            break;
                        }
                    }
                }
            }
        };
        Self {
            given,
            _renewing: Arc::new(Renewing(tokio::spawn(renewing))),
        }
    }

    /// That of a client.
    pub fn of(&self, client: &str) -> String {
        all(&self.given).get(client).cloned().unwrap_or_default()
    }
}

fn all(given: &Mutex<Given>) -> MutexGuard<'_, Given> {
    given.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(https: &Https, client: &Value, node: &str) -> Result<String> {
    let url = format!("https://{node}/auth/token");
    let assertion = assertion(client, &url)?;
    let given = https.ask_token(client, &url, &assertion).await?.json()?;
    Ok(given["access_token"].as_str().context("token")?.to_owned())
}
