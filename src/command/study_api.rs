//! The global node's API of studies, as a client of it: found by `mesh.json` or by addresses that are given.
use super::token;
use crate::{cli::fl::MeshArgs, https::Https};
use anyhow::{Context, Result, bail};
use node::token::{ASSERTION_TYPE, TOKEN_PATH};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use types::Secret;

/// How often a study is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(500);
/// How often in a row a node may not answer while somebody waits: it is started again within that time.
const MOST_FAILURES: u32 = 120;
/// Files are their user's alone.
const FILE_MODE: u32 = 0o600;
/// A token is fetched anew before it can have ended.
const TOKEN_FOR: Duration = Duration::from_secs(60);
/// What a client of studies asks for.
const SCOPE: &str = "mesh/studies.crus";
/// What there is of a study once its rounds have ended; a study that hides its records has not every curve.
const MORE_FILES: [(&str, &str); 5] = [
    ("card", "card.md"),
    ("loss", "loss.svg"),
    ("auroc", "auroc.svg"),
    ("roc", "roc.svg"),
    ("calibration", "calibration.svg"),
];

/// As whom the node is asked.
struct Client {
    id: String,
    kid: String,
    key: PathBuf,
    token_url: String,
    scope: String,
}

/// The studies of a mesh.
pub struct Mesh {
    /// Where files of studies lie unless another folder is named.
    pub folder: PathBuf,
    https: Https,
    api: String,
    client: Client,
    token: Option<(Secret<String>, Instant)>,
}

impl Mesh {
    /// Finds the node.
    ///
    /// # Errors
    /// What is missing, and what would be right.
    pub async fn open(args: &MeshArgs) -> Result<Self> {
        match &args.server {
            None => Self::of_folder(args),
            Some(server) => Self::of_server(args, server).await,
        }
    }

    fn of_folder(args: &MeshArgs) -> Result<Self> {
        let path = args.dir.join("mesh.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: is `medmesh up` running?", path.display()))?;
        let mesh: Value =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let client = &mesh["clients"][&args.client_id];
        let word = |value: &Value, what: &str| {
            let found = value.as_str().map(str::to_owned);
            found.with_context(|| format!("{}: names no {what}", path.display()))
        };
        let of_client = format!("client `{}` of the global node", args.client_id);
        Ok(Self {
            folder: args.dir.join("studies"),
            https: Https::new(Path::new(&word(&mesh["ca"], "authority")?))?,
            api: word(&mesh["global"]["api"], "global node")?,
            client: Client {
                id: word(&client["client_id"], &of_client)?,
                kid: word(&client["kid"], &of_client)?,
                key: word(&client["key"], &of_client)?.into(),
                token_url: word(&client["token_url"]["global"], &of_client)?,
                scope: word(&client["scope"], &of_client)?,
            },
            token: None,
        })
    }

    async fn of_server(args: &MeshArgs, server: &str) -> Result<Self> {
        let origin = server.trim_end_matches('/').trim_end_matches("/api/v1");
        if !origin.starts_with("https://") || origin.matches('/').count() != 2 {
            bail!("--server: is an address such as https://mesh.example:8443, not `{server}`");
        }
        let (Some(key), Some(ca)) = (&args.key, &args.ca) else {
            bail!("--server: needs --key and --ca");
        };
        let https = Https::new(ca).context("--ca")?;
        // The audience of an assertion is the address by which the node knows itself.
        let url = format!("{origin}/.well-known/smart-configuration");
        let (status, body) = https.get(&url).await.context("--server")?;
        let described = json_of(status, body.as_bytes()).with_context(|| url.clone())?;
        let token_url = described["token_endpoint"].as_str();
        let own = format!("{origin}{TOKEN_PATH}");
        Ok(Self {
            folder: "studies".into(),
            https,
            api: format!("{origin}/api/v1"),
            client: Client {
                id: args.client_id.clone(),
                kid: args
                    .kid
                    .clone()
                    .unwrap_or_else(|| format!("{}-1", args.client_id)),
                key: key.clone(),
                token_url: token_url.map_or(own, str::to_owned),
                scope: SCOPE.into(),
            },
            token: None,
        })
    }

    async fn token(&mut self) -> Result<Secret<String>> {
        if let Some((token, since)) = &self.token
            && since.elapsed() < TOKEN_FOR
        {
            return Ok(token.clone());
        }
        let client = &self.client;
        let id = (client.id.as_str(), client.kid.as_str());
        let assertion = token::signed(id, &client.key, &client.token_url)?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
            ("scope", client.scope.as_str()),
        ];
        let (status, body) = self.https.post_form(&client.token_url, &form).await?;
        let answer = json_of(status, body.as_bytes())
            .with_context(|| format!("a token for client `{}`", client.id))?;
        let token = answer["access_token"]
            .as_str()
            .context("no token was given")?;
        let token = Secret::new(token.to_owned());
        self.token = Some((token.clone(), Instant::now()));
        Ok(token)
    }

    /// What is at a path below `/api/v1/fl`.
    ///
    /// # Errors
    /// The node's own words.
    pub async fn get(&mut self, path: &str) -> Result<Value> {
        let (status, body) = self.bytes(path).await?;
        json_of(status, &body)
    }

    /// One study.
    ///
    /// # Errors
    /// The node's own words, with the name of the study.
    pub async fn study(&mut self, id: &str) -> Result<Value> {
        let found = self.get(&format!("/studies/{id}")).await;
        found.with_context(|| of_study(id))
    }

    async fn bytes(&mut self, path: &str) -> Result<(u16, Vec<u8>)> {
        let token = self.token().await?;
        let url = format!("{}/fl{path}", self.api);
        self.https.get_with(&url, token.reveal()).await
    }

    async fn file(&mut self, id: &str, name: &str) -> Result<(u16, Vec<u8>)> {
        let token = self.token().await?;
        let url = format!("{}/fl/studies/{id}/{name}", self.api);
        self.https.file(&url, token.reveal()).await
    }

    /// Sends a body to a path below `/api/v1/fl`.
    ///
    /// # Errors
    /// The node's own words.
    pub async fn post(&mut self, path: &str, content: &str, body: &str) -> Result<Value> {
        let token = self.token().await?;
        let url = format!("{}/fl{path}", self.api);
        let extra = [("content-type", content)];
        let (status, body) = self
            .https
            .api("POST", &url, token.reveal(), body, &extra)
            .await?;
        json_of(status, body.as_bytes())
    }

    /// Writes the files of a study into a folder: where they are.
    ///
    /// # Errors
    /// The study has no model yet, or a file cannot be written.
    pub async fn fetch(&mut self, study: &Value, to: &Path) -> Result<Value> {
        let id = study["study"].as_str().context("a study without an id")?;
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        let mut files = json!({ "sha256": study["model"]["sha256"] });
        for (key, name) in [("safetensors", "model.safetensors"), ("onnx", "model.onnx")] {
            let (status, body) = self.file(id, name).await?;
            if status != 200 {
                json_of(status, &body)?;
            }
            files[key] = json!(written(to, name, &body)?);
        }
        for (key, name) in MORE_FILES {
            match self.file(id, name).await? {
                (200, body) => files[key] = json!(written(to, name, &body)?),
                (404, _) => {}
                (status, body) => drop(json_of(status, &body)?),
            }
        }
        let whole = serde_json::to_vec_pretty(study)?;
        written(to, "study.json", &whole)?;
        Ok(files)
    }

    /// Waits until a study has ended, and hands it over with each round that ends on the way, when a round that lasts stands
    /// otherwise, and at its end.
    ///
    /// # Errors
    /// The node does not answer for a minute, or what it is handed to fails.
    pub async fn wait(
        &mut self,
        id: &str,
        mut each: impl AsyncFnMut(&Value) -> Result<()>,
    ) -> Result<Value> {
        let mut ended = None;
        let mut failures = 0;
        loop {
            match self.study(id).await {
                Err(error) if failures > MOST_FAILURES || is_final(&error) => return Err(error),
                Err(_) => failures += 1,
                Ok(study) => {
                    failures = 0;
                    let rounds = study["progress"].as_array().map_or(0, Vec::len);
                    let is_over = study["status"] != "running";
                    let now = (rounds, study["waiting"]["sites"].clone());
                    if ended.as_ref() != Some(&now) || is_over {
                        each(&study).await?;
                        ended = Some(now);
                    }
                    if is_over {
                        return Ok(study);
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What an error about a study begins with.
pub fn of_study(id: &str) -> String {
    format!("study `{id}`")
}

/// An answer of the node that says no.
#[derive(Debug)]
struct Refused {
    status: u16,
    detail: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl std::error::Error for Refused {}

/// Whether asking again gives the same answer: the node has understood what was asked and says no.
fn is_final(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| matches!(refused.status, 400 | 403 | 404 | 422))
}

fn written(to: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = to.join(name);
    storage::file::replace(&path, bytes, FILE_MODE).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn json_of(status: u16, body: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let words = ["detail", "error_description", "error"];
    let detail = words.iter().find_map(|word| value[word].as_str());
    let detail = detail.unwrap_or("no reason was given").to_owned();
    Err(Refused { status, detail }.into())
}
