//! Ages that may be told: 45 CFR 164.514(b)(2)(i)(C) makes those of 90 and more one category.
use crate::Timestamp;

/// From this many years on the year of birth is not told.
pub const POOLED_AGE_YEARS: u32 = 90;

/// Whether a year of birth may be told at an instant: it tells an age below [`POOLED_AGE_YEARS`] and does not lie ahead.
/// It counts calendar years, so that who turns 90 within this year is pooled for all of it.
#[must_use]
pub fn may_tell_birth_year(year: u32, now: Timestamp) -> bool {
    let text = now.to_rfc3339();
    let present: Option<u32> = text.get(..4).and_then(|year| year.parse().ok());
    present.is_some_and(|present| year <= present && present - year < POOLED_AGE_YEARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_that_tells_ninety_or_lies_ahead_is_not_told() {
        let now: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        for (year, told) in [
            (1936, false),
            (1937, true),
            (2026, true),
            (2027, false),
            (0, false),
        ] {
            assert_eq!(may_tell_birth_year(year, now), told, "{year}");
        }
    }
}
