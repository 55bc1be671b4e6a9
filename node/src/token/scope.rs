//! Scopes of backend clients: `system/<resource>.<cruds>` on FHIR (SMART App Launch 2.2, "Scopes"), and
//! `mesh/<resource>.<cruds>` on `/api/v1`.
//!
//! SMART v1's `.read`, `.write` and `.*` are understood, and so are search parameters behind a scope of a resource type
//! (`system/Observation.rs?category=vital-signs`): it is over those resources alone that they find. What they mean is
//! for whoever serves the resources to say; nothing that they do not understand is granted.
use std::{fmt, str::FromStr};

/// A scope that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is written like system/*.rs, system/Observation.read or mesh/devices.r")]
pub struct InvalidScope;

/// Bytes of the search parameters of a scope.
const MAX_QUERY_BYTES: usize = 1_024;

/// Scopes in one token request; more than any client has use for.
const MAX_SCOPES: usize = 64;

/// What a client asks to do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// Make a new one.
    Create,
    /// Read one, or its versions.
    Read,
    /// Change one.
    Update,
    /// Delete one.
    Delete,
    /// Search, or read the history of a type.
    Search,
}

const LETTERS: [(char, Interaction); 5] = [
    ('c', Interaction::Create),
    ('r', Interaction::Read),
    ('u', Interaction::Update),
    ('d', Interaction::Delete),
    ('s', Interaction::Search),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    System,
    Mesh,
}

/// A set of interactions, one bit each in the order of [`LETTERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interactions(u8);

impl Interactions {
    const READ: Self = Self(0b1_0010);
    const WRITE: Self = Self(0b0_1101);
    const ALL: Self = Self(0b1_1111);

    fn has(self, interaction: Interaction) -> bool {
        LETTERS
            .iter()
            .enumerate()
            .any(|(bit, (_, known))| *known == interaction && self.0 & 1 << bit != 0)
    }

    /// Some of `cruds`, in this order, each once; or a permission of SMART v1.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => return Some(Self::READ),
            "write" => return Some(Self::WRITE),
            "*" => return Some(Self::ALL),
            "" => return None,
            _ => {}
        }
        let mut rest = text;
        let mut bits = 0;
        for (bit, (letter, _)) in LETTERS.iter().enumerate() {
            if let Some(after) = rest.strip_prefix(*letter) {
                rest = after;
                bits |= 1 << bit;
            }
        }
        rest.is_empty().then_some(Self(bits))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    context: Context,
    /// None: every resource.
    resource: Option<String>,
    interactions: Interactions,
    /// Search parameters that find what it is over, all of them; every one of the type when there is none.
    query: Option<String>,
}

/// Whether a text is pairs of names and values, in what a scope may be written with (RFC 6749 §3.3).
fn is_query(text: &str) -> bool {
    let is_pair = |pair: &str| {
        let sides = pair.split_once('=');
        sides.is_some_and(|(name, value)| !name.is_empty() && !value.is_empty())
    };
    text.len() <= MAX_QUERY_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'?' | b'#'))
        && text.split('&').all(is_pair)
}

impl Scope {
    fn parse(text: &str) -> Result<Self, InvalidScope> {
        let (context, rest) = text.split_once('/').ok_or(InvalidScope)?;
        let context = match context {
            "system" => Context::System,
            "mesh" => Context::Mesh,
            _ => return Err(InvalidScope),
        };
        let (resource, rest) = rest.split_once('.').ok_or(InvalidScope)?;
        let (interactions, query) = match rest.split_once('?') {
            Some((interactions, query)) => (interactions, Some(query)),
            None => (rest, None),
        };
        let takes_query = context == Context::System
            && resource != "*"
            && !matches!(interactions, "read" | "write" | "*");
        if query.is_some_and(|query| !takes_query || !is_query(query)) {
            return Err(InvalidScope);
        }
        let named = !resource.is_empty()
            && resource
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if resource != "*" && !named {
            return Err(InvalidScope);
        }
        Ok(Self {
            context,
            resource: (resource != "*").then(|| resource.to_owned()),
            interactions: Interactions::parse(interactions).ok_or(InvalidScope)?,
            query: query.map(str::to_owned),
        })
    }

    /// What both allow, if anything.
    fn meet(&self, other: &Self) -> Option<Self> {
        let resource = match (&self.resource, &other.resource) {
            (None, any) | (any, None) => any.clone(),
            (Some(a), Some(b)) if a == b => Some(a.clone()),
            _ => return None,
        };
        let interactions = Interactions(self.interactions.0 & other.interactions.0);
        let query = match (&self.query, &other.query) {
            (None, any) | (any, None) => any.clone(),
            (Some(a), Some(b)) if a == b => Some(a.clone()),
            (Some(a), Some(b)) => Some(format!("{a}&{b}")).filter(|both| is_query(both)),
        };
        // What would be longer than a scope may be is not granted.
        let is_lost = query.is_none() && (self.query.is_some() || other.query.is_some());
        let meets = self.context == other.context && interactions.0 != 0 && !is_lost;
        meets.then_some(Self {
            context: self.context,
            resource,
            interactions,
            query,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = match self.context {
            Context::System => "system",
            Context::Mesh => "mesh",
        };
        write!(f, "{context}/{}.", self.resource.as_deref().unwrap_or("*"))?;
        for (letter, interaction) in LETTERS {
            if self.interactions.has(interaction) {
                write!(f, "{letter}")?;
            }
        }
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// What a client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Over what of a resource type a FHIR interaction is allowed: over what any of these search parameters find, or over
    /// everything when there are none. Nothing is allowed when this is none.
    #[must_use]
    pub fn over(&self, resource: &str, interaction: Interaction) -> Option<Vec<&str>> {
        let mut queries = Vec::new();
        let mut scopes = self.that(Context::System, resource, interaction).peekable();
        scopes.peek()?;
        for scope in scopes {
            match &scope.query {
                None => return Some(Vec::new()),
                Some(query) => queries.push(query.as_str()),
            }
        }
        Some(queries)
    }

    /// Whether an interaction with a collection of `/api/v1` (`devices`, `facilities`) is allowed.
    #[must_use]
    pub fn allow_api(&self, collection: &str, interaction: Interaction) -> bool {
        let mut scopes = self.that(Context::Mesh, collection, interaction);
        scopes.next().is_some()
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn that<'s>(
        &'s self,
        context: Context,
        resource: &str,
        interaction: Interaction,
    ) -> impl Iterator<Item = &'s Scope> {
        self.0.iter().filter(move |scope| {
            scope.context == context
                && scope.resource.as_deref().is_none_or(|own| own == resource)
                && scope.interactions.has(interaction)
        })
    }

    /// The scopes in `text` that can be understood; the server grants a subset anyway (RFC 6749 §3.3).
    pub(super) fn lenient(text: &str) -> Self {
        let words = text.split_ascii_whitespace().take(MAX_SCOPES);
        Self(words.filter_map(|word| Scope::parse(word).ok()).collect())
    }

    /// What both allow.
    pub(super) fn within(&self, allowed: &Self) -> Self {
        let mut met: Vec<Scope> = Vec::new();
        for asked in &self.0 {
            for scope in allowed.0.iter().filter_map(|own| asked.meet(own)) {
                if !met.contains(&scope) {
                    met.push(scope);
                }
            }
        }
        Self(met)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;

    /// At least one scope, every one understood.
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let scopes: Result<Vec<_>, _> = text.split_ascii_whitespace().map(Scope::parse).collect();
        match scopes? {
            scopes if scopes.is_empty() || scopes.len() > MAX_SCOPES => Err(InvalidScope),
            scopes => Ok(Self(scopes)),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names().collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_allows_what_it_names_and_nothing_else() {
        use Interaction::{Create, Delete, Read, Search, Update};
        for (scope, resource, allowed) in [
            ("system/*.rs", "Observation", vec![Read, Search]),
            ("system/Observation.rs", "Observation", vec![Read, Search]),
            ("system/Observation.rs", "Patient", vec![]),
            ("system/*.read", "Patient", vec![Read, Search]),
            ("system/*.write", "Patient", vec![Create, Update, Delete]),
            (
                "system/*.cruds",
                "Patient",
                vec![Create, Read, Update, Delete, Search],
            ),
            (
                "system/*.*",
                "Patient",
                vec![Create, Read, Update, Delete, Search],
            ),
            (
                "system/Patient.d system/Patient.c",
                "Patient",
                vec![Create, Delete],
            ),
            ("mesh/*.rs", "Patient", vec![]),
        ] {
            for (_, interaction) in LETTERS {
                let expected = allowed.contains(&interaction);
                let got = scopes(scope).over(resource, interaction).is_some();
                assert_eq!(got, expected, "{scope} {resource} {interaction:?}");
            }
        }
        assert!(scopes("mesh/devices.r").allow_api("devices", Read));
        assert!(!scopes("mesh/devices.r").allow_api("facilities", Read));
        assert!(!scopes("system/*.cruds").allow_api("devices", Read));
    }

    #[test]
    fn a_scope_with_search_parameters_is_over_what_they_find() {
        use Interaction::{Read, Search, Update};
        let vital = "category=vital-signs";
        let two = format!("system/Observation.rs?{vital} system/Observation.r?code=8867-4");
        let all = format!("{two} system/*.s");
        for (text, interaction, over) in [
            (&two, Read, Some(vec![vital, "code=8867-4"])),
            (&two, Search, Some(vec![vital])),
            (&two, Update, None),
            (&all, Search, Some(vec![])),
        ] {
            let scopes = scopes(text);
            assert_eq!(scopes.over("Observation", interaction), over, "{text}");
            assert_eq!(scopes.to_string(), *text);
        }
        assert_eq!(scopes(&two).over("Patient", Read), None);
    }

    #[test]
    fn a_scope_that_cannot_be_read_is_refused() {
        for text in [
            "",
            "system",
            "system/*",
            "system/*.",
            "system/*.sr",
            "system/*.rr",
            "system/*.x",
            "patient/*.rs",
            "user/*.rs",
            "system/*.rs?category=x",
            "system/Observation.read?category=x",
            "mesh/devices.r?category=x",
            "system/Observation.rs?",
            "system/Observation.rs?category",
            "system/Observation.rs?category=",
            "system/Observation.rs?category=x&",
            "system/Observation.rs?=x",
            "system/Observation.rs?a=b?c=d",
            "system/Observation.rs?a=\u{e4}",
            "system/.rs",
            "openid",
        ] {
            assert!(text.parse::<Scopes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_grant_is_what_was_asked_for_and_is_allowed() {
        for (asked, allowed, granted) in [
            ("system/*.rs", "system/*.rs", "system/*.rs"),
            ("system/*.cruds", "system/*.rs", "system/*.rs"),
            ("system/Patient.rs", "system/*.cruds", "system/Patient.rs"),
            (
                "system/*.rs",
                "system/Patient.r system/Device.s",
                "system/Patient.r system/Device.s",
            ),
            ("system/*.read openid", "system/*.rs", "system/*.rs"),
            (
                "system/Observation.rs?category=x",
                "system/*.cruds",
                "system/Observation.rs?category=x",
            ),
            (
                "system/*.rs",
                "system/Observation.rs?category=x",
                "system/Observation.rs?category=x",
            ),
            (
                "system/Observation.rs?a=b",
                "system/Observation.r?c=d",
                "system/Observation.r?a=b&c=d",
            ),
            ("system/Patient.rs?a=b", "system/Observation.rs", ""),
            ("system/*.c", "system/*.rs", ""),
            ("mesh/*.r", "system/*.rs", ""),
            ("openid launch/patient", "system/*.rs", ""),
        ] {
            let granted_now = Scopes::lenient(asked).within(&scopes(allowed));
            assert_eq!(granted_now.to_string(), granted, "{asked} within {allowed}");
        }
    }
}
