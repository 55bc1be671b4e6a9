//! The broker over real sockets and real TLS, with a journal in memory.
mod admitting;
mod analyser;
mod attack;
mod bounded;
mod conformance;
mod defects;
mod durability;
mod hostile;
mod journal;
mod lasting;
mod recorder;
mod subscribers;
mod viewing;
mod wire;
mod world;
