//! Which code trains here: a digest of the source of everything that decides what a site sends.
//!
//! A study names the code of the global node that ordered it. A facility takes part only if it has the same, and if its
//! configuration allows it where that names any. It is no proof of what another node runs: it is what this one answers
//! for.
use ring::digest::{Context, SHA256};

const SOURCES: [&[u8]; 18] = [
    include_bytes!("site.rs"),
    include_bytes!("judge.rs"),
    include_bytes!("train.rs"),
    include_bytes!("features.rs"),
    include_bytes!("stays.rs"),
    include_bytes!("dense.rs"),
    include_bytes!("logistic.rs"),
    include_bytes!("net.rs"),
    include_bytes!("net/gru.rs"),
    include_bytes!("net/tcn.rs"),
    include_bytes!("net/cox.rs"),
    include_bytes!("metrics/histogram.rs"),
    include_bytes!("metrics/survival.rs"),
    include_bytes!("update.rs"),
    include_bytes!("member.rs"),
    include_bytes!("privacy/clip.rs"),
    include_bytes!("privacy/discrete.rs"),
    include_bytes!("secagg/mask.rs"),
];

/// SHA-256 of the source of everything that decides what a site sends, in hexadecimal digits.
#[must_use]
pub fn digest() -> String {
    let mut context = Context::new(&SHA256);
    for source in SOURCES {
        context.update(&(source.len() as u64).to_le_bytes());
        context.update(source);
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
