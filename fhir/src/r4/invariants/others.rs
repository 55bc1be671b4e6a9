//! The rules of the shapes that have one or two.
use super::{Json, Object, Rule, any, has, needs, number, rule};
use std::collections::HashSet;

/// The rules of other shapes.
pub const OTHERS: &[(&str, &[Rule])] = &[
    (
        "Period",
        &[rule(
            "per-1",
            "",
            |period| {
                let bound = |name| period.text(name).unwrap_or_default();
                is_in_order(bound("start"), bound("end"))
            },
            "a period does not end before it begins",
        )],
    ),
    (
        "Range",
        &[rule(
            "rng-2",
            "",
            in_range,
            "the low of a range is not above its high",
        )],
    ),
    (
        "Ratio",
        &[rule(
            "rat-1",
            "",
            |ratio| {
                has(ratio, "numerator") == has(ratio, "denominator")
                    && any(ratio, &["numerator", "extension"])
            },
            "a ratio has a numerator and a denominator",
        )],
    ),
    (
        "Attachment",
        &[rule(
            "att-1",
            "contentType",
            |one| needs(one, "data", "contentType"),
            "data has a content type",
        )],
    ),
    (
        "ContactPoint",
        &[rule(
            "cpt-2",
            "system",
            |one| needs(one, "value", "system"),
            "a value has a system",
        )],
    ),
    (
        "Patient.contact",
        &[rule(
            "pat-1",
            "",
            |one| any(one, &["name", "telecom", "address", "organization"]),
            "a contact has a name, telecom, address or organization",
        )],
    ),
    (
        "Organization",
        &[
            rule(
                "org-1",
                "",
                |one| any(one, &["identifier", "name"]),
                "an organization has an identifier or a name",
            ),
            rule(
                "org-2",
                "address",
                |one| !is_at_home(one, "address"),
                "an address of an organization is nobody's home",
            ),
            rule(
                "org-3",
                "telecom",
                |one| !is_at_home(one, "telecom"),
                "a telecom of an organization is nobody's home",
            ),
        ],
    ),
    (
        "Parameters.parameter",
        &[rule(
            "inv-1",
            "",
            |one| {
                let given = [has(one, "value[x]"), has(one, "resource"), has(one, "part")];
                given.iter().filter(|given| **given).count() == 1
            },
            "a parameter has a value, a resource or parts",
        )],
    ),
    (
        "AuditEvent.entity",
        &[rule(
            "sev-1",
            "",
            |one| !(has(one, "name") && has(one, "query")),
            "an entity has a name or a query, not both",
        )],
    ),
    (
        "CarePlan.activity",
        &[rule(
            "cpl-3",
            "",
            |one| !(has(one, "detail") && has(one, "reference")),
            "an activity has a detail or a reference, not both",
        )],
    ),
    (
        "Goal.target",
        &[rule(
            "gol-1",
            "measure",
            |one| needs(one, "detail[x]", "measure"),
            "a detail has a measure",
        )],
    ),
    (
        "Immunization.education",
        &[rule(
            "imm-1",
            "",
            |one| any(one, &["documentType", "reference"]),
            "education has a document type or a reference",
        )],
    ),
    (
        "Composition.section",
        &[
            rule(
                "cmp-1",
                "",
                |one| any(one, &["text", "entry", "section"]),
                "a section has a text, entries or sections",
            ),
            rule(
                "cmp-2",
                "emptyReason",
                |one| !(has(one, "emptyReason") && has(one, "entry")),
                "a section with entries is not empty",
            ),
        ],
    ),
    (
        "CodeSystem",
        &[rule(
            "csd-1",
            "",
            |system| {
                let mut known = HashSet::new();
                concepts_differ(system, &mut known)
            },
            "each code of a code system stands once",
        )],
    ),
    (
        "Consent",
        &[rule(
            "ppc-1",
            "",
            |one| any(one, &["policy", "policyRule"]),
            "a consent has a policy or a rule",
        )],
    ),
    (
        "List",
        &[
            rule(
                "lst-1",
                "emptyReason",
                |one| !(has(one, "emptyReason") && has(one, "entry")),
                "a list with entries is not empty",
            ),
            rule(
                "lst-2",
                "entry",
                |one| one.text("mode") == Some("changes") || !entries_have(one, "deleted"),
                "entries are deleted of a list of changes alone",
            ),
            rule(
                "lst-3",
                "entry",
                |one| one.text("mode") == Some("working") || !entries_have(one, "date"),
                "entries have dates in a working list alone",
            ),
        ],
    ),
    (
        "FamilyMemberHistory",
        &[
            rule(
                "fhs-1",
                "age",
                |one| !(has(one, "age[x]") && has(one, "born[x]")),
                "there is an age or a birth, not both",
            ),
            rule(
                "fhs-2",
                "estimatedAge",
                |one| needs(one, "estimatedAge", "age[x]"),
                "an age that is estimated is there",
            ),
        ],
    ),
];

/// Whether a list has what is of use at home.
fn is_at_home(one: &Object<'_>, element: &str) -> bool {
    let mut places = one.each(element).filter_map(Json::object);
    places.any(|place| place.text("use") == Some("home"))
}

/// Whether an entry of a list has that element.
fn entries_have(list: &Object<'_>, element: &str) -> bool {
    let mut entries = list.each("entry").filter_map(Json::object);
    entries.any(|entry| has(entry, element))
}

/// Whether the codes of concepts, and of those below them, are new to `known`.
fn concepts_differ<'a>(object: &'a Object<'a>, known: &mut HashSet<&'a str>) -> bool {
    let mut concepts = object.each("concept").filter_map(Json::object);
    concepts.all(|concept| {
        let is_new = concept.text("code").is_none_or(|code| known.insert(code));
        is_new && concepts_differ(concept, known)
    })
}

/// FHIR R4 rng-2, where both bounds have one unit.
fn in_range(range: &Object<'_>) -> bool {
    let bound = |name| {
        let quantity = range.get(name).and_then(Json::object)?;
        Some((number(quantity, "value")?, quantity.text("code")))
    };
    match (bound("low"), bound("high")) {
        (Some((low, one)), Some((high, other))) => one != other || low <= high,
        _ => true,
    }
}

/// Whether one date is not after another, as far as their precision tells. Times with different offsets are left to
/// whoever knows the calendar.
pub fn is_in_order(start: &str, end: &str) -> bool {
    let zone = |text: &str| {
        text.get(10..).map_or(String::new(), |time| {
            time.chars()
                .skip_while(|c| !matches!(c, 'Z' | '+' | '-'))
                .collect()
        })
    };
    let one_zone = zone(start) == zone(end);
    let length = match one_zone {
        true => start.len().min(end.len()).min(19),
        // A day more or less: the months tell.
        false => start.len().min(end.len()).min(7),
    };
    match (start.get(..length), end.get(..length)) {
        (Some(start), Some(end)) => start <= end,
        _ => true,
    }
}
