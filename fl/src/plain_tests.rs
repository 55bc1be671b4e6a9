//! Updates that are seen one by one: what is refused, what is bounded, and what a few bad ones cannot move.
use super::*;
use crate::{privacy::clip::Clip, strategy::combine};

fn study(strategy: &str) -> Study {
    let text = format!(
        r#"name = "small"
sites = 5
data = {{ table = "t", minimum_records = 20, features = [{{ name = "x", unit = "1", missing = "zero" }}, {{ name = "y", unit = "1", missing = "zero" }}], label = {{ kind = "binary", column = "l" }} }}
model = {{ kind = "logistic" }}
training = {{ rounds = 3, steps = 5, batch = 8, learning_rate = 0.5, strategy = {{ {strategy} }} }}
aggregation = {{ secure = false, quorum = 3, bound = 8.0 }}"#
    );
    toml::from_str(&text).unwrap()
}

fn codec() -> UpdateCodec {
    UpdateCodec::new(Clip::new(8.0, 1 << 18, 3).unwrap(), false)
}

type Noise<'a> = Option<(
    &'a crate::privacy::discrete::DiscreteGaussian,
    &'a mut rand::rngs::StdRng,
)>;

fn written(update: &[f32]) -> Vec<u32> {
    codec().encode(update, 1.0, Noise::None).unwrap()
}

const UPDATES: [[f32; 3]; 5] = [
    [1.0, -2.0, 0.5],
    [1.5, -1.0, 0.25],
    [0.5, -1.5, 0.75],
    [2.0, -0.5, -0.25],
    [1.25, -1.25, 7.0],
];

/// The mean that a region's release comes to.
fn mean(strategy: &str, order: &[usize]) -> Vec<f32> {
    let mut plain = Plain::new(&study(strategy), Aim::Train, &codec());
    for at in order {
        let member = Member(*at as u16 + 1);
        plain
            .take(member, &written(&UPDATES[*at]), &codec())
            .unwrap();
    }
    codec().mean(&plain.sum(), order.len() as u16).unwrap()
}

#[test]
fn each_strategy_comes_to_what_its_definition_says_whoever_came_first() {
    for (text, strategy) in [
        ("kind = \"fed-avg\"", Strategy::FedAvg {}),
        ("kind = \"median\"", Strategy::Median {}),
        (
            "kind = \"trimmed-mean\", share = 0.2",
            Strategy::TrimmedMean { share: 0.2 },
        ),
        (
            "kind = \"norm-bound\", norm = 2.0",
            Strategy::NormBound { norm: 2.0 },
        ),
    ] {
        let first = mean(text, &[0, 1, 2, 3, 4]);
        assert_eq!(mean(text, &[4, 2, 0, 3, 1]), first, "{text}");
        let updates: Vec<_> = UPDATES.iter().map(|u| (u.to_vec(), 1.0)).collect();
        let exact = combine(&strategy, &updates).unwrap();
        for (found, exact) in first.iter().zip(exact) {
            assert!((found - exact).abs() < 1e-4, "{text}: {found} {exact}");
        }
        // Of an even number, the two in the middle.
        let even = mean(text, &[0, 1, 2, 3]);
        let exact = combine(&strategy, &updates[..4]).unwrap();
        for (found, exact) in even.iter().zip(exact) {
            assert!((found - exact).abs() < 1e-4, "{text}: {found} {exact}");
        }
    }
}

#[test]
fn an_update_that_no_honest_site_sends_is_refused_or_bounded_and_changes_nothing_else() {
    let codec = codec();
    for strategy in ["kind = \"fed-avg\"", "kind = \"median\""] {
        let mut plain = Plain::new(&study(strategy), Aim::Train, &codec);
        let before = plain.clone();
        let scaled = [8_000_000_u32, 0, 0];
        let refused = plain.take(Member(1), &scaled, &codec).unwrap_err();
        let said = "the sum of 1 has a norm of 8000000 units, and 262144 at most";
        assert_eq!(refused.to_string(), said);
        assert!(plain.take(Member(1), &[0; 2], &codec).is_err());
        assert_eq!(plain, before, "{strategy}");
    }
    let mut plain = Plain::new(
        &study("kind = \"norm-bound\", norm = 2.0"),
        Aim::Train,
        &codec,
    );
    let negative = (-8_000_000_i32).cast_unsigned();
    assert!(plain.take(Member(1), &[negative, 0, 0], &codec).unwrap());
    assert!(
        !plain
            .take(Member(2), &written(&[0.1, 0.1, 0.1]), &codec)
            .unwrap()
    );
    let mean = codec.mean(&plain.sum(), 2).unwrap();
    assert!((mean[0] - (-2.0 + 0.1) / 2.0).abs() < 1e-3, "{mean:?}");
    let mut counts = Plain::new(&study("kind = \"median\""), Aim::Judge, &codec);
    let mut numbers = vec![1; 2048];
    assert!(!counts.take(Member(1), &numbers, &codec).unwrap());
    numbers[7] = u32::MAX;
    assert_eq!(
        counts.take(Member(2), &numbers, &codec),
        Err(NotTaken::Counts(2048))
    );
    assert_eq!(counts.sum(), vec![1; 2048]);
}
