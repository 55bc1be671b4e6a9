//! Where the listeners of a local mesh are.
use super::{
    plan::{Bus, Plan},
    ports::Ports,
};
use anyhow::{Context, Result};
use std::{collections::BTreeMap, net::SocketAddr};
use types::Place;

/// A listener of the second node of a region of two.
pub fn second(kind: &str) -> String {
    format!("b/{kind}")
}

/// Where every listener of the mesh is.
#[derive(Clone, Debug)]
pub struct Addresses(BTreeMap<String, SocketAddr>);

impl Addresses {
    /// Chooses every port of a plan.
    pub fn choose(plan: &Plan, mut ports: Ports) -> Result<Self> {
        let mut names = Vec::new();
        for place in plan.places() {
            let second = if matches!(place, Place::Edge { .. }) {
                "mqtt"
            } else {
                "grpc"
            };
            names.extend(["https", second].map(|kind| name(&place, kind)));
            if matches!(place, Place::Regional { .. }) {
                names.push(name(&place, "metrics"));
                if plan.pairs {
                    let other = ["https", "grpc", "metrics"].map(self::second);
                    names.extend(other.map(|kind| name(&place, &kind)));
                }
            }
        }
        for (region, facility) in plan.facilities() {
            let place = region.edge(facility);
            let tcp = facility
                .devices
                .iter()
                .filter(|device| device.bus == Bus::Tcp);
            names.extend(tcp.map(|device| name(&place, device.id.as_str())));
        }
        let mut chosen = BTreeMap::new();
        for name in names {
            let address = ports.address(&name)?;
            chosen.insert(name, address);
        }
        ports.save()?;
        Ok(Self(chosen))
    }

    /// A listener of a node, or of the second one of a region ([`second`]): `https`, `grpc`, `mqtt`, `metrics` or the id of a device.
    pub fn of(&self, place: &Place, kind: &str) -> Result<SocketAddr> {
        let name = name(place, kind);
        self.0
            .get(&name)
            .copied()
            .with_context(|| format!("{name} has no port"))
    }
}

fn name(place: &Place, kind: &str) -> String {
    format!("{place}/{kind}")
}
