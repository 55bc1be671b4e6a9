//! Mutations of inputs, drawn from a seed: the same seed gives the same inputs on every machine.
use rand::{Rng as _, rngs::StdRng};

/// Longest input, in bytes: what grows beyond it is cut.
const MAX_LEN: usize = 16 << 10;
/// Changes to one input at most.
const MOST_CHANGES: usize = 8;
/// Bytes that parsers treat in a way of their own.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"'\\{}[],:;=&%+-./0129eE$|#";

/// An input made of one of the corpus, perhaps with a part of another.
pub(super) fn mutate(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let pick = |random: &mut StdRng| corpus[random.random_range(0..corpus.len())].clone();
    let mut input = pick(random);
    for _ in 0..random.random_range(1..=MOST_CHANGES) {
        let other = pick(random);
        change(&mut input, &other, random);
    }
    input.truncate(MAX_LEN);
    input
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len());
    let telling = TELLING[random.random_range(0..TELLING.len())];
    match random.random_range(0..7) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = telling,
        2 => input.insert(at, telling),
        3 => drop(input.drain(at..end)),
        4 => {
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        5 if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let to = random.random_range(from..other.len());
            input.splice(at..end, other[from..=to].iter().copied());
        }
        _ => input.truncate(end),
    }
}
