//! Parts of a resource that a client asks for: `_summary` and `_elements` (FHIR R4 search.html#summary, #elements).
//!
//! What is left out is told by the tag `SUBSETTED`. Elements that have to be there stay, so that what is sent is R4.
use crate::{
    json::{Json, Object},
    patch::write,
    query::Summary,
    r4::{Field, Kind, R4, Shape},
};
use std::borrow::Cow;

/// The system of the tag.
const TAG_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
/// The tag.
const TAG: &str = "SUBSETTED";

/// Which part of each resource is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All of it.
    #[default]
    Whole,
    /// The elements that R4 marks as summary, at every depth.
    Summary,
    /// Narrative, id, meta and the elements at the top that have to be there.
    Text,
    /// All but the narrative.
    Data,
    /// Elements at the top, with those that have to be there or may change the meaning of others.
    Elements(Vec<String>),
}

impl View {
    /// Of what a search or a read asks for. `_summary=count` shows no resource at all: the caller leaves them out.
    #[must_use]
    pub fn of(summary: Option<Summary>, elements: &[String]) -> Self {
        match summary {
            Some(Summary::True) => Self::Summary,
            Some(Summary::Text) => Self::Text,
            Some(Summary::Data) => Self::Data,
            Some(Summary::Count | Summary::False) => Self::Whole,
            None if elements.is_empty() => Self::Whole,
            None => Self::Elements(elements.to_vec()),
        }
    }
}

/// The text of a resource as a view shows it; as it stands where all is shown, or where it is of no type of R4.
#[must_use]
pub fn show<'t>(text: &'t str, view: &View) -> Cow<'t, str> {
    if *view == View::Whole {
        return Cow::Borrowed(text);
    }
    match Json::parse(text)
        .ok()
        .as_ref()
        .and_then(|json| shown(json, view))
    {
        Some(shown) => Cow::Owned(write(&shown)),
        None => Cow::Borrowed(text),
    }
}

/// A resource as a view shows it; none where nothing is left out.
fn shown<'a>(resource: &Json<'a>, view: &View) -> Option<Json<'a>> {
    let object = resource.object()?;
    let shape = R4.shape_of(object.text("resourceType")?)?;
    let is_shown = |name: &str, field: &Field| match view {
        View::Whole => true,
        View::Summary => field.in_summary || field.is_required,
        View::Text => field.is_required || matches!(name, "text" | "id" | "meta"),
        View::Data => name != "text",
        View::Elements(elements) => {
            let is_asked = elements.iter().any(|element| element == field.element);
            is_asked || field.is_required || field.is_modifier || matches!(name, "id" | "meta")
        }
    };
    let mut cut = Cut { left_out: false };
    let deep = *view == View::Summary;
    let mut object = cut.object(object, shape, &is_shown, deep);
    if !cut.left_out {
        return None;
    }
    tag(&mut object);
    Some(Json::Object(object))
}

/// Whether something was left out.
struct Cut {
    left_out: bool,
}

impl Cut {
    fn object<'a>(
        &mut self,
        object: &Object<'a>,
        shape: &Shape,
        is_shown: &dyn Fn(&str, &Field) -> bool,
        deep: bool,
    ) -> Object<'a> {
        let mut shown = Object::default();
        for (name, value) in &object.0 {
            let plain = name.strip_prefix('_').unwrap_or(name);
            let Some(field) = shape.fields.get(plain) else {
                // The type of a resource, and what R4 does not have.
                shown.0.push((name.clone(), value.clone()));
                continue;
            };
            if !is_shown(plain, field) {
                self.left_out = true;
                continue;
            }
            let value = match (deep, field.kind) {
                (true, Kind::Object(at)) => match R4.shape(at) {
                    Some(inner) => self.value(value, inner),
                    None => value.clone(),
                },
                _ => value.clone(),
            };
            shown.0.push((name.clone(), value));
        }
        shown
    }

    /// An element and what it holds. One of which nothing would be left stays as it is.
    fn value<'a>(&mut self, value: &Json<'a>, shape: &Shape) -> Json<'a> {
        match value {
            Json::List(list) => {
                Json::List(list.iter().map(|value| self.value(value, shape)).collect())
            }
            Json::Object(object) => {
                let in_summary = |_: &str, field: &Field| field.in_summary || field.is_required;
                let before = self.left_out;
                let shown = self.object(object, shape, &in_summary, true);
                if shown.0.is_empty() {
                    self.left_out = before;
                    return value.clone();
                }
                Json::Object(shown)
            }
            value => value.clone(),
        }
    }
}

/// Adds the tag, where it does not stand yet.
fn tag(object: &mut Object<'_>) {
    let text = |text: &'static str| Json::Text(Cow::Borrowed(text));
    let coding = Json::Object(Object(vec![
        (Cow::Borrowed("system"), text(TAG_SYSTEM)),
        (Cow::Borrowed("code"), text(TAG)),
    ]));
    let is_tag =
        |json: &Json<'_>| json.object().and_then(|coding| coding.text("code")) == Some(TAG);
    let at = match object.0.iter().position(|(name, _)| name == "meta") {
        Some(at) => at,
        None => {
            let names = ["resourceType", "id"];
            let at = object
                .0
                .iter()
                .take_while(|(name, _)| names.contains(&name.as_ref()))
                .count();
            object
                .0
                .insert(at, (Cow::Borrowed("meta"), Json::Object(Object::default())));
            at
        }
    };
    let Some((_, Json::Object(meta))) = object.0.get_mut(at) else {
        return;
    };
    match meta.0.iter_mut().find(|(name, _)| name == "tag") {
        Some((_, Json::List(tags))) if tags.iter().any(is_tag) => {}
        Some((_, Json::List(tags))) => tags.push(coding),
        _ => meta
            .0
            .push((Cow::Borrowed("tag"), Json::List(vec![coding]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: &str = r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"1"},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"extension":[{"url":"u","valueDecimal":1.50}],"active":true,"_birthDate":{"extension":[{"url":"u","valueString":"x"}]},"birthDate":"1970","maritalStatus":{"text":"m"},"contact":[{"gender":"male"}],"communication":[{"language":{"text":"de"},"preferred":true}],"photo":[{"contentType":"image/png","data":"AAAA"}]}"#;

    fn members(view: &View) -> Vec<String> {
        let text = show(PATIENT, view);
        let json = Json::parse(&text).unwrap();
        json.object()
            .unwrap()
            .0
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    #[test]
    fn a_summary_has_the_elements_that_r4_marks_and_says_that_it_is_none_of_the_whole() {
        assert_eq!(
            members(&View::Summary),
            [
                "resourceType",
                "id",
                "meta",
                "active",
                "_birthDate",
                "birthDate"
            ]
        );
        assert!(show(PATIENT, &View::Summary).contains(r#""tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]"#));
        let document = r#"{"resourceType":"DocumentReference","status":"current","content":[{"attachment":{"url":"u","data":"AAAA"}}]}"#;
        let shown = show(document, &View::Summary);
        assert!(shown.contains(r#""attachment":{"url":"u"}"#), "{shown}");
    }

    #[test]
    fn text_data_and_elements_keep_what_has_to_be_there() {
        assert_eq!(members(&View::Text), ["resourceType", "id", "meta", "text"]);
        assert!(!members(&View::Data).contains(&"text".to_owned()));
        assert!(show(PATIENT, &View::Data).contains("1.50"));
        let elements = View::of(None, &["birthDate".to_owned()]);
        assert_eq!(
            members(&elements),
            [
                "resourceType",
                "id",
                "meta",
                "active",
                "_birthDate",
                "birthDate"
            ]
        );
        let observation = r#"{"resourceType":"Observation","status":"final","code":{"text":"c"},"valueInteger":1}"#;
        let shown = show(observation, &View::of(None, &["value".to_owned()]));
        assert_eq!(shown, observation, "nothing is left out");
        let shown = show(observation, &View::of(None, &["subject".to_owned()]));
        assert!(
            shown.starts_with(r#"{"resourceType":"Observation","meta":{"tag":[{"#)
                && shown.contains("status")
        );
    }

    #[test]
    fn what_is_asked_for_whole_or_is_no_resource_stays_as_it_stands() {
        assert_eq!(show(PATIENT, &View::Whole), PATIENT);
        for text in ["[]", "{", r#"{"resourceType":"None"}"#] {
            assert_eq!(show(text, &View::Summary), text);
        }
        let tagged = show(PATIENT, &View::Summary).into_owned();
        assert_eq!(show(&tagged, &View::Summary), tagged);
    }
}
