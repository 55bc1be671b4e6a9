//! Search by the standard parameters of R4, of every resource type: what a resource is found by, and what a search asks.
//!
//! [`params`] are the parameters, [`extract`] makes of a resource the rows of its index, [`parse`] makes of a query a
//! [`Search`], and [`matches()`] says by the rows alone whether a resource is found: the meaning that every engine has to
//! keep. Nothing here knows an engine, a clock or a network.
mod columns;
mod compartment;
mod extract;
mod index;
mod matching;
mod param;
mod parse;
mod problem;
mod search;
pub mod sql;
mod text;

pub use columns::{as_column, finds_nothing, is_of_clients};
pub use compartment::{compartment, is_compartment, naming};
pub use extract::{Target, extract, split_reference};
pub use index::{Canonical, IndexRow, Value};
pub use matching::{Found, distance, holds, matches};
pub use param::{Kind, Param, Part, param, params};
pub use parse::{Context, Handling, parse, parse_conditions};
pub use problem::{Problem, ProblemKind};
pub use search::{
    CompositeMatch, DateMatch, Filter, Include, Match, NumberMatch, Prefix, QuantityMatch,
    ReferenceMatch, Search, Sort, SortBy, Summary, TextMatch, TokenMatch, Total, UriMatch,
};
pub use text::{cut, fold};
