//! `medmesh twin`, `medmesh device list|command|approve`: a region of a mesh on this machine, asked over its `/api/v1`.
use super::token;
use crate::{
    cli::{
        TokenArgs,
        twin::{ApproveArgs, CommandArgs, OneDevice, RegionArgs, SetArgs, TwinCommand},
    },
    failure::Failure,
    https::Https,
    out,
};
use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use std::{fmt, fs, path::Path, time::Duration};
use types::Secret;

/// How often a command or a twin that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it is waited between two looks while the region does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// So often it is asked again for a command: a region that is started anew answers within seconds.
const MAX_FAILURES: u32 = 60;

/// What a region answered that did not do what was asked.
#[derive(Debug)]
struct Refusal {
    status: u16,
    text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

impl std::error::Error for Refusal {}

/// Whether the same may be answered otherwise a little later: the region is away, or the token has ended.
fn may_pass(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => refusal.status == 401 || refusal.status == 429 || refusal.status >= 500,
        None => true,
    }
}

/// A region, and the token to ask it with.
struct Region {
    args: RegionArgs,
    https: Https,
    api: String,
    token: Secret<String>,
}

impl Region {
    /// The answer to a GET; while there is none the region is asked again, with a new token, so often at most.
    async fn get_again(&mut self, path: &str, most: u32) -> Result<Value> {
        let mut failures = 0;
        loop {
            let error = match self.get(path).await {
                Ok(answer) => return Ok(answer),
                Err(error) if failures >= most || !may_pass(&error) => return Err(error),
                Err(error) => error,
            };
            // A token ends after five minutes: that is nothing to be told.
            if failures == 1 {
                eprintln!("medmesh: {error:#}; it is asked again");
            }
            failures += 1;
            if failures > 1 {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            if let Ok(anew) = Self::of(&self.args).await {
                *self = anew;
            }
        }
    }

    async fn of(args: &RegionArgs) -> Result<Self> {
        let path = args.dir.join("mesh.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: is `medmesh up` running?", path.display()))?;
        let mesh: Value = serde_json::from_str(&text)?;
        let text = |value: &Value, what: &str| {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| anyhow!("the mesh has no {what} (mesh.json)"))
        };
        let asked = TokenArgs {
            dir: args.dir.clone(),
            client: args.client.clone(),
            region: args.region.clone(),
        };
        Ok(Self {
            args: args.clone(),
            https: Https::new(Path::new(&text(&mesh["ca"], "authority")?))?,
            api: text(&mesh["regions"][&args.region]["api"], "such region")?,
            token: token::token(&asked).await?,
        })
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
        extra: &[(&str, &str)],
    ) -> Result<Value> {
        let url = format!("{}{path}", self.api);
        let (status, text) = self
            .https
            .api(method, &url, self.token.reveal(), body, extra)
            .await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let of = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let field = answer["field"].as_str().map(|field| format!("{field}: "));
        let (title, field) = (of("title"), field.unwrap_or_default());
        let text = format!("{title}: {field}{}", of("detail"));
        Err(Refusal { status, text }.into())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, "", &[]).await
    }
}

/// Runs `medmesh twin`.
pub async fn run(command: TwinCommand) -> Result<(), Failure> {
    match command {
        TwinCommand::Get(args) => {
            let region = Region::of(&args.region).await?;
            let twin = region
                .get(&format!("/devices/{}/twin", args.device))
                .await?;
            show_twin(&twin, args.region.json)
        }
        TwinCommand::Set(args) => set(args).await,
        TwinCommand::Watch(args) => watch(args).await,
    }
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    serde_json::from_str::<Value>(&args.patch).context("the patch is not JSON")?;
    let region = Region::of(&args.of.region).await?;
    let tag = args.version.map(|version| format!("\"{version}\""));
    let mut extra = vec![("content-type", "application/merge-patch+json")];
    extra.extend(tag.as_deref().map(|tag| ("if-match", tag)));
    let path = format!("/devices/{}/twin", args.of.device);
    // As it was written: the region refuses a member that stands twice, of which a value would keep one.
    let body = format!(r#"{{"desired": {}}}"#, args.patch);
    let twin = region.ask("PATCH", &path, &body, &extra).await?;
    show_twin(&twin, args.of.region.json)
}

/// Until it is stopped: a region that is away is waited for.
async fn watch(args: OneDevice) -> Result<(), Failure> {
    let mut region = Region::of(&args.region).await?;
    let path = format!("/devices/{}/twin", args.device);
    let mut last = Value::Null;
    loop {
        let mut twin = region.get_again(&path, u32::MAX).await?;
        if let Some(object) = twin.as_object_mut() {
            object.remove("seen_seconds_ago");
        }
        if twin != last {
            show_twin(&twin, args.region.json)?;
            last = twin;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn show_twin(twin: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return Ok(out::line(twin)?);
    }
    let of = |name: &str| twin[name].as_str().unwrap_or("never").to_owned();
    out::line(format!(
        "{}  {} of {}  {}, seen {}",
        of("id"),
        of("kind"),
        of("facility"),
        of("connection"),
        of("seen")
    ))?;
    out::line(format!(
        "  desired   version {}  {}",
        twin["version"], twin["desired"]
    ))?;
    Ok(out::line(format!(
        "  reported  {}  pending {}",
        twin["reported"], twin["pending"]
    ))?)
}

/// Runs `medmesh device list`.
pub async fn list(args: RegionArgs) -> Result<(), Failure> {
    let region = Region::of(&args).await?;
    let (mut after, mut is_empty) = (String::new(), true);
    loop {
        let page = region.get(&format!("/devices?limit=1000{after}")).await?;
        for device in page["items"].as_array().into_iter().flatten() {
            is_empty = false;
            if args.json {
                out::line(device)?;
            } else {
                let of = |name: &str| device[name].as_str().unwrap_or("-").to_owned();
                out::line(format!(
                    "{}  {:<8} {:<16} {}",
                    of("id"),
                    of("facility"),
                    of("kind"),
                    of("status")
                ))?;
            }
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => {
                out::none(is_empty && !args.json, "the region knows no device yet");
                return Ok(());
            }
        }
    }
}

/// Runs `medmesh device command`: exit code 1 when it does not end acknowledged.
pub async fn command(args: CommandArgs) -> Result<(), Failure> {
    serde_json::from_str::<Value>(&args.parameters).context("the parameters are not JSON")?;
    let mut region = Region::of(&args.of.region).await?;
    let key = args
        .key
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let (name, ttl) = (json!(args.name), json!(args.ttl));
    // The parameters as they were written, as in `twin set`.
    let body = format!(
        r#"{{"name": {name}, "parameters": {}, "ttl": {ttl}}}"#,
        args.parameters
    );
    let path = format!("/devices/{}/commands", args.of.device);
    let extra = [
        ("content-type", "application/json"),
        ("idempotency-key", key.as_str()),
    ];
    let asked = region.ask("POST", &path, &body, &extra).await;
    let asked = asked.map_err(|error| match may_pass(&error) {
        true => error.context(format!(
            "it is not known whether the command was given; ask again with --key {key}, and it is given once"
        )),
        false => error,
    });
    let mut command = asked?;
    let id = command["id"].as_str().unwrap_or_default().to_owned();
    let below = format!("{path}/{id}");
    let waits = |command: &Value| {
        let approval = &command["approval"];
        let unapproved = approval["needed"] == true && approval["by"].is_null();
        !unapproved && matches!(command["state"].as_str(), Some("queued" | "delivered"))
    };
    while !args.no_wait && waits(&command) {
        tokio::time::sleep(LOOK_EVERY).await;
        let look = region.get_again(&below, MAX_FAILURES).await;
        command = look.with_context(|| {
            format!("command {id} was given and may still be carried out; --key {key} asks for the same one")
        })?;
    }
    show_command(&command, args.of.region.json)?;
    match command["state"].as_str() {
        Some("refused" | "expired" | "failed") => {
            Err(anyhow!("the command was not carried out").into())
        }
        _ => Ok(()),
    }
}

fn show_command(command: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return Ok(out::line(command)?);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    out::line(format!(
        "{}  {}  {}",
        text(&command["id"]),
        text(&command["name"]),
        text(&command["state"])
    ))?;
    for step in command["history"].as_array().into_iter().flatten() {
        let (time, state) = (text(&step["time"]), text(&step["state"]));
        out::line(format!(
            "  {time}  {state:<12} by {} {}",
            text(&step["by"]),
            text(&step["reason"])
        ))?;
    }
    let approval = &command["approval"];
    if approval["needed"] == true && approval["by"].is_null() {
        out::line("  waits for `medmesh device approve` by another client")?;
    }
    Ok(())
}

/// Runs `medmesh device approve`.
pub async fn approve(args: ApproveArgs) -> Result<(), Failure> {
    let asked = RegionArgs {
        dir: args.dir,
        region: args.region,
        client: args.client,
        json: args.json,
    };
    let region = Region::of(&asked).await?;
    let path = format!(
        "/devices/{}/commands/{}/approval",
        args.device, args.command
    );
    let command = region.ask("POST", &path, "", &[]).await?;
    show_command(&command, args.json)
}
