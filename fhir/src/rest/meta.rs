//! `$meta`, `$meta-add` and `$meta-delete` of a resource (FHIR R4 resource-operation-meta.html): what the server says of it,
//! and its profiles, tags and security labels.
//!
//! To change them is to write the resource: it is judged as an update is, a new version where something changes, with
//! `If-Match` where the client says so, and is refused where it would be. Who may not read the resource changes nothing:
//! whether there is another version then tells what was there.
use super::conditional::{MAX_TRIES, note};
use super::routes::{InBody, MAX_RESOURCE_BYTES, in_url};
use super::validating::resource_in;
use super::writing::{self, expected};
use super::{
    Answer, FhirApi, InUrl, access, access::Asker, check_format, json, outcome::Failure, reading,
};
use crate::json::Json;
use crate::store::{Change, Expect, FhirId, ResourceType, Unmet};
use crate::validate::Members;
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// What is changed: the lists of `meta` that are a client's.
const LISTS: [&str; 3] = ["profile", "security", "tag"];

/// Which way they are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `$meta-add`
    Add,
    /// `$meta-delete`
    Delete,
}

/// `GET [type]/[id]/$meta`.
pub async fn meta(
    api: &FhirApi,
    kind: ResourceType,
    id: FhirId,
    asker: &Asker,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<access::Found, Failure> {
    check(pairs, headers)?;
    let stored = reading::current(api, kind, &id, asker).await?;
    let instants = reading::instants(api, &asker.reader, stored.seq).await?;
    let body = told(&stored.stamped_text(&instants.of(&stored))?)?;
    let request = format!("{kind}/{id}/$meta");
    let patient = (kind == ResourceType::Patient).then_some(id);
    Ok(access::Found::new(json(body).into_response(), 1, request).of(patient))
}

/// No parameters but those of its form.
fn check(pairs: InUrl, headers: &HeaderMap) -> Result<(), Failure> {
    let pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    let is_unknown =
        |(name, _): &&(String, String)| !matches!(name.as_str(), "_format" | "_pretty");
    match pairs.iter().find(is_unknown) {
        Some((name, _)) => {
            let name: String = name.chars().take(64).collect();
            Err(Failure::unknown_parameters(&[name]))
        }
        None => Ok(()),
    }
}

/// The `meta` of a resource that is read, as Parameters.
fn told(whole: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Tagged<'a> {
        #[serde(borrow)]
        meta: &'a RawValue,
    }
    let found: Tagged<'_> = serde_json::from_str(whole).map_err(|_| Failure::undrawn())?;
    Ok(format!(
        "{{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"return\",\"valueMeta\":{}}}]}}",
        found.meta.get()
    ))
}

/// `POST [type]/[id]/$meta-add` and `$meta-delete`.
pub async fn change(
    api: &FhirApi,
    asker: Asker,
    (kind, id, way): (ResourceType, Result<&str, Failure>, Way),
    pairs: InUrl,
    headers: &HeaderMap,
    body: InBody,
) -> Answer {
    let done = async {
        let id: FhirId = id?.parse().map_err(|_| Failure::not_found())?;
        check(pairs, headers)?;
        let asked = Asked::read(&resource_in(headers, body)?)?;
        changed(api, &asker, (kind, &id, way), headers, &asked).await
    };
    let done = done.await;
    if done.is_err() {
        asker.failed(api);
    }
    done
}

async fn changed(
    api: &FhirApi,
    asker: &Asker,
    (kind, id, way): (ResourceType, &FhirId, Way),
    headers: &HeaderMap,
    asked: &Asked,
) -> Answer {
    let expect = expected(headers)?;
    for _ in 0..MAX_TRIES {
        let stored = reading::current(api, kind, id, asker).await?;
        if !writing::may_read(api, headers, &stored) {
            return Err(Failure::nothing_to_search());
        }
        writing::check_id(&asker.sight, api, kind, id).await?;
        if expect == Expect::Absent {
            return Err(Failure::unmet(Unmet::Exists));
        }
        if expect.excludes(stored.version) {
            return Err(Failure::unmet(Unmet::Version));
        }
        let text = asked.applied(&stored.json, way)?;
        if text.len() > MAX_RESOURCE_BYTES {
            return Err(Failure::too_long());
        }
        let draft = asker.draft(api, kind, id.clone(), &text)?;
        note(api, asker, &kind, id, Some(&draft)).await?;
        let put = Change::Put {
            draft: draft.clone(),
            expect: Expect::Version(stored.version),
        };
        match writing::try_change(api, &asker.reader, put, Vec::new()).await? {
            Ok(written) => {
                let instants = reading::instants_at(api, &asker.reader, written.head).await?;
                let stored = writing::stored_of(&draft, written);
                let body = told(&stored.stamped_text(&instants.of(&stored))?)?;
                let tag = [(header::ETAG, format!("W/\"{}\"", stored.version))];
                return Ok((tag, json(body)).into_response());
            }
            // Somebody wrote in between: it is done to that.
            Err(Unmet::Version) => {}
            Err(why) => return Err(Failure::unmet(why)),
        }
    }
    Err(Failure::contended())
}

/// What is to be added or taken away, as it came.
#[derive(Debug, Default)]
struct Asked([Vec<String>; LISTS.len()]);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    resource_type: String,
    #[serde(borrow, default)]
    parameter: Vec<Parameter<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameter<'a> {
    name: String,
    #[serde(borrow)]
    value_meta: Option<&'a RawValue>,
}

impl Asked {
    fn read(text: &str) -> Result<Self, Failure> {
        let expected = || {
            Failure::no_resource(
                "Parameters with meta are expected, as valueMeta with profile, security and tag",
            )
        };
        // Bounds depth and numbers, and refuses a member that stands twice.
        Json::parse(text).map_err(|error| Failure::no_resource(&error.to_string()))?;
        let parameters: Parameters<'_> = serde_json::from_str(text).map_err(|_| expected())?;
        if parameters.resource_type != "Parameters" || parameters.parameter.is_empty() {
            return Err(expected());
        }
        let mut asked = Self::default();
        for parameter in parameters.parameter {
            let meta = parameter.value_meta.filter(|_| parameter.name == "meta");
            let meta = meta.and_then(Members::of).ok_or_else(expected)?;
            for (name, value) in meta.0 {
                let mut lists = LISTS.iter().zip(&mut asked.0);
                let list = lists.find(|(known, _)| **known == name);
                let (_, list) = list.ok_or_else(expected)?;
                list.extend(list_of(value).ok_or_else(expected)?);
            }
        }
        Ok(asked)
    }

    /// A stored text with these in its `meta`, or without them: itself where nothing changes.
    fn applied(&self, text: &str, way: Way) -> Result<String, Failure> {
        let members: Members<'_> = serde_json::from_str(text).map_err(|_| Failure::undrawn())?;
        let there = members.0.iter().find(|(name, _)| name == "meta");
        let there = there.and_then(|(_, meta)| Members::of(meta));
        let there = there.unwrap_or(Members(Vec::new()));
        let (mut meta, mut is_same) = (Vec::new(), true);
        for (name, value) in &there.0 {
            if !LISTS.contains(&name.as_str()) {
                meta.push(member(name, value.get()));
            }
        }
        for (name, asked) in LISTS.iter().zip(&self.0) {
            let list = there.0.iter().find(|(member, _)| member == name);
            let list = list.and_then(|(_, value)| list_of(value));
            let list = list.unwrap_or_default();
            let next = next(name, &list, asked, way)?;
            let is_extended = there
                .0
                .iter()
                .any(|(member, _)| *member == format!("_{name}"));
            if next != list && is_extended {
                return Err(Failure::extended_meta());
            }
            is_same &= next == list;
            if !next.is_empty() {
                meta.push(member(name, &format!("[{}]", next.join(","))));
            }
        }
        if is_same {
            return Ok(text.to_owned());
        }
        let own = members.0.iter().filter(|(name, _)| name != "meta");
        let mut all: Vec<String> = own.map(|(name, value)| member(name, value.get())).collect();
        if !meta.is_empty() {
            // What is stored begins with its type and its id.
            let at = all.len().min(2);
            all.insert(at, member("meta", &format!("{{{}}}", meta.join(","))));
        }
        Ok(format!("{{{}}}", all.join(",")))
    }
}

fn member(name: &str, value: &str) -> String {
    format!("{}:{value}", serde_json::Value::from(name))
}

/// The elements of a list, each as its text.
fn list_of(value: &RawValue) -> Option<Vec<String>> {
    let list: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    Some(list.into_iter().map(|one| one.get().to_owned()).collect())
}

/// A list afterwards. Codings are the same by their systems and codes, whatever else they say.
fn next(name: &str, list: &[String], asked: &[String], way: Way) -> Result<Vec<String>, Failure> {
    let mut known: BTreeSet<String> = list.iter().filter_map(|one| key(name, one)).collect();
    let (mut next, mut taken) = (list.to_vec(), BTreeSet::new());
    for one in asked {
        let key_of = key(name, one).ok_or_else(|| {
            Failure::no_resource("meta: a profile is a URI; a tag and a security label is a Coding")
        })?;
        match way {
            Way::Add => {
                if known.insert(key_of) {
                    next.push(one.clone());
                }
            }
            Way::Delete => {
                taken.insert(key_of);
            }
        }
    }
    // Once: there may be a hundred thousand.
    next.retain(|there| key(name, there).is_none_or(|key| !taken.contains(&key)));
    Ok(next)
}

/// What an element is the same by.
fn key(name: &str, text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Coding {
        system: Option<String>,
        code: Option<String>,
    }
    match name {
        "profile" => serde_json::from_str(text).ok(),
        _ => {
            let Coding { system, code } = serde_json::from_str(text).ok()?;
            Some(format!("{system:?} {code:?}"))
        }
    }
}

impl Failure {
    fn extended_meta() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "not-supported",
            "meta: what has extensions beside its profiles is changed by an update",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, meta: &str, way: Way) -> String {
        let body = format!(
            r#"{{"resourceType":"Parameters","parameter":[{{"name":"meta","valueMeta":{meta}}}]}}"#
        );
        Asked::read(&body).unwrap().applied(text, way).unwrap()
    }

    const BARE: &str = r#"{"resourceType":"Basic","id":"a","code":{"text":"1.50"}}"#;
    const TAGGED: &str = r#"{"resourceType":"Basic","id":"a","meta":{"tag":[{"system":"s","code":"t"}]},"code":{"text":"1.50"}}"#;
    const TAG: &str = r#"{"tag":[{"system":"s","code":"t"}]}"#;

    #[test]
    fn what_is_added_is_there_once_and_what_is_taken_away_leaves_nothing() {
        assert_eq!(changed(BARE, TAG, Way::Add), TAGGED);
        let again = r#"{"tag":[{"code":"t","system":"s","display":"d"}]}"#;
        assert_eq!(changed(TAGGED, again, Way::Add), TAGGED);
        assert_eq!(changed(TAGGED, again, Way::Delete), BARE);
        assert_eq!(changed(BARE, TAG, Way::Delete), BARE);
        let other = r#"{"tag":[{"code":"t"}],"profile":["http://p"]}"#;
        let both = changed(TAGGED, other, Way::Add);
        let expected =
            r#""meta":{"profile":["http://p"],"tag":[{"system":"s","code":"t"},{"code":"t"}]}"#;
        assert!(both.contains(expected), "{both}");
        assert_eq!(changed(&both, other, Way::Delete), TAGGED);
    }

    #[test]
    fn what_is_no_list_of_meta_is_refused() {
        for body in [
            "{}",
            r#"{"resourceType":"Parameters"}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"other","valueMeta":{}}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"meta"}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"source":"s"}}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":{}}}]}"#,
        ] {
            assert!(Asked::read(body).is_err(), "{body}");
        }
        let asked = Asked([vec!["1".to_owned()], Vec::new(), Vec::new()]);
        assert!(asked.applied(BARE, Way::Add).is_err());
        let extended = r#"{"resourceType":"Basic","id":"a","meta":{"_profile":[null]},"code":{}}"#;
        let asked = Asked([vec!["\"http://p\"".to_owned()], Vec::new(), Vec::new()]);
        assert!(asked.applied(extended, Way::Add).is_err());
    }
}
