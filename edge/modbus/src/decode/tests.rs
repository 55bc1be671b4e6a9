//! What registers become.
use super::*;
use crate::profile::BUILT_IN;
use proptest::prelude::*;

fn point(kind: Kind) -> Point {
    Point {
        code: "8867-4".parse().unwrap(),
        unit: "/min".parse().unwrap(),
        space: super::super::plan::Space::Input,
        address: 0,
        kind,
        word_order: Order::Big,
        byte_order: Order::Big,
        scale: Scale::default(),
        offset: Offset::default(),
        no_data: Vec::new(),
        range: None,
    }
}

fn text(point: &Point, words: &[u16]) -> String {
    match reading(point, words).map(|reading| (reading.value, reading.flags)) {
        None => "none".into(),
        Some((Value::Absent(reason), _)) => reason.as_str().into(),
        Some((Value::Quantity(decimal), flags)) if flags == Flags::NONE => decimal.to_string(),
        Some((Value::Quantity(decimal), _)) => format!("{decimal}!"),
    }
}

#[test]
fn registers_are_read_exactly() {
    for (kind, words, expected) in [
        (Kind::U16, &[0xffff][..], "65535"),
        (Kind::I16, &[0xffff], "-1"),
        (Kind::U32, &[0xffff, 0xfffe], "4294967294"),
        (Kind::I32, &[0xffff, 0xfffe], "-2"),
        (Kind::U64, &[0xffff; 4], "18446744073709551615"),
        (Kind::I64, &[0xffff, 0xffff, 0xffff, 0xfffe], "-2"),
        (Kind::I64, &[0x8000, 0, 0, 0], "-9223372036854775808"),
        (Kind::Bool, &[1], "1"),
        (Kind::Bool, &[0], "0"),
        (Kind::F64, &[0x406c, 0xc666, 0x6666, 0x6666], "230.2"),
        (Kind::F64, &[0x7ff8, 0, 0, 0], "unknown"),
        (Kind::F32, &[0x4366, 0x3333], "230.2"),
        (Kind::F32, &[0x7fc0, 0], "unknown"),
        (Kind::F32, &[0x7f80, 0], "unknown"),
        (Kind::F32, &[0x7f7f, 0xffff], "3.4028235e38"),
        (Kind::F32, &[0, 1], "1e-45"),
        (Kind::F32, &[0x8000, 0], "-0"),
        (Kind::Decimal, &[0, 9_233, 0xfffe], "92.33"),
        (Kind::Decimal, &[0, 73, 0], "73"),
        (Kind::Decimal, &[0xffff, 0xff4e, 0xffff], "-17.8"),
        (Kind::Decimal, &[0, 11, 3], "11e3"),
        (Kind::Decimal, &[0, 0, NO_DATA], "unknown"),
        (Kind::Decimal, &[0, 0, NOT_IN_SAMPLE], "none"),
        (Kind::Decimal, &[0, 1, 19], "error"),
        (Kind::Decimal, &[0, 1, 0x0100], "error"),
        (Kind::Decimal, &[0, 1], "error"),
        (Kind::U16, &[], "error"),
    ] {
        assert_eq!(text(&point(kind), words), expected, "{kind:?} {words:x?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn orders_scale_sentinel_and_range_are_as_the_profile_says() {
    let tenth = Scale {
        mantissa: 1,
        exponent: -1,
    };
    let half = Scale {
        mantissa: 5,
        exponent: -1,
    };
    let minus_40 = Offset {
        mantissa: -40,
        exponent: 0,
    };
    let i16 = point(Kind::I16);
    for (point, words, expected) in [
        (
            Point {
                scale: tenth,
                ..i16.clone()
            },
            &[628][..],
            "62.8",
        ),
        (
            Point {
                scale: tenth,
                ..i16.clone()
            },
            &[630],
            "63.0",
        ),
        (
            Point {
                scale: half,
                ..i16.clone()
            },
            &[3],
            "1.5",
        ),
        (
            Point {
                no_data: vec![Sentinel::Integer(-32_768), Sentinel::Integer(0x8001)],
                ..i16.clone()
            },
            &[0x8000],
            "unknown",
        ),
        (
            Point {
                no_data: vec![Sentinel::Integer(-32_768), Sentinel::Integer(0x8001)],
                ..i16.clone()
            },
            &[0x8001],
            "unknown",
        ),
        (
            Point {
                no_data: vec![Sentinel::Integer(-1)],
                ..point(Kind::U64)
            },
            &[0xffff; 4],
            "unknown",
        ),
        (
            Point {
                no_data: vec![Sentinel::Integer(u64::MAX.into())],
                ..point(Kind::I64)
            },
            &[0xffff; 4],
            "unknown",
        ),
        (
            Point {
                no_data: vec![Sentinel::Float(-999.9), Sentinel::Integer(-888)],
                ..point(Kind::F32)
            },
            &[0xc479, 0xf99a],
            "unknown",
        ),
        (
            Point {
                no_data: vec![Sentinel::Float(-999.9), Sentinel::Integer(-888)],
                ..point(Kind::F64)
            },
            &[0xc08b, 0xc000, 0, 0],
            "unknown",
        ),
        (
            Point {
                scale: tenth,
                offset: minus_40,
                ..i16.clone()
            },
            &[628],
            "22.8",
        ),
        (
            Point {
                offset: minus_40,
                ..point(Kind::F32)
            },
            &[0x4366, 0x3333],
            "190.2",
        ),
        (
            Point {
                scale: Scale {
                    mantissa: 9_999,
                    exponent: -3,
                },
                ..point(Kind::U64)
            },
            &[0xffff; 4],
            "184448993993021806598.385",
        ),
        (
            Point {
                word_order: Order::Little,
                ..point(Kind::F64)
            },
            &[0x6666, 0x6666, 0xc666, 0x406c],
            "230.2",
        ),
        (
            Point {
                byte_order: Order::Little,
                ..i16.clone()
            },
            &[0x0100],
            "1",
        ),
        (
            Point {
                word_order: Order::Little,
                ..point(Kind::U32)
            },
            &[1, 0],
            "1",
        ),
        (
            Point {
                range: Some([0.0, 100.0]),
                ..i16.clone()
            },
            &[100],
            "100",
        ),
        (
            Point {
                range: Some([0.0, 100.0]),
                ..i16.clone()
            },
            &[101],
            "101!",
        ),
        (
            Point {
                range: Some([0.0, 100.0]),
                ..i16
            },
            &[0xffff],
            "-1!",
        ),
        (
            Point {
                word_order: Order::Little,
                byte_order: Order::Little,
                ..point(Kind::F32)
            },
            &[0x3333, 0x6643],
            "230.2",
        ),
    ] {
        assert_eq!(text(&point, words), expected, "{words:x?}");
    }
}

#[test]
fn the_real_probes_answers_are_its_temperatures() {
    for (profile, words, expected) in [
        (BUILT_IN[1].1, vec![0x0131, 0x0222], ["30.5", "54.6"]),
        (BUILT_IN[2].1, vec![0x0bea, 0x1554], ["30.50", "54.60"]),
    ] {
        let decoder = Decoder::new(std::sync::Arc::new(toml::from_str(profile).unwrap())).unwrap();
        let values: Vec<Value> = decoder
            .readings(&decoder.plan, &[words])
            .into_iter()
            .map(|reading| reading.value)
            .collect();
        assert_eq!(
            values,
            expected.map(|text| Value::Quantity(text.parse().unwrap()))
        );
    }
}

proptest! {
    #[test]
    fn whatever_a_device_answers_becomes_readings_within_their_grammar(words in prop::collection::vec(any::<u16>(), 0..130)) {
        for (_, profile) in BUILT_IN {
            let decoder = Decoder::new(std::sync::Arc::new(toml::from_str(profile).unwrap())).unwrap();
            for reading in decoder.readings(&decoder.plan, std::slice::from_ref(&words)) {
                if let Value::Quantity(decimal) = reading.value {
                    prop_assert_eq!(decimal.as_str().parse(), Ok(decimal.clone()));
                }
            }
            let _ = decoder.shown(&decoder.plan, std::slice::from_ref(&words));
        }
    }
}
