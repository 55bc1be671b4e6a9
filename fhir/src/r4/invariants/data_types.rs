//! The rules of data types that measure, and of those by which definitions say what they need.
use super::{
    Json, Object, Rule, any, has, number, only, rule,
    shapes::{QTY_3, UCUM},
};

/// The rules, by the shape they are of.
pub const DATA_TYPES: &[(&str, &[Rule])] = &[
    (
        "Age",
        &[
            QTY_3,
            rule(
                "age-1",
                "",
                |one| is_measured(one) && number(one, "value").is_none_or(|number| number > 0.0),
                "an age has a code of UCUM and is above 0",
            ),
        ],
    ),
    (
        "Count",
        &[
            QTY_3,
            rule(
                "cnt-3",
                "",
                |one| {
                    is_measured(one)
                        && one.text("code").is_none_or(|code| code == "1")
                        && !matches!(one.get("value"), Some(Json::Number(text)) if text.contains('.'))
                },
                "a count is a whole number of the unit 1 of UCUM",
            ),
        ],
    ),
    (
        "Distance",
        &[
            QTY_3,
            rule("dis-1", "", is_measured, "a distance has a code of UCUM"),
        ],
    ),
    (
        "Duration",
        &[
            QTY_3,
            rule(
                "drt-1",
                "",
                |one| !has(one, "code") || one.text("system") == UCUM && has(one, "value"),
                "a duration with a code has a value, and its code is of UCUM",
            ),
        ],
    ),
    (
        "Expression",
        &[rule(
            "exp-1",
            "",
            |one| any(one, &["expression", "reference"]),
            "an expression is given or referred to",
        )],
    ),
    ("DataRequirement.codeFilter", &[path_or_param("drq-1")]),
    ("DataRequirement.dateFilter", &[path_or_param("drq-2")]),
    (
        "TriggerDefinition",
        &[
            rule(
                "trd-1",
                "",
                |one| !(has(one, "data") && has(one, "timing[x]")),
                "a trigger has a time or data, not both",
            ),
            rule(
                "trd-2",
                "condition",
                |one| !has(one, "condition") || has(one, "data"),
                "a condition is on data",
            ),
            rule(
                "trd-3",
                "",
                has_what_triggers,
                "a named event has a name, a periodic one a time, and one of data has data",
            ),
        ],
    ),
];

const fn path_or_param(key: &'static str) -> Rule {
    rule(
        key,
        "",
        |one| only(one, &["path", "searchParam"]),
        "a filter is by a path or by a search parameter, not both",
    )
}

/// Whether what has a value has a code too, and no other system than UCUM (FHIR R4 age-1, cnt-3, dis-1).
fn is_measured(quantity: &Object<'_>) -> bool {
    let is_coded = has(quantity, "code") || !has(quantity, "value");
    is_coded && (!has(quantity, "system") || quantity.text("system") == UCUM)
}

/// FHIR R4 trd-3.
fn has_what_triggers(trigger: &Object<'_>) -> bool {
    match trigger.text("type") {
        Some("named-event") => has(trigger, "name"),
        Some("periodic") => has(trigger, "timing[x]"),
        Some(kind) if kind.starts_with("data-") => has(trigger, "data"),
        _ => true,
    }
}

/// FHIR R4 sqty-1, in words.
pub const NO_COMPARATOR: &str = "a quantity here has no comparator";

/// Members that are a SimpleQuantity, by the shape that they stand in.
const SIMPLE: &[(&str, &[&str])] = &[
    ("ActivityDefinition", &["quantity"]),
    ("CarePlan.activity.detail", &["dailyAmount", "quantity"]),
    ("Claim.item", &["quantity"]),
    ("Claim.item.detail", &["quantity"]),
    ("Claim.item.detail.subDetail", &["quantity"]),
    ("ClaimResponse.addItem", &["quantity"]),
    ("ClaimResponse.addItem.detail", &["quantity"]),
    ("ClaimResponse.addItem.detail.subDetail", &["quantity"]),
    ("Contract.term.asset.valuedItem", &["quantity"]),
    ("Coverage.costToBeneficiary", &["valueQuantity"]),
    ("CoverageEligibilityRequest.item", &["quantity"]),
    (
        "Dosage",
        &["maxDosePerAdministration", "maxDosePerLifetime"],
    ),
    ("Dosage.doseAndRate", &["doseQuantity", "rateQuantity"]),
    ("ExplanationOfBenefit.addItem", &["quantity"]),
    ("ExplanationOfBenefit.addItem.detail", &["quantity"]),
    (
        "ExplanationOfBenefit.addItem.detail.subDetail",
        &["quantity"],
    ),
    ("ExplanationOfBenefit.item", &["quantity"]),
    ("ExplanationOfBenefit.item.detail", &["quantity"]),
    ("ExplanationOfBenefit.item.detail.subDetail", &["quantity"]),
    ("Immunization", &["doseQuantity"]),
    ("MedicationAdministration.dosage", &["dose", "rateQuantity"]),
    ("MedicationDispense", &["quantity", "daysSupply"]),
    ("MedicationKnowledge", &["amount"]),
    (
        "MedicationKnowledge.administrationGuidelines.patientCharacteristics",
        &["characteristicQuantity"],
    ),
    ("MedicationKnowledge.drugCharacteristic", &["valueQuantity"]),
    (
        "MedicationKnowledge.kinetics",
        &["areaUnderCurve", "lethalDose50"],
    ),
    ("MedicationKnowledge.packaging", &["quantity"]),
    ("MedicationKnowledge.regulatory.maxDispense", &["quantity"]),
    ("MedicationRequest.dispenseRequest", &["quantity"]),
    (
        "MedicationRequest.dispenseRequest.initialFill",
        &["quantity"],
    ),
    (
        "NutritionOrder.enteralFormula",
        &["caloricDensity", "maxVolumeToDeliver"],
    ),
    (
        "NutritionOrder.enteralFormula.administration",
        &["quantity", "rateQuantity"],
    ),
    ("NutritionOrder.oralDiet.nutrient", &["amount"]),
    ("NutritionOrder.supplement", &["quantity"]),
    ("Observation.referenceRange", &["low", "high"]),
    ("Range", &["low", "high"]),
    ("SampledData", &["origin"]),
    ("Specimen.collection", &["quantity"]),
    ("Specimen.container", &["capacity", "specimenQuantity"]),
    (
        "SpecimenDefinition.typeTested.container",
        &["capacity", "minimumVolumeQuantity"],
    ),
    ("Substance.instance", &["quantity"]),
    ("SupplyDelivery.suppliedItem", &["quantity"]),
    ("VisionPrescription.lensSpecification", &["duration"]),
];

/// The members of a shape that are a SimpleQuantity.
pub fn simple(shape: &str) -> &'static [&'static str] {
    let found = SIMPLE.iter().find(|(known, _)| *known == shape);
    found.map_or(&[], |(_, members)| *members)
}
