//! `medmesh token`: a bearer token of a running local mesh, for curl and the like.
use crate::{cli::TokenArgs, failure::Failure, https::Https, out};
use anyhow::{Context, Result, anyhow, bail};
use node::{
    clock::Clock,
    token::{ASSERTION_TYPE, Claims, sign_assertion},
};
use rand::RngCore;
use serde_json::Value;
use std::{fs, path::Path};
use types::Secret;

/// How long an assertion is good for, in seconds: it is used at once.
const ASSERTION_SECONDS: i64 = 60;

/// Runs the command.
pub async fn run(args: &TokenArgs) -> Result<(), Failure> {
    Ok(out::line(token(args).await?.reveal())?)
}

pub(super) async fn token(args: &TokenArgs) -> Result<Secret<String>> {
    let path = args.dir.join("mesh.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: is `medmesh up` running?", path.display()))?;
    let mesh: Value = serde_json::from_str(&text)?;
    let client = known(&mesh["clients"], ("--client", "the mesh", &args.client))?;
    let whose = format!("the client {}", args.client);
    known(&client["token_url"], ("--region", &whose, &args.region))?;
    let url = field(&client["token_url"], &args.region)?;
    let assertion = assertion(client, url)?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("scope", field(client, "scope")?),
    ];
    let https = Https::new(Path::new(field(&mesh, "ca")?))?;
    let (status, body) = https.post_form(url, &form).await?;
    let answer: Value = serde_json::from_str(&body)?;
    match answer["access_token"].as_str() {
        Some(token) => Ok(Secret::new(token.to_owned())),
        None => bail!("{status}: {}", answer["error_description"]),
    }
}

fn assertion(client: &Value, url: &str) -> Result<String> {
    let id = (field(client, "client_id")?, field(client, "kid")?);
    signed(id, Path::new(field(client, "key")?), url)
}

/// A fresh assertion of a client (its id and its key's) for a token URL, signed with the key in a file.
pub(super) fn signed((id, kid): (&str, &str), key: &Path, url: &str) -> Result<String> {
    let mut jti = [0_u8; 16];
    rand::rng().fill_bytes(&mut jti);
    let claims = Claims {
        iss: id.to_owned(),
        sub: id.to_owned(),
        aud: url.to_owned(),
        exp: Clock::new(None).real().0 / 1_000 + ASSERTION_SECONDS,
        nbf: None,
        jti: u128::from_be_bytes(jti).to_string(),
    };
    let path = || key.display().to_string();
    let pem = Secret::new(fs::read(key).with_context(path)?);
    sign_assertion(&claims, kid, pem.reveal()).with_context(path)
}

/// What the mesh, or a client of it, has by the name that an argument says.
fn known<'a>(all: &'a Value, (argument, who, name): (&str, &str, &str)) -> Result<&'a Value> {
    all.get(name).ok_or_else(|| {
        let names = all.as_object().into_iter().flatten();
        let names: Vec<_> = names.map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        anyhow!("{argument}: {who} has no {name}; it has {names}")
    })
}

fn field<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .ok_or_else(|| anyhow!("mesh.json lacks {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_that_the_mesh_does_not_have_is_said_by_its_argument_with_those_that_it_has() {
        let clients = json!({"operator": {"kid": "operator-1"}, "reader": {}});
        let found = known(&clients, ("--client", "the mesh", "operator")).unwrap();
        assert_eq!(field(found, "kid").unwrap(), "operator-1");
        let error = known(&clients, ("--client", "the mesh", "nobody")).unwrap_err();
        let expected = "--client: the mesh has no nobody; it has operator, reader";
        assert_eq!(error.to_string(), expected);
        let urls = json!({"us": "https://127.0.0.1/auth/token"});
        let error = known(&urls, ("--region", "the client reader", "global")).unwrap_err();
        let expected = "--region: the client reader has no global; it has us";
        assert_eq!(error.to_string(), expected);
        assert!(known(&json!(null), ("--region", "the mesh", "us")).is_err());
    }
}
