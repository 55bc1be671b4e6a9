//! How often a client may ask for FHIR: a bucket of requests for each, which fills at a steady rate (a token bucket). Who
//! takes more than is left, as a Bundle of many entries does, waits until that is made up for.
use fhir::rest::TooOften;
use node::config::Problem;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The most that can be said of either number.
const MOST: u32 = 1_000_000;

/// How often each client may ask.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Requests a second that a client may go on with.
    pub requests_per_second: u32,
    /// Requests that it may send at once after a pause; those of ten seconds when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl RateConfig {
    /// Everything that is wrong with it, with key paths.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let says = format!("is a whole number from 1 to {MOST}");
        let wrong = |number: u32| !(1..=MOST).contains(&number);
        let numbers = [
            ("rate.requests_per_second", Some(self.requests_per_second)),
            ("rate.burst", self.burst),
        ];
        let wrong = numbers
            .into_iter()
            .filter(|(_, number)| number.is_some_and(wrong));
        wrong
            .map(|(key, _)| Problem::new(key, says.clone()))
            .collect()
    }

    fn burst(&self) -> u32 {
        self.burst
            .unwrap_or_else(|| self.requests_per_second.saturating_mul(10))
    }
}

/// The buckets of a node; none has an end where nothing is configured. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Rates(Option<Arc<Buckets>>);

#[derive(Debug)]
struct Buckets {
    config: RateConfig,
    /// By client, of those that are registered.
    of: Mutex<HashMap<Arc<str>, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Requests; below 0 when more were taken.
    left: f64,
    at: Instant,
}

impl Rates {
    /// Full buckets.
    #[must_use]
    pub fn new(config: Option<RateConfig>) -> Self {
        let buckets = |config| Buckets {
            config,
            of: Mutex::default(),
        };
        Self(config.map(|config| Arc::new(buckets(config))))
    }

    /// Whether anybody has to wait.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.0.is_some()
    }

    /// Takes so many requests out of the bucket of a client, if there is one left in it; of requests within one that was taken
    /// itself, if nothing is owed.
    ///
    /// # Errors
    /// [`TooOften`]; then nothing is taken.
    pub fn take(
        &self,
        client: &Arc<str>,
        (requests, within): (u32, bool),
        now: Instant,
    ) -> Result<(), TooOften> {
        let Some(buckets) = &self.0 else {
            return Ok(());
        };
        let per_second = buckets.config.requests_per_second;
        let (rate, most) = (f64::from(per_second), f64::from(buckets.config.burst()));
        let mut of = buckets.of.lock();
        let full = Bucket {
            left: most,
            at: now,
        };
        let bucket = of.entry(Arc::clone(client)).or_insert(full);
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = since.mul_add(rate, bucket.left).min(most);
        bucket.at = now;
        let needed = if within { 0.0 } else { 1.0 };
        if bucket.left >= needed {
            bucket.left -= f64::from(requests);
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - bucket.left) / rate);
        metrics::counter!("medmesh_fhir_throttled_total").increment(1);
        Err(TooOften { per_second, wait })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(requests_per_second: u32, burst: Option<u32>) -> RateConfig {
        RateConfig {
            requests_per_second,
            burst,
        }
    }

    #[test]
    fn a_client_goes_on_at_its_rate_and_waits_for_what_it_took_beyond_it() {
        let rates = Rates::new(Some(config(2, Some(3))));
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let wait = |ms: u64| {
            Err(TooOften {
                per_second: 2,
                wait: Duration::from_millis(ms),
            })
        };
        for (client, requests, ms, expected) in [
            (&one, 1, 0, Ok(())),
            (&one, 1, 0, Ok(())),
            (&one, 1, 0, Ok(())),
            (&one, 1, 0, wait(500)),
            (&other, 1, 0, Ok(())),
            (&one, 1, 250, wait(250)),
            (&one, 1, 500, Ok(())),
            (&one, 1, 500, wait(500)),
            // A Bundle of 5 when all of 3 are there again: 2 are owed, and one is there 1.5 s later.
            (&one, 5, 10_000, Ok(())),
            (&one, 1, 10_000, wait(1_500)),
            (&one, 1, 11_500, Ok(())),
        ] {
            let taken = rates.take(client, (requests, false), at(ms));
            assert_eq!(taken, expected, "{client} {requests} at {ms} ms");
        }
    }

    #[test]
    fn who_has_waited_as_long_as_was_said_sends_a_bundle_although_no_more_than_that_is_left() {
        let rates = Rates::new(Some(config(2, Some(1))));
        let client: Arc<str> = "one".into();
        let begin = Instant::now();
        for (ms, is_taken) in [(0, true), (2_500, false), (3_000, true)] {
            let now = begin + Duration::from_millis(ms);
            let door = rates.take(&client, (1, false), now);
            assert_eq!(door.is_ok(), is_taken, "{ms} ms");
            // Its five entries are owed then: another Bundle that was let in at once with it would wait.
            if is_taken {
                assert_eq!(rates.take(&client, (5, true), now), Ok(()), "{ms} ms");
                assert!(rates.take(&client, (5, true), now).is_err(), "{ms} ms");
            }
        }
    }

    #[test]
    fn nobody_waits_where_nothing_is_configured_and_numbers_out_of_range_are_named() {
        let (rates, client) = (Rates::default(), "one".into());
        let now = Instant::now();
        assert!((0..100_000).all(|_| rates.take(&client, (1, false), now).is_ok()));
        let keys = |config: RateConfig| {
            let problems = config.problems();
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(keys(config(1, None)), "");
        let both = keys(config(0, Some(MOST + 1)));
        assert!(
            both.contains("rate.requests_per_second") && both.contains("rate.burst"),
            "{both}"
        );
    }
}
