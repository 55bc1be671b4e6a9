//! Parameters that shape the answer: which types, how many, in which order, with what beside them.
use super::{
    MAX_ELEMENTS, MAX_INCLUDES, MAX_SORT, condition::leads_to, resource_type, value::has_element,
};
use crate::{
    query::{
        Include, Param, Problem, ProblemKind, Search, Sort, SortBy, Summary, Total, param, params,
    },
    r4::R4,
};

/// Names of parameters that are no conditions.
const CONTROLS: [&str; 13] = [
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_contained",
    "_containedType",
    "_type",
    "_cursor",
    "_format",
    "_pretty",
];

/// Whether a parameter is one of these, whatever its modifier.
pub fn is_control(name: &str) -> bool {
    let code = name.split(':').next().unwrap_or_default();
    CONTROLS.contains(&code)
}

/// The types that are searched.
pub fn types(one: Option<&str>, pairs: &[(String, String)]) -> Result<Vec<&'static str>, Problem> {
    if let Some(name) = one {
        let known = resource_type(name);
        return Ok(vec![known.ok_or_else(|| {
            Problem::invalid(name, "no resource type of R4")
        })?]);
    }
    let mut asked = pairs.iter().filter(|(name, _)| name == "_type");
    let Some((_, text)) = asked.next() else {
        return Ok(R4.resources().to_vec());
    };
    if asked.next().is_some() {
        return Err(Problem::invalid("_type", "it stands twice"));
    }
    let read = |name: &str| {
        resource_type(name)
            .ok_or_else(|| Problem::invalid("_type", "resource types of R4 are expected"))
    };
    let mut types: Vec<&'static str> = text.split(',').map(read).collect::<Result<_, _>>()?;
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

fn twice(name: &str, is_set: bool) -> Result<(), Problem> {
    match is_set {
        true => Err(Problem::invalid(name, "it stands twice")),
        false => Ok(()),
    }
}

/// Applies one of them.
pub fn apply(search: &mut Search, of_system: bool, name: &str, text: &str) -> Result<(), Problem> {
    match name {
        "_count" => {
            twice(name, search.count.is_some())?;
            search.count = Some(count(name, text)?);
        }
        "_total" => {
            search.total = match text {
                "none" => Total::None,
                "estimate" => Total::Estimate,
                "accurate" => Total::Accurate,
                _ => {
                    return Err(Problem::invalid(
                        name,
                        "none, estimate or accurate is expected",
                    ));
                }
            }
        }
        "_summary" => {
            twice(name, search.summary.is_some())?;
            search.summary = Some(summary(name, text)?);
        }
        "_elements" => {
            for element in text.split(',') {
                elements(search, name, element)?;
            }
        }
        "_sort" => {
            for key in text.split(',') {
                sort(search, name, key)?;
            }
        }
        "_include" | "_include:iterate" => {
            let include = include(search, name, text, false)?;
            search.includes.push(include);
        }
        "_revinclude" | "_revinclude:iterate" => {
            let include = include(search, name, text, true)?;
            search.revincludes.push(include);
        }
        "_contained" if text == "false" => {}
        "_contained" | "_containedType" => {
            return Err(Problem::unsupported(
                name,
                "what is contained is not searched: only _contained=false is offered",
            ));
        }
        "_type" if of_system => {}
        "_type" => {
            return Err(Problem::invalid(
                name,
                "it is offered where the whole server is searched",
            ));
        }
        "_cursor" => {
            twice(name, search.cursor.is_some())?;
            search.cursor = Some(text.to_owned());
        }
        // A format is negotiated elsewhere, and how JSON is set out is left to the server (FHIR R4 http.html#parameters).
        "_format" | "_pretty" => {}
        _ => return Err(Problem::unsupported(name, "the modifier is not offered")),
    }
    Ok(())
}

fn count(name: &str, text: &str) -> Result<u32, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match is_number {
        true => Ok(text.parse().unwrap_or(u32::MAX)),
        false => Err(Problem::invalid(name, "a whole number is expected")),
    }
}

/// Reads `_summary` (FHIR R4 search.html#summary).
fn summary(name: &str, text: &str) -> Result<Summary, Problem> {
    Summary::parse(text)
        .ok_or_else(|| Problem::invalid(name, "true, text, data, count or false is expected"))
}

impl Summary {
    /// By its code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "true" => Self::True,
            "text" => Self::Text,
            "data" => Self::Data,
            "count" => Self::Count,
            "false" => Self::False,
            _ => return None,
        })
    }
}

fn elements(search: &mut Search, name: &str, element: &str) -> Result<(), Problem> {
    let plain = match element.split_once('.') {
        Some((kind, plain)) if search.types.contains(&kind) => plain,
        _ => element,
    };
    if search.elements.len() >= MAX_ELEMENTS {
        return Err(Problem::limit(
            name,
            format!("more than {MAX_ELEMENTS} elements"),
        ));
    }
    if !search.types.iter().any(|kind| has_element(kind, plain)) {
        return Err(Problem::new(
            ProblemKind::Unknown,
            name,
            format!("{plain:.40} is none: elements at the top of the resource are expected"),
        ));
    }
    if !search.elements.iter().any(|known| known == plain) {
        search.elements.push(plain.to_owned());
    }
    Ok(())
}

fn sort(search: &mut Search, name: &str, key: &str) -> Result<(), Problem> {
    let (code, descending) = match key.strip_prefix('-') {
        Some(code) => (code, true),
        None => (key, false),
    };
    if search.sort.len() >= MAX_SORT {
        return Err(Problem::limit(name, format!("more than {MAX_SORT} keys")));
    }
    let by = match code {
        "_id" => SortBy::Id,
        "_lastUpdated" => SortBy::LastUpdated,
        _ => {
            let first = search.types.first().and_then(|kind| param(kind, code));
            let of_each = |kind: &&str| {
                param(kind, code).is_some_and(|one| Some(one.kind) == first.map(|one| one.kind))
            };
            let shared = first.filter(|_| search.types.iter().all(of_each));
            let shared = shared.ok_or_else(|| {
                let text = format!(
                    "{code:.40} is none: search parameters of the type are expected, each with or without - before it"
                );
                Problem::new(ProblemKind::Unknown, name, text)
            })?;
            match shared.kind.sorts() {
                true => SortBy::Param(shared),
                false => return Err(Problem::unsupported(name, format!("{code} has no order"))),
            }
        }
    };
    search.sort.push(Sort { by, descending });
    Ok(())
}

/// `Source:parameter[:Target]`, `Source:*` or `*`.
fn include(search: &Search, name: &str, text: &str, reverse: bool) -> Result<Include, Problem> {
    const FORM: &str = "Type:parameter, Type:parameter:Type or Type:* is expected";
    if search.includes.len() + search.revincludes.len() >= MAX_INCLUDES {
        return Err(Problem::limit(
            name,
            format!("more than {MAX_INCLUDES} includes"),
        ));
    }
    let iterate = name.ends_with(":iterate");
    let mut parts = text.split(':');
    let (first, code, target) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(Problem::invalid(name, FORM));
    }
    let (source, code) = match (first, code, search.types.as_slice()) {
        ("*", None, [one]) if !reverse => (*one, "*"),
        ("*", ..) => {
            return Err(Problem::unsupported(
                name,
                "* alone is offered for _include of one type",
            ));
        }
        (kind, Some(code), _) => (
            resource_type(kind).ok_or_else(|| Problem::invalid(name, FORM))?,
            code,
        ),
        _ => return Err(Problem::invalid(name, FORM)),
    };
    let target = match target {
        None => None,
        Some(kind) => Some(resource_type(kind).ok_or_else(|| Problem::invalid(name, FORM))?),
    };
    let fits = |one: &&'static Param| {
        let leads = target.is_none_or(|kind| leads_to(one, kind));
        let back = !reverse || iterate || search.types.iter().any(|kind| leads_to(one, kind));
        one.is_followed() && leads && back
    };
    let params: Vec<&'static Param> = match code {
        "*" => params(source).filter(fits).collect(),
        code => param(source, code).filter(fits).into_iter().collect(),
    };
    if params.is_empty() {
        let text = "a reference of the type, to the type that is named, is expected";
        return Err(Problem::new(ProblemKind::Unknown, name, text));
    }
    Ok(Include {
        source,
        params,
        target,
        iterate,
    })
}
