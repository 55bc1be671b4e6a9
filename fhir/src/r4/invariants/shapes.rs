//! The rules of the shapes that have many.
use super::{Json, Object, Rule, any, codes, has, needs, number, rule};
use std::collections::HashSet;

/// The system of UCUM's units.
pub const UCUM: Option<&str> = Some("http://unitsofmeasure.org");

/// What holds of every quantity.
pub const QTY_3: Rule = rule(
    "qty-3",
    "",
    |quantity| needs(quantity, "code", "system"),
    "a code of a unit has a system",
);

pub const QUANTITY: &[Rule] = &[QTY_3];

pub const EXTENSION: &[Rule] = &[rule(
    "ext-1",
    "",
    |extension| has(extension, "extension") != has(extension, "value[x]"),
    "an extension has extensions or a value, not both",
)];

pub fn observation(shape: &str) -> &'static [Rule] {
    match shape {
        "Observation" => {
            const {
                &[
                    rule(
                        "obs-6",
                        "dataAbsentReason",
                        |one| !(has(one, "dataAbsentReason") && has(one, "value[x]")),
                        "there is no reason for the absence of a value that is there",
                    ),
                    rule(
                        "obs-7",
                        "value",
                        |one| !has(one, "value[x]") || !repeats_code(one),
                        "there is no value where a component has the same code",
                    ),
                ]
            }
        }
        "Observation.referenceRange" => {
            const {
                &[rule(
                    "obs-3",
                    "",
                    |range| any(range, &["low", "high", "text"]),
                    "a reference range has a low, a high or a text",
                )]
            }
        }
        _ => &[],
    }
}

/// Whether a component has a coding of the observation's own code.
fn repeats_code(one: &Object<'_>) -> bool {
    let components = one.each("component").filter_map(Json::object);
    let mut theirs = components.flat_map(codings).peekable();
    if theirs.peek().is_none() {
        return false;
    }
    let own: HashSet<_> = codings(one).collect();
    theirs.any(|coding| own.contains(&coding))
}

/// System and code of each coding of `code`.
fn codings<'a>(object: &'a Object<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let concepts = object.each("code").filter_map(Json::object);
    let codings = concepts
        .flat_map(|concept| concept.each("coding"))
        .filter_map(Json::object);
    codings.map(|coding| {
        let text = |name| coding.text(name).unwrap_or_default();
        (text("system"), text("code"))
    })
}

fn is_one_of(object: &Object<'_>, types: &[&str]) -> bool {
    object
        .text("type")
        .is_some_and(|kind| types.contains(&kind))
}

fn each_entry(bundle: &Object<'_>, holds: impl Fn(&Object<'_>) -> bool) -> bool {
    bundle.each("entry").filter_map(Json::object).all(holds)
}

fn first_is(bundle: &Object<'_>, kind: &str) -> bool {
    let first = bundle.each("entry").next().and_then(Json::object);
    let resource = first.and_then(|entry| entry.get("resource")?.object());
    resource.is_some_and(|resource| resource.text("resourceType") == Some(kind))
}

pub const BUNDLE: &[Rule] = &[
    rule(
        "bdl-1",
        "total",
        |one| !has(one, "total") || is_one_of(one, &["searchset", "history"]),
        "a total is of a search or a history",
    ),
    rule(
        "bdl-2",
        "entry",
        |one| is_one_of(one, &["searchset"]) || each_entry(one, |entry| !has(entry, "search")),
        "search is in the entries of a search alone",
    ),
    rule(
        "bdl-3",
        "entry",
        |one| {
            let wanted = is_one_of(one, &["batch", "transaction", "history"]);
            each_entry(one, |entry| has(entry, "request") == wanted)
        },
        "a request is in each entry of a batch, a transaction or a history, and nowhere else",
    ),
    rule(
        "bdl-4",
        "entry",
        |one| {
            let wanted = is_one_of(one, &["batch-response", "transaction-response", "history"]);
            each_entry(one, |entry| has(entry, "response") == wanted)
        },
        "a response is in each entry of a response or a history, and nowhere else",
    ),
    rule(
        "bdl-7",
        "entry",
        full_urls_differ,
        "a fullUrl stands once, or with different versions",
    ),
    rule(
        "bdl-9",
        "identifier",
        |one| {
            !is_one_of(one, &["document"]) || {
                let identifier = one.get("identifier").and_then(Json::object);
                identifier
                    .is_some_and(|identifier| has(identifier, "system") && has(identifier, "value"))
            }
        },
        "a document has an identifier with a system and a value",
    ),
    rule(
        "bdl-10",
        "timestamp",
        |one| !is_one_of(one, &["document"]) || has(one, "timestamp"),
        "a document has a timestamp",
    ),
    rule(
        "bdl-11",
        "entry",
        |one| !is_one_of(one, &["document"]) || first_is(one, "Composition"),
        "a document begins with a Composition",
    ),
    rule(
        "bdl-12",
        "entry",
        |one| !is_one_of(one, &["message"]) || first_is(one, "MessageHeader"),
        "a message begins with a MessageHeader",
    ),
];

fn full_urls_differ(bundle: &Object<'_>) -> bool {
    if is_one_of(bundle, &["history"]) {
        return true;
    }
    let mut known = HashSet::new();
    let mut entries = bundle.each("entry").filter_map(Json::object);
    entries.all(|entry| {
        let Some(url) = entry.text("fullUrl") else {
            return true;
        };
        let meta = entry
            .get("resource")
            .and_then(|resource| resource.object()?.get("meta")?.object());
        let version = meta
            .and_then(|meta| meta.text("versionId"))
            .unwrap_or_default();
        known.insert((url, version))
    })
}

pub const ENTRY: &[Rule] = &[
    rule(
        "bdl-5",
        "",
        |entry| any(entry, &["resource", "request", "response"]),
        "an entry has a resource, a request or a response",
    ),
    rule(
        "bdl-8",
        "fullUrl",
        |entry| {
            !entry
                .text("fullUrl")
                .unwrap_or_default()
                .contains("/_history/")
        },
        "a fullUrl names no version",
    ),
    // R4 says it of Bundle.entry.fullUrl, and gives it no key.
    rule(
        "fullUrl",
        "fullUrl",
        ends_with_its_id,
        "a fullUrl does not disagree with the id of its resource",
    ),
];

/// Whether an address ends with the id of the resource, where that has one.
fn ends_with_its_id(entry: &Object<'_>) -> bool {
    let url = entry.text("fullUrl").unwrap_or_default();
    let resource = entry.get("resource").and_then(Json::object);
    let id = resource.and_then(|resource| resource.text("id"));
    match (id, url.starts_with("http")) {
        (Some(id), true) => url.rsplit('/').next() == Some(id),
        _ => true,
    }
}

pub const REPEAT: &[Rule] = &[
    rule(
        "tim-1",
        "duration",
        |one| needs(one, "duration", "durationUnit"),
        "a duration has a unit",
    ),
    rule(
        "tim-2",
        "period",
        |one| needs(one, "period", "periodUnit"),
        "a period has a unit",
    ),
    rule(
        "tim-4",
        "duration",
        |one| number(one, "duration").is_none_or(|number| number >= 0.0),
        "a duration is not negative",
    ),
    rule(
        "tim-5",
        "period",
        |one| number(one, "period").is_none_or(|number| number >= 0.0),
        "a period is not negative",
    ),
    rule(
        "tim-6",
        "periodMax",
        |one| needs(one, "periodMax", "period"),
        "periodMax has a period",
    ),
    rule(
        "tim-7",
        "durationMax",
        |one| needs(one, "durationMax", "duration"),
        "durationMax has a duration",
    ),
    rule(
        "tim-8",
        "countMax",
        |one| needs(one, "countMax", "count"),
        "countMax has a count",
    ),
    rule(
        "tim-9",
        "offset",
        |one| {
            let meal = |when: &Json<'_>| matches!(when.text(), Some("C" | "CM" | "CD" | "CV"));
            !has(one, "offset") || has(one, "when") && !one.each("when").any(meal)
        },
        "an offset is from a time of the day, and from no meal itself",
    ),
    rule(
        "tim-10",
        "timeOfDay",
        |one| !(has(one, "timeOfDay") && has(one, "when")),
        "there is a timeOfDay or a when, not both",
    ),
];

pub fn problem(shape: &str) -> &'static [Rule] {
    const WITHDRAWN: &str = "entered-in-error";
    match shape {
        "Condition" => {
            const {
                &[
                    rule(
                        "con-4",
                        "abatement",
                        |one| {
                            let is_active =
                                |code: &&str| matches!(*code, "active" | "recurrence" | "relapse");
                            !(has(one, "abatement[x]")
                                && codes(one, "clinicalStatus").iter().any(is_active))
                        },
                        "what is abated is not active",
                    ),
                    rule(
                        "con-5",
                        "clinicalStatus",
                        |one| {
                            !(codes(one, "verificationStatus").contains(&WITHDRAWN)
                                && has(one, "clinicalStatus"))
                        },
                        "what is entered in error has no clinical status",
                    ),
                ]
            }
        }
        _ => {
            const {
                &[
                    rule(
                        "ait-1",
                        "clinicalStatus",
                        |one| {
                            codes(one, "verificationStatus").contains(&WITHDRAWN)
                                || has(one, "clinicalStatus")
                        },
                        "there is a clinical status unless it is entered in error",
                    ),
                    rule(
                        "ait-2",
                        "clinicalStatus",
                        |one| {
                            !(codes(one, "verificationStatus").contains(&WITHDRAWN)
                                && has(one, "clinicalStatus"))
                        },
                        "what is entered in error has no clinical status",
                    ),
                ]
            }
        }
    }
}
