//! The logistic function and the loss of a yes or no.

/// ln(1 + e^z) − y·z, without overflow.
pub(crate) fn loss(logit: f64, target: f64) -> f64 {
    logit.max(0.0) + (-logit.abs()).exp().ln_1p() - target * logit
}

/// 1/(1 + e^−z).
pub(crate) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
