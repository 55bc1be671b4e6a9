//! What is wrong with a study at a facility, in few words.
use super::Problem;

/// Keys whose problems are told at most.
const MOST_KEYS: usize = 10;

/// Of each key the first problem and how many there are besides, and of many keys the first ones: every window of a feature
/// has the same problem.
pub(crate) fn few(problems: Vec<Problem>) -> Vec<Problem> {
    let mut by_key: Vec<(Problem, usize)> = Vec::new();
    for problem in problems {
        let known = by_key
            .iter_mut()
            .find(|(first, _)| first.path == problem.path);
        match known {
            Some((_, more)) => *more += 1,
            None => by_key.push((problem, 0)),
        }
    }
    let left = by_key.len().saturating_sub(MOST_KEYS);
    let mut told = Vec::new();
    for (first, more) in by_key.into_iter().take(MOST_KEYS) {
        told.push(match more {
            0 => first,
            _ => {
                let message = format!("{}, and {more} more of this kind", first.message);
                Problem::new(first.path, message)
            }
        });
    }
    if left > 0 {
        let message = format!("has {left} keys more that do not fit");
        told.push(Problem::new("data", message));
    }
    told
}
