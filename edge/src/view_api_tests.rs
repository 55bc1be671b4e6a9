//! What is asked of the view, and which parameter an error names.
use super::*;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn asked(pairs: &[(&str, &str)]) -> Span {
    let of = |name: &str| {
        let found = pairs.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Span {
        bed: of("bed"),
        patient: of("patient"),
        device: of("device"),
        code: of("code"),
        from: of("from"),
        until: of("until"),
        after: of("after"),
        limit: of("limit"),
    }
}

#[test]
fn a_page_is_of_the_last_day_unless_it_is_said_otherwise() {
    let series = asked(&[("bed", "b1")]).series(NOW).unwrap();
    assert_eq!(series.whose, Whose::Bed("b1".into()));
    assert_eq!(
        series.until,
        NOW.plus_ms(1),
        "what was measured now is in it"
    );
    assert_eq!(series.from, series.until.plus_ms(-SPAN_MS));
    assert_eq!(
        (series.code, series.after, series.limit),
        (None, None, MAX_PAGE)
    );
    let pairs = [
        ("device", "m1"),
        ("code", "8867-4"),
        ("from", "2025-12-31T00:00:00Z"),
        ("until", "2025-12-31T01:00:00+01:00"),
        ("after", "5.6.7.8"),
        ("limit", "2"),
    ];
    let series = asked(&pairs).series(NOW).unwrap();
    assert_eq!(series.until, series.from, "an offset is an offset");
    assert_eq!(series.after, Some(Cursor([5, 6, 7, 8])));
    assert_eq!(series.code, Some("8867-4".parse().unwrap()));
}

#[test]
fn an_error_names_the_parameter() {
    for (pairs, names) in [
        (&[][..], "one of bed, patient and device"),
        (
            &[("bed", "b1"), ("device", "m1")],
            "one of bed, patient and device",
        ),
        (&[("device", "no device")], "device:"),
        (&[("bed", "b1"), ("code", "pulse")], "code:"),
        (&[("bed", "b1"), ("from", "yesterday")], "from:"),
        (&[("bed", "b1"), ("until", "1")], "until:"),
        (
            &[
                ("bed", "b1"),
                ("from", "2027-01-01T00:00:00Z"),
                ("until", "2026-01-01T00:00:00Z"),
            ],
            "from: is after",
        ),
        (&[("bed", "b1"), ("after", "x")], "after:"),
        (&[("bed", "b1"), ("limit", "0")], "limit:"),
        (&[("bed", "b1"), ("limit", "3601")], "limit:"),
        (&[("bed", "b1"), ("limit", "many")], "limit:"),
    ] {
        let reason = asked(pairs).series(NOW).unwrap_err();
        assert!(reason.starts_with(names), "{pairs:?}: {reason}");
    }
    let reason = asked(&[("code", "8867-4")]).alarms(NOW).unwrap_err();
    assert!(reason.starts_with("alarms:"), "{reason}");
}
