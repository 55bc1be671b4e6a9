//! What is refused, dropped or understood; what is found is in the tests of matching.
use super::*;
use crate::query::{Include, Match, Sort, SortBy, Summary, Total, UriMatch};

fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn read(kind: &str, query: &str, handling: Handling) -> Result<Search, Problem> {
    let context = Context {
        now: 0,
        base: Bases::of("https://own.example/fhir"),
        handling,
    };
    let kind = Some(kind).filter(|kind| !kind.is_empty());
    parse(kind, &pairs(query), context)
}

fn strict(kind: &str, query: &str) -> Search {
    read(kind, query, Handling::Strict)
        .unwrap_or_else(|problem| panic!("{kind}?{query}: {problem}"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_is_wrong_is_refused_with_the_parameter_and_its_kind() {
    use ProblemKind::{Invalid, Limit, Unknown, Unsupported};
    for (kind, query, param, expected) in [
        ("Patient", "birthdte=1970", "birthdte", Unknown),
        ("Patient", "code=x", "code", Unknown),
        ("Nothing", "", "Nothing", Invalid),
        ("Patient", "name=", "name", Invalid),
        ("Patient", "name=a,,b", "name", Invalid),
        ("Patient", "name:text=a", "name:text", Unsupported),
        ("Patient", "name=\\x", "name", Invalid),
        ("Patient", "birthdate=1970-13", "birthdate", Invalid),
        ("Patient", "birthdate=xx1970", "birthdate", Invalid),
        ("Patient", "birthdate=1970-01-01T10", "birthdate", Invalid),
        (
            "Patient",
            "birthdate:exact=1970",
            "birthdate:exact",
            Unsupported,
        ),
        ("Patient", "active:missing=maybe", "active:missing", Invalid),
        ("Patient", "gender=a|b|c", "gender", Invalid),
        ("Patient", "gender=|", "gender", Invalid),
        ("Patient", "gender:in=http://vs", "gender:in", Unsupported),
        (
            "Patient",
            "gender:of-type=a|b|c",
            "gender:of-type",
            Unsupported,
        ),
        (
            "Patient",
            "identifier:of-type=a|b",
            "identifier:of-type",
            Invalid,
        ),
        (
            "Patient",
            "general-practitioner:Device=1",
            "general-practitioner:Device",
            Unsupported,
        ),
        (
            "Patient",
            "general-practitioner=a/b/c",
            "general-practitioner",
            Invalid,
        ),
        (
            "Patient",
            "general-practitioner:Practitioner=Organization/1",
            "general-practitioner:Practitioner",
            Invalid,
        ),
        ("Patient", "_id=a b", "_id", Invalid),
        ("Patient", "_lastUpdated=yesterday", "_lastUpdated", Invalid),
        ("Patient", "_text=x", "_text", Unsupported),
        ("Patient", "_content=x", "_content", Unsupported),
        ("Patient", "_filter=x", "_filter", Unsupported),
        ("Patient", "_query=x", "_query", Unsupported),
        ("Patient", "_contained=true", "_contained", Unsupported),
        ("Patient", "_list=$current-problems", "_list", Unsupported),
        ("Patient", "_count=-1", "_count", Invalid),
        ("Patient", "_count=1&_count=2", "_count", Invalid),
        ("Patient", "_total=some", "_total", Invalid),
        ("Patient", "_summary=yes", "_summary", Invalid),
        (
            "Patient",
            "_summary=true&_elements=name",
            "_elements",
            Invalid,
        ),
        ("Patient", "_elements=nothing", "_elements", Unknown),
        ("Patient", "_sort=nothing", "_sort", Unknown),
        (
            "Observation",
            "_sort=code-value-quantity",
            "_sort",
            Unsupported,
        ),
        ("Patient", "_sort=_id,_id,_id,_id,_id", "_sort", Limit),
        ("Patient", "_type=Patient", "_type", Invalid),
        ("Patient", "_include=Patient:name", "_include", Unknown),
        (
            "Patient",
            "_include=Patient:organization:Device",
            "_include",
            Unknown,
        ),
        (
            "Patient",
            "_include=Nothing:organization",
            "_include",
            Invalid,
        ),
        ("Patient", "_include=organization", "_include", Invalid),
        (
            "Patient",
            "_include:recurse=Patient:organization",
            "_include:recurse",
            Unsupported,
        ),
        ("Patient", "_revinclude=*", "_revinclude", Unsupported),
        (
            "Patient",
            "_revinclude=Encounter:location",
            "_revinclude",
            Unknown,
        ),
        ("Patient", "name.given=x", "name.given", Invalid),
        (
            "Patient",
            "organization.nothing=x",
            "organization.nothing",
            Unknown,
        ),
        (
            "Patient",
            "organization:Device.name=x",
            "organization:Device.name",
            Invalid,
        ),
        (
            "Patient",
            "_has:Observation:patient=x",
            "_has:Observation:patient",
            Invalid,
        ),
        (
            "Patient",
            "_has:Observation:code:code=x",
            "_has:Observation:code:code",
            Unknown,
        ),
        (
            "Patient",
            "_has:Encounter:location:status=x",
            "_has:Encounter:location:status",
            Invalid,
        ),
        (
            "Patient",
            "_has:Observation:patient:nothing=x",
            "_has:Observation:patient:nothing",
            Unknown,
        ),
        (
            "Observation",
            "value-quantity=5.4|mg",
            "value-quantity",
            Invalid,
        ),
        (
            "Observation",
            "value-quantity=five",
            "value-quantity",
            Invalid,
        ),
        (
            "Observation",
            "code-value-quantity=a",
            "code-value-quantity",
            Invalid,
        ),
        (
            "Observation",
            "code-value-quantity=a$b$c",
            "code-value-quantity",
            Invalid,
        ),
        (
            "RiskAssessment",
            "probability=1.2.3",
            "probability",
            Invalid,
        ),
        ("Location", "near=91|0", "near", Invalid),
        ("Location", "near=1|1|-5|km", "near", Invalid),
        ("Location", "near=1|1|5|parsec", "near", Invalid),
        ("", "_type=Nothing", "_type", Invalid),
        ("", "birthdate=1970", "birthdate", Unknown),
        (
            "Encounter",
            "subject.organization.partof.partof.partof.name=x",
            "subject.organization.partof.partof.partof.name",
            Limit,
        ),
    ] {
        match read(kind, query, Handling::Strict) {
            Err(problem) => assert_eq!(
                (problem.param.as_str(), problem.kind),
                (&param[..param.len().min(64)], expected),
                "{query}: {problem}"
            ),
            Ok(search) => panic!("{kind}?{query}: {search:?}"),
        }
    }
}

#[test]
fn a_lenient_client_is_told_what_was_dropped_and_values_that_are_wrong_are_refused_still() {
    let query = "nothing=1&gender=male&name:text=a&_text=x&_sort=nothing&_cursor=c";
    let search = read("Patient", query, Handling::Lenient).expect("dropped");
    let dropped: Vec<&str> = search
        .dropped
        .iter()
        .map(|problem| problem.param.as_str())
        .collect();
    assert_eq!(dropped, ["nothing", "name:text", "_text", "_sort"]);
    assert_eq!(search.used, pairs("gender=male"));
    assert_eq!(search.cursor.as_deref(), Some("c"));
    assert_eq!(search.filters.len(), 1);
    for query in ["birthdate=x", "_count=x", "name="] {
        assert!(
            read("Patient", query, Handling::Lenient).is_err(),
            "{query}"
        );
    }
}

#[test]
fn what_shapes_the_answer_is_read() {
    let search = strict(
        "Observation",
        "_count=0&_total=accurate&_summary=text&_sort=-date,_id,code&_include=Observation:subject:Patient&_include:iterate=Patient:organization&_revinclude=Provenance:target&_format=json&_contained=false",
    );
    assert_eq!(
        (search.count, search.total, search.summary),
        (Some(0), Total::Accurate, Some(Summary::Text))
    );
    let keys: Vec<(&str, bool)> = search
        .sort
        .iter()
        .map(|Sort { by, descending }| match by {
            SortBy::Param(param) => (param.code, *descending),
            SortBy::Id => ("_id", *descending),
            SortBy::LastUpdated => ("_lastUpdated", *descending),
        })
        .collect();
    assert_eq!(keys, [("date", true), ("_id", false), ("code", false)]);
    let includes = |includes: &[Include]| -> Vec<String> {
        includes
            .iter()
            .map(|one| {
                format!(
                    "{}:{}:{:?}:{}",
                    one.source,
                    one.params.len(),
                    one.target,
                    one.iterate
                )
            })
            .collect()
    };
    assert_eq!(
        includes(&search.includes),
        [
            "Observation:1:Some(\"Patient\"):false",
            "Patient:1:None:true"
        ]
    );
    assert_eq!(includes(&search.revincludes), ["Provenance:1:None:false"]);
    assert!(
        strict("Observation", "_include=*")
            .includes
            .iter()
            .all(|one| one.params.len() > 5)
    );
    assert_eq!(
        strict("Patient", "_elements=name,Patient.gender,name").elements,
        ["name", "gender"]
    );
    assert_eq!(
        strict("", "_type=Patient,Device").types,
        ["Device", "Patient"]
    );
    assert_eq!(
        strict("", "_lastUpdated=gt2020").types.len(),
        R4.resources().len()
    );
    assert_eq!(
        strict("", "_type=Observation,Condition&patient=1")
            .filters
            .len(),
        1
    );
    assert_eq!(
        strict("Patient", "_count=99999999999").count,
        Some(u32::MAX)
    );
}

#[test]
fn a_chain_without_a_type_leads_to_every_type_that_knows_the_parameter() {
    let search = strict("Observation", "subject.name=peter");
    let [Filter::Chain { param, targets }] = search.filters.as_slice() else {
        panic!("{search:?}");
    };
    let types: Vec<&str> = targets.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        (param.code, types),
        ("subject", vec!["Patient", "Location"])
    );
    let search = strict("Observation", "subject:Patient.organization.name:exact=A");
    assert_eq!(search.filters.len(), 1);
    let wide = read(
        "ActivityDefinition",
        "composed-of.composed-of.name=x",
        Handling::Strict,
    );
    assert_eq!(
        wide.err().map(|problem| problem.kind),
        Some(ProblemKind::Limit)
    );
}

#[test]
fn a_key_of_an_order_and_an_element_that_are_unknown_are_named() {
    for query in ["_sort=name,-nothing", "_elements=name,nothing"] {
        let problem = read("Patient", query, Handling::Strict).expect_err(query);
        assert!(problem.text.starts_with("nothing is none"), "{problem}");
    }
}

#[test]
fn escapes_are_taken_off_and_lists_are_bounded() {
    let search = strict("ValueSet", r"url:above=http://a.b/c/d\,e,urn:x");
    let [Filter::Param { matches, .. }] = search.filters.as_slice() else {
        panic!("{search:?}");
    };
    let above = [
        "http://a.b/c/d,e",
        "http://a.b/c/",
        "http://a.b/c",
        "http://a.b/",
        "http://a.b",
    ];
    let expected = [
        UriMatch::Above(above.map(str::to_owned).to_vec()),
        UriMatch::Above(vec!["urn:x".to_owned()]),
    ];
    assert_eq!(matches, &expected.map(Match::Uri));
    for query in [
        format!("_id={}", ["a"; 201].join(",")),
        ["active=true"; 65].join("&"),
        format!("name={}", "a".repeat(9_000)),
        format!(
            "_include=Patient:organization{}",
            "&_include=Patient:organization".repeat(40)
        ),
    ] {
        let problem = read("Patient", &query, Handling::Strict).expect_err("too many");
        assert_eq!(problem.kind, ProblemKind::Limit);
        assert!(problem.param.len() <= 64);
    }
}

#[test]
fn the_query_of_a_scope_has_conditions_alone() {
    let context = Context {
        now: 0,
        base: Bases::of("https://own.example/fhir"),
        handling: Handling::Lenient,
    };
    let read = |query: &str| parse_conditions("Observation", &pairs(query), context);
    let category =
        "category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs";
    assert!(matches!(read(category), Ok(Filter::All(filters)) if filters.len() == 1));
    for refused in [
        "_count=1",
        "_include=Observation:subject",
        "nothing=1",
        "category:in=x",
    ] {
        assert!(read(refused).is_err(), "{refused}");
    }
}

#[test]
fn a_reference_by_any_base_of_the_server_is_one_to_its_own() {
    let others = ["https://b.example:8443/fhir".to_owned()];
    let context = Context {
        now: 0,
        base: Bases::of("https://own.example/fhir").and(&others),
        handling: Handling::Strict,
    };
    let read = |base: &str| {
        let query = format!("subject={base}Patient/p");
        let search = parse(Some("Condition"), &pairs(&query), context).unwrap();
        search.filters
    };
    let own = read("");
    assert_eq!(read("https://own.example/fhir/"), own);
    assert_eq!(read("https://b.example:8443/fhir/"), own);
    assert_ne!(read("https://c.example/fhir/"), own);
}
