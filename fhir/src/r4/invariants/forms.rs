//! The rules of questionnaires, of what they are answered with, and of value sets.
use super::{Json, Object, Rule, any, has, rule};
use std::collections::HashSet;

/// The rules, by the shape they are of.
pub const FORMS: &[(&str, &[Rule])] = &[
    (
        "Questionnaire",
        &[rule(
            "que-2",
            "",
            |one| {
                let mut known = HashSet::new();
                links_differ(one, &mut known)
            },
            "each linkId stands once",
        )],
    ),
    ("Questionnaire.item", ITEM),
    (
        "Questionnaire.item.enableWhen",
        &[rule(
            "que-7",
            "answer",
            |one| one.text("operator") != Some("exists") || has(one, "answerBoolean"),
            "whether there is an answer is true or false",
        )],
    ),
    (
        "QuestionnaireResponse.item",
        &[rule(
            "qrs-1",
            "",
            |one| !(has(one, "answer") && has(one, "item")),
            "what is nested is below an item or below its answer, not both",
        )],
    ),
    (
        "ValueSet.compose.include",
        &[
            rule(
                "vsd-1",
                "",
                |one| any(one, &["valueSet", "system"]),
                "codes are of a value set or of a system",
            ),
            rule(
                "vsd-2",
                "system",
                |one| !any(one, &["concept", "filter"]) || has(one, "system"),
                "concepts and filters have a system",
            ),
            rule(
                "vsd-3",
                "",
                |one| !(has(one, "concept") && has(one, "filter")),
                "codes are listed or filtered, not both",
            ),
        ],
    ),
    (
        "ValueSet.expansion.contains",
        &[
            rule(
                "vsd-6",
                "",
                |one| any(one, &["code", "display"]),
                "what a value set contains has a code or a display",
            ),
            rule(
                "vsd-9",
                "",
                |one| has(one, "code") || one.get("abstract") == Some(&Json::Bool(true)),
                "what has no code is abstract",
            ),
            rule(
                "vsd-10",
                "system",
                |one| !has(one, "code") || has(one, "system"),
                "a code has a system",
            ),
        ],
    ),
];

/// Types of items whose answers may be chosen.
const CHOSEN: &[&str] = &[
    "choice",
    "open-choice",
    "decimal",
    "integer",
    "date",
    "dateTime",
    "time",
    "string",
    "quantity",
];

/// Types of items whose answers have a length.
const WRITTEN: &[&str] = &[
    "boolean",
    "decimal",
    "integer",
    "string",
    "text",
    "url",
    "open-choice",
];

const ITEM: &[Rule] = &[
    rule(
        "que-1",
        "item",
        |one| match one.text("type") {
            Some("group") => has(one, "item"),
            Some("display") => !has(one, "item"),
            _ => true,
        },
        "a group has items, and a display has none",
    ),
    rule(
        "que-3",
        "code",
        |one| !(is(one, &["display"]) && has(one, "code")),
        "a display has no code",
    ),
    rule(
        "que-4",
        "",
        |one| !(has(one, "answerOption") && has(one, "answerValueSet")),
        "answers are listed or are a value set, not both",
    ),
    rule(
        "que-5",
        "",
        |one| is(one, CHOSEN) || !(has(one, "answerOption") || has(one, "answerValueSet")),
        "answers to choose from are of a question with such answers",
    ),
    rule(
        "que-6",
        "",
        |one| !(is(one, &["display"]) && (has(one, "required") || has(one, "repeats"))),
        "a display is neither required nor repeated",
    ),
    rule(
        "que-8",
        "initial",
        |one| !(is(one, &["group", "display"]) && has(one, "initial")),
        "a group and a display have no initial values",
    ),
    rule(
        "que-9",
        "readOnly",
        |one| !(is(one, &["display"]) && has(one, "readOnly")),
        "a display is not said to be read only",
    ),
    rule(
        "que-10",
        "maxLength",
        |one| is(one, WRITTEN) || !has(one, "maxLength"),
        "a length is of an answer that is written",
    ),
    rule(
        "que-11",
        "",
        |one| !(has(one, "answerOption") && has(one, "initial")),
        "answers are listed or there are initial values, not both",
    ),
    rule(
        "que-12",
        "enableBehavior",
        |one| one.each("enableWhen").len() <= 2 || has(one, "enableBehavior"),
        "of several conditions it is said how many have to hold",
    ),
    rule(
        "que-13",
        "initial",
        |one| one.get("repeats") == Some(&Json::Bool(true)) || one.each("initial").len() <= 1,
        "what is not repeated has one initial value",
    ),
];

/// Whether the type of an item is one of those.
fn is(item: &Object<'_>, types: &[&str]) -> bool {
    item.text("type").is_some_and(|kind| types.contains(&kind))
}

/// Whether the links of items, and of those below them, are new to `known`.
fn links_differ<'a>(object: &'a Object<'a>, known: &mut HashSet<&'a str>) -> bool {
    let mut items = object.each("item").filter_map(Json::object);
    items.all(|item| {
        let is_new = item.text("linkId").is_none_or(|link| known.insert(link));
        is_new && links_differ(item, known)
    })
}
