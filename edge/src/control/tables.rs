//! Which commands each device takes, as the region is told it: with every report of what devices report of themselves, so
//! that a region that was put back, or is newer, learns it within half a minute. Of what comes with the product nothing is
//! said.
use super::Control;
use crate::config::DeviceConfig;
use commands::Table;
use messages::{TwinReport, TwinReports};
use prost::Message as _;
use types::DeviceId;

/// Tables in one message: with the longest ones a quarter of what a parcel may hold.
const IN_MESSAGE: usize = 16;
/// What devices report in one message, in bytes: a quarter of what a parcel may hold, before the last one is added, and a device
/// reports less than that by itself.
const REPORTED_IN_MESSAGE: usize = 256 << 10;

/// The text of a device's table, where it differs from that of its kind that comes with the product.
pub(super) fn differing(device: &DeviceConfig, table: &Table) -> Option<String> {
    let text = table.text();
    let is_the_products = text == Table::built_in(device.kind).text();
    (!is_the_products).then_some(text)
}

impl Control {
    /// What devices report, with the tables that they refer to, each once in a message.
    pub(super) fn with_tables(&self, twins: Vec<(DeviceId, TwinReport)>) -> Vec<TwinReports> {
        let mut bodies: Vec<TwinReports> = Vec::new();
        let (mut body, mut reported) = (TwinReports::default(), 0);
        for (device, mut twin) in twins {
            if reported >= REPORTED_IN_MESSAGE {
                bodies.push(std::mem::take(&mut body));
                reported = 0;
            }
            reported += twin.encoded_len();
            if let Some(text) = self.texts.get(&device) {
                let known = body.tables.iter().any(|known| known == text);
                if !known && body.tables.len() == IN_MESSAGE {
                    bodies.push(std::mem::take(&mut body));
                }
                twin.table = position(&mut body.tables, text);
            }
            body.twins.push(twin);
        }
        if !body.twins.is_empty() {
            bodies.push(body);
        }
        bodies
    }
}

/// The position + 1 of a text, which is added where it is not there yet.
fn position(tables: &mut Vec<String>, text: &str) -> u32 {
    let found = tables.iter().position(|known| known == text);
    let position = found.unwrap_or_else(|| {
        tables.push(text.to_owned());
        tables.len() - 1
    });
    u32::try_from(position + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::TwinProperty;
    use std::collections::{BTreeMap, BTreeSet};
    use tokio::sync::Notify;
    use types::DeviceKind;

    fn device(number: usize) -> DeviceId {
        format!("m{number}").parse().unwrap()
    }

    fn configured(kind: DeviceKind) -> DeviceConfig {
        DeviceConfig {
            id: device(0),
            kind,
            serial: None,
            model: None,
            firmware: None,
            bed: None,
            profile: None,
            address: None,
            unit_id: 1,
        }
    }

    #[test]
    fn a_table_that_is_the_products_is_not_told_whatever_registers_carry_it() {
        let monitor = configured(DeviceKind::BedsideMonitor);
        let mut table = Table::built_in(monitor.kind);
        for entry in &mut table.0 {
            entry.write.clear();
        }
        assert_eq!(differing(&monitor, &table), None);
        table.0.pop();
        assert_eq!(differing(&monitor, &table), Some(table.text()));
        let none = Table::default();
        assert_eq!(differing(&monitor, &none), Some(String::new()));
        assert_eq!(differing(&configured(DeviceKind::ColdChain), &none), None);
    }

    #[test]
    fn devices_refer_to_the_tables_of_their_message_each_of_which_is_there_once() {
        // Every third device has the product's; of the others two have each text.
        let texts: BTreeMap<DeviceId, String> = (0..60)
            .filter(|number| number % 3 != 0)
            .map(|number| (device(number), format!("text {}", number / 3)))
            .collect();
        let control = Control {
            woken: Notify::new(),
            tables: BTreeMap::new(),
            modbus: BTreeSet::new(),
            texts: texts.clone(),
        };
        let twins = (0..60).map(|number| {
            (
                device(number),
                TwinReport {
                    version: number as u64,
                    ..TwinReport::default()
                },
            )
        });
        let bodies = control.with_tables(twins.collect());
        let sizes: Vec<_> = bodies.iter().map(|body| body.tables.len()).collect();
        assert_eq!(sizes, [16, 4]);
        let mut seen = 0;
        for body in &bodies {
            for twin in &body.twins {
                let place = usize::try_from(twin.table).unwrap().checked_sub(1);
                let text = place.map(|place| body.tables[place].clone());
                assert_eq!(text.as_ref(), texts.get(&device(seen)), "{seen}");
                assert_eq!(twin.version, seen as u64);
                seen += 1;
            }
        }
        assert_eq!(seen, 60);
        assert!(control.with_tables(Vec::new()).is_empty());
    }

    #[test]
    fn what_many_devices_report_at_length_fits_its_parcels() {
        let control = Control {
            woken: Notify::new(),
            tables: BTreeMap::new(),
            modbus: BTreeSet::new(),
            texts: BTreeMap::new(),
        };
        let long = || TwinReport {
            properties: vec![TwinProperty {
                name: "limits".into(),
                value: "9".repeat(60 << 10),
            }],
            ..TwinReport::default()
        };
        let twins = (0..500).map(|number| (device(number), long()));
        let bodies = control.with_tables(twins.collect());
        let most = bodies.iter().map(TwinReports::encoded_len).max();
        assert!(most.is_some_and(|most| most < 512 << 10), "{most:?}");
        let devices: usize = bodies.iter().map(|body| body.twins.len()).sum();
        assert_eq!(devices, 500);
    }
}
