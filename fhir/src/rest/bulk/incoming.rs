//! What an import is asked for: lines of ndjson in the body of the request, or in files that an operator has put into the
//! folder `import` of the node's data directory, which Parameters name. No address is ever fetched from.
use super::super::{
    Answer, FhirApi, InUrl, Interaction, access::Intent, check_format, negotiation, offered,
    outcome::Failure, routes::InBody, routes::in_url, sight::Sight, validating::resource_in,
    writing::drawn,
};
use super::First;
use super::kickoff::{accepted, in_parameters};
use super::record::{Asked, Incoming, Of, Part};
use crate::store::ResourceType;
use axum::http::{HeaderMap, StatusCode, header};
use std::path::Path;

/// Files of one import.
const MAX_FILES: usize = 256;
/// The name of the file that a body becomes.
const BODY: &str = "in.ndjson";

/// A job that is about to begin.
type Begun = (String, Asked, Vec<First>);

/// `POST [base]/$import`, for an operator whose token also lets them update what is in the lines.
pub async fn import(api: &FhirApi, pairs: InUrl, headers: &HeaderMap, body: InBody) -> Answer {
    let bulk = api.bulk.clone().ok_or_else(Failure::no_such_path)?;
    let asker = api.importer(headers)?;
    let id = drawn((api.draw)())
        .ok_or_else(Failure::undrawn)?
        .to_string();
    let intent = (|| {
        bulk.has_room(&asker.reader.0)?;
        let pairs = in_url(pairs)?;
        check_format(headers, &pairs)?;
        if !negotiation::wants_async(headers) {
            return Err(Failure::not_async());
        }
        let (import, first) = lines(&bulk.dir.join(&id), &bulk.import, headers, body)?;
        let asked = Asked {
            owner: asker.reader.0.clone(),
            request: format!("{}/$import", api.base),
            made: (api.now)().0,
            until: 0,
            after_commit: 0,
            since: None,
            is_new: false,
            transaction_time: String::new(),
            marks: None,
            of: Of::Everybody,
            parts: parts(api, headers)?,
            import: Some(import),
        };
        let intent = Intent {
            request: "$import".to_owned(),
            patient: None,
            resources: 0,
        };
        Ok((intent, (id, asked, first)))
    })();
    let commit = |(id, asked, first): Begun| async move {
        let place = format!("{}/bulk/{id}", api.base);
        bulk.begin(id, asked, first).await?;
        accepted(
            &place,
            "the lines are being read; ask Content-Location how far that is",
        )
    };
    asker.write(api, intent, commit).await
}

/// What the token lets its bearer update.
fn parts(api: &FhirApi, headers: &HeaderMap) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    let kinds = ResourceType::every();
    for kind in kinds.filter(|kind| offered(*kind).contains(&Interaction::Update)) {
        let granted = api.authorize.authorize(headers, kind, Interaction::Update);
        let Ok(granted) = granted else { continue };
        if Sight::of(api, kind, &granted.only).is_some() {
            parts.push(Part {
                kind: kind.to_string(),
                only: granted.only,
                filters: Vec::new(),
                named: false,
            });
        }
    }
    match parts.is_empty() {
        true => Err(Failure::nothing_to_search()),
        false => Ok(parts),
    }
}

/// The files whose lines are read, and those that the job begins with.
fn lines(
    dir: &Path,
    import: &Path,
    headers: &HeaderMap,
    body: InBody,
) -> Result<(Vec<Incoming>, Vec<First>), Failure> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let ndjson = [
        "application/fhir+ndjson",
        "application/ndjson",
        "application/x-ndjson",
    ];
    if !ndjson.iter().any(|name| kind.eq_ignore_ascii_case(name)) {
        return Ok((named(import, &resource_in(headers, body)?)?, Vec::new()));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            "put what is longer into the folder import of the node's data directory, and name its files in Parameters",
        ),
        _ => Failure::no_resource("the body cannot be read"),
    })?;
    let file = Incoming {
        name: BODY.to_owned(),
        path: dir.join(BODY).to_string_lossy().into_owned(),
        bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
    };
    let first = First {
        name: BODY.to_owned(),
        text: body.into(),
        is_told: false,
    };
    Ok((vec![file], vec![first]))
}

/// The files that Parameters name, each as `input`.
fn named(import: &Path, text: &str) -> Result<Vec<Incoming>, Failure> {
    let mut files = Vec::new();
    for (name, value) in in_parameters(text)? {
        if name != "input" {
            return Err(Failure::no_resource(
                "the parameter input is understood: the name of a file in the node's folder import",
            ));
        }
        let fits = value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let path = import.join(&value);
        let found = fits && !value.starts_with('.') && path.is_file();
        let about = path.metadata().ok().filter(|_| found);
        let about = about.ok_or_else(|| {
            let name: String = value.chars().take(64).collect();
            Failure::no_resource(&format!(
                "input: there is no file {name} in the folder import"
            ))
        })?;
        files.push(Incoming {
            name: value,
            path: path.to_string_lossy().into_owned(),
            bytes: about.len(),
        });
    }
    match (1..=MAX_FILES).contains(&files.len()) {
        true => Ok(files),
        false => Err(Failure::no_resource(
            "1 to 256 files are expected, each as input",
        )),
    }
}
