//! A clock that is falsified on purpose, in a local mesh alone.
use crate::{config::EdgeConfig, error::EdgeError};

/// Variable that falsifies the machine's clock in a local mesh, such as `-3650d` or `+2h`.
pub const CLOCK_OFFSET: &str = "MEDMESH_DANGEROUS_CLOCK_OFFSET";

/// By how many milliseconds the machine's clock is falsified.
pub(crate) fn clock_offset(config: &EdgeConfig) -> Result<i64, EdgeError> {
    let Ok(text) = std::env::var(CLOCK_OFFSET) else {
        return Ok(0);
    };
    if !config.local_mesh {
        let refused =
            "MEDMESH_DANGEROUS_CLOCK_OFFSET is set and this is not a local mesh: unset it";
        return Err(EdgeError::Dangerous(refused));
    }
    parse_offset(&text).ok_or(EdgeError::Dangerous(
        "MEDMESH_DANGEROUS_CLOCK_OFFSET is a sign and a duration, such as -3650d or +2h",
    ))
}

fn parse_offset(text: &str) -> Option<i64> {
    let (sign, span) = match text.split_at_checked(1)? {
        ("-", span) => (-1, span),
        ("+", span) => (1, span),
        _ => return None,
    };
    let span: node::quantity::Span = span.parse().ok()?;
    Some(sign * span.as_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_offset_has_a_sign_and_a_unit() {
        for (text, expected) in [
            ("-3650d", Some(-3_650 * 86_400_000)),
            ("+2h", Some(7_200_000)),
            ("2h", None),
            ("-2", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(parse_offset(text), expected, "{text}");
        }
    }
}
