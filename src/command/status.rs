//! `medmesh status`: one look at a mesh, or at one node of it: which places there are, which are up, ready or degraded and
//! why, how their links are, what waits and for how long, when certificates end.
//!
//! Every node is asked at its own operations listener for `/ready` and `/metrics`, what monitoring asks it for; there is
//! no other truth. A region that shows its metrics to tokens alone is asked with one of the mesh's operator.
mod ask;
mod figures;
mod json;
mod table;

use crate::{cli::status::StatusArgs, failure::Failure, out};
use anyhow::{Context, Result};
use ask::{Asked, Seen};
use node::clock::Clock;
use std::time::Duration;

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its first line (ECMA-48 §8.3.39, §8.3.21).
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// How a node, or a mesh, is. The worst one is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It lacks nothing.
    Ready,
    /// It works, and a person should look.
    Degraded,
    /// It answers, and cannot do its work (yet).
    NotReady,
    /// It does not answer.
    Down,
}

impl State {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::NotReady => "not ready",
            Self::Down => "down",
        }
    }

    const fn exit_code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Degraded => 1,
            Self::NotReady | Self::Down => 2,
        }
    }
}

/// Runs the command.
pub async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let asked = match &args.config {
        Some(file) => vec![ask::of_config(file)?],
        None => ask::of_mesh(&args.dir)?,
    };
    let mut state = show(args, &asked).await?;
    if args.watch {
        let ended = tokio::signal::ctrl_c();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                end = &mut ended => break end.context("Ctrl-C")?,
                () = tokio::time::sleep(EVERY) => state = show(args, &asked).await?,
            }
        }
    }
    match state.exit_code() {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}

/// Looks once, and shows what was seen.
async fn show(args: &StatusArgs, asked: &[Asked]) -> Result<State> {
    let seen = ask::all(asked, args.wait.0).await;
    let state = worst(&seen);
    let now = Clock::new(None).real();
    if args.json {
        out::line(json::of(&seen, state, now))?;
    } else {
        let clear = if args.watch { CLEAR } else { "" };
        let table = table::of(&seen, state, now);
        out::text(&format!("{clear}{}", out::printable(&table)))?;
    }
    Ok(state)
}

/// The state of the whole: that of the node that is worst.
fn worst(seen: &[Seen]) -> State {
    let states = seen.iter().map(Seen::state);
    states.max().unwrap_or(State::Down)
}
