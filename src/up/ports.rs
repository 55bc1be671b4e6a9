//! Which port each listener of a local mesh has, remembered so that a restart keeps it.
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

/// Ports are taken from here: below the range from which systems take the ports of outgoing connections, so that a
/// connection of a neighbour cannot take the port of a node that is being restarted.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Ports by name, such as `edge/us-f1/https`.
#[derive(Debug)]
pub struct Ports {
    file: PathBuf,
    known: BTreeMap<String, u16>,
    /// Held until every port is chosen, so that none is chosen twice.
    held: Vec<TcpListener>,
    next: u16,
}

impl Ports {
    /// The ports that `file` remembers, and others from a position that depends on `seed`.
    pub fn open(file: PathBuf, seed: u16) -> Result<Self> {
        let known = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{}: not a list of ports", file.display()))?,
            Err(_) => BTreeMap::new(),
        };
        let span = RANGE.end - RANGE.start;
        Ok(Self {
            file,
            known,
            held: Vec::new(),
            next: RANGE.start + seed % span,
        })
    }

    /// The address of a listener: the remembered port where it is free, otherwise a free one.
    pub fn address(&mut self, name: &str) -> Result<SocketAddr> {
        if let Some(port) = self.known.get(name).copied()
            && self.hold(port)
        {
            return Ok(local(port));
        }
        for _ in RANGE {
            let port = self.next;
            self.next = if port + 1 == RANGE.end {
                RANGE.start
            } else {
                port + 1
            };
            let remembered = self.known.values().any(|known| *known == port);
            if !remembered && self.hold(port) {
                self.known.insert(name.to_owned(), port);
                return Ok(local(port));
            }
        }
        bail!("no port from {} to {} is free", RANGE.start, RANGE.end - 1)
    }

    fn hold(&mut self, port: u16) -> bool {
        let listener = TcpListener::bind(local(port));
        let free = listener.is_ok();
        self.held.extend(listener);
        free
    }

    /// Writes down every port and lets go of them: the nodes take them next.
    pub fn save(self) -> Result<()> {
        super::files::replace(&self.file, &serde_json::to_vec_pretty(&self.known)?)
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where the ports of a mesh are remembered.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("ports.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_remembered_and_a_taken_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ports::open(file(dir.path()), 7).unwrap();
        let mut ports = open();
        let (a, b) = (ports.address("a").unwrap(), ports.address("b").unwrap());
        assert_ne!(a, b);
        ports.save().unwrap();

        let mut again = open();
        assert_eq!(
            (again.address("a").unwrap(), again.address("b").unwrap()),
            (a, b)
        );
        again.save().unwrap();

        let _taken = TcpListener::bind(a).unwrap();
        let mut third = open();
        assert_ne!(third.address("a").unwrap(), a);
        assert_eq!(third.address("b").unwrap(), b);
    }
}
