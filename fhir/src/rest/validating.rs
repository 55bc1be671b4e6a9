//! `$validate` (FHIR R4 resource-operation-validate.html), of every resource type and at the base: whether a text is R4 and, with a mode,
//! whether it may be here too, or whether what there is could be deleted.
//!
//! Nothing is kept, and nothing is read but for a deletion, so that there is nothing else to write down; a token is needed
//! all the same. What a profile asks for is another question, and to ask it is refused rather than left unanswered.
use super::access::Found;
use super::routes::{InBody, Segments, in_url, kind_of};
use super::{
    Answer, Api, FhirApi, InUrl, Interaction, check_format, json as respond, negotiation,
    outcome::Failure, reading, writing,
};
use crate::json::Json;
use crate::patch::write;
use crate::r4::{self, Fault, Issue};
use crate::store::{FhirId, ResourceType};
use crate::subscription::SUBSCRIPTION;
use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde_json::{Value, json};

/// `POST $validate`: of the type that the resource says it is of.
pub async fn validate_any(api: Api, pairs: InUrl, headers: HeaderMap, body: InBody) -> Answer {
    if let Err(denied) = api.authorize.known(&headers) {
        return Err(Failure::denied(&denied));
    }
    let text = resource_in(&headers, body)?;
    let tree = Json::parse(&text).map_err(|error| Failure::no_resource(&error.to_string()))?;
    let kind = named(&tree).and_then(ResourceType::parse);
    let kind =
        kind.ok_or_else(|| Failure::no_resource("a resource of a type of R4 is expected"))?;
    let body = Bytes::from(text.clone());
    validate(&api, (kind, None), pairs, &headers, Ok(body)).await
}

/// The type that a resource names; of Parameters with a resource, that of the resource.
fn named<'a>(tree: &'a Json<'_>) -> Option<&'a str> {
    let object = tree.object()?;
    let mut parameters = object.each("parameter").filter_map(Json::object);
    let resource = parameters.find(|parameter| parameter.text("name") == Some("resource"));
    let resource = resource.and_then(|parameter| parameter.get("resource")?.object());
    resource.unwrap_or(object).text("resourceType")
}

/// `POST [type]/$validate`.
pub async fn validate_type(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let kind = ResourceType::parse(path.at(0)?).ok_or_else(Failure::no_such_path)?;
    validate(&api, (kind, None), pairs, &headers, body).await
}

/// `POST [type]/[id]/$validate`.
pub async fn validate_one(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let kind = ResourceType::parse(path.at(0)?).ok_or_else(Failure::no_such_path)?;
    let id: FhirId = path.at(1)?.parse().map_err(|_| Failure::not_found())?;
    validate(&api, (kind, Some(&id)), pairs, &headers, body).await
}

/// For what it is asked (FHIR R4 ResourceValidationMode).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    Delete,
}

/// What is asked beside the resource.
#[derive(Default)]
struct Asked {
    mode: Option<Mode>,
    profiles: Vec<String>,
}

impl Asked {
    /// Takes a parameter; whether it is known.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, Failure> {
        match name {
            "mode" => {
                self.mode = match value {
                    "create" => Some(Mode::Create),
                    "update" => Some(Mode::Update),
                    "delete" => Some(Mode::Delete),
                    // Against the profiles that are named, as without a mode.
                    "profile" => None,
                    _ => {
                        let modes = "create, update, delete or profile is expected";
                        return Err(Failure::value("mode", modes));
                    }
                };
            }
            "profile" => self.profiles.push(value.to_owned()),
            "_format" | "_pretty" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// No profile is known here but that of the type itself: against another one it cannot be judged.
    fn check(&self, kind: ResourceType) -> Result<(), Failure> {
        let own = format!("http://hl7.org/fhir/StructureDefinition/{kind}");
        let is_own = |one: &String| one.split('|').next() == Some(own.as_str());
        match self.profiles.iter().all(is_own) {
            true => Ok(()),
            false => Err(Failure::no_profile()),
        }
    }
}

async fn validate(
    api: &FhirApi,
    (kind, id): (ResourceType, Option<&FhirId>),
    pairs: InUrl,
    headers: &HeaderMap,
    body: InBody,
) -> Answer {
    if let Err(denied) = api.authorize.known(headers) {
        return Err(Failure::denied(&denied));
    }
    let pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    let mut asked = Asked::default();
    let mut unknown = Vec::new();
    for (name, value) in &pairs {
        if !asked.take(name, value)? {
            unknown.push(name.clone());
        }
    }
    if !unknown.is_empty() {
        return Err(Failure::unknown_parameters(&unknown));
    }
    let is_bare = asked.mode == Some(Mode::Delete) && matches!(&body, Ok(body) if body.is_empty());
    let body = match is_bare {
        true => "{}".to_owned(),
        false => resource_in(headers, body)?,
    };
    let tree = Json::parse(&body).map_err(|error| Failure::no_resource(&error.to_string()))?;
    let resource = resource_of(kind, &tree, &mut asked)?;
    asked.check(kind)?;
    let told = match (asked.mode, resource) {
        (Some(Mode::Delete), _) => return deletion(api, kind, id, headers).await,
        (_, None) => return Err(Failure::no_resource("the parameter resource is missing")),
        (None, Some(resource)) => outcome(&judged(kind, resource)),
        (Some(mode), Some(resource)) => {
            let issues = judged(kind, resource);
            match issues.is_empty() {
                true => storing(api, headers, (kind, id), (mode, resource))?,
                false => outcome(&issues),
            }
        }
    };
    Ok(respond(told.to_string()).into_response())
}

/// Whether it would be stored: what else a write of it is judged by.
fn storing(
    api: &FhirApi,
    headers: &HeaderMap,
    (kind, id): (ResourceType, Option<&FhirId>),
    (mode, resource): (Mode, &Json<'_>),
) -> Result<Value, Failure> {
    let interaction = match mode {
        Mode::Create => Interaction::Create,
        Mode::Update | Mode::Delete => Interaction::Update,
    };
    if let Err(failure) = kind_of(kind.as_str(), interaction) {
        return Ok(failure.body());
    }
    let text = write(resource);
    let own = writing::id_in(&text);
    let is_same = |own: &String| id.is_none_or(|id| own == id.as_str());
    if mode == Mode::Update && !own.as_ref().is_some_and(is_same) {
        return Ok(Failure::another_id().body());
    }
    let drawn = writing::drawn((api.draw)()).ok_or_else(Failure::undrawn)?;
    let id = own.filter(|_| mode == Mode::Update);
    let is_taken = |id: &String| (api.holding)().takes_id(kind, id);
    if !id.as_ref().is_none_or(is_taken) {
        return Ok(Failure::id_not_taken().body());
    }
    let id = id.and_then(|id| id.parse().ok()).unwrap_or(drawn);
    let drafted = match kind.as_str() == SUBSCRIPTION {
        // What it may watch depends on who writes it.
        true => {
            let asker = api.asker(headers, kind, interaction)?;
            asker.draft(api, kind, id, &text)
        }
        false => writing::draft(api, kind, id, &text),
    };
    Ok(match drafted {
        Ok(_) => outcome(&[]),
        Err(failure) => failure.body(),
    })
}

/// Whether it could be deleted: it is there, and a client's.
async fn deletion(
    api: &FhirApi,
    kind: ResourceType,
    id: Option<&FhirId>,
    headers: &HeaderMap,
) -> Answer {
    let id = id.ok_or_else(|| Failure::value("mode", "delete is asked at [type]/[id]"))?;
    let asker = api.asker(headers, kind, Interaction::Read)?;
    let found = async {
        let stored = reading::current(api, kind, id, &asker).await?;
        let told = match writing::check_owner(api, &asker.reader, kind, id).await {
            Ok(()) => {
                let text = "the resource is there, and may be deleted by whom a token lets";
                super::outcome::outcome("information", "informational", text)
            }
            Err(failure) => failure.body(),
        };
        let response = respond(told.to_string()).into_response();
        Ok(Found::new(response, 0, format!("{kind}/{}", stored.id)))
    };
    let found = found.await;
    asker.answer(api, found).await
}

/// The text of a resource in a body.
pub fn resource_in(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Failure> {
    if !negotiation::is_resource(headers) {
        return Err(Failure::not_a_resource());
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_long(),
        _ => Failure::no_resource("the body cannot be read"),
    })?;
    let text = String::from_utf8(body.into());
    text.map_err(|_| Failure::no_resource("the body is not UTF-8"))
}

/// The resource: the body itself, or the parameter `resource` of Parameters.
fn resource_of<'a, 'b>(
    kind: ResourceType,
    tree: &'b Json<'a>,
    asked: &mut Asked,
) -> Result<Option<&'b Json<'a>>, Failure> {
    let object = tree.object();
    let is_parameters = object.and_then(|object| object.text("resourceType")) == Some("Parameters");
    let Some(parameters) = object.filter(|_| is_parameters && kind.as_str() != "Parameters") else {
        return Ok(Some(tree));
    };
    let mut resource = None;
    for parameter in parameters.each("parameter").filter_map(Json::object) {
        let name = parameter.text("name").unwrap_or_default();
        if name == "resource" && resource.is_none() {
            resource = parameter.get("resource");
            continue;
        }
        let values = ["valueCode", "valueUri", "valueCanonical", "valueString"];
        let value = values.iter().find_map(|value| parameter.text(value));
        let is_known = match value {
            Some(value) => asked.take(name, value)?,
            None => false,
        };
        if !is_known {
            return Err(Failure::no_resource(
                "the parameters resource, mode and profile are understood, each once",
            ));
        }
    }
    match (resource, asked.mode) {
        (None, mode) if mode != Some(Mode::Delete) => {
            Err(Failure::no_resource("the parameter resource is missing"))
        }
        (resource, _) => Ok(resource),
    }
}

/// What is wrong with the resource.
fn judged(kind: ResourceType, resource: &Json<'_>) -> Vec<Issue> {
    match r4::validate_tree(resource) {
        Ok(found) if found == kind.as_str() => Vec::new(),
        Ok(found) => vec![Issue {
            fault: Fault::Structure,
            expression: found.to_owned(),
            problem: format!("the resource is no {kind}, which the path is for"),
        }],
        Err(issues) => issues,
    }
}

fn outcome(issues: &[Issue]) -> Value {
    let told: Vec<Value> = issues.iter().map(super::outcome::issue_of).collect();
    match told.is_empty() {
        false => json!({"resourceType": "OperationOutcome", "issue": told}),
        true => super::outcome::outcome(
            "information",
            "informational",
            "the resource is R4; profiles and codes of value sets that are not required were not looked at",
        ),
    }
}
