//! Values by the kinds of their parameters.
use super::{
    Context,
    split::{plain, split},
};
use crate::{
    bases::Bases,
    fhirpath::{Decimal, Moment, MomentKind, Precision},
    query::{
        CompositeMatch, DateMatch, Kind, Match, NumberMatch, Param, Prefix, Problem, QuantityMatch,
        ReferenceMatch, TextMatch, TokenMatch, UriMatch,
        extract::{Target, UCUM, is_id, split_reference},
        text::{cut, fold},
    },
    r4::R4,
    ucum::Unit,
};

/// Metres of a kilometre, of a mile and of that of US surveys (UCUM `km`, `[mi_i]`, `[mi_us]`).
const DISTANCES: [(&str, f64); 4] = [
    ("km", 1_000.0),
    ("m", 1.0),
    ("[mi_i]", 1_609.344),
    ("[mi_us]", 6_336_000.0 / 3_937.0),
];
/// The distance of `near` where none is named, in metres.
const NEAR_M: f64 = 50_000.0;

fn unescaped(name: &str, text: &str) -> Result<String, Problem> {
    let wrong = || Problem::invalid(name, "a backslash stands before , | $ or another backslash");
    Ok(cut(&plain(text).ok_or_else(wrong)?).to_owned())
}

/// A prefix and what follows.
fn prefixed(text: &str) -> (Prefix, &str) {
    const PREFIXES: [(&str, Prefix); 9] = [
        ("eq", Prefix::Eq),
        ("ne", Prefix::Ne),
        ("gt", Prefix::Gt),
        ("lt", Prefix::Lt),
        ("ge", Prefix::Ge),
        ("le", Prefix::Le),
        ("sa", Prefix::Sa),
        ("eb", Prefix::Eb),
        ("ap", Prefix::Ap),
    ];
    for (name, prefix) in PREFIXES {
        if let Some(rest) = text.strip_prefix(name) {
            return (prefix, rest);
        }
    }
    (Prefix::Eq, text)
}

/// A date: a tenth of the gap to now is added at both ends for `ap` (FHIR R4 search.html#prefix).
pub fn date(name: &str, text: &str, now: i64) -> Result<DateMatch, Problem> {
    let wrong = || {
        Problem::invalid(
            name,
            "a date is expected: YYYY, YYYY-MM, YYYY-MM-DD or with Thh:mm[:ss[.f]][zone], and eq, ne, gt, lt, ge, le, sa, eb or ap before it",
        )
    };
    let (prefix, rest) = prefixed(text);
    // A plus sign that was not encoded comes as a space.
    let moment =
        Moment::parse(&plain(rest).ok_or_else(wrong)?.replace(' ', "+")).ok_or_else(wrong)?;
    if moment.kind == MomentKind::DateTime && moment.precision < Precision::Minute {
        return Err(wrong());
    }
    let (low, high) = moment.span();
    let margin = match prefix {
        Prefix::Ap => now.saturating_sub(low).saturating_abs() / 10,
        _ => 0,
    };
    Ok(DateMatch {
        prefix,
        low: low.saturating_sub(margin),
        high: high.saturating_add(margin),
    })
}

/// The ends of what has the same significant digits, or is about the same: exact decimals.
fn ends(prefix: Prefix, value: Decimal) -> Option<(Decimal, Decimal)> {
    let half = value.half_unit();
    let margin = match prefix {
        Prefix::Ap => half.max(value.absolute().times(Decimal::new(1, 1))?),
        _ => half,
    };
    Some((value.minus(margin)?, value.plus(margin)?))
}

pub fn number(name: &str, text: &str) -> Result<NumberMatch, Problem> {
    let (prefix, rest) = prefixed(text);
    let read = Decimal::parse(rest).and_then(|value| Some((value, ends(prefix, value)?)));
    let (value, (low, high)) = read.ok_or_else(|| {
        Problem::invalid(name, "a number of at most 30 digits is expected, and eq, ne, gt, lt, ge, le, sa, eb or ap before it")
    })?;
    Ok(NumberMatch {
        prefix,
        value: value.to_f64(),
        low: low.to_f64(),
        high: high.to_f64(),
    })
}

/// `number`, `number|system|code` or `number||code`.
pub fn quantity(name: &str, text: &str) -> Result<QuantityMatch, Problem> {
    let sides = split(text, '|');
    let (number_text, system, code) = match sides.as_slice() {
        [number] => (number, "", ""),
        [number, system, code] => (number, *system, *code),
        _ => {
            return Err(Problem::invalid(
                name,
                "number, number|system|code or number||code is expected",
            ));
        }
    };
    let some = |text: &str| -> Result<Option<String>, Problem> {
        Ok(Some(unescaped(name, text)?).filter(|text| !text.is_empty()))
    };
    let (system, code) = (some(system)?, some(code)?);
    let number_match = number(name, number_text)?;
    let unit = code
        .as_deref()
        .filter(|_| system.as_deref() == Some(UCUM))
        .and_then(Unit::parse);
    let canonical = unit.and_then(|unit| {
        let (prefix, rest) = prefixed(number_text);
        let value = Decimal::parse(rest)?;
        let (low, high) = ends(prefix, value)?;
        let base = NumberMatch {
            prefix,
            value: unit.base_value(value),
            low: unit.base_value(low),
            high: unit.base_value(high),
        };
        Some((base, cut(&unit.dimension()).to_owned()))
    });
    Ok(QuantityMatch {
        number: number_match,
        system,
        code,
        canonical,
    })
}

pub fn text(name: &str, text: &str, modifier: Option<&str>) -> Result<TextMatch, Problem> {
    let plain = plain(text).ok_or_else(|| {
        Problem::invalid(name, "a backslash stands before , | $ or another backslash")
    })?;
    let folded = fold(&plain);
    if folded.is_empty() {
        return Err(Problem::invalid(
            name,
            "a text that is not blank is expected",
        ));
    }
    Ok(match modifier {
        Some("exact") => TextMatch::Exact(cut(&plain).to_owned()),
        Some(_) => TextMatch::Contains(folded),
        None => TextMatch::Starts(folded),
    })
}

/// `code`, `system|code`, `|code` or `system|`.
pub fn token(name: &str, text: &str) -> Result<TokenMatch, Problem> {
    let wrong = || Problem::invalid(name, "code, system|code, |code or system| is expected");
    match split(text, '|').as_slice() {
        [code] => Ok(TokenMatch::Code(unescaped(name, code)?)),
        ["", ""] => Err(wrong()),
        ["", code] => Ok(TokenMatch::Bare(unescaped(name, code)?)),
        [system, ""] => Ok(TokenMatch::System(unescaped(name, system)?)),
        [system, code] => Ok(TokenMatch::Coded(
            unescaped(name, system)?,
            unescaped(name, code)?,
        )),
        _ => Err(wrong()),
    }
}

/// `:text`.
pub fn token_text(name: &str, part: &str) -> Result<TokenMatch, Problem> {
    match text(name, part, None)? {
        TextMatch::Starts(folded) => Ok(TokenMatch::Text(folded)),
        _ => Err(Problem::invalid(name, "a text is expected")),
    }
}

/// `:of-type`: `system|code|value`.
pub fn of_type(name: &str, text: &str) -> Result<TokenMatch, Problem> {
    match split(text, '|').as_slice() {
        [system, code, value] if !system.is_empty() && !code.is_empty() && !value.is_empty() => {
            Ok(TokenMatch::OfType {
                system: unescaped(name, system)?,
                code: unescaped(name, code)?,
                value: unescaped(name, value)?,
            })
        }
        _ => Err(Problem::invalid(
            name,
            "system|code|value is expected: of the type of the identifier, and its value",
        )),
    }
}

/// `id`, `Type/id`, either with `/_history/version`, or a URL, with `|version` where it is canonical.
pub fn reference(
    name: &str,
    text: &str,
    kind: Option<&'static str>,
    base: Bases<'_>,
) -> Result<ReferenceMatch, Problem> {
    let wrong = || Problem::invalid(name, "an id, Type/id or a URL is expected");
    let sides = split(text, '|');
    let (path, version) = match sides.as_slice() {
        [path] => (unescaped(name, path)?, None),
        [url, version] => (unescaped(name, url)?, Some(unescaped(name, version)?)),
        _ => return Err(wrong()),
    };
    if is_id(&path) && version.is_none() {
        return Ok(ReferenceMatch::Local {
            resource_type: kind.map(str::to_owned),
            id: path,
            version: None,
        });
    }
    match split_reference(&path, base) {
        Some(Target::Local(found, id, of)) if version.is_none() => {
            match kind.is_none_or(|kind| kind == found) {
                true => Ok(ReferenceMatch::Local {
                    resource_type: Some(found.to_owned()),
                    id: id.to_owned(),
                    version: of.map(str::to_owned),
                }),
                false => Err(Problem::invalid(
                    name,
                    "a reference of the type that the modifier names is expected",
                )),
            }
        }
        Some(Target::Elsewhere(url, _, of)) if url.contains(':') => Ok(ReferenceMatch::Url {
            url: url.to_owned(),
            version: version.or_else(|| of.map(str::to_owned)),
        }),
        _ => Err(wrong()),
    }
}

pub fn uri(name: &str, text: &str, modifier: Option<&str>) -> Result<UriMatch, Problem> {
    let uri = unescaped(name, text)?;
    Ok(match modifier {
        Some("below") => UriMatch::Below(uri),
        Some(_) => UriMatch::Above(ancestors(&uri)),
        None => UriMatch::Is(uri),
    })
}

/// A URI and what it stands below: `http://a/b/c`, `http://a/b/`, `http://a/b`, `http://a/`, `http://a`.
fn ancestors(uri: &str) -> Vec<String> {
    let root = uri.find("://").map_or(0, |at| at + 3);
    let mut all = vec![uri.to_owned()];
    for (at, _) in uri
        .char_indices()
        .rev()
        .filter(|(at, c)| *c == '/' && *at >= root)
    {
        all.extend(uri.get(..=at).map(str::to_owned));
        all.extend(uri.get(..at).map(str::to_owned));
    }
    all.retain(|one| !one.is_empty());
    all.dedup();
    all
}

/// Values with dollars between them, one for each part.
pub fn composite(
    name: &str,
    text: &str,
    param: &Param,
    context: &Context<'_>,
) -> Result<Match, Problem> {
    let values = split(text, '$');
    if values.len() != param.parts.len() {
        let parts: Vec<&str> = param.parts.iter().map(|part| part.code).collect();
        return Err(Problem::invalid(
            name,
            format!("{} is expected", parts.join("$")),
        ));
    }
    let of_part = |(value, part): (&&str, &crate::query::Part)| {
        if value.is_empty() {
            return Err(Problem::invalid(name, "one of the parts is empty"));
        }
        Ok(match part.kind {
            Kind::Token => Match::Token(token(name, value)?),
            Kind::Date => Match::Date(date(name, value, context.now)?),
            Kind::Number => Match::Number(number(name, value)?),
            Kind::Quantity => Match::Quantity(quantity(name, value)?),
            Kind::String => Match::Text(self::text(name, value, None)?),
            Kind::Uri => Match::Uri(uri(name, value, None)?),
            Kind::Reference => Match::Reference(reference(name, value, None, context.base)?),
            Kind::Composite | Kind::Special => {
                return Err(Problem::unsupported(name, "a part that is not offered"));
            }
        })
    };
    let parts = values.iter().zip(&param.parts).map(of_part);
    Ok(Match::Composite(CompositeMatch(
        parts.collect::<Result<_, _>>()?,
    )))
}

/// Location `near`: `latitude|longitude`, with `|distance` and `|unit`.
pub fn near(name: &str, text: &str) -> Result<Match, Problem> {
    let wrong = || {
        Problem::invalid(
            name,
            "latitude|longitude|distance|unit is expected, in degrees, and km, m, [mi_i] or [mi_us]",
        )
    };
    let sides = split(text, '|');
    let degrees = |at: usize, most: i64| {
        let number = Decimal::parse(sides.get(at)?)?;
        (number.absolute() <= Decimal::from(most)).then(|| number.to_f64())
    };
    let (latitude, longitude) = (
        degrees(0, 90).ok_or_else(wrong)?,
        degrees(1, 180).ok_or_else(wrong)?,
    );
    let metres = match (sides.get(2), sides.get(3), sides.len()) {
        (_, _, 2) => NEAR_M,
        (Some(distance), unit, 3 | 4) => {
            let number = Decimal::parse(distance).filter(|number| *number >= Decimal::from(0));
            let unit = unit.map_or("km", |unit| *unit);
            let factor = DISTANCES.iter().find(|(known, _)| *known == unit);
            number.ok_or_else(wrong)?.to_f64() * factor.ok_or_else(wrong)?.1
        }
        _ => return Err(wrong()),
    };
    Ok(Match::Near {
        latitude,
        longitude,
        metres,
    })
}

/// Whether an element is one of the type's, at its top.
pub fn has_element(kind: &str, element: &str) -> bool {
    let shape = R4.shape_of(kind);
    shape.is_some_and(|shape| shape.fields.values().any(|field| field.element == element))
}
