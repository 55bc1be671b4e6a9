//! References in a search: `id`, `Type/id`, or the absolute URL of what this server holds (FHIR R4 search.html#reference).
use super::{Context, Filter, SearchError, each, invalid, plain};
use crate::store::{FhirId, ResourceType};

/// Subjects, of any type that R4 lets one be of; nothing here is of a Group or a Location.
pub fn subjects(
    name: &'static str,
    value: &str,
    context: Context<'_>,
) -> Result<Filter, SearchError> {
    let (mut patients, mut devices) = (Vec::new(), Vec::new());
    for (kind, id) in each(name, value, |part| reference(name, part, context))? {
        match kind.as_deref() {
            Some("Patient") => patients.push(id),
            Some("Device") => devices.push(id),
            Some("Group" | "Location") => {}
            Some(_) => return Err(invalid(name, "a reference to another type")),
            None => {
                patients.push(id.clone());
                devices.push(id);
            }
        }
    }
    Ok(match devices.is_empty() {
        true => Filter::Patient(patients),
        false => Filter::Subject { patients, devices },
    })
}

/// Ids of resources of one type. What else R4 lets the reference be to (a DeviceMetric), no reading refers to.
pub fn references(
    name: &'static str,
    value: &str,
    kind: ResourceType,
    context: Context<'_>,
) -> Result<Vec<FhirId>, SearchError> {
    let ids = each(name, value, |part| {
        let (found, id) = reference(name, part, context)?;
        match found.as_deref() {
            Some("DeviceMetric") if kind == ResourceType::Device => Ok(None),
            Some(found) if found != kind.as_str() => {
                Err(invalid(name, "a reference to another type"))
            }
            _ => Ok(Some(id)),
        }
    })?;
    Ok(ids.into_iter().flatten().collect())
}

/// The type, where one is named, and the id of a resource of this server.
fn reference(
    name: &'static str,
    part: &str,
    context: Context<'_>,
) -> Result<(Option<String>, FhirId), SearchError> {
    let text = plain(name, part)?;
    // An absolute reference to what this server holds is one to its own (FHIR R4 search.html#reference).
    let text = context.base.below(&text).unwrap_or(text.as_str());
    if text.contains("://") {
        return Err(invalid(name, "a reference to another server"));
    }
    let (kind, id) = match text.split_once('/') {
        Some((kind, id)) => (Some(kind.to_owned()), id),
        None => (None, text),
    };
    let id = id.parse();
    let id = id.map_err(|_| invalid(name, "an id or Type/id is expected"))?;
    Ok((kind, id))
}
