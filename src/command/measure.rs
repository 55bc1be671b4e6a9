//! `medmesh edge measure`: what this machine has booted, as its TPM says it, for a kit that is good on it alone; and how
//! the machine shows it when it joins.
use crate::{cli::enrol::MeasureArgs, out};
use anyhow::{Context, Result};
use federation::{
    pki::{self, Attestation},
    tpm::{Tpm, quote::Pcrs},
};
use serde_json::Value;
use std::path::Path;

/// Runs the command.
pub fn run(args: &MeasureArgs) -> Result<()> {
    let measured = Tpm::open(&args.tpm)?.measure(&args.pcrs)?;
    Ok(out::line(serde_json::to_string_pretty(&measured)?)?)
}

/// Answers the region, which said that it wants a quote for this request.
pub fn shown(tpm: &Path, said: &Value, csr_pem: &str) -> Result<Attestation> {
    let text = |key: &str| {
        said[key]
            .as_str()
            .with_context(|| format!("the region asks for a quote without {key}"))
    };
    let challenge = text("challenge")?;
    let pcrs = text("pcrs")?.parse::<Pcrs>();
    let pcrs = pcrs.context("pcrs, for which the region asks")?;
    let nonce = pki::nonce(challenge, csr_pem)?;
    let quoted = Tpm::open(tpm).and_then(|mut tpm| tpm.quote(&pcrs, &nonce));
    let quote = quoted.context("the kit is for a machine that was measured by its TPM (--tpm)")?;
    Ok(Attestation::new(challenge.to_owned(), &quote))
}
