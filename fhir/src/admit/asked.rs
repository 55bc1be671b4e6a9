//! May a condition of a search be kept here? A Subscription keeps its filters, so that what they look for is judged as what is
//! stored is: by the values, since a name or a number that is looked for is one that somebody knows.
use super::{Holding, IDENTIFIERS, SYSTEMS, is_below, is_code, is_known_uri, is_random, is_uuid};
use crate::audit;
use crate::query::{DateMatch, Filter, Match, Param, ReferenceMatch, TokenMatch, UriMatch};

const TEXT: &str = "text is not kept here, so that nothing is looked for by it";
const CONTACT: &str = "contacts and places are not kept here";
const CODE: &str = "a code is taken of a standard's system, without spaces";
const ID: &str = "an id that says nothing is taken";
const NUMBER: &str = "a number by which somebody or something is known elsewhere is not taken; a random one is: \
                      urn:ietf:rfc:3986|urn:uuid:…";
const DAY: &str = "of a birth or a death the year alone is taken";
/// Parameters that look for contacts (FHIR R4 ContactPoint).
const CONTACTS: [&str; 3] = ["email", "phone", "telecom"];
/// Parameters that look for the day of a birth or a death.
const DAYS: [&str; 2] = ["birthdate", "death-date"];
/// Shorter than any year, in milliseconds.
const ALMOST_A_YEAR_MS: i64 = 364 * 86_400_000;

impl Holding {
    /// What is wrong with keeping a condition here, if anything.
    #[must_use]
    pub fn refuses_condition(&self, filter: &Filter) -> Option<&'static str> {
        match self {
            Self::Pseudonymous { .. } => of_filter(filter),
            Self::Identified => None,
        }
    }
}

fn of_filter(filter: &Filter) -> Option<&'static str> {
    match filter {
        Filter::Param { param, matches } => of_param(param, matches),
        Filter::Id(ids) => (!ids.iter().all(|id| says_nothing(id))).then_some(ID),
        Filter::Not(inner) => of_filter(inner),
        Filter::Any(all) | Filter::All(all) => all.iter().find_map(of_filter),
        // Of what else there is, nothing is a value that a client wrote.
        _ => None,
    }
}

fn of_param(param: &Param, matches: &[Match]) -> Option<&'static str> {
    if CONTACTS.contains(&param.code) {
        return Some(CONTACT);
    }
    let is_number = param.code.ends_with("identifier");
    matches.iter().find_map(|one| match one {
        Match::Date(date) if DAYS.contains(&param.code) => of_day(date),
        Match::Token(token) if is_number => of_identifier(token),
        one => of_match(one),
    })
}

fn of_match(one: &Match) -> Option<&'static str> {
    match one {
        Match::Date(_) | Match::Number(_) => None,
        Match::Token(token) => of_token(token),
        Match::Quantity(quantity) => {
            let system = quantity.system.as_deref().is_none_or(is_system);
            let code = quantity.code.as_deref().is_none_or(is_code);
            (!system || !code).then_some(CODE)
        }
        Match::Text(_) => Some(TEXT),
        Match::Reference(ReferenceMatch::Local { id, .. }) => (!says_nothing(id)).then_some(ID),
        Match::Reference(ReferenceMatch::Url { url, .. }) => (!is_known_uri(url)).then_some(ID),
        Match::Reference(ReferenceMatch::Identifier(token)) => of_identifier(token),
        Match::Uri(UriMatch::Is(uri) | UriMatch::Below(uri)) => {
            (!is_known_uri(uri)).then_some(CODE)
        }
        // The first is the one that was asked for, the others are above it.
        Match::Uri(UriMatch::Above(all)) => {
            let is_known = all.first().is_some_and(|uri| is_known_uri(uri));
            (!is_known).then_some(CODE)
        }
        Match::Composite(parts) => parts.0.iter().find_map(of_match),
        Match::Near { .. } => Some(CONTACT),
    }
}

fn of_token(token: &TokenMatch) -> Option<&'static str> {
    let fits = match token {
        TokenMatch::Code(code) | TokenMatch::Bare(code) => is_code(code),
        // A random number has no system of codes.
        TokenMatch::Coded(system, code) if is_drawn(system, code) => true,
        TokenMatch::Coded(system, code) => is_system(system) && is_code(code),
        TokenMatch::System(system) => is_system(system),
        TokenMatch::Text(_) => return Some(TEXT),
        TokenMatch::OfType { .. } => return Some(NUMBER),
    };
    (!fits).then_some(CODE)
}

fn of_identifier(token: &TokenMatch) -> Option<&'static str> {
    let fits = match token {
        TokenMatch::Code(value) | TokenMatch::Bare(value) => {
            says_nothing(value.strip_prefix("urn:uuid:").unwrap_or(value))
        }
        TokenMatch::Coded(system, value) => {
            is_drawn(system, value)
                || (is_system(system) && says_nothing(value))
                || is_of_log(system, value)
        }
        TokenMatch::System(_) => true,
        TokenMatch::Text(_) | TokenMatch::OfType { .. } => false,
    };
    (!fits).then_some(NUMBER)
}

/// A span below a year tells of a day, or a month.
fn of_day(date: &DateMatch) -> Option<&'static str> {
    let span = date.high.saturating_sub(date.low);
    (span < ALMOST_A_YEAR_MS).then_some(DAY)
}

fn is_system(system: &str) -> bool {
    SYSTEMS.iter().any(|known| is_below(system, known))
}

/// A number that was drawn at random, as identifiers here are.
fn is_drawn(system: &str, value: &str) -> bool {
    let uuid = value.strip_prefix("urn:uuid:");
    (system == "urn:ietf:rfc:3986" && uuid.is_some_and(is_random))
        || (IDENTIFIERS.contains(&system) && is_random(value))
}

/// The digest that AuditEvents have of what was asked for, by which `entity` looks for it too.
fn is_of_log(system: &str, value: &str) -> bool {
    let is_digest = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    system == audit::REQUEST && is_digest
}

/// An id of the mesh, or a UUID.
fn says_nothing(id: &str) -> bool {
    let id = id.strip_prefix("log-").unwrap_or(id);
    let is_of_mesh = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_of_mesh || is_uuid(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bases::Bases;
    use crate::query::{Context, Handling, parse_conditions};
    use crate::store::ResourceType;

    const REGION: Holding = Holding::Pseudonymous { year: 2000 };
    const UUID: &str = "11111111-2222-4333-8444-555555555555";

    fn asked(kind: &str, name: &str, value: &str) -> Filter {
        let context = Context {
            now: 0,
            base: Bases::of("https://region.example/fhir"),
            handling: Handling::Strict,
        };
        let pairs = [(name.to_owned(), value.to_owned())];
        let filter = parse_conditions(kind, &pairs, context);
        filter.unwrap_or_else(|problem| panic!("{kind}?{name}={value}: {problem}"))
    }

    #[test]
    fn a_condition_is_kept_by_codes_numbers_dates_and_ids_that_say_nothing() {
        let drawn = format!("urn:ietf:rfc:3986|urn:uuid:{UUID}");
        let patient = format!("Patient/{UUID}");
        for (kind, name, value) in [
            ("Observation", "code", "8867-4"),
            ("Observation", "code", "http://loinc.org|8867-4"),
            ("Observation", "value-quantity", "gt130"),
            (
                "Observation",
                "value-quantity",
                "gt130|http://unitsofmeasure.org|/min",
            ),
            (
                "Observation",
                "component-code-value-quantity",
                "8480-6$gt130",
            ),
            ("Observation", "patient", patient.as_str()),
            ("Observation", "date", "ge2001-02-03"),
            ("Observation", "identifier", drawn.as_str()),
            ("Condition", "subject:identifier", drawn.as_str()),
            ("Condition", "_id", "0123456789abcdef0123456789abcdef"),
            (
                "Condition",
                "_profile",
                "http://hl7.org/fhir/StructureDefinition/Condition",
            ),
            ("Encounter", "status:not", "finished"),
            ("Patient", "birthdate", "1950"),
            ("Patient", "gender:missing", "true"),
        ] {
            let problem = REGION.refuses_condition(&asked(kind, name, value));
            assert_eq!(problem, None, "{kind}?{name}={value}");
        }
    }

    #[test]
    fn what_was_asked_for_of_somebody_is_looked_for_by_its_digest_too() {
        let mut filter = asked("AuditEvent", "entity", &format!("Patient/{UUID}"));
        let kind = ResourceType::parse("AuditEvent");
        audit::understand((std::slice::from_mut(&mut filter), &mut []), kind, true);
        assert_eq!(REGION.refuses_condition(&filter), None);
        let named = format!("{}|lovelace", audit::REQUEST);
        let filter = asked("AuditEvent", "entity:identifier", &named);
        assert_eq!(REGION.refuses_condition(&filter), Some(NUMBER));
    }

    #[test]
    fn a_condition_that_looks_for_somebody_is_refused_in_a_region_alone() {
        for (kind, name, value, problem) in [
            ("Patient", "name", "Lovelace", TEXT),
            ("Patient", "address-city", "London", TEXT),
            ("Condition", "code:text", "Ada", TEXT),
            ("Patient", "phone", "555", CONTACT),
            (
                "Patient",
                "identifier",
                "http://hospital.example|4711",
                NUMBER,
            ),
            ("Patient", "identifier:not", "4711", NUMBER),
            (
                "Condition",
                "subject:identifier",
                "http://hospital.example|4711",
                NUMBER,
            ),
            ("Condition", "subject", "Patient/lovelace", ID),
            ("Condition", "_id", "lovelace", ID),
            ("Condition", "code", "http://hospital.example|ada", CODE),
            ("Condition", "_profile", "http://hospital.example/ada", CODE),
            (
                "Observation",
                "code-value-quantity",
                "http://ada|a$gt1",
                CODE,
            ),
            ("Patient", "birthdate", "1950-03-04", DAY),
            ("Patient", "death-date", "ge1999-03", DAY),
        ] {
            let filter = asked(kind, name, value);
            let told = REGION.refuses_condition(&filter);
            assert_eq!(told, Some(problem), "{kind}?{name}={value}");
            assert_eq!(Holding::Identified.refuses_condition(&filter), None);
        }
    }
}
