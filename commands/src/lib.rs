//! Commands to devices and the twins of devices, as far as they need no input or output: which commands a kind of device
//! takes ([`Table`]), how one is written and signed ([`Command`], [`Signed`]), who accepts what and when ([`Acceptor`],
//! [`Taker`]), what becomes of one ([`State`], [`History`]), and the merge patch of a twin ([`merge_patch`]).
//!
//! Region, edge and device share this crate, so that there is one encoding, one table and one list of reasons. Time,
//! ids and keys are arguments. It holds nothing of a patient: a parameter is a number, a span, a flag or a word of a list.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
mod acceptor;
mod answer;
mod command;
mod parameter;
mod reason;
mod registers;
mod state;
mod table;
mod take;
mod text;
mod twin;
mod value;
pub mod withdrawal;
mod write;

pub use acceptor::{Acceptor, CLOCK_SKEW_MS, Mark};
pub use answer::Answer;
pub use command::{Command, MAX_COMMAND_BYTES, MAX_LIFE_MS, Malformed, Signed};
pub use parameter::{Bound, Kind, Parameter};
pub use reason::Reason;
pub use state::{Event, History, State};
pub use table::{
    BUILT_IN, Entry, MAX_COMMANDS, MAX_PARAMETERS, MAX_TABLE_BYTES, Misuse, Table, WITHDRAW,
};
pub use take::{Done, Held, Marks, Outcome, Taker, Unsettled};
pub use twin::{ETag, MAX_DEPTH, MAX_TWIN_BYTES, TooDeep, merge_patch};
pub use value::{InvalidValue, Value, parse_span, span_text};
pub use write::Write;
