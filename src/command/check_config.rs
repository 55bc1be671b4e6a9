//! `medmesh check-config FILE`: everything that is wrong with a configuration, without starting anything. What has ended
//! is said here alone: a node starts with it, since a facility must work with a wrong clock.
use super::{device::SimFile, node::read};
use crate::{
    cli::{CheckArgs, ConfigKind},
    failure::Failure,
    out,
};
use edge::config::EdgeConfig;
use federation::tls::{lapsed, paths};
use global::config::GlobalConfig;
use node::{
    clock::Clock,
    config::{ConfigError, Problem},
};
use regional::config::RegionalConfig;
use std::path::Path;
use toml::Table;

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let file = &args.file;
    let kind = args.kind.map_or_else(|| told(file), Ok)?;
    let mut notes = Vec::new();
    let (what, tls) = match kind {
        ConfigKind::Edge => {
            let config: EdgeConfig = read(file)?;
            ("an edge node", Some((config.tls, config.data_dir)))
        }
        ConfigKind::Regional => {
            let config: RegionalConfig = read(file)?;
            notes = config.notes();
            ("a regional node", Some((config.tls, config.data_dir)))
        }
        ConfigKind::Global => {
            let config: GlobalConfig = read(file)?;
            ("the global node", Some((config.tls, config.data_dir)))
        }
        ConfigKind::Device => {
            read::<SimFile>(file)?;
            ("simulated devices", None)
        }
    };
    let now = Clock::new(None).real();
    let problems = tls
        .map(|(tls, data_dir)| lapsed(&paths(&tls).keeping(&data_dir), now))
        .unwrap_or_default();
    if !problems.is_empty() {
        let path = file.clone();
        return Err(ConfigError { path, problems }.into());
    }
    let file = file.display();
    out::line(format!("{file}: a good configuration of {what}"))?;
    for note in notes {
        out::line(format!("{file}: {note}"))?;
    }
    Ok(())
}

/// What the keys of a file say it is, if they say anything: all that is wrong with a profile, as a global node's, helps nobody.
fn told(path: &Path) -> Result<ConfigKind, ConfigError> {
    /// Every configuration of a node has one of them.
    const OF_NODES: [&str; 4] = ["data_dir", "tls", "https", "grpc_listen"];
    let kind = detect(path);
    let is_nothing = |table: Table| !OF_NODES.iter().any(|key| table.contains_key(*key));
    if matches!(kind, ConfigKind::Global) && keys(path).is_some_and(is_nothing) {
        let message =
            "no key of it says what it configures; if it is a configuration, name its --kind";
        let (path, problems) = (path.to_owned(), vec![Problem::new("", message)]);
        return Err(ConfigError { path, problems });
    }
    Ok(kind)
}

/// The keys of a file; none of one that cannot be read.
fn keys(path: &Path) -> Option<Table> {
    let found = std::fs::metadata(path).ok()?;
    let text = found.is_file().then(|| std::fs::read_to_string(path))?;
    text.ok()?.parse().ok()
}

/// What the keys of a file say it is. A file that cannot be read is of any kind: reading it again says why.
pub fn detect(path: &Path) -> ConfigKind {
    let table = keys(path).unwrap_or_default();
    let has = |key| table.contains_key(key);
    if has("sent") || has("source") {
        ConfigKind::Device
    } else if has("facility") || has("mqtt") || has("uplink") {
        ConfigKind::Edge
    } else if has("region") || has("jurisdiction") || has("uplink_url") {
        ConfigKind::Regional
    } else {
        ConfigKind::Global
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation::{
        identity::Identity,
        pki::{self, Ca, LOCAL_NAMES},
    };
    use std::{fs, time::Duration};
    use tempfile::TempDir;
    use types::Timestamp;

    const DAY_MS: i64 = 86_400_000;

    /// The configuration of a global node whose certificate was issued then, in a folder.
    fn configured(issued: Timestamp) -> (TempDir, CheckArgs) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (ca, mut rng) = (Ca::init(&at("pki"), issued).unwrap(), rand::rng());
        ca.crl_pem(issued).unwrap();
        let holder: Identity = "spiffe://medmesh/global".parse().unwrap();
        let ttl = Duration::from_secs(60);
        let code = ca.invite(&holder, &LOCAL_NAMES, ttl, issued, &mut rng);
        let signing = pki::signing_key(&at("signing.key"), &mut rng).unwrap();
        let new = pki::new_key_and_csr(&holder, Some(&signing)).unwrap();
        let cert = ca.enrol(&code.unwrap(), &new.csr_pem, issued, &mut rng);
        pki::write_private(&at("node.key"), &new.key_pem).unwrap();
        pki::write_public(&at("node.pem"), &cert.unwrap()).unwrap();
        let root = dir.path().display();
        let text = format!(
            "data_dir = '{root}/data'\ngrpc_listen = '127.0.0.1:0'\n[https]\nlisten = '127.0.0.1:0'\n[tls]\n\
             ca = '{root}/pki/ca.pem'\ncrl = '{root}/pki/crl.pem'\ncert = '{root}/node.pem'\n\
             key = '{root}/node.key'\nsigning_key = '{root}/signing.key'\n"
        );
        let file = at("global.toml");
        fs::write(&file, text).unwrap();
        let kind = Some(ConfigKind::Global);
        (dir, CheckArgs { file, kind })
    }

    #[test]
    fn a_file_that_says_of_nothing_what_it_configures_is_not_taken_for_the_global_node_s() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("profile.toml");
        let said = |text: &str| {
            fs::write(&file, text).unwrap();
            let args = CheckArgs {
                file: file.clone(),
                kind: None,
            };
            let Err(Failure::Config(error)) = run(&args) else {
                panic!("a good configuration");
            };
            error.to_string()
        };
        for text in ["", "name = 'sdm630'\npoints = []\n"] {
            assert!(said(text).contains("--kind"), "{text}");
        }
        let global = said("data_dir = 'data'\n");
        assert!(global.contains("tls: is missing"), "{global}");
        let not_toml = said("name = \n");
        assert!(not_toml.contains("line 1 is not TOML"), "{not_toml}");
    }

    #[test]
    fn what_has_ended_is_a_problem_of_a_check_and_not_of_a_start() {
        let now = Clock::new(None).real();
        let (_dir, args) = configured(now);
        run(&args).unwrap();
        let long_ago = now.plus_ms(-i64::from(pki::NODE_DAYS + 10) * DAY_MS);
        let (_dir, args) = configured(long_ago);
        read::<GlobalConfig>(&args.file).unwrap();
        let Err(Failure::Config(error)) = run(&args) else {
            panic!("it is a good configuration");
        };
        let keys: Vec<_> = error.problems.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(keys, ["tls.cert", "tls.crl"]);
    }
}
