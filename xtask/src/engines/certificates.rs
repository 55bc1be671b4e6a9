//! The certificates of an engine that speaks TLS: an authority of this run, and one for the name `localhost` alone.
//!
//! They hold from years before now to years after it, since the tests may run at another date (`--at`).
use crate::run::{on_path, silent};
use anyhow::{Context, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// They are made as if it were this long ago.
const MADE: &str = "-4000d";
/// And hold for as many days.
const DAYS: &str = "12000";

/// The files of one authority and of the certificate that it has issued.
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's.
    pub server: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
}

/// Makes them in a directory. `run` makes a command of a program as the user who is to own them.
pub fn make(dir: &Path, run: impl Fn(&Path) -> Command) -> Result<Certificates> {
    let faketime = on_path("faketime").context("faketime is not installed")?;
    let at = |name: &str| dir.join(name);
    let openssl = |arguments: &str| {
        let mut command = run(&faketime);
        command.current_dir(dir).args(["-f", MADE, "openssl"]);
        silent(command.args(arguments.split(' ')))
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days {DAYS} -subj /CN=authority"
    ))?;
    openssl(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    ))?;
    openssl(&format!(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {DAYS} -copy_extensions copy \
         -out server.pem"
    ))?;
    Ok(Certificates {
        authority: at("ca.pem"),
        server: at("server.pem"),
        key: at("server.key"),
    })
}
