//! Expressions and their values: facts of the specification, checked against another implementation.
use super::*;

const PATIENT: &str = r##"{"resourceType": "Patient", "id": "p", "active": true, "gender": "male",
    "extension": [{"url": "http://x/e", "valueString": "one"}, {"url": "http://x/q", "valueQuantity": {"value": 5.0, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}],
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Acme"}],
    "name": [{"use": "official", "family": "Chalmers", "given": ["Peter", "James"]}, {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"], "period": {"end": "2002"}}],
    "telecom": [{"use": "home"}, {"system": "phone", "value": "(03) 5555 6473", "use": "work", "rank": 1}],
    "birthDate": "1974-12-25", "_birthDate": {"extension": [{"url": "http://x/time", "valueDateTime": "1974-12-25T14:35:45-05:00"}]},
    "deceasedBoolean": false, "multipleBirthInteger": 2,
    "contact": [{"relationship": [{"coding": [{"system": "s", "code": "N"}]}], "name": {"family": "du Marché", "_family": {"extension": [{"url": "http://x/prefix", "valueString": "VV"}]}, "given": ["Bénédicte"]}}],
    "managingOrganization": {"reference": "#o"}, "generalPractitioner": [{"reference": "Practitioner/1"}, {"reference": "https://a.example/fhir/PractitionerRole/2/_history/3"}]}"##;

const OBSERVATION: &str = r#"{"resourceType": "Observation", "id": "o", "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}], "text": "Weight"},
    "subject": {"reference": "Patient/p"}, "effectiveDateTime": "2015-02-04T14:34:28Z",
    "valueQuantity": {"value": 185.0, "unit": "lbs", "system": "http://unitsofmeasure.org", "code": "[lb_av]"},
    "component": [{"code": {"text": "a"}, "valueString": "x"}, {"code": {"text": "b"}, "valueInteger": 7}]}"#;

/// The values as texts, each with its type where it is no element.
fn values(resource: &str, expression: &str) -> Result<Vec<String>, PathError> {
    let json = Json::parse(resource).expect("the resource is JSON");
    let path = Path::parse(expression)?;
    let around = Surroundings {
        resource: None,
        now: Some(0),
    };
    let items = path.evaluate(&json, around)?;
    Ok(items
        .iter()
        .map(|item| match item.system() {
            Some(value) => value.text(),
            None => match item {
                Item::Element(element) => format!("<{}>", element.type_name()),
                Item::Elsewhere(kind) => format!("<elsewhere {kind}>"),
                Item::System(_) => String::new(),
            },
        })
        .collect())
}

fn check(resource: &str, table: &[(&str, &[&str])]) {
    for (expression, expected) in table {
        match values(resource, expression) {
            Ok(found) => assert_eq!(&found, expected, "{expression}"),
            Err(error) => panic!("{expression}: {error}"),
        }
    }
}

const T: &[&str] = &["true"];
const F: &[&str] = &["false"];
const NONE: &[&str] = &[];

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn paths_lead_along_elements_and_choices_of_types() {
    check(
        PATIENT,
        &[
            (
                "Patient.name.given",
                &["Peter", "James", "Jim", "Peter", "James"],
            ),
            ("name.given", &["Peter", "James", "Jim", "Peter", "James"]),
            ("Observation.name", NONE),
            ("Patient.deceased", &["false"]),
            ("Patient.deceasedBoolean", NONE),
            ("Patient.multipleBirth.ofType(integer)", &["2"]),
            ("Patient.multipleBirth as boolean", NONE),
            ("(Patient.multipleBirth as integer) + 1", &["3"]),
            ("Resource.id", &["p"]),
            ("DomainResource.text", NONE),
            ("Patient.extension('http://x/e').value", &["one"]),
            (
                "Patient.extension.where(url = 'http://x/q').value.value",
                &["5.0"],
            ),
            (
                "Patient.birthDate.extension('http://x/time').value",
                &["1974-12-25T14:35:45-05:00"],
            ),
            ("Patient.contact.name.family.extension.value", &["VV"]),
            ("Patient.contained.name", &["Acme"]),
            ("Patient.contained.ofType(Organization).name", &["Acme"]),
            ("Patient.name[1].given", &["Jim"]),
            ("Patient.name[9]", NONE),
            ("Patient.name.first().given.last()", &["James"]),
            ("Patient.name.where(use = 'usual').given.single()", &["Jim"]),
            ("Patient.name.skip(1).take(1).given", &["Jim"]),
            ("Patient.name.tail().family", &["Windsor"]),
            (
                "Patient.name.select(given.first())",
                &["Peter", "Jim", "Peter"],
            ),
            (
                "Patient.name.select(given.first() & ' ' & family)",
                &["Peter Chalmers", "Jim ", "Peter Windsor"],
            ),
            ("Patient.`name`.`given`[2]", &["Jim"]),
            ("name.given // all of them\n /* and */ .first()", &["Peter"]),
            ("Patient.name.select($index)", &["0", "1", "2"]),
            (
                "Patient.name.given.where($this.startsWith('J')).distinct()",
                &["James", "Jim"],
            ),
            ("%resource.id = id and %context.id = id", T),
        ],
    );
    check(
        OBSERVATION,
        &[
            ("Observation.value", &["<Quantity>"]),
            ("Observation.value.unit", &["lbs"]),
            ("Observation.value.ofType(Quantity).value", &["185.0"]),
            ("Observation.value as Period", NONE),
            ("(Observation.value as Quantity).code", &["[lb_av]"]),
            ("Observation.component.value.ofType(string)", &["x"]),
            (
                "Observation | Observation.component",
                &[
                    "<Observation>",
                    "<Observation.component>",
                    "<Observation.component>",
                ],
            ),
            ("Observation.component.value.ofType(integer) = 7", T),
        ],
    );
}

#[test]
fn references_resolve_to_what_is_contained_or_to_a_type() {
    check(
        PATIENT,
        &[
            ("Patient.managingOrganization.resolve().name", &["Acme"]),
            ("Patient.managingOrganization.resolve() is Organization", T),
            (
                "Patient.generalPractitioner.where(resolve() is Practitioner).reference",
                &["Practitioner/1"],
            ),
            (
                "Patient.generalPractitioner.where(resolve() is PractitionerRole).count()",
                &["1"],
            ),
            (
                "Patient.generalPractitioner.where(resolve() is Resource).count()",
                &["2"],
            ),
            (
                "Patient.generalPractitioner.where(resolve() is Patient)",
                NONE,
            ),
        ],
    );
}

#[test]
fn existence_and_logic_have_three_values() {
    check(
        PATIENT,
        &[
            ("Patient.name.exists()", T),
            ("Patient.photo.exists()", F),
            ("Patient.photo.empty()", T),
            ("Patient.name.exists(use = 'maiden')", T),
            ("Patient.name.all(given.exists())", T),
            ("Patient.name.all(family.exists())", F),
            ("Patient.photo.all(false)", T),
            ("Patient.name.count()", &["3"]),
            ("Patient.name.given.distinct().count()", &["3"]),
            ("Patient.name.given.isDistinct()", F),
            ("Patient.active.not()", F),
            ("{}.not()", NONE),
            ("({} and false) = false", T),
            ("{} and true", NONE),
            ("true or {}", T),
            ("{} or false", NONE),
            ("true xor true", F),
            ("{} xor true", NONE),
            ("false implies {}", T),
            ("{} implies true", T),
            ("true implies {}", NONE),
            ("Patient.name.first() and true", T),
            ("(true | false).allTrue()", F),
            ("(true | false).anyTrue() and (true | false).anyFalse()", T),
            ("Patient.name.given.subsetOf('Peter' | 'James' | 'Jim')", T),
            ("('Peter' | 'Jim').supersetOf('Jim')", T),
            ("Patient.birthDate.hasValue()", T),
            ("Patient.name.hasValue()", F),
            ("Patient.birthDate.getValue() = @1974-12-25", T),
            ("Patient.deceased.exists() and Patient.deceased != false", F),
            ("iif(Patient.active, 'yes', 'no')", &["yes"]),
            ("iif({}, 'yes')", NONE),
            ("Patient.name.given.trace('names').count()", &["5"]),
            ("'Jim' in Patient.name.given", T),
            ("Patient.name.given contains 'Ann'", F),
            ("{} in Patient.name.given", NONE),
            ("(1 | 2 | 2 | 3).count()", &["3"]),
            ("(1).combine(1).count()", &["2"]),
            ("(1 | 2).union(2 | 3).count()", &["3"]),
            ("(1 | 2 | 3).intersect(2 | 4)", &["2"]),
            ("(1 | 2 | 3).exclude(2)", &["1", "3"]),
            ("Patient.contact.repeat(children()).count() > 5", T),
            ("Patient.contact.descendants().where($this = 'N')", &["N"]),
            (
                "Patient.maritalStatus.coding.code = 'P' or Patient.maritalStatus.coding.code = 'A'",
                NONE,
            ),
        ],
    );
}

#[test]
fn equality_and_order_know_precision_and_units() {
    check(
        OBSERVATION,
        &[
            ("1 = 1.0", T),
            ("1.10 = 1.1", T),
            ("'a' = 'A'", F),
            ("'a B' ~ 'A\\tb'", T),
            ("'a  B' ~ 'A b'", F),
            ("(1 | 2) = (2 | 1)", F),
            ("(1 | 2) ~ (2 | 1)", T),
            ("{} = 1", NONE),
            ("{} ~ {}", T),
            ("1 != 2", T),
            ("1 = 'a'", F),
            ("@2012 = @2013", F),
            ("@2012 = @2012-05", NONE),
            ("@2012 ~ @2012-05", F),
            ("@2012-04-15T15:00:00Z = @2012-04-15T17:00:00+02:00", T),
            ("@2012-04-15 < @2012-04-16", T),
            ("@2018-03 < @2018-03-01", NONE),
            ("@T10:30 < @T10:31", T),
            ("Observation.effective > @2015", NONE),
            ("Observation.effective > @2014", T),
            ("'abc' < 'abd'", T),
            ("2 > 1.5", T),
            ("Observation.value > 180.0 '[lb_av]'", T),
            ("Observation.value < 84 'kg'", T),
            ("Observation.value = 185 '[lb_av]'", T),
            ("4 days = 96 hours", T),
            ("1 year = 1 'a'", NONE),
            ("1 year ~ 1 'a'", T),
            ("10 'mg' > 1 'm'", NONE),
            ("5 'mg' ~ 5.0 'mg'", T),
            ("0.67 ~ 0.7", T),
            ("1 is Integer", T),
            ("1.0 is System.Decimal", T),
            ("'a'.is(String)", T),
            ("Observation.status is code", T),
            ("Observation.status is string", T),
            ("Observation.status is System.String", F),
            ("Observation.value is Quantity", T),
            ("Observation is DomainResource", T),
            ("Observation.code is FHIR.CodeableConcept", T),
            ("Observation.component.first() is BackboneElement", T),
        ],
    );
}

#[test]
fn texts_numbers_and_conversions_are_those_of_the_specification() {
    check(
        PATIENT,
        &[
            ("1 + 2 * 3", &["7"]),
            ("(1 + 2) * 3", &["9"]),
            ("7 div 2", &["3"]),
            ("7 mod 2", &["1"]),
            ("1 / 2", &["0.5"]),
            ("1 / 0", NONE),
            ("0.1 + 0.2 = 0.3", T),
            ("-3 + 1", &["-2"]),
            ("'a' + 'b'", &["ab"]),
            ("'a' + {}", NONE),
            ("'a' & {}", &["a"]),
            ("2.power(3)", &["8"]),
            ("9.sqrt()", &["3"]),
            ("(-5).abs()", &["5"]),
            ("1.5.ceiling()", &["2"]),
            ("(-1.5).floor()", &["-2"]),
            ("3.14159.round(3)", &["3.142"]),
            ("1.9.truncate()", &["1"]),
            ("16.log(2)", &["4"]),
            ("1.exp().ln() > 0.99", T),
            ("'abcdefg'.indexOf('cd')", &["2"]),
            ("'abc'.indexOf('x')", &["-1"]),
            ("'abcdefg'.substring(3)", &["defg"]),
            ("'abcdefg'.substring(1, 2)", &["bc"]),
            ("'abc'.substring(9)", NONE),
            ("'äbc'.indexOf('c')", &["2"]),
            (
                "'abc'.startsWith('ab') and 'abc'.endsWith('bc') and 'abc'.contains('b')",
                T,
            ),
            ("'aBc'.upper()", &["ABC"]),
            ("'aBc'.lower()", &["abc"]),
            ("'abc'.replace('b', '\\'')", &["a'c"]),
            ("'abc'.length()", &["3"]),
            ("'a,b'.split(',')", &["a", "b"]),
            ("('a' | 'b').join('-')", &["a-b"]),
            ("' a '.trim()", &["a"]),
            ("'ab'.toChars()", &["a", "b"]),
            ("'A1_'.matches('^[A-Z]([A-Za-z0-9_]){0,254}$')", T),
            ("'a1'.matchesFull('a')", F),
            (
                "'11/30/72'.replaceMatches('(\\\\d+)/(\\\\d+)/(\\\\d+)', '$2-$1-$3')",
                &["30-11-72"],
            ),
            ("'\\u0041\\n'.trim()", &["A"]),
            ("'1'.toInteger() + 1", &["2"]),
            ("'1.5'.toDecimal()", &["1.5"]),
            ("'x'.toInteger()", NONE),
            ("'true'.toBoolean()", T),
            ("1.toString()", &["1"]),
            ("@2015-01-01.toString()", &["2015-01-01"]),
            ("'2015-01'.convertsToDate()", T),
            ("'2015-13'.convertsToDate()", F),
            ("'10:00'.toTime()", &["10:00"]),
            ("'4 days'.toQuantity() = 4 days", T),
            ("'5 \\'mg\\''.toQuantity()", &["5 'mg'"]),
            ("'wat'.convertsToQuantity()", F),
            ("Patient.birthDate + 1 month", &["1975-01-25"]),
            ("@2016-02-29 + 1 year", &["2017-02-28"]),
            ("today()", &["1970-01-01"]),
            ("Patient.birthDate < today()", F),
            ("now().toString().startsWith('1970-01-01T00:00')", T),
            ("2 'mg' + 3 'mg'", &["5 'mg'"]),
        ],
    );
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (text, place) in [
        ("", 1),
        ("Patient.", 9),
        ("Patient.name(", 9),
        ("a.nofunction()", 3),
        ("1 +", 4),
        ("'abc", 1),
        ("a b", 3),
        ("(a", 3),
        ("%unknown", 1),
        ("$total", 1),
        ("@x", 1),
        ("a = = b", 5),
        ("where()", 7),
        ("a[", 3),
        ("é", 1),
    ] {
        match Path::parse(text) {
            Err(PathError::Syntax { at, .. }) => assert_eq!(at, place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn several_values_where_one_is_expected_are_an_error() {
    for text in [
        "name.given + 'a'",
        "name and true",
        "name.given is string",
        "name.single()",
        "1 + 'a'",
        "name.given.length()",
        "'a'.matches('(')",
        "1 < 'a'",
        "'a'.abs()",
    ] {
        let found = values(PATIENT, text);
        assert!(
            matches!(found, Err(PathError::Operand { .. })),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn what_would_cost_too_much_is_refused() {
    let deep = format!("{}1{}", "(".repeat(60), ")".repeat(60));
    assert!(matches!(Path::parse(&deep), Err(PathError::Limit(_))));
    let long = format!("1{}", "+1".repeat(60));
    assert!(matches!(Path::parse(&long), Err(PathError::Limit(_))));
    let minus = format!("{}1", "-".repeat(60));
    assert!(matches!(Path::parse(&minus), Err(PathError::Limit(_))));
    assert!(matches!(
        Path::parse(&"a".repeat(9_000)),
        Err(PathError::Limit(_))
    ));
    assert!(Path::parse(&vec!["a"; 500].join(" | ")).is_ok());
    let many = vec!["name.given"; 60]
        .join(".combine(%resource.name.given)")
        .replace(
            "%resource.name.given)name",
            "%resource.descendants()).combine(%resource.name",
        );
    let _refused = Path::parse(&many).map(|path| {
        let json = Json::parse(PATIENT).expect("JSON");
        path.evaluate(&json, Surroundings::default())
            .map(|items| items.len())
    });
    let doubled = "descendants().descendants().select(%resource.descendants()).select(%resource.descendants())";
    assert!(matches!(values(PATIENT, doubled), Err(PathError::Limit(_))));
    let text = "'aaaaaaaaaaaaaaaa'".to_owned() + &".replace('a', 'aaaaaaaaaaaaaaaa')".repeat(8);
    assert!(matches!(values(PATIENT, &text), Err(PathError::Limit(_))));
}
