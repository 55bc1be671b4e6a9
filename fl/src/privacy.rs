//! Differential privacy: what a study spends, and the noise that pays for it.
//!
//! - [`event`]: what is accounted for: a Gaussian mechanism on a Poisson sample, a number of times.
//! - [`accountant`]: (ε, δ) of a list of events, never below the true value: by the privacy loss distribution, and
//!   bounded by Rényi differential privacy.
//! - [`calibrate`]: the least noise that keeps a target.
//! - `known`: both, without being worked out again for a study that is read again.
//! - [`clip`]: the norm to which updates are clipped; the only maker of noise, so that noise is tied to the clip.
//! - [`discrete`]: the exact sampler of the discrete Gaussian.
//!
//! Two data sets are neighbours when one has one unit (a record, or a facility) more than the other.

pub mod accountant;
pub mod calibrate;
pub mod clip;
mod coin;
pub mod discrete;
pub mod event;
mod fft;
mod known;
mod loss;
mod normal;
mod powers;
mod rdp;

pub use accountant::{epsilon, epsilon_by_rdp};
pub use calibrate::noise_multiplier;
pub use event::{Delta, Event, InvalidEvent};
pub use known::{known_epsilon, known_noise};
