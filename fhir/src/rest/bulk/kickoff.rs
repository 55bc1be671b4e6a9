//! What an export is asked for (Bulk Data Access 2.0.0, "Bulk Data Kick-off Request"), by URL or as Parameters.
use super::super::{
    Answer, FhirApi, InUrl, Interaction, Pairs, access::Asker, access::Intent, bundle,
    check_format, finding::handling, json, negotiation, outcome, outcome::Failure, reading,
    routes::InBody, routes::in_url, sight::Sight, validating::resource_in, writing::drawn,
};
use super::First;
use super::record::{Asked, Of, Part};
use super::whose;
use crate::axis::{self, CALENDAR};
use crate::query::Handling;
use crate::search::Interval;
use crate::store::{FhirId, ResourceType};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use types::Timestamp;

/// Patients of a Group whose compartments are exported: their ids are held in memory while it runs.
const MAX_MEMBERS: usize = 50_000;
/// Groups that are members of each other, one within the other or beside it.
const MAX_GROUPS: usize = 100;
/// Conditions on types in one request.
const MAX_FILTERS: usize = 64;

/// Whose data are exported.
pub enum Level {
    /// All.
    System,
    /// Of all patients.
    Patients,
    /// Of the members of a Group.
    Group(FhirId),
}

impl Level {
    fn path(&self) -> String {
        match self {
            Self::System => "$export".to_owned(),
            Self::Patients => "Patient/$export".to_owned(),
            Self::Group(id) => format!("Group/{id}/$export"),
        }
    }
}

/// What came with a request.
pub struct Request<'a> {
    pub headers: &'a HeaderMap,
    pub pairs: InUrl,
    pub body: Option<InBody>,
}

/// A job that is about to begin: its name, what was asked for, and its first files.
type Begun = (String, Asked, Vec<First>);

pub async fn export(api: &FhirApi, level: Result<Level, Failure>, request: Request<'_>) -> Answer {
    let bulk = api.bulk.clone().ok_or_else(Failure::no_such_path)?;
    let asker = api.anybody(
        request.headers,
        ResourceType::ANY,
        Interaction::SearchSystem,
    )?;
    let intent = async {
        bulk.has_room(&asker.reader.0)?;
        begun(api, &asker, level?, request).await
    };
    let intent = intent.await;
    let commit = |(id, asked, first): Begun| async move {
        let place = format!("{}/bulk/{id}", api.base);
        bulk.begin(id, asked, first).await?;
        accepted(
            &place,
            "the export is being made; ask Content-Location how far it is",
        )
    };
    asker.write(api, intent, commit).await
}

/// A job was taken in, and is there.
pub fn accepted(place: &str, text: &str) -> Result<Response, Failure> {
    let place = HeaderValue::from_str(place).map_err(|_| Failure::undrawn())?;
    let body = outcome::outcome("information", "informational", text);
    let headers = [(header::CONTENT_LOCATION, place)];
    Ok((StatusCode::ACCEPTED, headers, json(body.to_string())).into_response())
}

async fn begun(
    api: &FhirApi,
    asker: &Asker,
    level: Level,
    request: Request<'_>,
) -> Result<(Intent, Begun), Failure> {
    let Request {
        headers,
        pairs,
        body,
    } = request;
    let mut pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    if !negotiation::wants_async(headers) {
        return Err(Failure::not_async());
    }
    if let Some(body) = body {
        pairs.extend(in_parameters(&resource_in(headers, body)?)?);
    }
    let order = Order::read(api, pairs, handling(headers), &level)?;
    let parts = order.parts(api, headers, &level)?;
    let of = match &level {
        Level::System => Of::Everybody,
        Level::Patients => Of::AnyPatient,
        Level::Group(id) => members(api, headers, id).await?,
    };
    let asked_for = bundle::with_query(&level.path(), order.used.iter());
    let mut asked = Asked {
        owner: asker.reader.0.clone(),
        request: format!("{}/{asked_for}", api.base),
        made: (api.now)().0,
        until: 0,
        after_commit: 0,
        since: None,
        is_new: order.since.is_some(),
        transaction_time: String::new(),
        marks: None,
        of,
        parts,
        import: None,
    };
    stand(api, asker, order.since, &mut asked).await?;
    let id = drawn((api.draw)()).ok_or_else(Failure::undrawn)?;
    let intent = Intent {
        request: asked_for,
        patient: None,
        resources: 0,
    };
    Ok((intent, (id.to_string(), asked, order.told())))
}

/// Where the client stands: the commit at which everything is exported, and the instant that it is told of it.
async fn stand(
    api: &FhirApi,
    asker: &Asker,
    since: Option<Timestamp>,
    asked: &mut Asked,
) -> Result<(), Failure> {
    if (api.true_times)() {
        // What is stored within the same ms is exported again by the next export rather than by none.
        let (last, stored) = api.store.last().await?;
        asked.until = last;
        asked.since = since.map(|since| since.0);
        asked.transaction_time = stored.to_rfc3339();
        return Ok(());
    }
    let head = api.store.head().await?;
    let axis = api.vantages.reach(&asker.reader, head).await?;
    if let Some(since) = since {
        let after = Interval {
            from: Some(since.0.saturating_add(1)),
            until: None,
        };
        if since.0 >= CALENDAR || axis::is_ahead(&after, head) {
            return Err(Failure::value(
                "_since",
                "this server has not reached that instant: its instants are not of the calendar; the transactionTime of \
                 an export is expected, or meta.lastUpdated",
            ));
        }
        asked.after_commit = axis.commits(&after).after;
    }
    asked.until = axis.last();
    asked.transaction_time = Timestamp(axis.last()).to_rfc3339();
    asked.marks = Some(axis.to_text());
    Ok(())
}

/// What was asked for.
#[derive(Default)]
struct Order {
    types: Option<BTreeSet<ResourceType>>,
    filters: Vec<(ResourceType, String)>,
    since: Option<Timestamp>,
    /// What was not understood, of a client that is lenient.
    dropped: Vec<String>,
    used: Pairs,
}

impl Order {
    fn read(
        api: &FhirApi,
        pairs: Pairs,
        handling: Handling,
        level: &Level,
    ) -> Result<Self, Failure> {
        let mut order = Self::default();
        for (name, value) in pairs {
            let done = match name.as_str() {
                "_outputFormat" => takes_ndjson(&value),
                "_since" => order.since(&value),
                "_type" => order.types(&value, level, handling),
                "_typeFilter" => order.filters(api, &value),
                "_format" | "_pretty" => Ok(()),
                _ => Err(unknown(&format!(
                    "{name} is no parameter of an export here"
                ))),
            };
            match done {
                Ok(()) => order.used.push((name, value)),
                Err(failure) if handling == Handling::Lenient && failure.says_unsupported() => {
                    order.dropped.push(failure.says().to_owned());
                }
                Err(failure) => return Err(failure),
            }
        }
        let types = order.types.as_ref();
        let is_asked = |kind| types.is_none_or(|types| types.contains(kind));
        match order.filters.iter().all(|(kind, _)| is_asked(kind)) {
            true => Ok(order),
            false => Err(Failure::value(
                "_typeFilter",
                "a type that _type names is expected",
            )),
        }
    }

    fn since(&mut self, value: &str) -> Result<(), Failure> {
        let since: Option<Timestamp> = value.replace(' ', "+").parse().ok();
        match since.filter(|_| self.since.is_none()) {
            Some(since) => {
                self.since = Some(since);
                Ok(())
            }
            None => Err(Failure::value(
                "_since",
                "one instant with a zone is expected",
            )),
        }
    }

    fn types(&mut self, value: &str, level: &Level, handling: Handling) -> Result<(), Failure> {
        for name in value.split(',').map(str::trim) {
            let kind = match ResourceType::parse(name) {
                None => Err(format!("_type: {} is no resource type of R4", cut(name))),
                Some(kind) => match is_of(kind, level) {
                    true => Ok(kind),
                    false => Err(format!("_type: {kind} is in no compartment of a patient")),
                },
            };
            // A list that names nothing that is known asks for nothing, not for everything.
            let types = self.types.get_or_insert_default();
            match kind {
                Ok(kind) => drop(types.insert(kind)),
                Err(why) if handling == Handling::Lenient => self.dropped.push(why),
                Err(why) => return Err(unknown(&why)),
            }
        }
        Ok(())
    }

    /// Several are separated by commas before the next type.
    fn filters(&mut self, api: &FhirApi, value: &str) -> Result<(), Failure> {
        let mut texts: Vec<String> = Vec::new();
        for piece in value.split(',') {
            let begins = piece
                .split_once('?')
                .is_some_and(|(name, _)| ResourceType::parse(name.trim()).is_some());
            match texts.last_mut() {
                Some(last) if !begins => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ => texts.push(piece.trim().to_owned()),
            }
        }
        for text in texts {
            let named = text.split_once('?');
            let named = named.and_then(|(name, query)| Some((ResourceType::parse(name)?, query)));
            let (kind, query) = named.ok_or_else(|| {
                Failure::value(
                    "_typeFilter",
                    "a query such as Condition?code=… is expected",
                )
            })?;
            whose::check(api, kind, query)?;
            self.filters.push((kind, query.to_owned()));
        }
        match self.filters.len() > MAX_FILTERS {
            true => Err(Failure::value(
                "_typeFilter",
                "at most 64 queries are expected",
            )),
            false => Ok(()),
        }
    }

    /// The types that are exported: those that are named, each of which the token has to let its bearer search; or else all
    /// that it does.
    fn parts(
        &self,
        api: &FhirApi,
        headers: &HeaderMap,
        level: &Level,
    ) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        let named = |kind: &ResourceType| self.types.as_ref().is_none_or(|all| all.contains(kind));
        let kinds = ResourceType::every().filter(|kind| is_of(*kind, level));
        for kind in kinds.filter(named) {
            if self.types.is_some() {
                let _may = api.asker(headers, kind, Interaction::SearchType)?;
            }
            let granted = api
                .authorize
                .authorize(headers, kind, Interaction::SearchType);
            let Ok(granted) = granted else { continue };
            if Sight::of(api, kind, &granted.only).is_none() {
                continue;
            }
            let own = self.filters.iter().filter(|(of, _)| *of == kind);
            parts.push(Part {
                kind: kind.to_string(),
                only: granted.only,
                filters: own.map(|(_, query)| query.clone()).collect(),
                named: self.types.is_some(),
            });
        }
        match parts.is_empty() && self.types.as_ref().is_none_or(|types| !types.is_empty()) {
            true => Err(Failure::nothing_to_search()),
            false => Ok(parts),
        }
    }

    /// What was dropped, as a file of OperationOutcomes.
    fn told(&self) -> Vec<First> {
        if self.dropped.is_empty() {
            return Vec::new();
        }
        let line = |why: &String| outcome::outcome("warning", "not-supported", why).to_string();
        let lines: Vec<String> = self.dropped.iter().map(line).collect();
        vec![First {
            name: "dropped.ndjson".to_owned(),
            text: format!("{}\n", lines.join("\n")).into_bytes(),
            is_told: true,
        }]
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

fn unknown(why: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "not-supported", cut_long(why))
}

fn cut_long(text: &str) -> String {
    text.chars().take(200).collect()
}

fn is_of(kind: ResourceType, level: &Level) -> bool {
    matches!(level, Level::System) || whose::may_belong(kind)
}

/// The one format (Bulk Data Access 2.0.0, `_outputFormat`), by any of its names. A form-encoded `+` comes as a space.
fn takes_ndjson(value: &str) -> Result<(), Failure> {
    let names = ["application/fhir+ndjson", "application/ndjson", "ndjson"];
    match names.contains(&value.trim().replace(' ', "+").as_str()) {
        true => Ok(()),
        false => Err(unknown(
            "_outputFormat: application/fhir+ndjson is the only format",
        )),
    }
}

/// The patients who are members of a Group, or of a Group that is a member of it.
async fn members(api: &FhirApi, headers: &HeaderMap, id: &FhirId) -> Result<Of, Failure> {
    #[derive(Deserialize)]
    struct Group {
        #[serde(default)]
        member: Vec<Member>,
    }
    #[derive(Deserialize)]
    struct Member {
        entity: Entity,
        #[serde(default)]
        inactive: bool,
    }
    #[derive(Deserialize)]
    struct Entity {
        reference: Option<String>,
    }
    let kind = ResourceType::parse("Group").ok_or_else(Failure::no_such_path)?;
    let asker = api.asker(headers, kind, Interaction::Read)?;
    let mut patients = BTreeSet::new();
    let (mut seen, mut open) = (BTreeSet::from([id.clone()]), vec![id.clone()]);
    while let Some(next) = open.pop() {
        let stored = match reading::current(api, kind, &next, &asker).await {
            // A member that is not there, or not to be seen, has no members.
            Err(failure) if next != *id && !failure.is(StatusCode::SERVICE_UNAVAILABLE) => continue,
            found => found?,
        };
        let group: Group = serde_json::from_str(&stored.json).map_err(|_| Failure::undrawn())?;
        let active = group.member.into_iter().filter(|member| !member.inactive);
        for reference in active.filter_map(|member| member.entity.reference) {
            let own = api.bases().below(&reference);
            let parts = own.unwrap_or(&reference).split_once('/');
            match parts.and_then(|(kind, id)| Some((kind, id.parse::<FhirId>().ok()?))) {
                Some(("Patient", id)) => drop(patients.insert(id.to_string())),
                Some(("Group", id)) if seen.insert(id.clone()) => open.push(id),
                _ => {}
            }
        }
        if patients.len() > MAX_MEMBERS || seen.len() > MAX_GROUPS {
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "too-costly",
                format!(
                    "a Group of at most {MAX_MEMBERS} patients in {MAX_GROUPS} Groups is expected"
                ),
            ));
        }
    }
    Ok(Of::Patients(patients.into_iter().collect()))
}

/// The pairs that Parameters stand for.
pub fn in_parameters(text: &str) -> Result<Pairs, Failure> {
    let wrong = || Failure::no_resource("Parameters with a name and a value each are expected");
    let body: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    if body.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Err(wrong());
    }
    let mut pairs = Pairs::new();
    let parameters = body.get("parameter").and_then(Value::as_array);
    for parameter in parameters.into_iter().flatten() {
        let name = parameter.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(wrong)?;
        match values_of(parameter) {
            values if values.is_empty() => return Err(wrong()),
            values => pairs.extend(
                values
                    .into_iter()
                    .map(|(part, value)| (format!("{name}{part}"), value)),
            ),
        }
    }
    Ok(pairs)
}

/// The value of a parameter; that of a period by its ends, that of a coding as a search has it.
fn values_of(parameter: &Value) -> Vec<(&'static str, String)> {
    const PLAIN: [&str; 9] = [
        "valueString",
        "valueInstant",
        "valueCode",
        "valueUri",
        "valueDateTime",
        "valueDate",
        "valueId",
        "valueUrl",
        "valueCanonical",
    ];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    };
    let plain = PLAIN.iter().find_map(|name| parameter[*name].as_str());
    if let Some(plain) = plain {
        return vec![("", plain.to_owned())];
    }
    let others = [
        "valueDecimal",
        "valueInteger",
        "valuePositiveInt",
        "valueBoolean",
    ];
    if let Some(other) = others.iter().find_map(|name| text(&parameter[*name])) {
        return vec![("", other)];
    }
    let coding = &parameter["valueCoding"];
    if let Some(code) = coding["code"].as_str() {
        let system = coding["system"].as_str().unwrap_or_default();
        return vec![("", format!("{system}|{code}"))];
    }
    let ends = [(".start", "start"), (".end", "end")];
    let period = ends
        .into_iter()
        .filter_map(|(part, name)| Some((part, text(parameter.get("valuePeriod")?.get(name)?)?)));
    period.collect()
}
