//! The accountant beside figures that it did not compute.
use super::*;

fn of(q: f64, sigma: f64, steps: u64, delta: f64) -> f64 {
    let event = Event::new(q, sigma, steps).unwrap();
    epsilon(&[event], Delta::new(delta).unwrap())
}

/// (q, σ, steps, δ, ε): `PLDAccountant` of Google's dp-accounting 0.6.0 (grid 1e-4, connect the dots, add or remove one).
const DP_ACCOUNTING: &[(f64, f64, u64, f64, f64)] = &[
    (0.01, 1.0, 1_000, 1e-5, 1.828_243_645_585_509),
    (0.01, 0.7, 5_000, 1e-6, 11.002_773_254_015_498),
    (256.0 / 60_000.0, 1.1, 14_062, 1e-5, 2.381_686_002_234_784),
    (0.001, 0.6, 100_000, 1e-7, 7.781_899_245_563_883),
    (0.1, 2.0, 200, 1e-4, 2.866_175_839_596_837),
    (0.02, 1.5, 1_500, 1e-4, 2.078_585_415_135_114),
    (0.5, 4.0, 100, 1e-5, 5.868_720_578_133_993),
    (0.02, 0.5, 500, 1e-5, 17.570_724_985_075_834),
    (0.001, 1.0, 1, 1e-6, 0.021_833_276_385_289_414),
    (0.2, 1.0, 1, 1e-5, 2.447_218_808_534_221),
    (0.01, 5.0, 10_000, 1e-10, 1.201_402_941_942_477),
    (0.05, 10.0, 3_000, 1e-5, 1.029_957_384_233_336_3),
    (0.9, 1.0, 10, 1e-6, 18.082_089_043_172_566),
    // On a grid of 2e-5: one of 1e-4 is as wide as a single loss and gives 1.0238.
    (0.0001, 0.8, 1_000_000, 1e-8, 1.002_520_457_864_908_7),
    (0.3, 0.3, 2, 1e-5, 25.373_467_988_566_773),
    // Much noise on small samples, on a grid of 1e-5.
    (0.01, 5.0, 100, 1e-4, 0.045_666_437_895_077_74),
    (0.01, 5.0, 100, 1e-8, 0.097_083_622_937_190_96),
    (0.001, 2.0, 1_000, 1e-4, 0.036_858_674_087_920_56),
    // Losses that are rare and a thousand times the deviation of all: Rényi's bound alone is up to 18 times as much.
    (0.0001, 0.6, 3_000, 1e-5, 0.175_969_029_771_575_64),
    (0.0001, 0.8, 10_000, 1e-6, 0.079_397_743_782_474_4),
    (0.0001, 1.0, 3_000, 1e-10, 0.059_470_626_363_154_36),
    // Large ones, on a grid of 1e-3 and of 1e-4.
    (0.1, 0.4, 10_000, 1e-6, 1_568.540_000_007_561_3),
    (0.03, 0.6, 100_000, 1e-10, 631.966_865_542_700_2),
    // So little noise that likelihood ratios are beyond every number, on a grid of 1e-2.
    (0.5, 0.01, 10, 1e-5, 50_725.909_998_392_86),
    (0.5, 0.03, 10, 1e-5, 5_792.899_999_975_383),
    (0.5, 0.02, 100, 1e-5, 88_809.950_011_999_97),
    (0.1, 0.02, 20, 1e-5, 11_469.130_000_881_212),
    (0.9, 0.02, 5, 1e-5, 6_712.979_999_956_937),
    (1.0, 2.0, 10, 1e-5, 7.511_275_904_062_699),
    (1.0, 0.5, 1, 1e-6, 10.997_151_218_387_838),
    (0.15, 20.0, 1_500, 1e-4, 0.918_251_417_724_105_7),
];

#[test]
fn epsilon_is_that_of_the_independent_accountant_or_up_to_a_per_cent_more() {
    let mut wrong = Vec::new();
    for &(q, sigma, steps, delta, expected) in DP_ACCOUNTING {
        let ratio = of(q, sigma, steps, delta) / expected;
        // The other grid raises its own figure too: by a ten-thousandth where steps are many.
        if !(0.9998..=1.01).contains(&ratio) {
            wrong.push(format!(
                "q {q} sigma {sigma} steps {steps} delta {delta}: {ratio:.5}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn different_events_compose_as_in_the_independent_accountant() {
    let events = [
        (0.01, 1.0, 600),
        (0.05, 2.0, 300),
        (1.0, 8.0, 3),
        (0.01, 1.0, 400),
    ];
    let delta = Delta::new(1e-5).unwrap();
    let of = |(q, sigma, steps): &(f64, f64, u64)| Event::new(*q, *sigma, *steps).unwrap();
    let ratio = |events: &[(f64, f64, u64)], expected: f64| {
        let events: Vec<_> = events.iter().map(of).collect();
        epsilon(&events, delta) / expected
    };
    let found = ratio(&events, 2.843_683_878_407_429);
    assert!((0.9998..=1.01).contains(&found), "{found}");
    // A full batch of little noise beside samples: without the unit, what it releases is beyond every number.
    let events = [(1.0, 0.25, 1), (0.01, 1.0, 100)];
    let found = ratio(&events, 24.399_261_806_760_716);
    assert!((0.9998..=1.01).contains(&found), "{found}");
}

#[test]
fn what_is_found_where_the_transform_has_no_digits_is_no_bound() {
    // Rényi's bound has two minima, and the tilt of the one that is found here is far beyond ε: nothing was left of δ there.
    let first = Event::new(0.002_027_599_451_320_724, 0.016_089_347_031_573_102, 2_718).unwrap();
    let second = Event::new(0.438_944_995_351_767_8, 6.065_292_190_552_499_5, 2_532).unwrap();
    let delta = Delta::new(9.373_939_906_163_136e-5).unwrap();
    // The optimistic estimate of dp-accounting for the first one alone; both spend no less.
    assert!(epsilon(&[first], delta) >= 28_285.0);
    assert!(epsilon(&[first, second], delta) >= 28_285.0);
}

#[test]
fn a_full_batch_gaussian_has_the_closed_form() {
    // Δ/σ and ε(δ = 1e-5) of the analytic Gaussian mechanism (Balle and Wang 2018), solved with 30 digits by mpmath.
    for (sigma, steps) in [(2.0_f64, 10_u64), (0.5, 1), (30.0, 1), (1e3, 5)] {
        let found = of(1.0, sigma, steps, 1e-5);
        let spread = (steps as f64).sqrt() / sigma;
        let delta = ln_cdf(0.5 * spread - found / spread).exp()
            - (found + ln_cdf(-0.5 * spread - found / spread)).exp();
        assert!(delta <= 1e-5 && delta > 0.98e-5, "{sigma}: {found} {delta}");
    }
}

#[test]
fn epsilon_is_never_above_renyi_and_falls_with_noise_and_delta_and_grows_with_steps() {
    let grid = [(0.01, 0.8, 300), (0.2, 3.0, 40), (0.004, 1.1, 2_000)];
    for (q, sigma, steps) in grid {
        let event = Event::new(q, sigma, steps).unwrap();
        let delta = Delta::new(1e-5).unwrap();
        let here = epsilon(&[event], delta);
        assert!(here <= epsilon_by_rdp(&[event], delta));
        assert!(of(q, sigma * 1.05, steps, 1e-5) < here);
        assert!(of(q, sigma, steps * 11 / 10, 1e-5) > here);
        assert!(of(q, sigma, steps, 1e-4) < here);
    }
}

#[test]
fn renyi_gives_the_published_figures() {
    let by_rdp = |q, sigma, steps, delta| {
        let event = Event::new(q, sigma, steps).unwrap();
        epsilon_by_rdp(&[event], Delta::new(delta).unwrap())
    };
    // RdpAccountant of dp-accounting 0.6.0 searches whole orders and tenths only, so ours is no higher and close.
    for (q, sigma, steps, delta, published) in [
        (0.01, 1.0, 1_000, 1e-5, 2.101_37),
        (256.0 / 60_000.0, 1.1, 14_062, 1e-5, 2.596_56),
        (0.1, 2.0, 200, 1e-4, 3.196_71),
        (0.05, 10.0, 3_000, 1e-5, 1.125_23),
    ] {
        let found = by_rdp(q, sigma, steps, delta);
        assert!(
            found <= published * 1.000_01 && found > published * 0.99,
            "{found} {published}"
        );
    }
}

#[test]
fn extremes_are_answered_with_a_finite_bound() {
    for (q, sigma, steps, delta) in [
        (1e-9, 0.01, 1, 1e-15),
        (1.0, 0.01, Event::MAX_STEPS, 1e-15),
        (0.5, 0.01, 1_000, 1e-5),
        (0.999_999, 1e6, Event::MAX_STEPS, 0.1),
        (1e-9, 1e6, Event::MAX_STEPS, 1e-10),
        (1.0, 1e6, 1, 0.1),
    ] {
        let found = of(q, sigma, steps, delta);
        assert!(
            found.is_finite() && found >= 0.0,
            "{q} {sigma} {steps}: {found}"
        );
    }
    assert_eq!(epsilon(&[], Delta::new(1e-5).unwrap()), 0.0);
}
