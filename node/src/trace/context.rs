//! Which span of which trace something belongs to, as W3C Trace Context writes it (`traceparent`, version 00). Pure.
use std::fmt;

/// A trace: 16 random bytes that say nothing, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// A span of a trace: 8 random bytes, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SpanId {
    /// Of a drawn number.
    #[must_use]
    pub const fn of(drawn: u64) -> Self {
        Self(if drawn == 0 { 1 } else { drawn })
    }
}

/// A span of a trace that is sampled. Of a trace that is not, nothing is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

impl Context {
    /// A new trace, of drawn numbers.
    #[must_use]
    pub const fn new(trace: u128, span: u64) -> Self {
        Self {
            trace: TraceId(if trace == 0 { 1 } else { trace }),
            span: SpanId::of(span),
        }
    }

    /// Reads a `traceparent` (W3C Trace Context §3.2). What is none, is of another version, or is not sampled, is taken
    /// for nothing, as §4.3 says.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut fields = traceparent.split('-');
        let mut field = |digits| hexadecimal(fields.next()?, digits);
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let span = u64::try_from(span).ok()?;
        let sampled = flags & 1 == 1;
        let good = version == 0 && trace != 0 && span != 0 && sampled && fields.next().is_none();
        good.then_some(Self::new(trace, span))
    }

    /// The span below this one.
    #[must_use]
    pub const fn below(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

/// As `traceparent`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace, self.span)
    }
}

fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let good = text.len() == digits && text.bytes().all(lower);
    good.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of W3C Trace Context §3.2.3.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = Context::parse(EXAMPLE).unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
        let flags = EXAMPLE.replace("-01", "-03");
        assert_eq!(Context::parse(&flags), Some(context), "other flags");
    }

    #[test]
    fn what_is_no_sampled_traceparent_of_this_version_is_nothing() {
        for bad in [
            String::new(),
            "00".to_owned(),
            EXAMPLE.replace("00-", "01-"),
            EXAMPLE.replace("00-", "ff-"),
            EXAMPLE.replace("-01", "-00"),
            EXAMPLE.replace("-01", "-1"),
            EXAMPLE.replace("-01", "-01-"),
            EXAMPLE.replace("-01", ""),
            EXAMPLE.replace("4bf9", "4BF9"),
            EXAMPLE.replace("4bf9", "+bf9"),
            EXAMPLE.replace("4bf9", "4bf"),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!(" {EXAMPLE}"),
            format!("{EXAMPLE}\n"),
        ] {
            assert_eq!(Context::parse(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_drawn_zero_is_no_id() {
        let context = Context::new(0, 0);
        assert_eq!(Context::parse(&context.to_string()), Some(context));
    }
}
