//! Tests of AuditEvents that are made of rows of a log.
use super::*;
use crate::query::Value as Found;
use crate::rest::{SYSTEM, offered};
use std::collections::BTreeSet;

const SECRET: &[u8] = b"secret";

fn id(position: u64) -> FhirId {
    own_id(SECRET, "regional/eu/eu", position, b"leaf").unwrap()
}

fn logged<'a>(interaction: &'a str, whom: Whom, request: &'a str) -> Logged<'a> {
    Logged {
        interaction,
        asked: "Observation?code",
        ended: Ended::Given,
        client: "reader",
        place: "regional/eu/eu",
        count: 7,
        whom,
        request,
        recorded: Some(Timestamp(1_800_000_000_000)),
    }
}

fn json_of(draft: &Draft) -> Value {
    serde_json::from_str(draft.json()).unwrap()
}

#[test]
fn every_row_makes_an_event_that_is_r4() {
    let of_types = ResourceType::every().flat_map(|kind| offered(kind).iter().copied());
    let all = of_types.chain(SYSTEM.iter().copied());
    let codes: BTreeSet<&str> = all.map(crate::rest::Interaction::as_str).collect();
    let whom = || {
        [
            Whom::Nobody,
            Whom::Patient("a".parse().unwrap()),
            Whom::Digest("00ff".into()),
        ]
    };
    let ended = [
        Ended::Given,
        Ended::Begun,
        Ended::Unauthenticated,
        Ended::Forbidden,
        Ended::Unanswered,
    ];
    let mut made = 0;
    for code in &codes {
        for whom in whom() {
            for ended in ended {
                for (asked, client, request) in [
                    ("Observation?code", "reader", "00"),
                    ("*", "", ""),
                    ("", "", "00"),
                ] {
                    let one = Logged {
                        ended,
                        asked,
                        client,
                        ..logged(code, whom.clone(), request)
                    };
                    let event = event(id(made), &one);
                    assert!(event.is_some(), "{one:?}");
                    made += 1;
                }
            }
        }
    }
    assert!(codes.len() >= 13 && made > 400);
}

#[test]
fn an_event_says_what_its_row_says_and_no_more() {
    let patient = Whom::Patient("p1".parse().unwrap());
    let request = digest("Observation?code=8867-4");
    let event = json_of(&event(id(1), &logged("search-type", patient, &request)).unwrap());
    assert_eq!(event["action"], "E");
    assert_eq!(event["recorded"], "2027-01-15T08:00:00.000Z");
    assert_eq!(event["entity"][0]["what"]["reference"], "Patient/p1");
    let asked = &event["entity"][1];
    assert_eq!(asked["name"], "Observation?code");
    assert_eq!(asked["type"]["code"], "Observation");
    assert_eq!(asked["what"]["identifier"]["value"], request.as_str());
    assert_eq!(asked["detail"][0]["valueString"], "7");
    assert_eq!(event["entity"].as_array().unwrap().len(), 2);
    assert!(!event.to_string().contains("8867"));
    for (code, action) in [
        ("create", "C"),
        ("read", "R"),
        ("vread", "R"),
        ("history-system", "R"),
        ("update", "U"),
        ("patch", "U"),
        ("delete", "D"),
        ("transaction", "E"),
    ] {
        let event = super::event(id(2), &logged(code, Whom::Nobody, "")).unwrap();
        assert_eq!(json_of(&event)["action"], action, "{code}");
    }
    // What came of it is not told where the row does not say it.
    for (ended, outcome, why) in [
        (Ended::Given, json!("0"), Value::Null),
        (Ended::Begun, Value::Null, Value::Null),
        (Ended::Unauthenticated, json!("4"), json!("unauthenticated")),
        (Ended::Forbidden, json!("4"), json!("forbidden")),
        (Ended::Unanswered, json!("4"), json!("unanswered")),
    ] {
        let one = Logged {
            ended,
            ..logged("update", Whom::Nobody, "")
        };
        let event = json_of(&super::event(id(5), &one).unwrap());
        let told = (&event["outcome"], &event["outcomeDesc"]);
        assert_eq!(told, (&outcome, &why), "{ended:?}");
    }
    // What was asked for is the patient: one entity.
    let itself = digest("Patient/p1");
    let whom = Whom::Patient("p1".parse().unwrap());
    let event = json_of(&super::event(id(3), &logged("read", whom, &itself)).unwrap());
    assert_eq!(event["entity"].as_array().unwrap().len(), 1);
    // Who is known by a digest alone is no reference.
    let whom = Whom::Digest("ab".into());
    let event = json_of(&super::event(id(4), &logged("read", whom, &itself)).unwrap());
    let what = &event["entity"][0]["what"];
    assert_eq!(
        (&what["reference"], &what["identifier"]["value"]),
        (&Value::Null, &"ab".into())
    );
}

#[test]
fn the_id_of_a_row_is_the_same_each_time_and_anothers_is_another() {
    let of = |secret: &[u8], place: &str, position, leaf: &[u8]| {
        own_id(secret, place, position, leaf).unwrap()
    };
    let one = of(SECRET, "regional/eu/eu", 7, b"leaf");
    assert_eq!(one, of(SECRET, "regional/eu/eu", 7, b"leaf"));
    let all = BTreeSet::from([
        one.to_string(),
        of(b"other", "regional/eu/eu", 7, b"leaf").to_string(),
        of(SECRET, "regional/us/us", 7, b"leaf").to_string(),
        of(SECRET, "regional/eu/eu", 8, b"leaf").to_string(),
        of(SECRET, "regional/eu/eu", 7, b"other").to_string(),
    ]);
    assert_eq!(all.len(), 5);
    let kind = ResourceType::parse(AUDIT_EVENT).unwrap();
    let region = Holding::Pseudonymous { year: 2026 };
    assert!(
        all.iter()
            .all(|id| is_own(kind.as_str(), id) && !region.takes_id(kind, id))
    );
}

#[test]
fn an_instant_that_is_not_told_is_no_date() {
    let dates = |event: &Draft| {
        let rows = event.rows().iter();
        rows.filter(|row| matches!(row.value, Found::Date { .. }))
            .count()
    };
    let told = logged("read", Whom::Nobody, "");
    let untold = Logged {
        recorded: None,
        ..told.clone()
    };
    let (told, untold) = (event(id(1), &told).unwrap(), event(id(1), &untold).unwrap());
    assert_eq!((dates(&told), dates(&untold)), (1, 0));
    assert_eq!(json_of(&untold)["recorded"], UNTOLD);
}

#[test]
fn an_instant_is_told_to_whom_instants_are_told() {
    let kind = ResourceType::parse(AUDIT_EVENT).unwrap();
    let own = id(1);
    let told = "\"2026-09-21T14:13:20.000Z\"";
    let is_untold =
        |id: &FhirId, name, value, instant| super::is_untold((kind, id), (name, value), instant);
    assert!(is_untold(
        &own,
        "recorded",
        told,
        "1970-01-01T00:00:00.017Z"
    ));
    assert!(!is_untold(&own, "recorded", told, "2026-09-21T14:13:21Z"));
    let nothing = format!("\"{UNTOLD}\"");
    assert!(is_untold(
        &own,
        "recorded",
        &nothing,
        "2026-09-21T14:13:21Z"
    ));
    assert!(!is_untold(&own, "action", told, "1970-01-01T00:00:00.017Z"));
    // Of what a client wrote nothing is changed, whatever it is called.
    for other in [
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "log-1",
        "log-",
        &format!("log-{}", "0g".repeat(16)),
    ] {
        let other = other.parse().unwrap();
        assert!(!is_untold(
            &other,
            "recorded",
            told,
            "1970-01-01T00:00:00.017Z"
        ));
    }
    let reading = ResourceType::Observation;
    assert!(!is_own(reading.as_str(), own.as_str()));
}
