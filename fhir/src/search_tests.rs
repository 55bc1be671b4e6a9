//! Tests of search: what each parameter means, and that no text panics.
use super::*;
use proptest::prelude::*;

/// 2026-11-22T10:00:00Z.
const NOW: Timestamp = Timestamp(1_795_341_600_000);

const CONTEXT: Context<'_> = Context {
    now: NOW,
    base: Bases::of("https://region.example/fhir"),
};

fn read(pairs: &[(&str, &str)]) -> Result<Search, SearchError> {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    parse(ResourceType::Observation, &pairs, CONTEXT)
}

fn filter(name: &str, value: &str) -> Filter {
    let mut search = read(&[(name, value)]).unwrap();
    assert_eq!(search.query.filters.len(), 1);
    search.query.filters.remove(0)
}

fn ids(ids: &[&str]) -> Vec<FhirId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn references_are_ids_with_or_without_their_type() {
    assert_eq!(filter("patient", "a"), Filter::Patient(ids(&["a"])));
    assert_eq!(filter("subject", "Patient/a"), filter("patient", "a"));
    let either = Filter::Subject {
        patients: ids(&["a"]),
        devices: ids(&["a", "d"]),
    };
    assert_eq!(filter("subject", "a,Device/d"), either);
    let absolute = filter("patient", "https://region.example/fhir/Patient/a");
    assert_eq!(absolute, Filter::Patient(ids(&["a"])));
    let both = filter("patient", "Patient/a,b");
    assert_eq!(both, Filter::Patient(ids(&["a", "b"])));
    assert_eq!(filter("device", "Device/d"), Filter::Device(ids(&["d"])));
    assert_eq!(filter("_id", "a,b"), Filter::Id(ids(&["a", "b"])));
}

#[test]
fn tokens_resolve_to_the_rows_of_the_tables() {
    let code = |text: &str| -> Code { text.parse().unwrap() };
    for (value, expected) in [
        ("8867-4", vec![code("8867-4")]),
        ("http://loinc.org|8867-4", vec![code("8867-4")]),
        ("8867-4,9279-1", vec![code("8867-4"), code("9279-1")]),
        (
            "urn:medmesh:code|storage-temperature",
            vec![code("urn:medmesh:code|storage-temperature")],
        ),
        ("http://snomed.info/sct|8867-4", vec![]),
        ("|8867-4", vec![]),
        ("no-such-code", vec![]),
        ("8867-4\\,9279-1", vec![]),
    ] {
        assert_eq!(filter("code", value), Filter::Code(expected), "{value}");
    }
    let all = Code::all()
        .filter(|code| code.info().system == Code::MEDMESH)
        .collect();
    assert_eq!(filter("code", "urn:medmesh:code|"), Filter::Code(all));
    assert_eq!(
        filter("category", "vital-signs"),
        Filter::Category(vec![Category::VitalSigns])
    );
    assert_eq!(
        filter("identifier", "urn:medmesh:reading|ab"),
        Filter::Id(ids(&["ab"]))
    );
    assert_eq!(filter("identifier", "ab"), Filter::Id(ids(&["ab"])));
    assert_eq!(filter("identifier", "urn:mrn|ab"), Filter::Id(Vec::new()));
}

/// Which of the instants, in ms from midnight of 2026-11-22, a date finds.
fn found(value: &str, instants: &[i64]) -> Vec<i64> {
    const MIDNIGHT: i64 = 1_795_305_600_000;
    let Filter::Date(intervals) = filter("date", value) else {
        panic!("a date filter");
    };
    let holds = |ms: &&i64| {
        let time = Timestamp(MIDNIGHT + **ms);
        intervals.iter().any(|interval| interval.contains(time))
    };
    instants.iter().filter(holds).copied().collect()
}

#[test]
fn a_date_stands_for_all_instants_of_its_precision() {
    const DAY: i64 = 86_400_000;
    let days = [-1, 0, DAY - 1, DAY];
    for (value, expected) in [
        ("2026-11-22", &[0, DAY - 1][..]),
        ("eq2026-11-22", &[0, DAY - 1]),
        ("ne2026-11-22", &[-1, DAY]),
        ("gt2026-11-22", &[DAY]),
        ("sa2026-11-22", &[DAY]),
        ("ge2026-11-22", &[0, DAY - 1, DAY]),
        ("lt2026-11-22", &[-1]),
        ("eb2026-11-22", &[-1]),
        ("le2026-11-22", &[-1, 0, DAY - 1]),
        ("2026-11", &days),
        ("2026", &days),
        ("2025", &[]),
        ("2026-11-21,2026-11-23", &[-1, DAY]),
        ("2026-11-22T00:00Z", &[0]),
        ("2026-11-22T02:00:00+02:00", &[0]),
        ("2026-11-22T02:00:00 02:00", &[0]),
        ("2026-11-22T00:00:00", &[0]),
    ] {
        assert_eq!(found(value, &days), expected, "{value}");
    }
    let fine = [0, 9, 10, 99, 100, 999, 1_000, 59_999, 60_000];
    for (value, expected) in [
        ("2026-11-22T00:00:00.000Z", &[0][..]),
        ("2026-11-22T00:00:00.00Z", &[0, 9]),
        ("2026-11-22T00:00:00.0Z", &[0, 9, 10, 99]),
        ("2026-11-22T00:00:00Z", &[0, 9, 10, 99, 100, 999]),
        ("2026-11-22T00:00Z", &fine[..8]),
        // A tenth of the ten hours until now, to either side.
        ("ap2026-11-22T00:00:00.000Z", &fine),
    ] {
        assert_eq!(found(value, &fine), expected, "{value}");
    }
    assert_eq!(
        found(
            "ap2026-11-22T00:00:00.000Z",
            &[-3_600_001, -3_600_000, 3_600_000, 3_600_001]
        ),
        [-3_600_000, 3_600_000]
    );
}

#[test]
fn what_is_understood_and_wrong_is_refused() {
    for (name, value) in [
        ("date", "yesterday"),
        ("date", "2026-13"),
        ("date", "2026-02-30"),
        ("date", "xx2026"),
        ("date", "2026-11-22T"),
        ("patient", "Device/a"),
        ("patient", "a b"),
        ("patient", "http://other.example/fhir/Patient/a"),
        ("patient", ""),
        ("_id", "../etc"),
        ("code", "a|b|c"),
        ("code", "a\\b"),
        ("_count", "-1"),
        ("_count", "ten"),
        ("_total", "yes"),
        ("_cursor", "not-a-cursor"),
    ] {
        assert!(
            matches!(read(&[(name, value)]), Err(SearchError::Invalid { .. })),
            "{name}={value}"
        );
    }
    for (list, named) in [("value", "value"), ("date,-code", "-code")] {
        assert_eq!(
            read(&[("_sort", list)]),
            Err(SearchError::Sort(named.to_owned()))
        );
    }
    assert_eq!(
        read(&[("code:text", "heart")]),
        Err(SearchError::Modifier("code"))
    );
    assert_eq!(
        read(&[("patient:missing", "true")]),
        Err(SearchError::Modifier("patient"))
    );
    let many = vec![("_id", "a"); MAX_PARAMS + 1];
    assert_eq!(read(&many), Err(SearchError::TooMany));
    let long = vec!["a"; MAX_VALUES + 1].join(",");
    assert!(read(&[("_id", &long)]).is_err());
    assert!(read(&[("_id", &long[2..])]).is_ok());
}

#[test]
fn what_is_not_understood_is_reported_and_left_out_of_links() {
    let search = read(&[
        ("encounter", "Encounter/a"),
        ("patient", "a"),
        ("pateint", "a"),
    ])
    .unwrap();
    assert_eq!(search.ignored, ["encounter", "pateint"]);
    assert_eq!(search.used, [("patient".to_owned(), "a".to_owned())]);
    let patients = parse(
        ResourceType::Patient,
        &[("code".into(), "x".into())],
        CONTEXT,
    )
    .unwrap();
    assert_eq!(patients.ignored, ["code"]);
}

#[test]
fn counts_are_capped_and_zero_asks_for_the_total_alone() {
    for (value, count, total) in [
        ("0", 0, true),
        ("1", 1, false),
        ("1000", MAX_PAGE, false),
        ("1001", MAX_PAGE, false),
        ("99999999999", MAX_PAGE, false),
    ] {
        let search = read(&[("_count", value)]).unwrap();
        assert_eq!(
            (search.query.count, search.total),
            (count, total),
            "{value}"
        );
    }
    assert_eq!(read(&[]).unwrap().query.count, DEFAULT_PAGE);
}

#[test]
fn a_cursor_belongs_to_its_order() {
    let cursor = Cursor::Id("a".parse().unwrap()).to_text();
    assert!(read(&[("_sort", "_id"), ("_cursor", &cursor)]).is_ok());
    assert!(read(&[("_sort", "-date"), ("_cursor", &cursor)]).is_err());
    assert!(
        read(&[("_cursor", &cursor)]).is_err(),
        "the default order is by date"
    );
}

#[test]
fn every_param_that_is_announced_is_read() {
    for kind in ResourceType::DELIVERED {
        for param in params_of(kind) {
            let value = if param.kind == "date" { "2026" } else { "a" };
            let pairs = [(param.name.to_owned(), value.to_owned())];
            let search = parse(kind, &pairs, CONTEXT).unwrap();
            assert_eq!(search.query.filters.len(), 1, "{}", param.name);
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(name in "(_id|patient|code|date|device|category|identifier|_count|_sort|_total|_cursor|.{0,9})", value in ".{0,40}") {
        let _ = read(&[(&name, &value)]);
    }

    #[test]
    fn date_like_text_never_panics(value in "[a-z]{0,2}[0-9]{0,4}(-[0-9]{0,2}){0,2}(T[0-9:.Z+-]{0,14})?") {
        let _ = read(&[("date", &value)]);
    }

    #[test]
    fn an_escaped_text_is_one_plain_value(text in "[a-z,|$\\\\]{1,12}") {
        let escaped: String = text.chars().flat_map(|c| {
            let escape = matches!(c, ',' | '|' | '$' | '\\').then_some('\\');
            escape.into_iter().chain([c])
        }).collect();
        prop_assert_eq!(split(&escaped, ','), [escaped.as_str()]);
        prop_assert_eq!(plain("code", &escaped), Ok(text));
    }
}

#[test]
fn a_reference_by_any_base_of_the_server_is_one_to_its_own() {
    let others = ["https://b.example:8443/fhir".to_owned()];
    let base = CONTEXT.base.and(&others);
    for (url, is_own) in [
        ("https://region.example/fhir/Patient/p", true),
        ("https://b.example:8443/fhir/Patient/p", true),
        ("https://c.example/fhir/Patient/p", false),
    ] {
        let pairs = [("patient".to_owned(), url.to_owned())];
        let context = Context { base, ..CONTEXT };
        let read = parse(ResourceType::Observation, &pairs, context);
        let id: crate::store::FhirId = "p".parse().unwrap();
        let found = read.map(|search| search.query.filters).ok();
        assert_eq!(
            found,
            is_own.then(|| vec![Filter::Patient(vec![id])]),
            "{url}"
        );
    }
}
