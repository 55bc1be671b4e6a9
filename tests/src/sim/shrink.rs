//! Makes a failing line shorter while it fails in the same way.
use super::ops::Line;

/// The shortest line that is found by leaving parts of the line out, halves first, then single operations, until no
/// operation can be left out.
pub fn shrink(line: &Line, mut fails: impl FnMut(&Line) -> bool) -> Line {
    let mut best = line.clone();
    let mut chunk = best.ops.len().div_ceil(2).max(1);
    loop {
        let before = best.ops.len();
        let mut at = 0;
        while at < best.ops.len() {
            let mut shorter = best.clone();
            let end = (at + chunk).min(shorter.ops.len());
            shorter.ops.drain(at..end);
            if fails(&shorter) {
                best = shorter;
            } else {
                at += chunk;
            }
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else if best.ops.len() == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_the_failure_needs() {
        let line: Line = "small a00 .00 c10 a01 .00 u10 x00 a00 t00 .00"
            .parse()
            .unwrap();
        let needs = |line: &Line| {
            let text = line.to_string();
            text.find("c10")
                .is_some_and(|at| text[at..].contains("u10"))
        };
        assert_eq!(shrink(&line, needs).to_string(), "small c10 u10");
    }
}
