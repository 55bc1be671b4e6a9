//! Each rule is told of what breaks it, at its element, and not of what keeps it.
use crate::r4::{Fault, validate};

/// The keys and places of the rules that a resource breaks.
fn broken(kind: &str, members: &str) -> Vec<(String, String)> {
    let text = format!(r#"{{"resourceType":"{kind}",{members}}}"#);
    let issues = validate(&text).err().unwrap_or_default();
    let told = issues.into_iter().map(|issue| {
        assert_eq!(issue.fault, Fault::Invariant, "{text}: {issue:?}");
        let key = issue.problem.split(':').next().unwrap_or_default();
        (key.to_owned(), issue.expression)
    });
    told.collect()
}

/// Of each case the type, what breaks the rule, what keeps it, the key of the rule, and the place.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

fn check(common: &str, cases: &[Case]) {
    for (kind, breaks, keeps, key, place) in cases {
        let told = broken(kind, &format!("{common}{breaks}"));
        assert_eq!(told, [((*key).to_owned(), (*place).to_owned())], "{breaks}");
        let told = broken(kind, &format!("{common}{keeps}"));
        assert!(told.is_empty(), "{keeps}: {told:?}");
    }
}

const CONDITION: &str = r#""subject":{"display":"x"},"#;

#[test]
fn stages_evidence_and_ages_of_a_condition() {
    check(
        CONDITION,
        &[
            (
                "Condition",
                r#""stage":[{"type":{"text":"t"}}]"#,
                r#""stage":[{"summary":{"text":"t"}}]"#,
                "con-1",
                "Condition.stage[0]",
            ),
            (
                "Condition",
                r#""evidence":[{"extension":[{"url":"u","valueCode":"c"}]}]"#,
                r#""evidence":[{"detail":[{"display":"d"}]}]"#,
                "con-2",
                "Condition.evidence[0]",
            ),
            (
                "Condition",
                r#""onsetAge":{"value":0,"system":"http://unitsofmeasure.org","code":"a"}"#,
                r#""onsetAge":{"value":1,"system":"http://unitsofmeasure.org","code":"a"}"#,
                "age-1",
                "Condition.onset",
            ),
            (
                "Condition",
                r#""onsetAge":{"value":1,"system":"urn:x","code":"a"}"#,
                r#""onsetAge":{"value":1,"code":"a","system":"http://unitsofmeasure.org"}"#,
                "age-1",
                "Condition.onset",
            ),
            (
                "Condition",
                r#""onsetAge":{"value":1,"unit":"years"}"#,
                r#""onsetAge":{"unit":"years"}"#,
                "age-1",
                "Condition.onset",
            ),
        ],
    );
}

#[test]
fn doses_and_what_is_dispensed() {
    check(
        r#""status":"completed","medicationReference":{"display":"m"},"subject":{"display":"x"},"#,
        &[
            (
                "MedicationAdministration",
                r#""effectiveDateTime":"2024","dosage":{"text":"t"}"#,
                r#""effectiveDateTime":"2024","dosage":{"dose":{"value":1}}"#,
                "mad-1",
                "MedicationAdministration.dosage",
            ),
            (
                "MedicationDispense",
                r#""whenPrepared":"2024-02-02","whenHandedOver":"2024-02-01""#,
                r#""whenPrepared":"2024-02-02","whenHandedOver":"2024-02-02""#,
                "mdd-1",
                "MedicationDispense.whenHandedOver",
            ),
        ],
    );
}

#[test]
fn details_of_orders_members_of_groups_and_probabilities() {
    check(
        r#""status":"active","intent":"order","subject":{"display":"x"},"#,
        &[(
            "ServiceRequest",
            r#""orderDetail":[{"text":"t"}]"#,
            r#""orderDetail":[{"text":"t"}],"code":{"text":"c"}"#,
            "prr-1",
            "ServiceRequest.orderDetail",
        )],
    );
    check(
        r#""type":"person","member":[{"entity":{"display":"x"}}],"#,
        &[(
            "Group",
            r#""actual":false"#,
            r#""actual":true"#,
            "grp-1",
            "Group.member",
        )],
    );
    check(
        r#""status":"final","subject":{"display":"x"},"#,
        &[
            (
                "RiskAssessment",
                r#""prediction":[{"probabilityDecimal":100.5}]"#,
                r#""prediction":[{"probabilityDecimal":100}]"#,
                "ras-2",
                "RiskAssessment.prediction[0].probability",
            ),
            (
                "RiskAssessment",
                r#""prediction":[{"probabilityRange":{"low":{"value":1}}}]"#,
                r#""prediction":[{"probabilityRange":{"low":{"value":1,
                    "system":"http://unitsofmeasure.org","code":"%"}}}]"#,
                "ras-1",
                "RiskAssessment.prediction[0].probability",
            ),
        ],
    );
}

#[test]
fn telecoms_of_organizations_and_ages_of_relatives() {
    check(
        r#""name":"n","#,
        &[
            (
                "Organization",
                r#""telecom":[{"system":"phone","value":"1","use":"home"}]"#,
                r#""telecom":[{"system":"phone","value":"1","use":"work"}]"#,
                "org-3",
                "Organization.telecom",
            ),
            (
                "Organization",
                r#""address":[{"city":"c","use":"home"}]"#,
                r#""address":[{"city":"c"}]"#,
                "org-2",
                "Organization.address",
            ),
        ],
    );
    check(
        r#""status":"completed","patient":{"display":"p"},"relationship":{"text":"r"},"#,
        &[(
            "FamilyMemberHistory",
            r#""estimatedAge":true"#,
            r#""estimatedAge":true,"ageString":"old""#,
            "fhs-2",
            "FamilyMemberHistory.estimatedAge",
        )],
    );
}

#[test]
fn appointments_and_linkages() {
    check(
        "",
        &[
            (
                "Appointment",
                r#""status":"proposed","participant":[{"status":"accepted"}]"#,
                r#""status":"proposed","participant":[{"status":"accepted","actor":{"display":"a"}}]"#,
                "app-1",
                "Appointment.participant[0]",
            ),
            (
                "Appointment",
                r#""status":"booked","participant":[{"status":"accepted","actor":{"display":"a"}}]"#,
                r#""status":"waitlist","participant":[{"status":"accepted","actor":{"display":"a"}}]"#,
                "app-3",
                "Appointment",
            ),
            (
                "Linkage",
                r#""item":[{"type":"source","resource":{"display":"a"}}]"#,
                r#""item":[{"type":"source","resource":{"display":"a"}},
                    {"type":"alternate","resource":{"display":"b"}}]"#,
                "lnk-1",
                "Linkage.item",
            ),
        ],
    );
}

/// Of an item what breaks a rule, what keeps it, the key of the rule, and the place behind the type.
const ITEMS: &[(&str, &str, &str, &str)] = &[
    (
        r#""type":"group""#,
        r#""type":"group","item":[{"linkId":"2","type":"text"}]"#,
        "que-1",
        ".item[0].item",
    ),
    (
        r#""type":"display","code":[{"code":"c"}]"#,
        r#""type":"text","code":[{"code":"c"}]"#,
        "que-3",
        ".item[0].code",
    ),
    (
        r#""type":"text","answerValueSet":"urn:x""#,
        r#""type":"choice","answerValueSet":"urn:x""#,
        "que-5",
        ".item[0]",
    ),
    (
        r#""type":"display","required":true"#,
        r#""type":"text","required":true"#,
        "que-6",
        ".item[0]",
    ),
    (
        r#""type":"display","initial":[{"valueCoding":{"code":"c"}}]"#,
        r#""type":"choice","initial":[{"valueCoding":{"code":"c"}}]"#,
        "que-8",
        ".item[0].initial",
    ),
    (
        r#""type":"display","readOnly":true"#,
        r#""type":"text","readOnly":true"#,
        "que-9",
        ".item[0].readOnly",
    ),
    (
        r#""type":"date","maxLength":3"#,
        r#""type":"text","maxLength":3"#,
        "que-10",
        ".item[0].maxLength",
    ),
    (
        r#""type":"choice","answerValueSet":"urn:x","answerOption":[{"valueString":"s"}]"#,
        r#""type":"choice","answerOption":[{"valueString":"s"}]"#,
        "que-4",
        ".item[0]",
    ),
    (
        r#""type":"choice","initial":[{"valueString":"s"}],"answerOption":[{"valueString":"s"}]"#,
        r#""type":"choice","initial":[{"valueString":"s"}]"#,
        "que-11",
        ".item[0]",
    ),
    (
        r#""type":"text","initial":[{"valueString":"s"},{"valueString":"t"}]"#,
        r#""type":"text","repeats":true,"initial":[{"valueString":"s"},{"valueString":"t"}]"#,
        "que-13",
        ".item[0].initial",
    ),
    (
        r#""type":"text","enableWhen":[{"question":"q","operator":"exists","answerString":"s"}]"#,
        r#""type":"text","enableWhen":[{"question":"q","operator":"exists","answerBoolean":true}]"#,
        "que-7",
        ".item[0].enableWhen[0].answer",
    ),
    (
        r#""type":"group","item":[{"linkId":"1","type":"text"}]"#,
        r#""type":"group","item":[{"linkId":"3","type":"text"}]"#,
        "que-2",
        "",
    ),
];

#[test]
fn items_of_questionnaires_and_of_their_answers() {
    let item = |rest: &str| format!(r#""status":"draft","item":[{{"linkId":"1",{rest}}}]"#);
    for (breaks, keeps, key, place) in ITEMS {
        let told = broken("Questionnaire", &item(breaks));
        assert_eq!(
            told,
            [((*key).to_owned(), format!("Questionnaire{place}"))],
            "{breaks}"
        );
        let told = broken("Questionnaire", &item(keeps));
        assert!(told.is_empty(), "{keeps}: {told:?}");
    }
    check(
        r#""status":"completed","item":[{"linkId":"1","answer":[{"valueBoolean":true}]"#,
        &[(
            "QuestionnaireResponse",
            r#","item":[{"linkId":"2"}]}]"#,
            "}]",
            "qrs-1",
            "QuestionnaireResponse.item[0]",
        )],
    );
}

#[test]
fn a_full_url_is_that_of_its_resource() {
    check(
        r#""type":"collection","#,
        &[
            (
                "Bundle",
                r#""entry":[{"fullUrl":"https://a.example/Patient/1","resource":
                    {"resourceType":"Patient","id":"2"}}]"#,
                r#""entry":[{"fullUrl":"https://a.example/Patient/2","resource":
                    {"resourceType":"Patient","id":"2"}}]"#,
                "fullUrl",
                "Bundle.entry[0].fullUrl",
            ),
            (
                "Bundle",
                r#""entry":[{"fullUrl":"https://a.example/Patient/2/_history/1","resource":
                    {"resourceType":"Patient"}}]"#,
                r#""entry":[{"fullUrl":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520","resource":
                    {"resourceType":"Patient","id":"2"}}]"#,
                "bdl-8",
                "Bundle.entry[0].fullUrl",
            ),
        ],
    );
}

#[test]
fn times_durations_and_value_sets() {
    let repeat = |rest: &str| {
        format!(
            r#""status":"final","code":{{"text":"c"}},"effectiveTiming":{{"repeat":{{{rest}}}}}"#
        )
    };
    for (breaks, keeps, key, place) in [
        (
            r#""offset":30"#,
            r#""offset":30,"when":["ACM"]"#,
            "tim-9",
            ".offset",
        ),
        (
            r#""offset":30,"when":["CM"]"#,
            r#""when":["CM"]"#,
            "tim-9",
            ".offset",
        ),
        (
            r#""boundsDuration":{"code":"d","system":"http://unitsofmeasure.org"}"#,
            r#""boundsDuration":{"value":1,"code":"d","system":"http://unitsofmeasure.org"}"#,
            "drt-1",
            ".bounds",
        ),
    ] {
        let told = broken("Observation", &repeat(breaks));
        let place = format!("Observation.effective.repeat{place}");
        assert_eq!(told, [(key.to_owned(), place)], "{breaks}");
        let told = broken("Observation", &repeat(keeps));
        assert!(told.is_empty(), "{keeps}: {told:?}");
    }
    check(
        r#""status":"draft","#,
        &[
            (
                "ValueSet",
                r#""compose":{"include":[{"version":"1"}]}"#,
                r#""compose":{"include":[{"system":"urn:x"}]}"#,
                "vsd-1",
                "ValueSet.compose.include[0]",
            ),
            (
                "ValueSet",
                r#""expansion":{"timestamp":"2024","contains":[{"code":"c"}]}"#,
                r#""expansion":{"timestamp":"2024","contains":[{"code":"c","system":"urn:x"}]}"#,
                "vsd-10",
                "ValueSet.expansion.contains[0].system",
            ),
        ],
    );
}
