//! `Observation/$lastn` (FHIR R4 observation-operation-lastn.html): the last readings of one patient, so many of each code.
//! What was entered in error, or cancelled before it was measured, is none of them.
use super::routes::in_url;
use super::{
    FhirApi, InUrl, Pairs, access, access::Asker, bundle, check_format, json, outcome::Failure,
    reading, searching, sight::Sight,
};
use crate::map::WITHDRAWN;
use crate::search::{self, Filter, Query};
use crate::store::{FhirId, MAX_PAGE, MAX_PAGE_BYTES, ResourceType, Stored};
use axum::{http::HeaderMap, response::IntoResponse};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use types::Code;

/// Readings of one code.
const MAX_OF_EACH: u16 = 100;
/// Readings that are looked at. More would hold up others.
const MAX_LOOKED_AT: usize = 20_000;
/// The status of what was not measured in the end (FHIR R4 ObservationStatus).
const CANCELLED: &str = "cancelled";

#[derive(Deserialize)]
struct Coded<'a> {
    #[serde(borrow)]
    code: Concept<'a>,
}

#[derive(Deserialize)]
struct Concept<'a> {
    #[serde(borrow, default)]
    coding: Vec<Coding<'a>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Coding<'a> {
    #[serde(borrow)]
    system: Option<Cow<'a, str>>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

/// What was asked for.
struct Asked {
    query: Query,
    patient: FhirId,
    /// Of each code.
    max: u16,
    /// As they came: for the link.
    used: Pairs,
}

impl Asked {
    fn of(api: &FhirApi, pairs: Pairs) -> Result<Self, Failure> {
        let (mut max, mut conditions) = (1, Pairs::new());
        for (name, value) in &pairs {
            match name.as_str() {
                "max" => {
                    let read = value
                        .parse()
                        .ok()
                        .filter(|max| (1..=MAX_OF_EACH).contains(max));
                    max = read.ok_or_else(|| {
                        Failure::value("max", "a whole number from 1 to 100 is expected")
                    })?;
                }
                "patient" | "subject" | "category" | "code" | "date" => {
                    conditions.push((name.clone(), value.clone()));
                }
                "_format" | "_pretty" => {}
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(Failure::unknown_parameters(&[name]));
                }
            }
        }
        let context = search::Context {
            now: (api.now)(),
            base: api.bases(),
        };
        let search = search::parse(ResourceType::Observation, &conditions, context);
        let mut query = search.map_err(|error| Failure::search(&error))?.query;
        query.written = Some(searching::written(api, &conditions)?);
        let patient = query.filters.iter().find_map(|filter| match filter {
            Filter::Patient(ids) if ids.len() == 1 => ids.first().cloned(),
            _ => None,
        });
        let patient =
            patient.ok_or_else(|| Failure::value("patient", "one patient is expected"))?;
        Ok(Self {
            query,
            patient,
            max,
            used: pairs,
        })
    }

    /// The codes that the client names.
    fn codes(&self) -> Option<&[Code]> {
        self.query.filters.iter().find_map(|filter| match filter {
            Filter::Code(codes) => Some(codes.as_slice()),
            _ => None,
        })
    }

    /// The last ones of each code that is named, of readings and of what clients wrote.
    async fn of_codes(&self, api: &FhirApi, codes: &[Code]) -> Result<Vec<Stored>, Failure> {
        let mut found = self.by_codes(api, codes).await?;
        let written = Self {
            query: self.query.of_clients(),
            patient: self.patient.clone(),
            used: Pairs::new(),
            ..*self
        };
        let written = written.by_walking(api, &Sight::Everything).await?;
        if written.is_empty() {
            return Ok(found);
        }
        found.extend(written);
        found.sort_by_cached_key(|one| std::cmp::Reverse((one.listed_at(), one.id.clone())));
        let mut counts: HashMap<String, u16> = HashMap::new();
        found.retain(|stored| {
            let count = counts.entry(code_of(stored)).or_default();
            *count += 1;
            *count <= self.max
        });
        Ok(found)
    }

    /// The last readings of each code that is named.
    async fn by_codes(&self, api: &FhirApi, codes: &[Code]) -> Result<Vec<Stored>, Failure> {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for code in codes {
            let mut query = Query {
                count: self.max,
                written: None,
                ..self.query.clone()
            };
            query.filters.push(Filter::Code(vec![*code]));
            let before = found.len();
            loop {
                let page = api.store.search(&query).await?;
                looked_at += page.resources.iter().map(Stored::weight).sum::<usize>();
                found.extend(page.resources.into_iter().filter(stands));
                found.truncate(before + usize::from(self.max));
                query.after = page.next;
                let is_enough = found.len() == before + usize::from(self.max);
                if is_enough || query.after.is_none() {
                    break;
                }
                if looked_at >= MAX_LOOKED_AT {
                    return Err(Failure::too_many_last());
                }
                // Behind what does not stand there may be much more of it, as of a stay of somebody else.
                query.count = MAX_PAGE;
            }
            if found.len() > usize::from(MAX_PAGE) {
                return Err(Failure::too_many_last());
            }
        }
        Ok(found)
    }

    /// The last ones of every code, among all that there are, the newest first.
    async fn by_walking(&self, api: &FhirApi, sight: &Sight) -> Result<Vec<Stored>, Failure> {
        let mut query = Query {
            count: MAX_PAGE,
            ..self.query.clone()
        };
        let (mut found, mut looked_at, mut bytes) = (Vec::new(), 0, 0);
        let mut counts: HashMap<String, u16> = HashMap::new();
        loop {
            let page = api.store.search(&query).await?;
            looked_at += page.resources.iter().map(Stored::weight).sum::<usize>();
            let shown = page.resources.into_iter().filter(|one| sight.shows(one));
            for stored in shown.filter(stands) {
                let count = counts.entry(code_of(&stored)).or_default();
                if *count < self.max {
                    *count += 1;
                    bytes += stored.json.len();
                    found.push(stored);
                }
            }
            if bytes > 2 * MAX_PAGE_BYTES {
                return Err(Failure::too_many_last());
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(found);
            }
            if looked_at >= MAX_LOOKED_AT || found.len() > usize::from(MAX_PAGE) {
                return Err(Failure::too_many_last());
            }
        }
    }
}

/// Whether a reading stands: not where it was entered in error, or cancelled.
fn stands(stored: &Stored) -> bool {
    #[derive(Deserialize)]
    struct Standing<'a> {
        #[serde(borrow)]
        status: Option<Cow<'a, str>>,
    }
    if ![WITHDRAWN, CANCELLED]
        .iter()
        .any(|status| stored.json.contains(status))
    {
        return true;
    }
    let standing: Option<Standing<'_>> = serde_json::from_str(&stored.json).ok();
    let status = standing.and_then(|standing| standing.status);
    status.is_none_or(|status| ![WITHDRAWN, CANCELLED].contains(&status.as_ref()))
}

/// System and code of the first coding; the text of what has no coding.
fn code_of(stored: &Stored) -> String {
    let coded: Option<Coded<'_>> = serde_json::from_str(&stored.json).ok();
    let Some(Concept { coding, text }) = coded.map(|coded| coded.code) else {
        return String::new();
    };
    let Some(Coding { system, code }) = coding.into_iter().next() else {
        return text.unwrap_or_default().into_owned();
    };
    format!(
        "{}|{}",
        system.unwrap_or_default(),
        code.unwrap_or_default()
    )
}

pub async fn lastn(
    api: &FhirApi,
    asker: &Asker,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<access::Found, Failure> {
    let pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    let asked = Asked::of(api, pairs)?;
    let found = match asked.codes() {
        Some(codes) if asker.sight == Sight::Everything => asked.of_codes(api, codes).await?,
        _ => asked.by_walking(api, &asker.sight).await?,
    };
    let last = found.iter().map(|stored| stored.seq).max().unwrap_or(0);
    let instants = reading::instants(api, &asker.reader, last).await?;
    let request = bundle::with_query("Observation/$lastn", asked.used.iter());
    let mut answer = bundle::Page::new(instants.last(), None);
    answer.link("self", format!("{}/{request}", api.base));
    for stored in &found {
        let url = format!("{}/Observation/{}", api.base, stored.id);
        answer.entry(Some(url), stored.stamped(&instants.of(stored))?, "match");
    }
    let given = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let mut names: Vec<String> = asked.used.iter().map(|(name, _)| name.clone()).collect();
    names.push("$lastn".to_owned());
    let response = json(answer.text()?).into_response();
    let found = access::Found::new(response, given, request);
    Ok(found.by(names).of(Some(asked.patient)))
}
