//! What facilities report: what became of commands, and what their devices say of themselves. Each parcel is one commit;
//! the same report again changes nothing. A facility speaks of its own devices alone.
use super::{
    Control, Own,
    rows::Row,
    steps,
    tables::{self, Told},
    twins, wants,
};
use crate::registry::Registry;
use async_trait::async_trait;
use commands::{Event, MAX_TWIN_BYTES, Reason, State};
use federation::{
    db::DbError,
    envelope::Intact,
    ledger::{Commit, Handler},
    port::{PortError, Verdict},
    reason,
};
use messages::{CommandReport, CommandReports, TwinReport, TwinReports};
use prost::Message;
use serde_json::{Map, Value as Json};
use std::sync::Arc;
use types::{CatalogId, DeviceStatus, Id128, Place, Timestamp};

/// Takes in what became of commands.
pub struct TakesReports(pub Control);
/// Takes in what devices report.
pub struct TakesTwins(pub Control, pub Registry);

const MALFORMED: Verdict = Verdict::Quarantined {
    reason: reason::MALFORMED,
};

#[async_trait]
impl Handler for TakesReports {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let verdict = match CommandReports::decode(&parcel.body[..]) {
                Ok(body) => self.reports(from, body.reports).await?,
                Err(_) => MALFORMED,
            };
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }
}

impl TakesReports {
    async fn reports(
        &self,
        from: &Place,
        reports: Vec<CommandReport>,
    ) -> Result<Verdict, PortError> {
        let (from, own) = (from.clone(), Arc::clone(&self.0.own));
        let count = u32::try_from(reports.len()).unwrap_or(u32::MAX);
        let step = move |commit: &mut Commit<'_>| {
            let mut changed = Vec::new();
            for report in &reports {
                changed.extend(take(&own, commit, &from, report)?);
            }
            Ok(changed)
        };
        let changed = self.0.ledger.commit("reports of commands", step).await?;
        self.0.changes.touched(changed);
        Ok(Verdict::Accepted { stored: count })
    }
}

/// One report. What is of no command here, or of another facility's, is counted and changes nothing: a region that was put
/// back to an older copy does not know what it gave out since. Says which command has changed, if one has.
fn take(
    own: &Own,
    commit: &mut Commit<'_>,
    from: &Place,
    report: &CommandReport,
) -> Result<Option<Id128>, DbError> {
    let ignored = |why: &'static str| {
        metrics::counter!("medmesh_command_reports_ignored_total", "reason" => why).increment(1);
        Ok(None)
    };
    let state = State::parse(&report.state).filter(|state| *state != State::Queued);
    let id: Option<Id128> = report.command[..].try_into().ok();
    let (Some(state), Some(id)) = (state, id) else {
        return ignored("malformed");
    };
    let Some(mut row) = Row::find(commit.tx(), id)? else {
        return ignored("unknown");
    };
    if own.facility(&row.facility).as_ref() != Some(from) || row.signed.is_none() {
        return ignored("foreign");
    }
    let by = match report.by.as_str() {
        "device" => format!("device/{}", row.device),
        "staff" => format!("{from}/staff"),
        _ => from.to_string(),
    };
    let event = Event {
        state,
        time: Timestamp(report.time_ms).min(commit.now()),
        by,
        reason: Reason::parse(&report.reason),
    };
    Ok(steps::step(commit, &mut row, event)?.then_some(id))
}

#[async_trait]
impl Handler for TakesTwins {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let verdict = match TwinReports::decode(&parcel.body[..]) {
                Ok(body) => {
                    let told = Told::read(&body.tables);
                    self.twins(from, body.twins, &told).await?
                }
                Err(_) => MALFORMED,
            };
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }
}

impl TakesTwins {
    async fn twins(
        &self,
        from: &Place,
        twins: Vec<TwinReport>,
        told: &Told,
    ) -> Result<Verdict, PortError> {
        let count = u32::try_from(twins.len()).unwrap_or(u32::MAX);
        let mut reports = Vec::with_capacity(twins.len());
        let mut tables = Vec::with_capacity(twins.len());
        let mut in_use = Vec::with_capacity(twins.len());
        for twin in twins {
            let Ok(id) = CatalogId::try_from(&twin.device[..]) else {
                continue;
            };
            let device = self.1.device(id).await?;
            let Some(device) = device
                .filter(|device| self.0.own.facility(&device.facility).as_ref() == Some(from))
            else {
                continue;
            };
            let own = told.of(twin.table);
            let table = own.as_deref().or_else(|| self.0.own.table(device.kind));
            reports.push(twins::Report {
                device: id,
                version: twin.version,
                reported: properties(&twin, |name, value| {
                    let entry = table.and_then(|table| table.setter(name));
                    entry.is_some_and(|entry| entry.may_report(value))
                }),
                connected: twin.connected,
                seen: Some(Timestamp(twin.seen_ms)).filter(|seen| seen.0 > 0),
            });
            tables.push((id, own));
            in_use.extend((device.status != DeviceStatus::Retired).then_some(id));
        }
        let step = move |commit: &mut Commit<'_>| {
            for (device, table) in &tables {
                tables::keep(commit.tx(), *device, table.as_deref())?;
            }
            for device in &in_use {
                wants::returned(commit.tx(), *device)?;
            }
            let mut reports = reports.into_iter();
            reports.try_for_each(|report| twins::report(commit, report))
        };
        self.0.ledger.commit("reports of devices", step).await?;
        Ok(Verdict::Accepted { stored: count })
    }
}

/// The properties that are of the device's table; what else a facility says is not kept, so that no free text is.
fn properties(twin: &TwinReport, is_known: impl Fn(&str, &Json) -> bool) -> Map<String, Json> {
    let mut reported = Map::new();
    for property in &twin.properties {
        if property.value.len() > MAX_TWIN_BYTES {
            continue;
        }
        if let Ok(value) = serde_json::from_str::<Json>(&property.value)
            && is_known(&property.name, &value)
        {
            reported.insert(property.name.clone(), value);
        }
    }
    reported
}
