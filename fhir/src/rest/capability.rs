//! `GET /fhir/metadata`: the CapabilityStatement of what [`offered`] says. Public (FHIR R4 http.html#capabilities).
use super::{
    Answer, Api, FHIR_JSON, FhirApi, InUrl, Interaction, SYSTEM, check_format, json as respond,
    offered, outcome::Failure, patching::JSON_PATCH, routes::in_url, subscribing,
};
use crate::admit::Holding;
use crate::json::with;
use crate::query;
use crate::search::params_of;
use crate::store::ResourceType;
use crate::subscription::SUBSCRIPTION;
use axum::{http::HeaderMap, response::IntoResponse};
use serde_json::{Value, json};

/// The version of FHIR whose elements and rules are served.
pub const FHIR_VERSION: &str = "4.0.1";
/// The day on which the table last changed.
const DATE: &str = "2026-11-29";
/// The compartments, as R4 names their definitions.
const COMPARTMENTS: [&str; 5] = [
    "device",
    "encounter",
    "patient",
    "practitioner",
    "relatedPerson",
];

pub async fn metadata(api: Api, pairs: InUrl, headers: HeaderMap) -> Answer {
    let pairs = in_url(pairs)?;
    check_format(&headers, &pairs)?;
    // Everything here is normative or not by R4 itself; of terminology there is none (FHIR R4 http.html#capabilities).
    let is_other = |(name, value): &(String, String)| {
        name == "mode" && !matches!(value.as_str(), "full" | "normative")
    };
    if pairs.iter().any(is_other) {
        return Err(Failure::value("mode", "full or normative is expected"));
    }
    Ok(respond(statement(&api).to_string()).into_response())
}

fn statement(api: &FhirApi) -> Value {
    let resources: Vec<Value> = ResourceType::every()
        .map(|kind| {
            let exports = api.bulk.is_some();
            let mut told = resource(kind, offered(kind), (exports, (api.true_times)()));
            if kind.as_str() == SUBSCRIPTION && api.subscriptions.is_some() {
                subscribing::announce(&mut told);
            }
            told
        })
        .collect();
    let system = SYSTEM.iter().map(|one| json!({"code": one.as_str()}));
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "software": {"name": "MedMesh", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {
            "description": what_is_here((api.holding)()),
            "url": api.base,
        },
        "fhirVersion": FHIR_VERSION,
        "format": [FHIR_JSON, "json"],
        "patchFormat": [JSON_PATCH, FHIR_JSON],
        "rest": [{
            "mode": "server",
            "security": security(api.token_url.as_deref()),
            "resource": resources,
            "interaction": system.collect::<Vec<_>>(),
            "searchParam": [
                {"name": "_id", "type": "token"},
                {"name": "_lastUpdated", "type": "date"},
            ],
            "operation": system_operations(api),
            "compartment": COMPARTMENTS
                .map(|name| format!("http://hl7.org/fhir/CompartmentDefinition/{name}")),
        }],
    });
    let kept = ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"];
    with(
        statement,
        [("instantiates", api.bulk.is_some().then(|| json!(kept)))],
    )
}

/// The operations of no type in particular.
fn system_operations(api: &FhirApi) -> Value {
    let mut all = vec![json!({
        "name": "validate",
        "definition": "http://hl7.org/fhir/OperationDefinition/Resource-validate",
        "documentation": "At the base, and at [type]/$validate and [type]/[id]/$validate of every resource type of R4, with a mode; of profiles, R4's own alone",
    })];
    if api.bulk.is_some() {
        all.push(json!({"name": "export", "definition": exported("export")}));
        all.push(json!({
            "name": "import",
            "definition": format!("{}/OperationDefinition/import", api.base),
            "documentation": "For operators: POST [base]/$import of application/fhir+ndjson, each line as a PUT",
        }));
    }
    all.into()
}

/// An operation of Bulk Data Access 2.0.0.
fn exported(name: &str) -> String {
    format!("http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{name}")
}

const fn what_is_here(holding: Holding) -> &'static str {
    match holding {
        Holding::Pseudonymous { .. } => {
            "Pseudonymous data of one region: what its facilities deliver, and what clients write"
        }
        Holding::Identified => {
            "Identified data of one facility, for its own programs: what its devices measure and its staff enters, as it is \
             stored and with true times, and what clients write. Nothing of it leaves the facility"
        }
    }
}

fn security(token_url: Option<&str>) -> Value {
    let Some(token_url) = token_url else {
        return json!({"description": "A bearer token that the facility gives by hand: its file of rights says for what"});
    };
    json!({
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [{"url": "token", "valueUri": token_url}],
        }],
        "service": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
            "code": "SMART-on-FHIR",
        }]}],
    })
}

/// The operations of a type, beside `$validate`.
fn operations(kind: ResourceType, exports: bool) -> Value {
    let of = |name: &str, definition: &str| {
        let url = format!("http://hl7.org/fhir/OperationDefinition/{definition}");
        json!({"name": name, "definition": url})
    };
    let mut all = vec![
        of("meta", "Resource-meta"),
        of("meta-add", "Resource-meta-add"),
        of("meta-delete", "Resource-meta-delete"),
    ];
    match kind.as_str() {
        "Patient" => all.push(of("everything", "Patient-everything")),
        "Encounter" => all.push(of("everything", "Encounter-everything")),
        "Observation" => all.extend([
            of("lastn", "Observation-lastn"),
            of("stats", "Observation-stats"),
        ]),
        _ => {}
    }
    let own = match kind.as_str() {
        "Patient" if exports => Some("patient-export"),
        "Group" if exports => Some("group-export"),
        _ => None,
    };
    all.extend(own.map(|name| json!({"name": "export", "definition": exported(name)})));
    all.into()
}

/// What is worth saying of a parameter, beyond what R4 does.
fn about(kind: ResourceType, code: &str) -> Option<&'static str> {
    let of_readings = params_of(ResourceType::Observation).iter();
    let mut own = of_readings.filter(|_| !kind.is_indexed() || code.starts_with('_'));
    own.find(|param| param.name == code)
        .map(|param| param.about)
}

fn resource(
    kind: ResourceType,
    interactions: &[Interaction],
    (exports, true_times): (bool, bool),
) -> Value {
    let resource = json!({
        "type": kind.as_str(),
        "interaction": interactions
            .iter()
            .map(|interaction| json!({"code": interaction.as_str()}))
            .collect::<Vec<_>>(),
        "versioning": match interactions.contains(&Interaction::Update) {
            true => "versioned-update",
            false => "versioned",
        },
        // A logical instant is too coarse, in whole seconds, to say that nothing was changed.
        "conditionalRead": match true_times {
            true => "full-support",
            false => "not-match",
        },
        "readHistory": interactions.contains(&Interaction::Vread),
        "updateCreate": interactions.contains(&Interaction::Update),
        "conditionalCreate": interactions.contains(&Interaction::Create),
    });
    let creates = interactions.contains(&Interaction::Create);
    let params = || query::params(kind.as_str());
    let told = params().map(|param| match about(kind, param.code) {
        Some(about) => {
            json!({"name": param.code, "type": param.kind.as_str(), "documentation": about})
        }
        None => json!({"name": param.code, "type": param.kind.as_str()}),
    });
    let told = told.collect();
    let references = params().filter(|param| param.is_followed());
    let includes: Vec<String> = references
        .map(|param| format!("{kind}:{}", param.code))
        .collect();
    with(
        resource,
        [
            ("operation", Some(operations(kind, exports))),
            ("conditionalUpdate", creates.then(|| json!(true))),
            ("conditionalDelete", creates.then(|| json!("single"))),
            ("searchParam", Some(told)),
            (
                "searchInclude",
                (!includes.is_empty()).then(|| json!(includes)),
            ),
        ],
    )
}
