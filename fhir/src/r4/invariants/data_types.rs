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
