//! A command as clients see it.
use super::rows::{Row, parameters_json};
use fhir::json::with;
use serde_json::{Value, json};

/// A command as clients see it, with the first `steps` steps of its history.
pub fn command_json(row: &Row, steps: usize) -> Value {
    let history: Vec<Value> = row
        .history
        .events()
        .iter()
        .take(steps)
        .map(|event| {
            let step = json!({
                "state": event.state.as_str(),
                "time": event.time.to_rfc3339(),
                "by": event.by,
            });
            let reason = event.reason.map(|reason| reason.as_str().into());
            with(step, [("reason", reason)])
        })
        .collect();
    let approval = row.approval.as_ref();
    json!({
        "id": row.id.to_string(),
        "device": row.device.to_string(),
        "name": row.name.as_str(),
        "parameters": parameters_json(&row.parameters),
        "state": history.last().and_then(|last| last.get("state")),
        "history": history,
        "expires": row.expires.to_rfc3339(),
        "sequence": row.sequence,
        "property": row.property,
        "approval": {
            "needed": row.safety,
            "by": approval.map(|(by, _)| by),
            "time": approval.map(|(_, time)| time.to_rfc3339()),
        },
    })
}
