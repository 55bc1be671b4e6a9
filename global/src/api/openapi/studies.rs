//! How studies are described.
use super::{names, query, reference, request, with};
use crate::{api::query::StudyQuery, page};
use serde_json::{Value, json};

/// Studies: submitted as TOML, and listed.
pub(super) fn all() -> Value {
    let most = StudyQuery::MOST;
    let paging = [
        query(
            "after",
            json!({"type": "string", "description": "`next` of the page before: those that are older"}),
        ),
        query(
            "limit",
            json!({"type": "integer", "minimum": 1, "maximum": most, "default": most}),
        ),
    ];
    let submit = request(
        ("Submit a study (TOML)", "mesh/studies.c"),
        &[],
        ("201", "It runs", json_of(reference("Study"))),
        &["413", "415"],
    );
    let body =
        json!({"required": true, "content": {"application/toml": {"schema": {"type": "string"}}}});
    let submit = refusing(with(submit, "requestBody", body));
    let list = request(
        ("List studies, the newest first", "mesh/studies.s"),
        &paging,
        ("200", "A page", json_of(super::page("Study"))),
        &["400"],
    );
    json!({"post": submit, "get": list})
}

/// A study that is read.
pub(super) fn one() -> Value {
    let what = "Read a study: its rounds, what it spent, how good its model is";
    let good = ("200", "The study", json_of(reference("Study")));
    json!({"get": request((what, "mesh/studies.r"), &[id()], good, &["404"])})
}

/// A study that is changed.
pub(super) fn changed(summary: &str) -> Value {
    let good = ("200", "The study", json_of(reference("Study")));
    let scope = "mesh/studies.u";
    json!({"post": request((summary, scope), &[id()], good, &["404", "413", "422"])})
}

/// The files of a study.
pub(super) fn file() -> Value {
    let file =
        json!({"name": "file", "in": "path", "required": true, "schema": names(&page::FILES)});
    let what = "A file of a study: its model as safetensors or ONNX, its card, its curves as SVG";
    let content = json!({
        "application/octet-stream": {},
        "image/svg+xml": {},
        "text/markdown": {"schema": {"type": "string"}},
    });
    let good = ("200", "The file", content);
    json!({"get": request((what, "mesh/studies.r"), &[id(), file], good, &["404"])})
}

/// A link for a browser.
pub(super) fn link() -> Value {
    let what = "A link that opens the pages of studies in a browser, good once and for a minute";
    let link = json!({
        "type": "object",
        "required": ["link", "expires_in"],
        "properties": {
            "link": {"type": "string", "description": "&study=ID behind it shows that study"},
            "expires_in": {"type": "integer", "description": "seconds"},
        },
    });
    let good = ("200", "The link", json_of(link));
    json!({"post": request((what, "mesh/studies.rs"), &[], good, &["413"])})
}

/// The request of which a study may be refused.
fn refusing(mut request: Value) -> Value {
    if let Some(responses) = request.get_mut("responses") {
        *responses = with(responses.take(), "422", refused());
    }
    request
}

/// What is wrong with a study that is submitted.
fn refused() -> Value {
    json!({
        "description": "What is wrong with it: `detail` has a line each, `problems` the same by key",
        "content": {"application/problem+json": {"schema": {"allOf": [
            reference("Problem"),
            {"type": "object", "properties": {"problems": {"type": "array", "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            }}}},
        ]}}},
    })
}

fn id() -> Value {
    json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}})
}

fn json_of(schema: Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

/// What studies are answered as.
pub(super) fn schemas() -> [(&'static str, Value); 5] {
    [
        ("Study", study()),
        ("Round", round()),
        ("Waiting", waiting()),
        ("Evaluation", evaluation()),
        ("Figures", figures()),
    ]
}

fn study() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "required": ["study", "status", "submitted", "rounds"],
        "properties": {
            "study": {"type": "string", "description": "its id"},
            "status": names(&["running", "done", "failed", "cancelled"]),
            "submitted": {"type": "string", "format": "date-time"},
            "rounds": {"type": "integer", "description": "rounds of training that are done"},
            "rounds_planned": {"type": "integer"},
            "why": {"type": "string", "description": "why it failed"},
            "name": text,
            "unit": names(&["none", "record", "facility"]),
            "epsilon": {"type": ["number", "null"], "description": "spent so far"},
            "delta": {"type": ["number", "null"]},
            "waiting": reference("Waiting"),
            "text": {"type": "string", "description": "study.toml; this and what follows is not in listings"},
            "plan": {"type": "object", "description": "what it comes to, as `medmesh fl check --json` says it"},
            "progress": {"type": "array", "items": reference("Round")},
            "evaluation": {"oneOf": [reference("Evaluation"), {"type": "null"}]},
            "model": {
                "type": "object",
                "required": ["parameters", "sha256"],
                "properties": {"parameters": {"type": "integer"}, "sha256": text},
            },
        },
    })
}

fn round() -> Value {
    let number = json!({"type": ["number", "null"]});
    json!({
        "type": "object",
        "required": ["round", "attempt", "began_ms", "ended_ms", "members", "bytes", "sites"],
        "properties": {
            "round": {"type": "integer", "description": "the one after the last of `rounds_planned` judges the model"},
            "attempt": {"type": "integer"},
            "began_ms": {"type": "integer", "description": "ms since 1970"},
            "ended_ms": {"type": "integer", "description": "ms since 1970"},
            "members": {"type": "integer", "description": "sites in the sum"},
            "bytes": {"type": "integer", "description": "of masked numbers that came in"},
            "epsilon": number,
            "failure": {"type": ["string", "null"]},
            "sites": {"type": "object", "additionalProperties": {
                "type": "object",
                "required": ["told"],
                "properties": {
                    "missing": {"type": "string", "description": "why it is not in the sum"},
                    "note": {"type": "string", "description": "what was done to its update, or refused of it"},
                    "told": {"type": "object", "properties": {
                        "loss": number, "auroc": number, "figures": reference("Figures"), "personal": reference("Figures"),
                    }},
                },
            }},
        },
    })
}

fn waiting() -> Value {
    json!({
        "type": "object",
        "description": "the round that a running study is in",
        "required": ["round", "attempt", "judges", "began_ms", "until_ms", "regions", "sites"],
        "properties": {
            "round": {"type": "integer"},
            "attempt": {"type": "integer"},
            "judges": {"type": "boolean"},
            "began_ms": {"type": "integer", "description": "ms since 1970"},
            "until_ms": {"type": "integer", "description": "when it ends at the latest"},
            "regions": {"type": "array", "items": {"type": "string"}, "description": "those that have not answered"},
            "sites": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "how sites stand in a round that lasts: that they take part, that they have not answered, or why they decline",
            },
        },
    })
}

fn evaluation() -> Value {
    let sites = json!({"type": "object", "additionalProperties": reference("Figures")});
    let pooled = json!({"oneOf": [reference("Figures"), {"type": "null"}]});
    json!({
        "type": "object",
        "required": ["pooled", "sites"],
        "properties": {
            "pooled": pooled,
            "sites": sites,
            "why": {"type": "string", "description": "why nothing is told of all sites together"},
            "personal": {
                "type": "object",
                "description": "of each site's own model, after fine-tuning",
                "properties": {"pooled": pooled, "sites": sites},
            },
            "curves": {"type": "object", "properties": {
                "roc": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
                "calibration": {"type": "array", "items": {"type": "object", "properties": {
                    "records": {"type": "integer"}, "yes": {"type": "integer"}, "score": {"type": "number"},
                }}},
            }},
        },
    })
}

fn figures() -> Value {
    let number = json!({"type": "number"});
    let maybe =
        json!({"type": ["number", "null"], "description": "null where all labels are the same"});
    let interval = json!({
        "type": "object",
        "required": ["low", "high"],
        "properties": {"low": number, "high": number},
    });
    json!({
        "type": "object",
        "properties": {
            "records": {"type": "integer"},
            "accuracy": number,
            "auroc": maybe,
            "auprc": maybe,
            "brier": number,
            "calibration": number,
            "calibration_intercept": number,
            "calibration_slope": number,
            "concordance": {"type": "number", "description": "Harrell's c; of a Cox model alone, which has no other figure"},
            "intervals": {"type": "object", "additionalProperties": interval},
            "why": {"type": "string", "description": "why there is no area under a curve"},
        },
    })
}
