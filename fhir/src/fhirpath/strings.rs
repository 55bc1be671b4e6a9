//! Functions on texts (FHIRPath 2.0 §5.6).
use super::{
    PathError,
    ast::Function,
    eval::{Evaluator, Values},
    existence::whole,
    operators::{bounded, single, truth},
    system::{Item, System},
};
use regex::RegexBuilder;

/// Bytes that a compiled pattern may take: enough for those of R4's invariants.
const MAX_PATTERN_BYTES: usize = 1 << 20;

fn text<'a>(text: impl Into<String>) -> Vec<Item<'a>> {
    vec![Item::System(System::Text(text.into().into()))]
}

fn place<'a>(at: Option<usize>) -> Vec<Item<'a>> {
    let at = at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1);
    vec![Item::System(System::Integer(at))]
}

/// The text of a collection of at most one.
fn text_of(items: &[Item<'_>], operation: &'static str) -> Result<Option<String>, PathError> {
    match single(items, operation)?.map(Item::text) {
        None => Ok(None),
        Some(Some(text)) => Ok(Some(text.into_owned())),
        Some(None) => Err(PathError::Operand {
            operation,
            problem: "a text is expected",
        }),
    }
}

pub fn call<'a>(
    evaluator: &Evaluator<'a>,
    function: Function,
    items: &[Item<'a>],
    arguments: &[Vec<Item<'a>>],
) -> Values<'a> {
    use Function as F;
    let name = function.name();
    if function == F::Join {
        return join(items, arguments);
    }
    let Some(input) = text_of(items, name)? else {
        return Ok(Vec::new());
    };
    evaluator.count(input.len() / 64)?;
    match function {
        F::Upper => return Ok(text(input.to_uppercase())),
        F::Lower => return Ok(text(input.to_lowercase())),
        F::Trim => return Ok(text(input.trim())),
        F::Length => return Ok(place(Some(input.chars().count()))),
        F::ToChars => {
            evaluator.count(input.len())?;
            return Ok(input.chars().flat_map(text).collect());
        }
        F::Substring => return substring(&input, arguments),
        _ => {}
    }
    let first = arguments
        .first()
        .map_or(Ok(None), |argument| text_of(argument, name))?;
    let Some(first) = first else {
        return Ok(Vec::new());
    };
    let chars = |bytes: usize| {
        input
            .get(..bytes)
            .map_or(0, |before| before.chars().count())
    };
    Ok(match function {
        F::IndexOf => place(input.find(&first).map(chars)),
        F::LastIndexOf => place(input.rfind(&first).map(chars)),
        F::StartsWith => truth(Some(input.starts_with(&first))),
        F::EndsWith => truth(Some(input.ends_with(&first))),
        F::Contains => truth(Some(input.contains(&first))),
        F::Split => {
            evaluator.count(input.len())?;
            input
                .split(first.as_str())
                .filter(|part| !(first.is_empty() && part.is_empty()))
                .flat_map(text)
                .collect()
        }
        F::Matches => truth(Some(pattern(&first, name)?.is_match(&input))),
        F::MatchesFull => truth(Some(
            pattern(&format!("^(?:{first})$"), name)?.is_match(&input),
        )),
        _ => return replaced(function, &input, &first, arguments),
    })
}

/// `replace` and `replaceMatches`.
fn replaced<'a>(
    function: Function,
    input: &str,
    first: &str,
    arguments: &[Vec<Item<'a>>],
) -> Values<'a> {
    let name = function.name();
    let second = arguments
        .get(1)
        .map_or(Ok(None), |argument| text_of(argument, name))?;
    let Some(second) = second else {
        return Ok(Vec::new());
    };
    // Each character may become one replacement.
    let longest = second
        .len()
        .saturating_mul(input.len() + 1)
        .saturating_add(input.len());
    if longest > super::MAX_TEXT && !second.is_empty() {
        return Err(PathError::Limit("1 MiB of text"));
    }
    let replaced = match function {
        Function::Replace => input.replace(first, &second),
        _ => pattern(first, name)?
            .replace_all(input, second.as_str())
            .into_owned(),
    };
    Ok(text(bounded(replaced)?))
}

/// A pattern, in which a dot is any character (FHIRPath 2.0 §5.6.9).
fn pattern(text: &str, operation: &'static str) -> Result<regex::Regex, PathError> {
    let mut builder = RegexBuilder::new(text);
    builder
        .dot_matches_new_line(true)
        .size_limit(MAX_PATTERN_BYTES)
        .nest_limit(64);
    builder.build().map_err(|_| PathError::Operand {
        operation,
        problem: "a regular expression, without look-around, is expected",
    })
}

fn substring<'a>(input: &str, arguments: &[Vec<Item<'a>>]) -> Values<'a> {
    let number = |at: usize| {
        arguments
            .get(at)
            .map_or(Ok(None), |argument| whole(argument, "substring"))
    };
    let (Some(start), length) = (number(0)?, number(1)?) else {
        return Ok(Vec::new());
    };
    let Ok(start) = usize::try_from(start) else {
        return Ok(Vec::new());
    };
    let length = length.map_or(usize::MAX, |length| {
        usize::try_from(length.max(0)).unwrap_or(usize::MAX)
    });
    if start >= input.chars().count() {
        return Ok(Vec::new());
    }
    Ok(text(
        input.chars().skip(start).take(length).collect::<String>(),
    ))
}

fn join<'a>(items: &[Item<'a>], arguments: &[Vec<Item<'a>>]) -> Values<'a> {
    let between = match arguments.first() {
        Some(argument) => text_of(argument, "join")?.unwrap_or_default(),
        None => String::new(),
    };
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        let part = text_of(std::slice::from_ref(item), "join")?.unwrap_or_default();
        if index > 0 {
            joined.push_str(&between);
        }
        joined = bounded(joined + &part)?;
    }
    Ok(if items.is_empty() {
        Vec::new()
    } else {
        text(joined)
    })
}
