//! Which resources a search finds, by their rows alone: the meaning that every engine has to keep.
use super::{
    CompositeMatch, DateMatch, Filter, IndexRow, Match, NumberMatch, Prefix, QuantityMatch,
    ReferenceMatch, Search, TextMatch, TokenMatch, UriMatch, Value,
};
use crate::audit;
use std::collections::BTreeSet;

/// Metres from the middle of the earth to its surface.
pub(super) const EARTH_M: f64 = 6_371_008.8;

/// A resource as a search sees it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its type.
    pub resource_type: &'a str,
    /// Its id.
    pub id: &'a str,
    /// When it was stored, ms since 1970.
    pub last_updated: i64,
    /// The rows of its index.
    pub rows: &'a [IndexRow],
}

/// Whether a search finds a resource, among all that there are: chains and `_has` look at the others.
#[must_use]
pub fn matches(search: &Search, resource: &Found<'_>, all: &[Found<'_>]) -> bool {
    search.types.contains(&resource.resource_type)
        && search
            .filters
            .iter()
            .all(|filter| holds(filter, resource, all))
}

/// Whether a filter holds of a resource.
#[must_use]
pub fn holds(filter: &Filter, resource: &Found<'_>, all: &[Found<'_>]) -> bool {
    let rows = |code: &'static str| resource.rows.iter().filter(move |row| row.param == code);
    match filter {
        Filter::Param { param, matches } => matches.iter().any(|one| match one {
            Match::Composite(parts) => composite(parts, rows(param.code)),
            one => rows(param.code).any(|row| value(one, &row.value)),
        }),
        Filter::Missing { param, missing } => rows(param.code).next().is_none() == *missing,
        Filter::Id(ids) => ids.iter().any(|id| id == resource.id),
        Filter::LastUpdated(spans) => spans
            .iter()
            .any(|span| date(span, resource.last_updated, resource.last_updated)),
        Filter::Commits(_) => false,
        Filter::List(ids) => all.iter().any(|list| {
            let leads_here =
                |row: &IndexRow| row.param == "item" && leads_to(&row.value, resource, false);
            list.resource_type == "List"
                && ids.iter().any(|id| id == list.id)
                && list.rows.iter().any(leads_here)
        }),
        Filter::Chain { param, targets } => rows(param.code).any(|row| {
            let by_url = param.is_canonical();
            let found = |other: &&Found<'_>| leads_to(&row.value, other, by_url);
            all.iter().filter(found).any(|other| {
                let of_type = targets
                    .iter()
                    .filter(|(kind, _)| *kind == other.resource_type);
                of_type
                    .into_iter()
                    .any(|(_, inner)| holds(inner, other, all))
            })
        }),
        Filter::Has {
            source,
            reference,
            inner,
        } => all.iter().any(|other| {
            let by_url = reference.is_canonical();
            let leads_here = |row: &IndexRow| {
                row.param == reference.code && leads_to(&row.value, resource, by_url)
            };
            other.resource_type == *source
                && other.rows.iter().any(leads_here)
                && holds(inner, other, all)
        }),
        // What an engine alone knows.
        Filter::HasReading { .. } | Filter::Column(_) => false,
        Filter::Own => audit::is_own(resource.resource_type, resource.id),
        Filter::Not(inner) => !holds(inner, resource, all),
        Filter::Any(inner) => inner.iter().any(|inner| holds(inner, resource, all)),
        Filter::All(inner) => inner.iter().all(|inner| holds(inner, resource, all)),
    }
}

/// Whether a reference leads to a resource of this server, whichever version it names; `by_url` where it may be a canonical
/// URL, which leads to what has that `url`, and the version where it names one.
fn leads_to(value: &Value, resource: &Found<'_>, by_url: bool) -> bool {
    let Value::Reference {
        resource_type,
        id,
        version,
        url,
        ..
    } = value
    else {
        return false;
    };
    let has = |code: &str, is_it: &dyn Fn(&Value) -> bool| {
        let mut rows = resource.rows.iter();
        rows.any(|row| row.param == code && is_it(&row.value))
    };
    let has_url = |url: &String| has("url", &|value: &Value| *value == Value::Uri(url.clone()));
    let has_version = |version: &String| {
        has("version", &|value: &Value| match value {
            Value::Token { code, .. } => code.as_ref() == Some(version),
            _ => false,
        })
    };
    let is_it = id.as_deref() == Some(resource.id)
        && resource_type.as_deref() == Some(resource.resource_type);
    let is_named =
        by_url && url.as_ref().is_some_and(has_url) && version.as_ref().is_none_or(has_version);
    is_it || is_named
}

fn composite<'a>(parts: &CompositeMatch, rows: impl Iterator<Item = &'a IndexRow>) -> bool {
    let rows: Vec<&IndexRow> = rows.collect();
    let groups: BTreeSet<u32> = rows.iter().map(|row| row.group).collect();
    let part_in = |group: u32, part: u8, one: &Match| {
        rows.iter()
            .any(|row| row.group == group && row.part == part && value(one, &row.value))
    };
    groups.into_iter().any(|group| {
        (0_u8..)
            .zip(&parts.0)
            .all(|(part, one)| part_in(group, part, one))
    })
}

/// Whether a value of a search matches a value of an index; of a composite, never.
fn value(one: &Match, row: &Value) -> bool {
    match (one, row) {
        (Match::Token(one), row) => token(one, row),
        (Match::Date(one), Value::Date { low, high }) => date(one, *low, *high),
        (Match::Number(one), Value::Number { low, high }) => number(one, *low, *high),
        (Match::Quantity(one), row) => quantity(one, row),
        (Match::Text(one), Value::Text { exact, folded }) => match one {
            TextMatch::Starts(text) => folded.starts_with(text),
            TextMatch::Contains(text) => folded.contains(text),
            TextMatch::Exact(text) => exact == text,
        },
        (Match::Reference(one), row) => reference(one, row),
        (Match::Uri(one), Value::Uri(uri)) => match one {
            UriMatch::Is(wanted) => uri == wanted,
            UriMatch::Below(wanted) => {
                let rest = uri.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('/') || wanted.ends_with('/')
                })
            }
            UriMatch::Above(wanted) => wanted.contains(uri),
        },
        (
            Match::Near {
                latitude,
                longitude,
                metres,
            },
            Value::Position {
                latitude: north,
                longitude: east,
            },
        ) => distance((*latitude, *longitude), (*north, *east)) <= *metres,
        _ => false,
    }
}

fn token(one: &TokenMatch, row: &Value) -> bool {
    if let (
        TokenMatch::OfType {
            system,
            code,
            value,
        },
        Value::OfType { .. },
    ) = (one, row)
    {
        let wanted = Value::OfType {
            system: Some(system.clone()),
            code: code.clone(),
            value: value.clone(),
        };
        return *row == wanted;
    }
    let Value::Token { system, code, text } = row else {
        return false;
    };
    coded(one, system.as_deref(), code.as_deref())
        || matches!((one, text), (TokenMatch::Text(wanted), Some(text)) if text.starts_with(wanted))
}

fn coded(one: &TokenMatch, system: Option<&str>, code: Option<&str>) -> bool {
    match one {
        TokenMatch::Code(wanted) => code == Some(wanted),
        TokenMatch::Coded(of, wanted) => system == Some(of) && code == Some(wanted),
        TokenMatch::Bare(wanted) => system.is_none() && code == Some(wanted),
        TokenMatch::System(of) => system == Some(of),
        TokenMatch::Text(_) | TokenMatch::OfType { .. } => false,
    }
}

fn date(one: &DateMatch, low: i64, high: i64) -> bool {
    let equal = one.low <= low && high <= one.high;
    match one.prefix {
        Prefix::Eq => equal,
        Prefix::Ne => !equal,
        Prefix::Gt => high > one.high,
        Prefix::Lt => low < one.low,
        Prefix::Ge => equal || high > one.high,
        Prefix::Le => equal || low < one.low,
        Prefix::Sa => low > one.high,
        Prefix::Eb => high < one.low,
        Prefix::Ap => low <= one.high && high >= one.low,
    }
}

fn number(one: &NumberMatch, low: f64, high: f64) -> bool {
    let equal = one.low <= low && high < one.high;
    match one.prefix {
        Prefix::Eq => equal,
        Prefix::Ne => !equal,
        Prefix::Gt => high > one.value,
        Prefix::Lt => low < one.value,
        Prefix::Ge => high >= one.value,
        Prefix::Le => low <= one.value,
        Prefix::Sa => low > one.value,
        Prefix::Eb => high < one.value,
        Prefix::Ap => low < one.high && high >= one.low,
    }
}

fn quantity(one: &QuantityMatch, row: &Value) -> bool {
    let Value::Quantity {
        low,
        high,
        system,
        code,
        unit,
        canonical,
    } = row
    else {
        return false;
    };
    if let Some((wanted, wanted_unit)) = &one.canonical {
        let same = canonical
            .as_ref()
            .filter(|canonical| canonical.unit == *wanted_unit);
        return same.is_some_and(|canonical| number(wanted, canonical.low, canonical.high));
    }
    let of_system = one
        .system
        .as_ref()
        .is_none_or(|wanted| system.as_ref() == Some(wanted));
    let of_code = match (&one.code, &one.system) {
        (None, _) => true,
        (Some(wanted), Some(_)) => code.as_ref() == Some(wanted),
        (Some(wanted), None) => code.as_ref() == Some(wanted) || unit.as_ref() == Some(wanted),
    };
    of_system && of_code && number(&one.number, *low, *high)
}

fn reference(one: &ReferenceMatch, row: &Value) -> bool {
    let Value::Reference {
        resource_type,
        id,
        version,
        url,
        identifier,
    } = row
    else {
        return false;
    };
    let of_version = |wanted: &Option<String>| {
        wanted
            .as_ref()
            .is_none_or(|wanted| version.as_ref() == Some(wanted))
    };
    match one {
        ReferenceMatch::Local {
            resource_type: wanted_type,
            id: wanted_id,
            version: wanted_version,
        } => {
            id.as_ref() == Some(wanted_id)
                && wanted_type
                    .as_ref()
                    .is_none_or(|wanted| resource_type.as_ref() == Some(wanted))
                && of_version(wanted_version)
        }
        ReferenceMatch::Url {
            url: wanted,
            version: wanted_version,
        } => url.as_ref() == Some(wanted) && of_version(wanted_version),
        ReferenceMatch::Identifier(wanted) => identifier
            .as_ref()
            .is_some_and(|(system, value)| coded(wanted, system.as_deref(), Some(value))),
    }
}

/// Metres between two places, each in degrees north and east (haversine).
#[must_use]
pub fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (north, south) = (a.0.to_radians(), b.0.to_radians());
    let (up, along) = ((b.0 - a.0).to_radians(), (b.1 - a.1).to_radians());
    let half = (up / 2.0).sin().powi(2) + north.cos() * south.cos() * (along / 2.0).sin().powi(2);
    2.0 * EARTH_M * half.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
