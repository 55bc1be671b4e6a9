//! What may be stored: a table of shapes per resource type, and an interpreter that refuses everything else.
//!
//! An element that no shape names is refused, so no free text can come in. Every object level is read from its raw text: a
//! key that stands twice is seen, and a decimal is judged by its characters. It knows what the mesh stores (R4 4.0.1).
mod members;

use crate::map::{
    ABSENT_SYSTEM, CATEGORIES, DEVICE_KIND_SYSTEM, FLAG_SYSTEM, FLAGS, Gender, PROFILES,
    PSEUDONYMISED, READING_SYSTEM, SECURITY_SYSTEM, VITAL_SIGNS, WITHDRAWN,
};
use crate::store::{FhirId, ResourceType};
pub(crate) use members::Members;
use serde_json::value::RawValue;
use types::{AbsentReason, CareUnit, Code, Decimal, DeviceKind, Timestamp, Unit};

/// Characters of JSON in one resource: about twenty times what the mapping emits.
pub const MAX_RESOURCE_BYTES: usize = 16 * 1024;
/// Elements in one list.
pub const MAX_LIST: usize = 16;
/// Issues reported for one resource; a resource with more is refused just the same.
pub const MAX_ISSUES: usize = 16;

/// What is wrong with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Not JSON, or not an object.
    NotJson,
    /// More than [`MAX_RESOURCE_BYTES`], or a list of more than [`MAX_LIST`].
    TooLong,
    /// `resourceType` is none that is stored.
    UnknownType,
    /// An element that is not stored.
    UnknownElement,
    /// An element that stands twice.
    Duplicate,
    /// A required element is missing.
    Missing,
    /// An empty list.
    Empty,
    /// Another JSON type than the element's.
    WrongType,
    /// Not a FHIR `id`, or an identifier that is not the id.
    InvalidId,
    /// Not a time with a zone, or more of a birth date than the year.
    InvalidDate,
    /// Not `Type/id` of a type that may stand here.
    InvalidReference,
    /// A code that is not in its table.
    UnknownCode,
    /// A unit that is not in its table.
    UnknownUnit,
    /// A number outside the grammar of `types::Decimal`.
    InvalidDecimal,
    /// Both a value and a reason for its absence, or neither (FHIR R4 obs-6).
    ValueOrReason,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 15] = [
        Self::NotJson,
        Self::TooLong,
        Self::UnknownType,
        Self::UnknownElement,
        Self::Duplicate,
        Self::Missing,
        Self::Empty,
        Self::WrongType,
        Self::InvalidId,
        Self::InvalidDate,
        Self::InvalidReference,
        Self::UnknownCode,
        Self::UnknownUnit,
        Self::InvalidDecimal,
        Self::ValueOrReason,
    ];

    /// The fault's name in metrics and quarantine.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::TooLong => "too-long",
            Self::UnknownType => "unknown-type",
            Self::UnknownElement => "unknown-element",
            Self::Duplicate => "duplicate",
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::WrongType => "wrong-type",
            Self::InvalidId => "invalid-id",
            Self::InvalidDate => "invalid-date",
            Self::InvalidReference => "invalid-reference",
            Self::UnknownCode => "unknown-code",
            Self::UnknownUnit => "unknown-unit",
            Self::InvalidDecimal => "invalid-decimal",
            Self::ValueOrReason => "value-or-reason",
        }
    }
}

/// One finding. It holds no value of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// FHIRPath-like: `Observation.code.coding[0].system`.
    pub location: String,
    /// What is wrong there.
    pub fault: Fault,
}

/// Checks the text of a resource.
///
/// # Errors
/// Every issue found, at most [`MAX_ISSUES`], never none.
pub fn validate(json: &str) -> Result<ResourceType, Vec<Issue>> {
    let whole = |fault| {
        vec![Issue {
            location: "Resource".into(),
            fault,
        }]
    };
    if json.len() > MAX_RESOURCE_BYTES {
        return Err(whole(Fault::TooLong));
    }
    let raw: &RawValue = serde_json::from_str(json).map_err(|_| whole(Fault::NotJson))?;
    let members = Members::of(raw).ok_or_else(|| whole(Fault::NotJson))?;
    let name = members.text("resourceType");
    let known = name.as_deref().and_then(ResourceType::parse);
    let Some(kind) = known.filter(|kind| kind.is_delivered()) else {
        return Err(whole(Fault::UnknownType));
    };
    let mut issues = Vec::new();
    shape_of(kind).check(raw, kind.as_str(), &mut issues);
    if issues.is_empty() {
        Ok(kind)
    } else {
        issues.truncate(MAX_ISSUES);
        Err(issues)
    }
}

fn shape_of(kind: ResourceType) -> &'static Shape {
    match kind {
        ResourceType::Observation => &OBSERVATION,
        ResourceType::Patient => &PATIENT,
        _ => &DEVICE,
    }
}

/// What an element must look like.
enum Shape {
    /// These members and no others, and a rule over them.
    Object(&'static [Field], Rule),
    /// At least one element of a shape.
    List(&'static Shape),
    /// A string for which the function holds.
    Text(Fault, fn(&str) -> bool),
    /// A JSON number that is a [`Decimal`].
    Number,
}

struct Field {
    name: &'static str,
    required: bool,
    shape: &'static Shape,
}

/// The member at fault and its fault, if the members do not fit together.
type Rule = fn(&Members<'_>) -> Option<(&'static str, Fault)>;

const fn must(name: &'static str, shape: &'static Shape) -> Field {
    Field {
        name,
        required: true,
        shape,
    }
}

const fn may(name: &'static str, shape: &'static Shape) -> Field {
    Field {
        name,
        required: false,
        shape,
    }
}

const ANY: Rule = |_| None;
const TEXT: Shape = Shape::Text(Fault::WrongType, |_| true);
const ID: Shape = Shape::Text(Fault::InvalidId, |text| text.parse::<FhirId>().is_ok());

const OBSERVATION: Shape = Shape::Object(
    &[
        must("resourceType", &TEXT),
        must("id", &ID),
        may("meta", &META),
        must("identifier", &Shape::List(&READING_IDENTIFIER)),
        must("status", &STATUS),
        must("category", &Shape::List(&CATEGORY)),
        must("code", &CODE),
        must("subject", &SUBJECT),
        must("effectiveDateTime", &INSTANT),
        may("valueQuantity", &QUANTITY),
        may("dataAbsentReason", &ABSENT),
        may("note", &Shape::List(&NOTE)),
        must("device", &DEVICE_REFERENCE),
    ],
    |members| {
        let value = members.get("valueQuantity").is_some();
        let reason = members.get("dataAbsentReason").is_some();
        (value == reason).then_some(("valueQuantity", Fault::ValueOrReason))
    },
);

const PATIENT: Shape = Shape::Object(
    &[
        must("resourceType", &TEXT),
        must("id", &ID),
        may("meta", &PATIENT_META),
        may(
            "gender",
            &Shape::Text(Fault::UnknownCode, |text| Gender::parse(text).is_some()),
        ),
        // The year alone: every finer element of a date is an identifier (45 CFR 164.514(b)(2)(i)(C)).
        may(
            "birthDate",
            &Shape::Text(Fault::InvalidDate, |text| {
                text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
            }),
        ),
    ],
    ANY,
);

const DEVICE: Shape = Shape::Object(
    &[
        must("resourceType", &TEXT),
        must("id", &ID),
        may("meta", &META),
        must("type", &DEVICE_TYPE),
    ],
    ANY,
);

const META: Shape = Shape::Object(
    &[
        may("profile", &Shape::List(&PROFILE)),
        may("security", &Shape::List(&SECURITY)),
        may("tag", &Shape::List(&TAG)),
    ],
    ANY,
);

const PATIENT_META: Shape = Shape::Object(
    &[
        may("security", &Shape::List(&SECURITY)),
        may("tag", &Shape::List(&CARE_UNIT)),
    ],
    ANY,
);

const PROFILE: Shape = Shape::Text(Fault::UnknownCode, |text| {
    text == VITAL_SIGNS || PROFILES.iter().any(|(.., url)| *url == text)
});

const STATUS: Shape = Shape::Text(Fault::UnknownCode, |text| {
    matches!(text, "final" | "preliminary" | WITHDRAWN)
});

const NOTE: Shape = Shape::Object(
    &[must(
        "text",
        &Shape::Text(Fault::UnknownCode, |text| {
            FLAGS.iter().any(|(.., note)| *note == text)
        }),
    )],
    ANY,
);

const INSTANT: Shape = Shape::Text(Fault::InvalidDate, |text| text.parse::<Timestamp>().is_ok());

const READING_IDENTIFIER: Shape = Shape::Object(
    &[
        must(
            "system",
            &Shape::Text(Fault::InvalidId, |text| text == READING_SYSTEM),
        ),
        must("value", &ID),
    ],
    ANY,
);

const SUBJECT: Shape = Shape::Object(
    &[must(
        "reference",
        &Shape::Text(Fault::InvalidReference, |text| {
            refers(text, &[ResourceType::Patient, ResourceType::Device])
        }),
    )],
    ANY,
);

const DEVICE_REFERENCE: Shape = Shape::Object(
    &[must(
        "reference",
        &Shape::Text(Fault::InvalidReference, |text| {
            refers(text, &[ResourceType::Device])
        }),
    )],
    ANY,
);

const QUANTITY: Shape = Shape::Object(
    &[
        must("value", &Shape::Number),
        must("unit", &UNIT),
        must(
            "system",
            &Shape::Text(Fault::UnknownUnit, |text| text == Unit::SYSTEM),
        ),
        must("code", &UNIT),
    ],
    |members| {
        (members.text("unit") != members.text("code")).then_some(("unit", Fault::UnknownUnit))
    },
);

const UNIT: Shape = Shape::Text(Fault::UnknownUnit, |text| text.parse::<Unit>().is_ok());

const CODING: &[Field] = &[
    must("system", &TEXT),
    must("code", &TEXT),
    may("display", &TEXT),
];

macro_rules! concept {
    ($($(#[$doc:meta])* $name:ident, $coding:ident = $known:expr;)*) => {$(
        const $coding: Shape = Shape::Object(CODING, |coding| {
            let known: fn(&str, &str, Option<&str>) -> bool = $known;
            let (system, code, display) = coding.coding();
            (!known(&system, &code, display.as_deref())).then_some(("code", Fault::UnknownCode))
        });
        #[allow(dead_code, reason = "tags and labels are codings, not concepts")]
        const $name: Shape =
            Shape::Object(&[must("coding", &Shape::List(&$coding))], ANY);
    )*};
}

concept! {
    CATEGORY, CATEGORY_CODING = |system, code, display| display.is_none() && CATEGORIES
        .iter().any(|known| known.system() == system && known.as_str() == code);
    CODE, CODE_CODING = |system, code, display| Code::of(system, code)
        .is_ok_and(|known| display.is_none_or(|display| display == known.info().display));
    ABSENT, ABSENT_CODING = |system, code, display| {
        display.is_none() && system == ABSENT_SYSTEM && AbsentReason::parse(code).is_some()
    };
    DEVICE_TYPE, DEVICE_TYPE_CODING = |system, code, display| {
        display.is_none() && system == DEVICE_KIND_SYSTEM && DeviceKind::parse(code).is_some()
    };
    SECURITY_CONCEPT, SECURITY = |system, code, display| {
        display.is_none() && system == SECURITY_SYSTEM && code == PSEUDONYMISED
    };
    CARE_UNIT_CONCEPT, CARE_UNIT = |system, code, display| {
        display.is_none() && system == CareUnit::SYSTEM && CareUnit::parse(code).is_some()
    };
    TAG_CONCEPT, TAG = |system, code, display| {
        display.is_none() && system == FLAG_SYSTEM && FLAGS.iter().any(|(_, flag, _)| *flag == code)
    };
}

fn refers(text: &str, kinds: &[ResourceType]) -> bool {
    text.split_once('/').is_some_and(|(kind, id)| {
        kinds.iter().any(|known| known.as_str() == kind) && id.parse::<FhirId>().is_ok()
    })
}

impl Shape {
    fn check(&self, raw: &RawValue, at: &str, issues: &mut Vec<Issue>) {
        let fault = match self {
            Self::Object(fields, rule) => return check_object(fields, *rule, raw, at, issues),
            Self::List(element) => return check_list(element, raw, at, issues),
            Self::Text(fault, holds) => match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => (!holds(&text)).then_some(*fault),
                Err(_) => Some(Fault::WrongType),
            },
            Self::Number => raw
                .get()
                .parse::<Decimal>()
                .is_err()
                .then_some(Fault::InvalidDecimal),
        };
        report(issues, at, fault);
    }
}

fn check_object(fields: &[Field], rule: Rule, raw: &RawValue, at: &str, issues: &mut Vec<Issue>) {
    let Some(members) = Members::of(raw) else {
        return report(issues, at, Some(Fault::WrongType));
    };
    for (position, (name, value)) in members.0.iter().enumerate() {
        let mut before = members.0.iter().take(position);
        if before.any(|(other, _)| other == name) {
            report(issues, at, Some(Fault::Duplicate));
            continue;
        }
        // The name of an unknown element is the sender's text: it is not repeated.
        match fields.iter().find(|field| field.name == name) {
            Some(field) => field
                .shape
                .check(value, &format!("{at}.{}", field.name), issues),
            None => report(issues, at, Some(Fault::UnknownElement)),
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if members.get(field.name).is_none() {
            report(
                issues,
                &format!("{at}.{}", field.name),
                Some(Fault::Missing),
            );
        }
    }
    if issues.is_empty()
        && let Some((member, fault)) = rule(&members)
    {
        report(issues, &format!("{at}.{member}"), Some(fault));
    }
}

fn check_list(element: &Shape, raw: &RawValue, at: &str, issues: &mut Vec<Issue>) {
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
        return report(issues, at, Some(Fault::WrongType));
    };
    match list.len() {
        0 => report(issues, at, Some(Fault::Empty)),
        1..=MAX_LIST => {
            for (index, item) in list.iter().enumerate() {
                element.check(item, &format!("{at}[{index}]"), issues);
            }
        }
        _ => report(issues, at, Some(Fault::TooLong)),
    }
}

fn report(issues: &mut Vec<Issue>, at: &str, fault: Option<Fault>) {
    if let Some(fault) = fault
        && issues.len() < MAX_ISSUES
    {
        issues.push(Issue {
            location: at.to_owned(),
            fault,
        });
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
