//! Whether a region says when it stored what it shows.
use crate::{config::RegionalConfig, error::RegionalError};
use federation::profile::Profile;
use node::clock::Clock;
use std::sync::Arc;

/// Whether the region may say now when it stored a resource: while a signed profile `limited` holds.
pub(crate) type TrueTimes = Arc<dyn Fn() -> bool + Send + Sync>;

/// By the region's signed profile, at each time that it is asked for.
///
/// # Errors
/// [`RegionalError::Profile`].
pub(crate) fn true_times(
    config: &RegionalConfig,
    clock: Clock,
) -> Result<TrueTimes, RegionalError> {
    let profile = config.signed_profile().map_err(RegionalError::Profile)?;
    Ok(Arc::new(move || {
        let now = profile.as_ref().map(|profile| profile.at(clock.real()));
        matches!(now, Some(Ok(Profile::Limited)))
    }))
}
