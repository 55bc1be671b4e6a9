//! `medmesh blob`: files that an operator sends down, through the API of the global node.
use super::token;
use crate::{
    cli::{
        TokenArgs,
        blob::{BlobCommand, BlobMeshArgs, OneBlob, SendArgs},
    },
    failure::Failure,
    https::{Https, Kept},
    out,
};
use anyhow::{Context, Result, bail};
use federation::blobs::{Descriptor, hash};
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};
use types::Secret;

/// Bytes of a piece that is put up: the body of a request of `/api/v1` may have a little more.
const PIECE_BYTES: usize = 96 << 10;
/// How often a delivery is looked at while somebody waits for it, and how long it is waited after a failure.
const LOOK: Duration = Duration::from_millis(500);
/// A token is fetched anew before it can have ended.
const TOKEN_FOR: Duration = Duration::from_secs(60);
/// Failures in a row before it is given up: a node that is started again is there again soon.
const MAX_FAILURES: u32 = 120;

/// The global node of a mesh.
struct Global {
    args: BlobMeshArgs,
    https: Https,
    base: String,
    token: Option<(Secret<String>, Instant)>,
}

impl Global {
    fn open(args: &BlobMeshArgs) -> Result<Self> {
        let path = args.dir.join("mesh.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: is `medmesh up` running?", path.display()))?;
        let mesh: Value = serde_json::from_str(&text)?;
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let api = word(&mesh["global"]["api"]).context("mesh.json names no global node")?;
        let ca = word(&mesh["ca"]).context("mesh.json names no authority")?;
        Ok(Self {
            args: args.clone(),
            https: Https::new(Path::new(&ca))?,
            base: format!("{api}/blobs"),
            token: None,
        })
    }

    async fn token(&mut self) -> Result<Secret<String>> {
        match &self.token {
            Some((token, since)) if since.elapsed() < TOKEN_FOR => Ok(token.clone()),
            _ => {
                let asked = TokenArgs {
                    dir: self.args.dir.clone(),
                    client: self.args.client.clone(),
                    region: "global".into(),
                };
                let token = token::token(&asked).await?;
                self.token = Some((token.clone(), Instant::now()));
                Ok(token)
            }
        }
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let token = self.token().await?;
        let url = format!("{}{path}", self.base);
        let json = [("content-type", "application/json")];
        let (status, body) = self
            .https
            .api(method, &url, token.reveal(), body, &json)
            .await?;
        read(status, body.as_bytes())
    }
}

fn read(status: u16, body: &[u8]) -> Result<Value> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let of = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let field = answer["field"].as_str().map(|field| format!("{field}: "));
    let (title, detail) = (of("title"), of("detail") + &of("error_description"));
    bail!("{status} {title}: {}{detail}", field.unwrap_or_default())
}

/// Runs the command.
pub async fn run(command: BlobCommand) -> Result<(), Failure> {
    match command {
        BlobCommand::Send(args) => send(args).await,
        BlobCommand::List(args) => {
            let answer = Global::open(&args)?.ask("GET", "", "").await?;
            let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
            out::none(items.is_empty() && !args.json, "no file was sent");
            for item in items {
                if args.json {
                    out::line(item)?;
                } else {
                    out::text(&headline(item))?;
                }
            }
            Ok(())
        }
        BlobCommand::Show(args) => one("GET", &args).await,
        BlobCommand::Withdraw(args) => one("DELETE", &args).await,
    }
}

async fn one(method: &str, args: &OneBlob) -> Result<(), Failure> {
    let path = format!("/{}", args.id);
    let delivery = Global::open(&args.mesh)?.ask(method, &path, "").await?;
    show(&delivery, args.mesh.json)
}

fn headline(delivery: &Value) -> String {
    let of = |name: &str| out::printable(delivery[name].as_str().unwrap_or_default());
    let below = format!(
        "{}, {}, {} bytes",
        of("name"),
        of("class"),
        delivery["size"]
    );
    let below = out::wrapped("  ", &below);
    format!("{}  {}\n{below}", of("id"), of("state"))
}

fn show(delivery: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return Ok(out::line(delivery)?);
    }
    out::text(&headline(delivery))?;
    for at in delivery["places"].as_array().into_iter().flatten() {
        let of = |name: &str| out::printable(at[name].as_str().unwrap_or_default());
        out::line(format!(
            "  {:<32} {:<10} {}",
            of("place"),
            of("state"),
            of("since")
        ))?;
    }
    Ok(())
}

async fn send(args: SendArgs) -> Result<(), Failure> {
    let what = || args.file.display().to_string();
    let kind = std::fs::metadata(&args.file).with_context(what)?;
    // A device or a pipe may never end, and is not there to be read a second time.
    if !kind.is_file() {
        return Err(anyhow::anyhow!("{}: is no regular file", what()).into());
    }
    let mut file = File::open(&args.file).with_context(what)?;
    let Descriptor { digest, size } = hash(&mut file)?;
    let name = args.name.clone().or_else(|| {
        let name = args.file.file_name()?;
        Some(name.to_string_lossy().into_owned())
    });
    let body = json!({
        "name": name.context("the file has no name")?,
        "sha256": digest.to_string(),
        "size": size,
        "class": args.class.as_str(),
        "purpose": args.purpose,
        "to": args.to,
    });
    let mut global = Global::open(&args.mesh)?;
    let begun = global.ask("POST", "", &body.to_string()).await?;
    let id = begun["id"].as_str().context("a delivery without an id")?;
    let path = format!("/{id}");
    put_up(&mut global, &path, &mut file, begun.clone()).await?;
    let mut delivery = patiently(&mut global, &path).await?;
    while args.wait && !has_ended(&delivery) {
        tokio::time::sleep(LOOK).await;
        delivery = patiently(&mut global, &path).await?;
    }
    show(&delivery, args.mesh.json)?;
    let places = delivery["places"].as_array().into_iter().flatten();
    let refused = places.filter(|at| at["state"] == "refused");
    let refused: Vec<&str> = refused.filter_map(|at| at["place"].as_str()).collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(anyhow::anyhow!(
            "{}: a file of class {} for {} does not go there by the rules, or is not taken there; `medmesh audit` shows which",
            out::printable(&refused.join(", ")),
            args.class.as_str(),
            args.purpose
        )
        .into()),
    }
}

/// Whether it has come to an end at every place.
fn has_ended(delivery: &Value) -> bool {
    let mut places = delivery["places"].as_array().into_iter().flatten();
    delivery["state"] == "withdrawn"
        || places.all(|at| !matches!(at["state"].as_str(), Some("incoming" | "sent")))
}

/// How a delivery is now; a node that is started again meanwhile is waited for.
async fn patiently(global: &mut Global, path: &str) -> Result<Value> {
    let mut failures = 0;
    loop {
        match global.ask("GET", path, "").await {
            Ok(delivery) => return Ok(delivery),
            Err(error) if failures >= MAX_FAILURES => return Err(error),
            Err(_) => failures += 1,
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Puts the bytes up from where the node has them, whatever breaks meanwhile.
async fn put_up(
    global: &mut Global,
    path: &str,
    file: &mut File,
    mut delivery: Value,
) -> Result<()> {
    let (mut failures, mut furthest, mut kept) = (0, 0, None);
    while delivery["state"] == "incoming" {
        let held = delivery["held"].as_u64().unwrap_or(0);
        if held < furthest {
            bail!("the file changed while it was sent, or is not what was read of it");
        }
        furthest = held;
        delivery = match piece(global, path, file, held, &mut kept).await {
            Ok(delivery) => {
                failures = 0;
                delivery
            }
            Err(error) if failures >= MAX_FAILURES => return Err(error),
            Err(_) => {
                failures += 1;
                kept = None;
                tokio::time::sleep(LOOK).await;
                patiently(global, path).await?
            }
        };
    }
    Ok(())
}

async fn piece(
    global: &mut Global,
    path: &str,
    file: &mut File,
    offset: u64,
    kept: &mut Option<Kept>,
) -> Result<Value> {
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    file.seek(SeekFrom::Start(offset))?;
    file.take(PIECE_BYTES as u64).read_to_end(&mut bytes)?;
    let token = global.token().await?;
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(global.https.keep(&global.base).await?),
    };
    let below = global.base.splitn(4, '/').nth(3).unwrap_or_default();
    let path = format!("/{below}{path}/bytes?offset={offset}");
    let (status, body) = connection
        .put(&path, token.reveal(), Bytes::from(bytes))
        .await?;
    read(status, &body)
}
