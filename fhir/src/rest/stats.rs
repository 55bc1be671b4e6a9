//! `Observation/$stats` (FHIR R4 observation-operation-stats.html): statistics of the readings of one subject, of each code.
//!
//! The store picks the numbers; no reading is loaded for them, unless the token covers only a part of the readings, which
//! are then judged one by one, as what clients wrote is always. What was entered in error counts nowhere. Variance and standard deviation are those of the
//! N numbers themselves; quantiles lie between two numbers where they fall between them (linearly).
mod figures;

use super::routes::{Posted, in_url};
use super::{Answer, Api, bundle};
use super::{
    FhirApi, InUrl, Interaction, Pairs, access, access::Asker, bulk::in_parameters, check_format,
    json, outcome::Failure, reading, searching, sight::Sight, validating::resource_in,
};
use crate::json::with;
use crate::map::WITHDRAWN;
use crate::search::{self, Filter, Query};
use crate::store::{
    Kind, MAX_PAGE, MAX_PAGE_BYTES, Measure, ResourceType, StoreError, Stored, bytes_of,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use figures::Statistic;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json as value};
use types::Code;

/// Readings of one request. More is refused: their numbers are held at once, 40 bytes each.
pub const MAX_MEASURES: usize = 200_000;
/// Readings that are judged one by one. More would hold up others.
const MAX_JUDGED: usize = 20_000;
/// Codes of one request.
const MAX_CODES: usize = 20;
/// Milliseconds of an hour.
const HOUR_MS: f64 = 3_600_000.0;

/// What was asked for.
struct Asked {
    /// Of the subject, within the time.
    conditions: Pairs,
    subject: String,
    codes: Vec<String>,
    statistics: Vec<Statistic>,
    include: bool,
    limit: u16,
    used: Pairs,
}

/// By GET, and by POST with Parameters.
pub async fn answer(api: Api, pairs: InUrl, headers: HeaderMap, Posted(body): Posted) -> Answer {
    let headers = &headers;
    let asker = api.asker(headers, ResourceType::Observation, Interaction::SearchType)?;
    let found = async {
        let mut pairs = in_url(pairs)?;
        check_format(headers, &pairs)?;
        if let Some(body) = body {
            pairs.extend(in_parameters(&resource_in(headers, body)?)?);
        }
        stats(&api, &asker, Asked::of(&api, pairs)?).await
    };
    let found = found.await;
    asker.answer(&api, found).await
}

impl Asked {
    fn of(api: &FhirApi, pairs: Pairs) -> Result<Self, Failure> {
        let mut asked = Self {
            conditions: Pairs::new(),
            subject: String::new(),
            codes: Vec::new(),
            statistics: Vec::new(),
            include: false,
            limit: MAX_PAGE,
            used: Pairs::new(),
        };
        let system = pairs.iter().find(|(name, _)| name == "system");
        let system = system.map(|(_, system)| system.clone());
        for (name, text) in pairs {
            match name.as_str() {
                "subject" if asked.subject.is_empty() => {
                    asked.subject = text.clone();
                    asked.conditions.push(("subject".to_owned(), text.clone()));
                }
                "code" => asked
                    .codes
                    .extend(text.split(',').map(|code| match &system {
                        Some(system) => format!("{system}|{code}"),
                        None => code.to_owned(),
                    })),
                "coding" => asked.codes.push(text.clone()),
                "statistic" => {
                    for name in text.split(',') {
                        let known = Statistic::parse(name.trim());
                        asked.statistics.push(known.ok_or_else(|| unknown(name))?);
                    }
                }
                "duration" => asked.lasts(api, &text)?,
                "period.start" => asked
                    .conditions
                    .push(("date".to_owned(), format!("ge{text}"))),
                "period.end" => asked
                    .conditions
                    .push(("date".to_owned(), format!("le{text}"))),
                "include" => {
                    asked.include = text
                        .parse()
                        .map_err(|_| Failure::value("include", "true or false is expected"))?;
                }
                "limit" => {
                    let limit: Option<u64> = text.parse().ok().filter(|limit| *limit > 0);
                    let limit = limit.ok_or_else(|| {
                        Failure::value("limit", "a whole number above 0 is expected")
                    })?;
                    asked.limit = u16::try_from(limit).unwrap_or(MAX_PAGE).min(MAX_PAGE);
                }
                "system" | "_format" | "_pretty" => {}
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(Failure::unknown_parameters(&[name]));
                }
            }
            asked.used.push((name, text));
        }
        asked.is_whole().map(|()| asked)
    }

    fn is_whole(&self) -> Result<(), Failure> {
        if self.subject.is_empty() {
            return Err(Failure::value("subject", "one subject is expected"));
        }
        if self.codes.is_empty() || self.codes.len() > MAX_CODES {
            return Err(Failure::value("code", "1 to 20 codes are expected"));
        }
        match self.statistics.is_empty() {
            true => Err(Failure::value(
                "statistic",
                "one statistic or more is expected",
            )),
            false => Ok(()),
        }
    }

    /// The last hours. Where dates are shifted, now is no time of theirs.
    fn lasts(&mut self, api: &FhirApi, text: &str) -> Result<(), Failure> {
        let hours: Option<f64> = text.parse().ok();
        let hours = hours.filter(|hours| hours.is_finite() && (0.0..=1e6).contains(hours));
        let hours = hours.ok_or_else(|| Failure::value("duration", "hours are expected"))?;
        if !(api.true_times)() {
            return Err(Failure::value(
                "duration",
                "dates are shifted here, so that the last hours are not known; a period is expected",
            ));
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most a million hours")]
        let ms = (hours * HOUR_MS) as i64;
        let from = (api.now)().plus_ms(-ms).to_rfc3339();
        self.conditions
            .push(("date".to_owned(), format!("ge{from}")));
        Ok(())
    }

    /// The query of one code, and what the code is.
    fn query(&self, api: &FhirApi, code: &str) -> Result<(Query, Option<Code>), Failure> {
        let mut pairs = self.conditions.clone();
        pairs.push(("code".to_owned(), code.to_owned()));
        let context = search::Context {
            now: (api.now)(),
            base: api.bases(),
        };
        let search = search::parse(ResourceType::Observation, &pairs, context);
        let mut query = search.map_err(|error| Failure::search(&error))?.query;
        query.written = Some(searching::written(api, &pairs)?);
        let subjects = query.filters.iter().find_map(|filter| match filter {
            Filter::Subject { patients, devices } => Some(patients.len() + devices.len()),
            Filter::Patient(ids) | Filter::Device(ids) => Some(ids.len()),
            _ => None,
        });
        if subjects != Some(1) {
            return Err(Failure::value("subject", "one subject is expected"));
        }
        let known = query.filters.iter().find_map(|filter| match filter {
            Filter::Code(codes) => codes.first().copied(),
            _ => None,
        });
        Ok((query, known))
    }
}

fn unknown(name: &str) -> Failure {
    let name: String = name.chars().take(64).collect();
    Failure::new(
        StatusCode::BAD_REQUEST,
        "not-supported",
        format!(
            "statistic: {name} is none that is made here, which are {}",
            Statistic::names()
        ),
    )
}

async fn stats(api: &FhirApi, asker: &Asker, asked: Asked) -> Result<access::Found, Failure> {
    let (mut parameters, mut given) = (Vec::new(), 0);
    let raw =
        |value: &Value| to_raw_value(value).map_err(|_| StoreError::new(Kind::Internal, "stats"));
    for code in &asked.codes {
        let (query, known) = asked.query(api, code)?;
        let measures = measures(api, &asker.sight, &query).await?;
        given += measures.len();
        for (unit, own) in by_unit(&measures) {
            let told = observation(&asked, (code, known), unit, &own);
            parameters.push(value!({"name": "statistics", "resource": told}));
        }
    }
    let mut body = Vec::new();
    for parameter in &parameters {
        body.push(raw(parameter)?);
    }
    if asked.include {
        body.extend(sources(api, asker, &asked).await?);
    }
    let body: Vec<&str> = body.iter().map(|one| one.get()).collect();
    let body = format!(
        "{{\"resourceType\":\"Parameters\",\"parameter\":[{}]}}",
        body.join(",")
    );
    let request = bundle::with_query("Observation/$stats", asked.used.iter());
    let mut names: Vec<String> = asked.used.iter().map(|(name, _)| name.clone()).collect();
    names.push("$stats".to_owned());
    let given = u32::try_from(given).unwrap_or(u32::MAX);
    let found = access::Found::new(json(body).into_response(), given, request);
    let patient = asked.subject.strip_prefix("Patient/");
    Ok(found.by(names).of(patient.and_then(|id| id.parse().ok())))
}

/// The numbers that a query finds.
async fn measures(api: &FhirApi, sight: &Sight, query: &Query) -> Result<Vec<Measure>, Failure> {
    if *sight != Sight::Everything {
        return judged(api, sight, query).await;
    }
    let mut found = api.store.measures(query, MAX_MEASURES + 1).await?;
    found.extend(judged(api, sight, &query.of_clients()).await?);
    match found.len() > MAX_MEASURES {
        true => Err(too_many(MAX_MEASURES)),
        false => Ok(found),
    }
}

fn too_many(most: usize) -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        "too-costly",
        format!("these are more than {most} readings; ask for a shorter time"),
    )
}

/// The numbers of what is read and judged one by one.
async fn judged(api: &FhirApi, sight: &Sight, query: &Query) -> Result<Vec<Measure>, Failure> {
    let mut query = Query {
        count: MAX_PAGE,
        ..query.clone()
    };
    let (mut found, mut judged) = (Vec::new(), 0);
    loop {
        let page = api.store.search(&query).await?;
        judged += page.resources.iter().map(Stored::weight).sum::<usize>();
        let shown = page.resources.iter().filter(|one| sight.shows(one));
        found.extend(shown.filter_map(|stored| measure_of(&stored.json)));
        query.after = page.next;
        if query.after.is_none() {
            return Ok(found);
        }
        if judged >= MAX_JUDGED {
            return Err(too_many(MAX_JUDGED));
        }
    }
}

/// What a reading says; nothing where it was entered in error.
fn measure_of(text: &str) -> Option<Measure> {
    let reading: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| reading.get(name).and_then(Value::as_str);
    if text("status") == Some(WITHDRAWN) {
        return None;
    }
    let quantity = |name: &str| reading.get("valueQuantity")?.get(name);
    Some(Measure {
        effective: text("effectiveDateTime").and_then(|time| time.parse().ok()),
        value: quantity("value").and_then(Value::as_f64),
        unit: quantity("code").and_then(Value::as_str).map(str::to_owned),
    })
}

/// The measures of each unit, as no number is made of several units; those without a number belong to each. Where there is
/// none at all, that is told of no unit.
fn by_unit(measures: &[Measure]) -> Vec<(Option<&str>, Vec<&Measure>)> {
    let with_number = measures.iter().filter(|one| one.value.is_some());
    let mut units: Vec<Option<&str>> = with_number.map(|one| one.unit.as_deref()).collect();
    units.sort_unstable();
    units.dedup();
    if units.is_empty() {
        units.push(None);
    }
    let own = |unit: Option<&str>| {
        let of_unit = |one: &&Measure| one.value.is_none() || one.unit.as_deref() == unit;
        measures.iter().filter(of_unit).collect::<Vec<_>>()
    };
    units.into_iter().map(|unit| (unit, own(unit))).collect()
}

/// The statistics as one Observation.
fn observation(
    asked: &Asked,
    (code, known): (&str, Option<Code>),
    unit: Option<&str>,
    measures: &[&Measure],
) -> Value {
    let coding = match known {
        Some(known) => value!({"system": known.info().system, "code": known.info().code}),
        None => match code.rsplit_once('|') {
            Some((system, code)) if !system.is_empty() => value!({"system": system, "code": code}),
            _ => value!({"code": code.trim_start_matches('|')}),
        },
    };
    let numbers = measures.iter().filter_map(|one| one.value).collect();
    let figures = figures::Figures::of(numbers, measures.len());
    let components: Vec<Value> = asked
        .statistics
        .iter()
        .map(|statistic| component(*statistic, &figures, unit))
        .collect();
    let told = value!({
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "subject": {"reference": asked.subject},
    });
    let times = || measures.iter().filter_map(|one| one.effective);
    let period = times()
        .min()
        .zip(times().max())
        .map(|(first, last)| value!({"start": first.to_rfc3339(), "end": last.to_rfc3339()}));
    let members = [
        ("effectivePeriod", period),
        ("component", Some(components.into())),
    ];
    with(told, members)
}

fn component(statistic: Statistic, figures: &figures::Figures, unit: Option<&str>) -> Value {
    let code = value!({"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/observation-statistics",
        "code": statistic.as_str(),
    }]});
    let Some(number) = figures.get(statistic) else {
        let absent = value!({"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": "not-applicable",
        }]});
        return value!({"code": code, "dataAbsentReason": absent});
    };
    let unit = unit.and_then(|unit| statistic.unit(unit));
    let quantity = match unit {
        Some(unit) => value!({
            "value": number, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit,
        }),
        None => value!({"value": number}),
    };
    value!({"code": code, "valueQuantity": quantity})
}

/// The readings that the statistics are of, as many as are asked for.
async fn sources(
    api: &FhirApi,
    asker: &Asker,
    asked: &Asked,
) -> Result<Vec<Box<RawValue>>, Failure> {
    let mut found = Vec::new();
    for code in &asked.codes {
        let (mut query, _) = asked.query(api, code)?;
        query.count = asked.limit - u16::try_from(found.len()).unwrap_or(asked.limit);
        if query.count == 0 || bytes_of(&found) >= MAX_PAGE_BYTES {
            break;
        }
        let page = api.store.search(&query).await?.resources;
        let counts = page.into_iter().filter(|one| asker.sight.shows(one));
        found.extend(counts.filter(|one| measure_of(&one.json).is_some()));
    }
    let last = found.iter().map(|stored| stored.seq).max().unwrap_or(0);
    let instants = reading::instants(api, &asker.reader, last).await?;
    let mut told = Vec::new();
    for stored in &found {
        let whole = stored.stamped_text(&instants.of(stored))?;
        let text = format!("{{\"name\":\"source\",\"resource\":{whole}}}");
        let raw = RawValue::from_string(text);
        told.push(raw.map_err(|_| StoreError::new(Kind::Corrupt, "stats"))?);
    }
    Ok(told)
}
