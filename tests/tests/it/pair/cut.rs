//! Wires between the nodes of a region, and between each and its PostgreSQL, which are cut: what is connected stays so, and
//! nothing passes. Clients and facilities have their own ways to the nodes.
use super::{FAULTS, Node, Region, Table, Toml, measured::Measured};
use anyhow::{Context, Result};
use medmesh_tests::{postgres::Server, wire::Wire};
use std::{collections::BTreeMap, fs, path::Path};

/// The wires that lead to one node from the other one.
pub struct ToNode {
    https: Wire,
    links: Wire,
}

impl ToNode {
    /// To the node of a configuration.
    pub fn of(config: &Table) -> Result<Self> {
        let to = |at: Option<&Toml>| -> Result<Wire> {
            let at = at.and_then(Toml::as_str).context("an address")?;
            let (_, port) = at.rsplit_once(':').context("a port")?;
            Wire::to(port.parse()?)
        };
        Ok(Self {
            https: to(config["https"].get("listen"))?,
            links: to(config.get("grpc_listen"))?,
        })
    }

    /// Where the other node asks it, which is what everybody calls it.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.https.port())
    }

    /// Where the other node carries links to.
    pub fn links(&self) -> String {
        format!("https://127.0.0.1:{}", self.links.port())
    }
}

/// All of them.
pub struct Wires {
    /// To a node, by its name.
    pub to: BTreeMap<&'static str, ToNode>,
    /// From a node to the servers of its PostgreSQL.
    engines: BTreeMap<&'static str, Vec<Wire>>,
}

impl Wires {
    /// Those that lead to these nodes.
    pub fn to(a: ToNode, b: ToNode) -> Self {
        Self {
            to: BTreeMap::from([("a", a), ("b", b)]),
            engines: BTreeMap::new(),
        }
    }

    /// Leads a node to its PostgreSQL by wires: a file of its own with the connection string.
    pub fn lead(
        &mut self,
        (node, config): (&'static str, &mut Table),
        (dir, given, both): (&Path, &Path, &Server),
    ) -> Result<()> {
        let (own, mut wires) = (dir.join(format!("{node}.url")), Vec::new());
        let mut parts = both.url().split("127.0.0.1:");
        let mut url = parts.next().context("no server")?.to_owned();
        for part in parts {
            let end = part.find(|next: char| !next.is_ascii_digit());
            let (port, rest) = part.split_at(end.unwrap_or(part.len()));
            let wire = Wire::to(port.parse()?)?;
            url.push_str(&format!("127.0.0.1:{}{rest}", wire.port()));
            wires.push(wire);
        }
        // Nobody else may read it, as the one that is given.
        fs::copy(given, &own)?;
        fs::write(&own, url)?;
        let store = config.get_mut("store").and_then(Toml::as_table_mut);
        let own = own.to_string_lossy().into_owned();
        store
            .context("store")?
            .insert("url_file".into(), own.into());
        self.engines.insert(node, wires);
        Ok(())
    }

    fn of_engine(&self, node: &str) -> Vec<&Wire> {
        self.engines.get(node).into_iter().flatten().collect()
    }

    fn between(&self) -> Vec<&Wire> {
        let all = self.to.values();
        all.flat_map(|to| [&to.https, &to.links]).collect()
    }
}

impl Region<'_> {
    /// The node that waits is cut off from PostgreSQL, then the nodes from each other, then the one that writes from
    /// PostgreSQL, each for half the time between two faults.
    pub async fn outlives_cuts(
        &self,
        nodes: &mut BTreeMap<&'static str, Node>,
        measured: &Measured,
    ) -> Result<()> {
        let waits = self.one_waits(nodes).await?;
        let fault = "the node that waits is cut off from PostgreSQL";
        let wires = self.wires.of_engine(waits);
        self.while_cut(fault, &wires, (&mut *nodes, measured))
            .await?;
        let fault = "the nodes are cut off from each other";
        let wires = self.wires.between();
        self.while_cut(fault, &wires, (&mut *nodes, measured))
            .await?;
        let waits = self.one_waits(nodes).await?;
        let writes = if waits == "a" { "b" } else { "a" };
        let fault = "the node that writes is cut off from PostgreSQL";
        let wires = self.wires.of_engine(writes);
        self.while_cut(fault, &wires, (&mut *nodes, measured)).await
    }

    async fn while_cut(
        &self,
        fault: &'static str,
        wires: &[&Wire],
        (nodes, measured): (&mut BTreeMap<&'static str, Node>, &Measured),
    ) -> Result<()> {
        let begun = tokio::time::Instant::now();
        measured.during(fault);
        wires.iter().for_each(|wire| wire.cut());
        tokio::time::sleep_until(begun + FAULTS / 2).await;
        wires.iter().for_each(|wire| wire.mend());
        self.one_waits(nodes).await?;
        self.go_on(measured).await?;
        tokio::time::sleep_until(begun + FAULTS).await;
        measured.during("nothing");
        Ok(())
    }
}
