//! May this place hold it? What an R4 resource may not bring into a region, whoever writes it.
//!
//! A region holds pseudonymous data. So what may enter is listed, and everything else is refused: text that somebody
//! typed, names, addresses, contacts, pictures, documents, numbers by which a person, a visit, a specimen or a device
//! is known elsewhere (45 CFR 164.514(b)(2)(i)), and whatever is not understood: extensions, codes of systems that
//! are nobody's standard, addresses of other servers. The lists are below, by data type first ([`primitive`]) and by
//! element where it matters ([`ELEMENTS`]). What is contained in another resource, or is an entry of a Bundle, is
//! judged as it would be alone.
//!
//! What the mesh itself writes passes a narrower door (`crate::validate`). What this one cannot see: whether a date
//! is a true one (a client writes in the time of the patient's record, which is shifted), and a name that is written
//! in the letters of a code.
mod ages;
mod asked;
mod coded;
mod forms;
mod lists;
mod observed;
mod units;

use crate::consent::{self, OptOut};
use crate::json::{Json, Object};
use crate::r4::{ByName, Field, Kind, Place, Primitive, R4, Shape};
use crate::store::ResourceType;
use crate::subscription::{BACKPORT, SUBSCRIPTION};
use ages::{TOO_OLD, is_of_ages, is_old};
use coded::{coding, is_told_by_codes, unit};
use lists::{ELEMENTS, EXTENSIONS, IDENTIFIERS, SYSTEMS, TYPES, URIS, WORDS};
use std::sync::LazyLock;
use types::DeviceId;

/// Elements that are told of one resource; one with more is refused just the same.
pub const MAX_TOLD: usize = 100;
/// Age from which an age, or the year of a birth, identifies (45 CFR 164.514(b)(2)(i)(C)).
const OLD: i32 = 90;
const YEAR_ALONE: &str =
    "of a birth or a death the year alone is taken, and of nobody of 90 years or more";

/// Which profile a place admits by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Pseudonymous data alone, as a region holds it.
    Pseudonymous {
        /// The year that ages are told from.
        year: i32,
    },
    /// Everything that is R4, as a facility holds it, but for what it could not keep to.
    Identified,
}

/// An element that may not be here. It repeats no value of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inadmissible {
    /// FHIRPath of the element, such as `Patient.name[0]`.
    pub expression: String,
    /// Why, and what is taken instead.
    pub problem: &'static str,
}

/// What becomes of an element.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// It is refused, and not looked into.
    Never(&'static str),
    /// Its value passes this test, instead of that of its data type.
    If(fn(&str) -> bool, &'static str),
    /// A year, of less than 90 years ago.
    Year,
    /// Ages, of which a range is one too.
    Age,
    /// It is taken as it is.
    Any,
}

impl Holding {
    /// The elements of a resource that may not be here, at most [`MAX_TOLD`]. The resource is R4.
    #[must_use]
    pub fn judge(&self, resource: &Json<'_>) -> Vec<Inadmissible> {
        let Self::Pseudonymous { year } = *self else {
            return unkept(resource);
        };
        let mut judge = Judge {
            year,
            told: Vec::new(),
        };
        let shape = shape_of(resource).map_or("", |shape| &shape.name);
        judge.resource(resource, &Place::root(shape));
        judge.told
    }

    /// Whether a client may choose that id for a new resource of a type. In a region it is a random UUID, which says nothing;
    /// what the mesh draws looks otherwise, so that nobody takes an id before a facility does. At a facility a Device has the
    /// name of the device, so that nobody takes a name before a device has it.
    #[must_use]
    pub fn takes_id(&self, kind: ResourceType, id: &str) -> bool {
        let is_a_name = || kind == ResourceType::Device && id.parse::<DeviceId>().is_ok();
        match self {
            Self::Pseudonymous { .. } => is_random(id),
            Self::Identified => is_random(id) || !is_a_name(),
        }
    }
}

/// What a facility could not keep to, so that it does not take it: an opt-out of nobody whom it knows.
fn unkept(resource: &Json<'_>) -> Vec<Inadmissible> {
    match consent::opt_out(resource) {
        Some(OptOut::OfNobody) => vec![Inadmissible {
            expression: "Consent.patient".to_owned(),
            problem: "an opt-out of research names its patient as Patient/id of this server",
        }],
        Some(OptOut::Of(_)) | None => Vec::new(),
    }
}

/// The shape of the resource that a value is.
fn shape_of(value: &Json<'_>) -> Option<&'static Shape> {
    R4.shape_of(value.object()?.text("resourceType")?)
}

struct Judge {
    year: i32,
    told: Vec<Inadmissible>,
}

impl Judge {
    fn refuse(&mut self, at: &Place<'_>, problem: &'static str) {
        if self.told.len() < MAX_TOLD {
            self.told.push(Inadmissible {
                expression: at.path(),
                problem,
            });
        }
    }

    fn resource(&mut self, value: &Json<'_>, at: &Place<'_>) {
        let (Some(object), Some(shape)) = (value.object(), shape_of(value)) else {
            return self.refuse(at, "what is no resource cannot be judged");
        };
        if TYPES.contains(&shape.name.as_str()) {
            return self.refuse(at, "a resource of this type holds what identifies");
        }
        if shape.name == SUBSCRIPTION && !at.is_root() {
            return self.refuse(at, "a subscription is taken by itself alone");
        }
        self.object(shape, object, at);
    }

    fn object(&mut self, shape: &Shape, object: &Object<'_>, at: &Place<'_>) {
        if is_of_subscription(shape, object, at) || !self.fits(shape, object, at) {
            return;
        }
        if let Some((element, problem)) =
            observed::told(&shape.name, object, |text| self.is_year(text))
        {
            self.refuse(&at.element(element), problem);
        }
        for (name, value) in &object.0 {
            // The id of what is stored is its place's to say: `Holding::takes_id`.
            let is_of_root = name == "id" && at.is_root();
            if is_of_root || (name == "resourceType" && R4.is_resource(&shape.name)) {
                continue;
            }
            let (member, is_beside) = match name.strip_prefix('_') {
                Some(member) => (member, true),
                None => (name.as_ref(), false),
            };
            let Some(field) = shape.fields.get(member) else {
                self.refuse(at, "an element that R4 does not have");
                continue;
            };
            self.element(shape, field, (value, is_beside), &at.element(field.element));
        }
    }

    fn element(
        &mut self,
        shape: &Shape,
        field: &Field,
        (value, is_beside): (&Json<'_>, bool),
        at: &Place<'_>,
    ) {
        let rule = rule_of(&shape.name, field);
        if let Some(Rule::Never(problem)) = rule {
            return self.refuse(at, problem);
        }
        match value {
            Json::List(list) => {
                for (index, one) in list.iter().enumerate() {
                    self.one(field, rule, (one, is_beside), &at.index(index));
                }
            }
            one => self.one(field, rule, (one, is_beside), at),
        }
    }

    fn one(
        &mut self,
        field: &Field,
        rule: Option<Rule>,
        (value, is_beside): (&Json<'_>, bool),
        at: &Place<'_>,
    ) {
        match (field.kind, value) {
            (_, Json::Null) => {}
            // Beside a primitive value stand its id and its extensions.
            (Kind::Primitive(_), Json::Object(object)) if is_beside => {
                if let Some(shape) = R4.shape_of("Element") {
                    self.object(shape, object, at);
                }
            }
            (Kind::Primitive(kind), value) => {
                if let Some(problem) = self.primitive(field, kind, rule, value) {
                    self.refuse(at, problem);
                }
            }
            (Kind::Object(of), Json::Object(object)) => match R4.shape(of) {
                Some(shape) if matches!(rule, Some(Rule::Year)) && shape.name == "Period" => {
                    self.refuse(at, YEAR_ALONE);
                }
                Some(shape) if shape.name == "Range" && is_of_ages(rule, object) => {
                    self.refuse(at, TOO_OLD);
                }
                Some(shape) => self.object(shape, object, at),
                None => {}
            },
            (Kind::Resource, value) => self.resource(value, at),
            (Kind::Object(_), _) => self.refuse(at, "an object is expected"),
        }
    }

    /// What is wrong with a value, if anything.
    fn primitive(
        &self,
        field: &Field,
        kind: Primitive,
        rule: Option<Rule>,
        value: &Json<'_>,
    ) -> Option<&'static str> {
        let text = match value {
            Json::Text(text) => text.as_ref(),
            Json::Number(number) => number,
            _ => "",
        };
        match rule {
            Some(Rule::Any) => None,
            Some(Rule::If(fits, problem)) => (!fits(text)).then_some(problem),
            Some(Rule::Year) if kind == Primitive::Boolean => None,
            Some(Rule::Year) => (!self.is_year(text)).then_some(YEAR_ALONE),
            Some(Rule::Never(problem)) => Some(problem),
            // Its codes are listed, and R4 was asked whether it is one of them.
            None if kind == Primitive::Code && field.set.is_some() => None,
            None | Some(Rule::Age) => primitive(kind, text),
        }
    }

    fn is_year(&self, text: &str) -> bool {
        let digits = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        let year = text.parse::<i32>().ok().filter(|_| digits);
        year.is_some_and(|year| self.year.saturating_sub(year) < OLD)
    }

    /// Rules over several elements of one data type; what is refused here is not looked into.
    fn fits(&mut self, shape: &Shape, object: &Object<'_>, at: &Place<'_>) -> bool {
        if shape.name == "CodeableConcept" && !is_told_by_codes(object) && object.has("coding") {
            self.refuse(&at.element("text"), WORDS);
        }
        let problem = match shape.name.as_str() {
            "Coding" => coding(object),
            "Identifier" => identifier(object),
            "Extension" => extension(object),
            "Age" if is_old(object, true) => Some(TOO_OLD),
            "Age" => unit(object),
            "Quantity" | "SimpleQuantity" | "Duration" | "Count" | "Distance" | "Money" => {
                unit(object)
            }
            "HumanName" | "Address" | "ContactPoint" | "ContactDetail" | "Contributor"
            | "Signature" => Some("names, addresses, contacts and signatures are not taken"),
            "Narrative" => Some("a narrative is not taken: nobody can tell what is in it"),
            "CodeableConcept" if !object.has("coding") => {
                Some("a concept is taken by its codes, not by its text")
            }
            _ => None,
        };
        match problem {
            Some(problem) => {
                self.refuse(at, problem);
                false
            }
            None => true,
        }
    }
}

/// Whether it is an extension that says what a subscription asks for: that is judged as what it is
/// ([`crate::subscription::Spec`]), which refuses what it does not know.
fn is_of_subscription(shape: &Shape, object: &Object<'_>, at: &Place<'_>) -> bool {
    let url = object.text("url").unwrap_or_default();
    let places = ["Subscription.criteria.", "Subscription.channel."];
    let is_there = |path: &str| places.iter().any(|place| path.starts_with(place));
    shape.name == "Extension" && url.starts_with(BACKPORT) && is_there(&at.path())
}

/// The rules of [`ELEMENTS`] by the names of the elements, in their order, each with the type or path that it is of.
static RULES: LazyLock<ByName<&str, Vec<(&str, Rule)>>> = LazyLock::new(|| {
    let mut rules: ByName<&str, Vec<(&str, Rule)>> = ByName::default();
    for (of, element, rule) in ELEMENTS {
        rules.entry(element).or_default().push((of, *rule));
    }
    rules
});

fn rule_of(shape: &str, field: &Field) -> Option<Rule> {
    let mut rules = RULES.get(field.element)?.iter();
    let found = rules.find(|(of, _)| *of == shape || *of == "*");
    found.map(|(_, rule)| *rule)
}

/// What is refused of a value by its data type alone.
fn primitive(kind: Primitive, text: &str) -> Option<&'static str> {
    let fits = match kind {
        Primitive::Boolean
        | Primitive::Integer
        | Primitive::PositiveInt
        | Primitive::UnsignedInt
        | Primitive::Decimal
        | Primitive::Date
        | Primitive::DateTime
        | Primitive::Instant
        | Primitive::Time => true,
        Primitive::Code => {
            return (!is_code(text)).then_some("a code has no spaces and 64 characters at most");
        }
        Primitive::Id => {
            return (!is_local_id(text)).then_some(
                "an id within a resource is a few letters and digits, such as a1, or a UUID",
            );
        }
        Primitive::Uuid => is_uuid(text.strip_prefix("urn:uuid:").unwrap_or(text)),
        Primitive::Canonical | Primitive::Uri => {
            return (!is_known_uri(text)).then_some("a URI is taken of standards alone");
        }
        Primitive::Oid | Primitive::Url => {
            return Some("an address, or a number that somebody gave, is not taken");
        }
        Primitive::Base64Binary | Primitive::Markdown | Primitive::String | Primitive::Xhtml => {
            return Some("text and data that nobody can check are not taken");
        }
    };
    (!fits).then_some("the value is none that is taken")
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn identifier(object: &Object<'_>) -> Option<&'static str> {
    let (system, value) = (object.text("system"), object.text("value"));
    let is_drawn = match (system, value) {
        (Some("urn:ietf:rfc:3986"), Some(value)) => {
            value.strip_prefix("urn:uuid:").is_some_and(is_random)
        }
        (Some(system), Some(value)) => IDENTIFIERS.contains(&system) && is_random(value),
        _ => false,
    };
    (!is_drawn).then_some(
        "a number by which somebody or something is known elsewhere is not taken; a random one is: system \
         urn:ietf:rfc:3986, value urn:uuid:…",
    )
}

fn extension(object: &Object<'_>) -> Option<&'static str> {
    let known = object
        .text("url")
        .is_some_and(|url| EXTENSIONS.contains(&url));
    (!known).then_some("an extension is taken only where it is known here")
}

/// Whether a URI is that one, or below it.
fn is_below(uri: &str, known: &str) -> bool {
    uri.strip_prefix(known).is_some_and(|rest| {
        (rest.is_empty() || known.ends_with(['/', ':']) || rest.starts_with(['/', '|']))
            && is_plain(rest)
    })
}

/// No spaces, queries, fragments or users.
fn is_plain(text: &str) -> bool {
    text.len() <= 200
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._/|:".contains(&byte))
}

fn is_known_uri(text: &str) -> bool {
    let uuid = text.strip_prefix("urn:uuid:").is_some_and(is_uuid);
    uuid || URIS
        .iter()
        .chain(&SYSTEMS)
        .any(|known| is_below(text, known))
}

fn is_code(text: &str) -> bool {
    text.len() <= 64 && !text.contains(char::is_whitespace)
}

/// `8-4-4-4-12` hexadecimal digits (RFC 9562 §4).
pub(crate) fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// Whether a UUID says that it is random (RFC 9562 §5.4). Others hold a time, a network card, or the digest of a name.
fn is_random(text: &str) -> bool {
    let of = |at: usize| text.as_bytes().get(at).map(u8::to_ascii_lowercase);
    is_uuid(text) && of(14) == Some(b'4') && matches!(of(19), Some(b'8' | b'9' | b'a' | b'b'))
}

/// Up to four letters and up to four digits, or a UUID.
fn is_local_id(text: &str) -> bool {
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = text.len() - letters;
    let rest = text.bytes().skip(letters).all(|byte| byte.is_ascii_digit());
    (letters <= 4 && (1..=4).contains(&digits) && rest) || is_uuid(text)
}

/// `Type/id`, also of a version, or `#id` of what is contained.
fn is_reference(text: &str) -> bool {
    if let Some(contained) = text.strip_prefix('#') {
        return contained.is_empty() || is_local_id(contained);
    }
    let parts: Vec<&str> = text.split('/').collect();
    let (kind, id) = match parts.as_slice() {
        [kind, id] => (*kind, *id),
        [kind, id, "_history", version] if version.parse::<u32>().is_ok() => (*kind, *id),
        _ => return false,
    };
    let drawn_by_the_mesh = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    R4.is_resource(kind) && (is_uuid(id) || drawn_by_the_mesh)
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
