//! `DIR/mesh.json`: what the outside may rely on to find the parts of a running mesh.
use super::{
    addresses::{Addresses, second},
    files,
    plan::{Bus, CLIENTS, Client, Facility, Plan, Region},
};
use anyhow::{Context, Result};
use node::token::TOKEN_PATH;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use types::Place;

/// Where the file is.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("mesh.json")
}

/// What the file is made of.
pub struct MeshJson<'a> {
    /// The mesh.
    pub plan: &'a Plan,
    /// Its listeners.
    pub addresses: &'a Addresses,
    /// The processes of the nodes.
    pub pids: BTreeMap<Place, u32>,
    /// Those of the second nodes of regions, in the order of the regions.
    pub seconds: Vec<u32>,
}

impl MeshJson<'_> {
    /// Writes the file, atomically.
    pub fn write(&self) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.value()?)?;
        files::replace(&file(&self.plan.dir), &bytes)
    }

    fn value(&self) -> Result<Value> {
        let mut regions = Map::new();
        for (at, region) in self.plan.regions.iter().enumerate() {
            let mut value = self.region(region)?;
            if self.plan.pairs {
                let pid = self.seconds.get(at).copied();
                let pid = pid.with_context(|| format!("{} (b) does not run", region.place()))?;
                let first = self.node(region, self.pid(&region.place())?, &str::to_owned)?;
                let nodes = [first, self.node(region, pid, &second)?];
                value["nodes"] = nodes.into();
            }
            regions.insert(region.id.as_str().to_owned(), value);
        }
        let facilities: Result<Vec<Value>> = self
            .plan
            .facilities()
            .map(|(region, facility)| self.facility(region, facility))
            .collect();
        Ok(json!({
            "ca": self.plan.pki_dir().join("ca.pem"),
            "regions": regions,
            "global": self.global()?,
            "facilities": facilities?,
            "clients": self.clients()?,
        }))
    }

    fn pid(&self, place: &Place) -> Result<u32> {
        let pid = self.pids.get(place).copied();
        pid.with_context(|| format!("{place} does not run"))
    }

    fn origin(&self, place: &Place) -> Result<String> {
        Ok(format!("https://{}", self.addresses.of(place, "https")?))
    }

    fn region(&self, region: &Region) -> Result<Value> {
        self.node(region, self.pid(&region.place())?, &str::to_owned)
    }

    /// A node of a region, by the names of its listeners.
    fn node(&self, region: &Region, pid: u32, named: &dyn Fn(&str) -> String) -> Result<Value> {
        let place = region.place();
        let at = |kind: &str| self.addresses.of(&place, &named(kind));
        let origin = format!("https://{}", at("https")?);
        Ok(json!({
            "pid": pid,
            "fhir": format!("{origin}/fhir"),
            "api": format!("{origin}/api/v1"),
            "token_url": format!("{origin}{TOKEN_PATH}"),
            "grpc": format!("https://{}", at("grpc")?),
            "metrics": format!("https://{}/metrics", at("metrics")?),
        }))
    }

    fn global(&self) -> Result<Value> {
        let origin = self.origin(&Place::Global)?;
        Ok(json!({
            "pid": self.pid(&Place::Global)?,
            "api": format!("{origin}/api/v1"),
            "ui": format!("{origin}{}", global::STUDIES_PATH),
            "metrics": format!("{origin}/metrics"),
        }))
    }

    fn facility(&self, region: &Region, facility: &Facility) -> Result<Value> {
        let place = region.edge(facility);
        let dir = self.plan.node_dir(&place);
        let mut modbus = Vec::new();
        let mut devices = Vec::new();
        for device in &facility.devices {
            if device.bus == Bus::Tcp {
                modbus.push(self.addresses.of(&place, device.id.as_str())?.to_string());
            }
            let (cert, key) = device.pair(&dir);
            devices.push(json!({
                "id": device.id.as_str(),
                "kind": device.kind.as_str(),
                "cert": cert,
                "key": key,
            }));
        }
        Ok(json!({
            "id": facility.id.as_str(),
            "region": region.id.as_str(),
            "pid": self.pid(&place)?,
            "fhir": format!("{}/fhir", self.origin(&place)?),
            "token": edge::beds::token_file(&dir.join("data")),
            "mqtt": self.addresses.of(&place, "mqtt")?.to_string(),
            "modbus": modbus,
            "metrics": format!("{}/metrics", self.origin(&place)?),
            "devices": devices,
        }))
    }

    fn clients(&self) -> Result<Map<String, Value>> {
        let client = |client: &Client| -> Result<(String, Value)> {
            Ok((client.name.to_owned(), self.client(client)?))
        };
        CLIENTS.iter().map(client).collect()
    }

    fn client(&self, client: &Client) -> Result<Value> {
        let mut token_url = Map::new();
        let mut add = |name: &str, place: &Place| -> Result<()> {
            let url = format!("{}{TOKEN_PATH}", self.origin(place)?);
            token_url.insert(name.to_owned(), url.into());
            Ok(())
        };
        for region in &self.plan.regions {
            add(region.id.as_str(), &region.place())?;
        }
        if client.global {
            add("global", &Place::Global)?;
        }
        let (key, _) = client.pair(&self.plan.clients_dir());
        Ok(json!({
            "client_id": client.name,
            "kid": client.kid(),
            "key": key,
            "scope": client.scope,
            "token_url": token_url,
        }))
    }
}
