//! Conditions: a parameter with its modifier, a chain, a reverse chain.
use super::{
    MAX_CHAIN, MAX_VALUES, Reader, resource_type,
    split::{plain, split},
    value,
};
use crate::query::{
    Filter, Kind, Match, Param, Problem, ProblemKind, ReferenceMatch, TokenMatch, extract::is_id,
    param,
};

/// Of what is first in a Bundle.
const IN_A_BUNDLE: &str = "what is within a Bundle is no resource of its own, and is not searched";

/// Of a reverse chain by a reference that leads elsewhere.
const WRONG_WAY: &str = "a reference that may lead to the type that is searched is expected";

/// Types that are searched at once share a parameter when each has it, of the same kind.
fn shared(types: &[&'static str], code: &str) -> Option<&'static Param> {
    let first = param(types.first()?, code)?;
    let same = |kind: &&str| param(kind, code).is_some_and(|other| other.kind == first.kind);
    types.iter().all(same).then_some(first)
}

fn unknown(name: &str, types: &[&'static str]) -> Problem {
    let of = match types {
        [one] => format!("no search parameter of {one}"),
        _ => "no search parameter of every type that is searched".to_owned(),
    };
    Problem::new(ProblemKind::Unknown, name, of)
}

impl Reader<'_> {
    /// A condition on a resource of one of the types.
    pub(super) fn condition(
        &self,
        types: &[&'static str],
        name: &str,
        text: &str,
        depth: usize,
    ) -> Result<Filter, Problem> {
        self.count(name)?;
        if depth > MAX_CHAIN {
            return Err(Problem::limit(
                name,
                format!("a chain of more than {MAX_CHAIN} steps"),
            ));
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(types, rest, text, depth);
        }
        if let Some((link, rest)) = name.split_once('.') {
            return self.chain(types, link, rest, text, depth);
        }
        let (code, modifier) = match name.split_once(':') {
            Some((code, modifier)) => (code, Some(modifier)),
            None => (name, None),
        };
        match code {
            "_id" => self.ids(modifier, text),
            "_lastUpdated" => match modifier {
                None => Ok(Filter::LastUpdated(each(name, text, |part| {
                    value::date(name, part, self.context.now)
                })?)),
                Some(_) => Err(not_offered(name, "none")),
            },
            "_list" => match modifier {
                None if text.starts_with('$') => Err(Problem::unsupported(
                    name,
                    "functional lists are not offered; the id of a List is",
                )),
                None => Ok(Filter::List(each(name, text, |part| {
                    id_of(name, part.strip_prefix("List/").unwrap_or(part))
                })?)),
                Some(_) => Err(not_offered(name, "none")),
            },
            "_text" | "_content" | "_query" | "_filter" => Err(Problem::unsupported(
                name,
                "it is not offered: nothing here indexes whole texts or reads other languages",
            )),
            _ => {
                let param = shared(types, code).ok_or_else(|| unknown(name, types))?;
                self.param(param, name, modifier, text)
            }
        }
    }

    fn ids(&self, modifier: Option<&str>, text: &str) -> Result<Filter, Problem> {
        let ids = Filter::Id(each("_id", text, |part| id_of("_id", part))?);
        match modifier {
            None => Ok(ids),
            Some("not") => Ok(Filter::Not(Box::new(ids))),
            Some(_) => Err(not_offered("_id", ":not")),
        }
    }

    /// One parameter of the type, with its modifier.
    fn param(
        &self,
        param: &'static Param,
        name: &str,
        modifier: Option<&str>,
        text: &str,
    ) -> Result<Filter, Problem> {
        if modifier == Some("missing") {
            return match text {
                "true" | "false" => Ok(Filter::Missing {
                    param,
                    missing: text == "true",
                }),
                _ => Err(Problem::invalid(name, "true or false is expected")),
            };
        }
        let matches = |read: &dyn Fn(&str) -> Result<Match, Problem>| {
            Ok(Filter::Param {
                param,
                matches: each(name, text, read)?,
            })
        };
        let now = self.context.now;
        match (param.kind, modifier) {
            (Kind::String, modifier @ (None | Some("exact" | "contains"))) => {
                matches(&|part| value::text(name, part, modifier).map(Match::Text))
            }
            (Kind::Token, None) => matches(&|part| value::token(name, part).map(Match::Token)),
            (Kind::Token, Some("not")) => {
                let found = matches(&|part| value::token(name, part).map(Match::Token))?;
                Ok(Filter::Not(Box::new(found)))
            }
            (Kind::Token, Some("text")) => {
                matches(&|part| value::token_text(name, part).map(Match::Token))
            }
            (Kind::Token, Some("of-type")) if param.expression.contains("dentifier") => {
                matches(&|part| value::of_type(name, part).map(Match::Token))
            }
            (Kind::Token, Some("in" | "not-in" | "above" | "below")) => Err(Problem::unsupported(
                name,
                "it needs a terminology server, which there is none of; :not, :text, :of-type (identifiers) and :missing are offered",
            )),
            (Kind::Reference, modifier) => self.reference(param, name, modifier, text),
            (Kind::Uri, modifier @ (None | Some("above" | "below"))) => {
                matches(&|part| value::uri(name, part, modifier).map(Match::Uri))
            }
            (Kind::Date, None) => matches(&|part| value::date(name, part, now).map(Match::Date)),
            (Kind::Number, None) => matches(&|part| value::number(name, part).map(Match::Number)),
            (Kind::Quantity, None) => {
                matches(&|part| value::quantity(name, part).map(Match::Quantity))
            }
            (Kind::Composite, None) => {
                matches(&|part| value::composite(name, part, param, &self.context))
            }
            (Kind::Special, None) => matches(&|part| value::near(name, part)),
            (kind, Some(_)) => Err(not_offered(name, offered(kind))),
        }
    }

    fn reference(
        &self,
        param: &'static Param,
        name: &str,
        modifier: Option<&str>,
        text: &str,
    ) -> Result<Filter, Problem> {
        let kind = match modifier {
            None => None,
            Some("identifier") => {
                let token = |part: &str| match value::token(name, part)? {
                    one @ (TokenMatch::Code(_)
                    | TokenMatch::Coded(..)
                    | TokenMatch::Bare(_)
                    | TokenMatch::System(_)) => {
                        Ok(Match::Reference(ReferenceMatch::Identifier(one)))
                    }
                    _ => Err(Problem::invalid(name, "value or system|value is expected")),
                };
                return Ok(Filter::Param {
                    param,
                    matches: each(name, text, token)?,
                });
            }
            Some(kind) => match resource_type(kind).filter(|kind| leads_to(param, kind)) {
                Some(kind) => Some(kind),
                None => {
                    return Err(not_offered(
                        name,
                        ":identifier, :missing and a type that the reference may lead to",
                    ));
                }
            },
        };
        let read = |part: &str| {
            value::reference(name, part, kind, self.context.base).map(Match::Reference)
        };
        Ok(Filter::Param {
            param,
            matches: each(name, text, read)?,
        })
    }

    /// `link[:Type].rest`.
    fn chain(
        &self,
        types: &[&'static str],
        link: &str,
        rest: &str,
        text: &str,
        depth: usize,
    ) -> Result<Filter, Problem> {
        let (code, kind) = match link.split_once(':') {
            Some((code, kind)) => (code, Some(kind)),
            None => (link, None),
        };
        let param = shared(types, code).ok_or_else(|| unknown(link, types))?;
        if param.kind != Kind::Reference {
            return Err(Problem::invalid(
                link,
                "only a reference is followed by a chain",
            ));
        }
        if !param.is_followed() {
            return Err(Problem::unsupported(link, IN_A_BUNDLE));
        }
        let known = match kind {
            Some(kind) => {
                let known = resource_type(kind).filter(|kind| leads_to(param, kind));
                vec![known.ok_or_else(|| {
                    Problem::invalid(link, "a type that the reference may lead to is expected")
                })?]
            }
            None => param.targets.clone(),
        };
        let mut targets = Vec::new();
        for kind in &known {
            match self.condition(&[kind], rest, text, depth + 1) {
                Ok(inner) => targets.push((*kind, inner)),
                // The other types that it may lead to may know the parameter, or be what is referred to.
                Err(problem)
                    if known.len() > 1
                        && (problem.kind == ProblemKind::Unknown || problem.text == WRONG_WAY) => {}
                Err(problem) => return Err(problem),
            }
        }
        match targets.is_empty() {
            true => Err(Problem::new(
                ProblemKind::Unknown,
                rest,
                "no search parameter of a type that the reference leads to",
            )),
            false => Ok(Filter::Chain { param, targets }),
        }
    }

    /// `Type:reference:rest`, behind `_has:`.
    fn has(
        &self,
        types: &[&'static str],
        rest: &str,
        text: &str,
        depth: usize,
    ) -> Result<Filter, Problem> {
        const FORM: &str = "_has:Type:reference:parameter is expected";
        let mut parts = rest.splitn(3, ':');
        let (Some(source), Some(link), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Problem::invalid("_has", FORM));
        };
        let source = resource_type(source).ok_or_else(|| Problem::invalid("_has", FORM))?;
        let reference = param(source, link).filter(|param| param.kind == Kind::Reference);
        let reference = reference.ok_or_else(|| unknown(link, &[source]))?;
        if !reference.is_followed() {
            return Err(Problem::unsupported("_has", IN_A_BUNDLE));
        }
        if !types.iter().any(|kind| leads_to(reference, kind)) {
            return Err(Problem::invalid("_has", WRONG_WAY));
        }
        Ok(Filter::Has {
            source,
            reference,
            inner: Box::new(self.condition(&[source], rest, text, depth + 1)?),
        })
    }
}

/// Whether a reference may lead to a type.
pub fn leads_to(param: &Param, kind: &str) -> bool {
    param.targets.is_empty() || param.targets.contains(&kind)
}

fn not_offered(name: &str, offered: &str) -> Problem {
    Problem::unsupported(name, format!("the modifier is not offered; {offered} is"))
}

const fn offered(kind: Kind) -> &'static str {
    match kind {
        Kind::String => ":exact, :contains or :missing",
        Kind::Token => ":not, :text, :of-type (of identifiers) or :missing",
        Kind::Reference => ":identifier, :missing or a type",
        Kind::Uri => ":above, :below or :missing",
        _ => ":missing",
    }
}

fn id_of(name: &str, text: &str) -> Result<String, Problem> {
    let text = plain(text).filter(|text| is_id(text));
    text.ok_or_else(|| {
        Problem::invalid(name, "an id is expected: 1 to 64 of A-Z, a-z, 0-9, - and .")
    })
}

/// Each value between commas.
fn each<T>(
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let parts = split(text, ',');
    if parts.len() > MAX_VALUES {
        return Err(Problem::limit(
            name,
            format!("more than {MAX_VALUES} values"),
        ));
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Problem::invalid(name, "one of the values is empty"));
    }
    parts.into_iter().map(read).collect()
}
