//! The rules of clinical and administrative resources, of the elements that have one or two.
use super::{
    Json, Object, Rule, any, has, needs, number, only, others::is_in_order, rule, shapes::UCUM,
};

/// The rules, by the shape they are of.
pub const CLINICAL: &[(&str, &[Rule])] = &[
    (
        "Condition.stage",
        &[rule(
            "con-1",
            "",
            |one| any(one, &["summary", "assessment"]),
            "a stage has a summary or an assessment",
        )],
    ),
    (
        "Condition.evidence",
        &[rule(
            "con-2",
            "",
            |one| any(one, &["code", "detail"]),
            "evidence has a code or a detail",
        )],
    ),
    (
        "Group",
        &[rule(
            "grp-1",
            "member",
            |one| !has(one, "member") || one.get("actual") == Some(&Json::Bool(true)),
            "an actual group alone has members",
        )],
    ),
    (
        "ServiceRequest",
        &[rule(
            "prr-1",
            "orderDetail",
            |one| needs(one, "orderDetail", "code"),
            "orderDetail has a code",
        )],
    ),
    (
        "MedicationAdministration.dosage",
        &[rule(
            "mad-1",
            "",
            |one| any(one, &["dose", "rate[x]"]),
            "a dosage has a dose or a rate",
        )],
    ),
    (
        "MedicationDispense",
        &[rule(
            "mdd-1",
            "whenHandedOver",
            |one| {
                let moment = |name| one.text(name).unwrap_or_default();
                is_in_order(moment("whenPrepared"), moment("whenHandedOver"))
            },
            "what is dispensed is not handed over before it is prepared",
        )],
    ),
    (
        "RiskAssessment.prediction",
        &[
            rule(
                "ras-1",
                "probability",
                is_of_percentages,
                "the low and the high of a probability are percentages of UCUM",
            ),
            rule(
                "ras-2",
                "probability",
                |one| number(one, "probabilityDecimal").is_none_or(|number| number <= 100.0),
                "a probability is 100 at most",
            ),
        ],
    ),
    (
        "ImmunizationRecommendation.recommendation",
        &[rule(
            "imr-1",
            "",
            |one| any(one, &["vaccineCode", "targetDisease"]),
            "a recommendation has a vaccine or a disease",
        )],
    ),
    (
        "Appointment",
        &[
            rule(
                "app-2",
                "",
                |one| has(one, "start") == has(one, "end"),
                "an appointment has a start and an end, or neither",
            ),
            rule(
                "app-3",
                "",
                |one| {
                    let open = ["proposed", "cancelled", "waitlist"];
                    has(one, "start") && has(one, "end") || is(one, "status", &open)
                },
                "an appointment without times is proposed, cancelled or on a waiting list",
            ),
            rule(
                "app-4",
                "cancelationReason",
                |one| !has(one, "cancelationReason") || is(one, "status", &["noshow", "cancelled"]),
                "a reason for cancelling is of what was cancelled",
            ),
        ],
    ),
    (
        "Appointment.participant",
        &[rule(
            "app-1",
            "",
            |one| any(one, &["type", "actor"]),
            "a participant has a type or an actor",
        )],
    ),
    (
        "AppointmentResponse",
        &[rule(
            "apr-1",
            "",
            |one| any(one, &["participantType", "actor"]),
            "a response has a participantType or an actor",
        )],
    ),
    (
        "InsurancePlan",
        &[rule(
            "ipn-1",
            "",
            |one| any(one, &["identifier", "name"]),
            "a plan has an identifier or a name",
        )],
    ),
    (
        "Linkage",
        &[rule(
            "lnk-1",
            "item",
            |one| one.each("item").len() > 1,
            "a linkage has two items or more",
        )],
    ),
    (
        "RequestGroup.action",
        &[rule(
            "rqg-1",
            "",
            |one| only(one, &["resource", "action"]),
            "an action has a resource or actions, not both",
        )],
    ),
    (
        "CoverageEligibilityResponse.insurance.item",
        &[rule(
            "ces-1",
            "",
            |one| only(one, &["category", "productOrService"]),
            "an item has a category or a product or service, not both",
        )],
    ),
    (
        "MeasureReport",
        &[rule(
            "mrp-1",
            "group",
            |one| !(is(one, "type", &["data-collection"]) && has(one, "group")),
            "a report that collects data has no groups",
        )],
    ),
    (
        "MeasureReport.group.stratifier.stratum",
        &[rule(
            "mrp-2",
            "",
            |one| only(one, &["value", "component"]),
            "a stratum has a value or components, not both",
        )],
    ),
    (
        "MolecularSequence",
        &[rule(
            "msq-3",
            "coordinateSystem",
            |one| {
                matches!(
                    one.get("coordinateSystem"),
                    None | Some(Json::Number("0" | "1"))
                )
            },
            "a coordinate system is 0 or 1",
        )],
    ),
    (
        "MolecularSequence.referenceSeq",
        &[
            rule(
                "msq-5",
                "",
                |one| has(one, "chromosome") == has(one, "genomeBuild"),
                "a chromosome and the build of its genome stand together",
            ),
            rule(
                "msq-6",
                "",
                |one| {
                    let given = [
                        "genomeBuild",
                        "referenceSeqId",
                        "referenceSeqPointer",
                        "referenceSeqString",
                    ];
                    only(one, &given)
                },
                "a reference sequence is given in one way",
            ),
        ],
    ),
];

/// Whether an element has one of those codes.
fn is(object: &Object<'_>, element: &str, codes: &[&str]) -> bool {
    object
        .text(element)
        .is_some_and(|code| codes.contains(&code))
}

/// FHIR R4 ras-1.
fn is_of_percentages(prediction: &Object<'_>) -> bool {
    let Some(range) = prediction.get("probabilityRange").and_then(Json::object) else {
        return true;
    };
    ["low", "high"].iter().all(|bound| {
        let bound = range.get(bound).and_then(Json::object);
        bound.is_none_or(|bound| bound.text("code") == Some("%") && bound.text("system") == UCUM)
    })
}
