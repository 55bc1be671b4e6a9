//! The invariants of ARCHITECTURE.md that the source tree itself can break. Each test names its invariant.
use crate::circles::{Imports, module};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TYPES: &str = "medmesh-types";
const STORAGE: &str = "medmesh-storage";
const MESSAGES: &str = "medmesh-messages";
const COMMANDS: &str = "medmesh-commands";
const NODE: &str = "medmesh-node";
const DEVICE: &str = "medmesh-device-fw";
const FHIR: &str = "medmesh-fhir";
const FEDERATION: &str = "medmesh-federation";
const FL: &str = "medmesh-fl";
const EDGE: &str = "medmesh-edge";
const BROKER: &str = "medmesh-edge-broker";
const INGEST: &str = "medmesh-edge-ingest";
const MODBUS: &str = "medmesh-edge-modbus";
const STORE: &str = "medmesh-edge-store";
const REGIONAL: &str = "medmesh-regional";
const GLOBAL: &str = "medmesh-global";
const ROOT: &str = "medmesh";
const TESTS: &str = "medmesh-tests";
const XTASK: &str = "xtask";

/// INV-1: who may name whom. A missing arrow is a missing right.
const MAY_NAME: &[(&str, &[&str])] = &[
    (TYPES, &[]),
    (STORAGE, &[]),
    (MESSAGES, &[TYPES]),
    // Pure: one encoding, one table and one list of reasons for region, edge and device.
    (COMMANDS, &[TYPES]),
    (NODE, &[TYPES, STORAGE]),
    (DEVICE, &[TYPES, STORAGE, COMMANDS]),
    (FHIR, &[TYPES, STORAGE]),
    // Every listener admits connections by the one rule in `node`.
    (FEDERATION, &[TYPES, STORAGE, MESSAGES, NODE]),
    // Pure: what it needs of the others it is given.
    (FL, &[TYPES, MESSAGES]),
    // The rooms of the edge: what comes in and the port that makes it durable, and who reads devices by Modbus.
    (INGEST, &[TYPES, STORAGE]),
    (MODBUS, &[TYPES, COMMANDS, NODE, INGEST]),
    // It knows of the node that it is a part of only what its port says, so that any tier can have one.
    (BROKER, &[TYPES, STORAGE, NODE, FEDERATION]),
    (
        STORE,
        &[TYPES, STORAGE, MESSAGES, NODE, FEDERATION, FL, INGEST],
    ),
    (
        EDGE,
        &[
            TYPES, STORAGE, COMMANDS, MESSAGES, NODE, FEDERATION, FHIR, FL, INGEST, MODBUS, BROKER,
            STORE,
        ],
    ),
    (
        REGIONAL,
        &[
            TYPES, STORAGE, COMMANDS, MESSAGES, NODE, FEDERATION, FHIR, FL,
        ],
    ),
    (GLOBAL, &[TYPES, STORAGE, MESSAGES, NODE, FEDERATION, FL]),
    (
        ROOT,
        &[
            TYPES, STORAGE, COMMANDS, MESSAGES, NODE, DEVICE, FEDERATION, FL, EDGE, MODBUS, STORE,
            REGIONAL, GLOBAL,
        ],
    ),
    (
        TESTS,
        &[
            ROOT, TYPES, STORAGE, COMMANDS, MESSAGES, NODE, DEVICE, FHIR, FEDERATION, FL, EDGE,
            INGEST, MODBUS, BROKER, STORE, REGIONAL, GLOBAL,
        ],
    ),
    (XTASK, &[]),
];

/// INV-1: sources whose files still import each other in a circle. None is added.
const TIED: &[&str] = &["fhir/src"];

/// INV-2: which crates may name an engine or a protocol in what they ship.
const OWNERS: &[(&str, &[&str])] = &[
    (
        "rusqlite",
        &[STORAGE, FEDERATION, EDGE, STORE, FHIR, REGIONAL, GLOBAL],
    ),
    ("tokio-postgres", &[FHIR]),
    ("deadpool-postgres", &[FHIR]),
    ("tokio-postgres-rustls", &[FHIR]),
    ("scylla", &[GLOBAL]),
    ("rumqttd", &[BROKER]),
    ("tokio-serial", &[MODBUS, DEVICE]),
    ("rumqttc", &[DEVICE]),
    ("cedar-policy", &[FEDERATION]),
    ("tonic", &[FEDERATION]),
    ("rcgen", &[FEDERATION]),
    ("jsonwebtoken", &[NODE]),
    ("metrics-exporter-prometheus", &[NODE]),
    ("rdkafka", &[FEDERATION]),
    ("datafusion", &[GLOBAL, REGIONAL]),
    ("burn", &[FL]),
    ("fhir-sdk", &[]),
];

/// INV-1, INV-2: what dev-dependencies may add: an engine's other side to speak with, an independent judge.
const DEV_ONLY: &[(&str, &[&str])] = &[
    (NODE, &["rcgen"]),
    (FHIR, &["fhir-sdk"]),
    (BROKER, &["rumqttc", DEVICE, INGEST]),
    (MODBUS, &[DEVICE, STORAGE]),
];

/// INV-5: exactly these versions of what is heavy or must agree across crates. rumqttd brings an older axum, hyper and
/// metrics of its own, which nothing of ours names.
const VERSIONS: &[(&str, &[&str])] = &[
    ("tokio", &["1"]),
    ("rustls", &["0.23"]),
    ("ring", &["0.17"]),
    ("hyper", &["0.14", "1"]),
    ("axum", &["0.7", "0.8"]),
    ("metrics", &["0.22", "0.24"]),
    ("prost", &["0.14"]),
    ("tonic", &["0.14"]),
    ("rusqlite", &["0.41"]),
    ("cedar-policy", &["4"]),
    ("scylla", &["1"]),
    ("tokio-postgres", &["0.7"]),
    ("serde", &["1"]),
    ("aws-lc-rs", &[]),
    ("openssl", &[]),
];

/// INV-6: the longest file, in lines, without its tests. Longer ones are two rooms.
const MAX_LINES: usize = 500;
/// INV-6: the longest file with its tests, which are read one by one.
const MAX_LINES_WITH_TESTS: usize = 800;

/// INV-6: what each crate on the way of data says in its `lib.rs`: there clippy takes no index, which may be beyond an end.
const NO_INDEX: &str = "#![cfg_attr(not(test), deny(clippy::indexing_slicing))]";
/// INV-6: the crates on the way of data, in which nothing may panic on purpose.
const DATA_PATH: &[&str] = &[
    "types",
    "storage",
    "commands",
    "messages",
    "federation",
    "fl",
    "edge",
    "regional",
    "global",
    "fhir",
    "node",
];

/// INV-7: what only a developer's machine has.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Use", "rs/"),
    concat!("crates", ".io/api"),
    concat!("repo1.", "maven"),
    concat!("pypi", ".org"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X:"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// (crate, dependency, whether it is a dev-dependency) of every crate of ours.
fn dependencies() -> Vec<(String, String, bool)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let of = |package: &Value| {
        let name = package["name"].as_str().unwrap().to_owned();
        let all = package["dependencies"].as_array().unwrap().clone();
        all.into_iter().map(move |dependency| {
            let target = dependency["name"].as_str().unwrap().to_owned();
            (name.clone(), target, dependency["kind"] == "dev")
        })
    };
    packages.iter().flat_map(of).collect()
}

fn row<'a>(table: &[(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    let found = table.iter().find(|(row, _)| *row == name);
    found.map(|(_, values)| *values)
}

/// Whether the tests of a crate may name what the crate itself may not.
fn dev_only(name: &str, target: &str) -> bool {
    row(DEV_ONLY, name).is_some_and(|extra| extra.contains(&target))
}

/// Every file of the repository below a folder, as paths from its root.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "the tests run in a git clone");
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: Vec<_> = listed
        .lines()
        .map(PathBuf::from)
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extensions.is_empty() || extension.is_some_and(|own| extensions.contains(&own))
        })
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(!files.is_empty());
    files
}

fn read(path: &Path) -> String {
    let bytes = fs::read(root().join(path)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn inv_1_dependencies_follow_the_arrows() {
    let mut wrong = BTreeSet::new();
    for (name, target, dev) in dependencies() {
        let Some(allowed) = row(MAY_NAME, &name) else {
            wrong.insert(format!("{name} has no row in MAY_NAME"));
            continue;
        };
        let ours = row(MAY_NAME, &target).is_some();
        let extra = dev && dev_only(&name, &target);
        if ours && target != name && !allowed.contains(&target.as_str()) && !extra {
            wrong.insert(format!("{name} -> {target}"));
        }
    }
    assert!(wrong.is_empty(), "INV-1: {wrong:#?}");
}

#[test]
fn inv_1_within_a_crate_too_imports_run_one_way() {
    let mut crates: BTreeMap<PathBuf, BTreeMap<Vec<String>, String>> = BTreeMap::new();
    for path in files(&["rs"]) {
        let mut above = path.ancestors().skip(1);
        let Some(source) = above.find(|folder| folder.ends_with("src")) else {
            continue;
        };
        let text = shipped(&path, &read(&path));
        let below = path.strip_prefix(source).ok().and_then(module);
        if let (false, Some(module)) = (text.is_empty(), below) {
            let own = crates.entry(source.into()).or_default();
            own.insert(module, text);
        }
    }
    assert!(crates.len() > 15, "{:?}", crates.keys());
    for (source, texts) in crates {
        let may = TIED.iter().any(|tied| source == Path::new(tied));
        let circle = Imports::of(&texts).circle();
        let circle = circle.map(|all| all.iter().map(|it| it.join("::")).collect::<Vec<_>>());
        match (circle, may) {
            (Some(circle), false) => panic!("INV-1: {}: {}", source.display(), circle.join(" -> ")),
            (None, true) => panic!(
                "INV-1: {} has no circle any more: take it off TIED",
                source.display()
            ),
            _ => {}
        }
    }
}

#[test]
fn inv_2_each_engine_has_its_owners() {
    let mut wrong = BTreeSet::new();
    for (name, target, dev) in dependencies() {
        let Some(owners) = row(OWNERS, &target) else {
            continue;
        };
        let extra = dev && dev_only(&name, &target);
        if name != TESTS && !owners.contains(&name.as_str()) && !extra {
            wrong.insert(format!("{name} -> {target}"));
        }
    }
    assert!(wrong.is_empty(), "INV-2: {wrong:#?}");
}

#[test]
fn inv_3_every_source_file_begins_by_saying_what_it_is() {
    let silent: Vec<_> = files(&["rs"])
        .into_iter()
        .filter(|path| !read(path).starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "INV-3: {silent:#?}");
}

/// The functions that open PHI, as `file: function`, from the calls in the text.
fn openers() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files(&["rs"]) {
        let text = read(&path);
        let mut function = String::from("(none)");
        for line in shipped(&path, &text).lines() {
            if let Some(name) = function_name(line) {
                function = name.to_owned();
            }
            let code = line.split("//").next().unwrap_or_default();
            if code.contains(concat!(".exp", "ose()")) {
                found.insert(format!("{}: {function}", path.display()));
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
    ];
    let is_definition = before.split_whitespace().all(|word| words.contains(&word));
    let name = after.split(['(', '<']).next()?;
    (is_definition && !name.is_empty()).then_some(name)
}

#[test]
fn inv_4_phi_is_opened_only_in_the_listed_functions() {
    let golden = root().join("tests/golden/phi-openers.txt");
    let listed: BTreeSet<_> = fs::read_to_string(golden)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(ToOwned::to_owned)
        .collect();
    let found = openers();
    let added: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(
        added.is_empty() && gone.is_empty(),
        "INV-4: tests/golden/phi-openers.txt lacks {added:#?} and lists {gone:#?} in vain"
    );
}

#[test]
fn inv_5_heavy_dependencies_have_one_version() {
    let lock = read(Path::new("Cargo.lock"));
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = package.lines().find(|line| line.starts_with(key))?;
            line.split('"').nth(1)
        };
        if let (Some(name), Some(version)) = (value("name = "), value("version = ")) {
            found.entry(name).or_default().insert(compatible(version));
        }
    }
    for (name, versions) in VERSIONS {
        let expected: BTreeSet<_> = versions.iter().map(|own| (*own).to_owned()).collect();
        let have = found.get(name).cloned().unwrap_or_default();
        assert_eq!(have, expected, "INV-5: {name}");
    }
}

/// The part of a version that cargo treats as one: `0.23`, `1`.
fn compatible(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (major, _) => major.unwrap_or_default().to_owned(),
    }
}

/// The text without what only tests see: nothing of a test file, and of others what is not below `#[cfg(test)]` or
/// `#[cfg(feature = "contract")]`.
fn shipped(path: &Path, text: &str) -> String {
    let name = path.to_string_lossy();
    let words = [
        "tests/",
        "/tests/",
        "_tests.rs",
        "/tests.rs",
        "contract.rs",
        "/contract/",
        "adversary.rs",
        "testbed.rs",
        "storage/src/fault",
        "storage/src/vfs.rs",
    ];
    if words.iter().any(|word| name.contains(word)) {
        return String::new();
    }
    if text.lines().any(|line| line == "#![cfg(test)]") {
        return String::new();
    }
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        // The item: one line that ends it, or everything to the brace that closes it.
        for item in lines.by_ref() {
            let closes = item.len() - item.trim_start().len() == indent
                && (item.trim_end().ends_with('}') || item.trim_end().ends_with(';'));
            if closes {
                break;
            }
        }
    }
    kept
}

#[test]
fn inv_6_files_are_short_and_nothing_panics_on_the_way_of_data() {
    let mut wrong = Vec::new();
    for path in files(&["rs"]) {
        let text = read(&path);
        let shipped = shipped(&path, &text);
        let (lines, all) = (shipped.lines().count(), text.lines().count());
        if lines > MAX_LINES || all > MAX_LINES_WITH_TESTS {
            wrong.push(format!(
                "{} has {lines} lines, {all} with tests",
                path.display()
            ));
        }
        let first = path.components().next().unwrap();
        let crate_name = first.as_os_str().to_str().unwrap();
        if !DATA_PATH.contains(&crate_name) || path.ends_with("build.rs") {
            continue;
        }
        if path.ends_with("src/lib.rs") && !text.contains(NO_INDEX) {
            wrong.push(format!("{} does not say {NO_INDEX}", path.display()));
        }
        for line in shipped.lines() {
            let code = line.split("//").next().unwrap_or_default();
            let panics = [
                ".unwrap()",
                ".expect(",
                "panic!(",
                "todo!(",
                "unimplemented!(",
            ];
            if panics.iter().any(|call| code.contains(call)) {
                wrong.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "INV-6: {wrong:#?}");
}

#[test]
fn inv_7_nothing_in_the_tree_speaks_of_a_developers_machine() {
    let mut wrong = Vec::new();
    for path in files(&[]) {
        if path.ends_with("Cargo.lock") {
            continue;
        }
        let text = read(&path);
        for (number, line) in (1..).zip(text.lines()) {
            if FOREIGN.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "INV-7: {wrong:#?}");
}

/// The names of the kinds of message, from their table.
fn kinds() -> Vec<String> {
    let text = read(Path::new("messages/src/lib.rs"));
    let table = text.split("\nkinds! {").nth(1).unwrap();
    let table = table.split("\n}").next().unwrap();
    let names = table.lines().filter_map(|line| line.split_once(" is "));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

#[test]
fn inv_54_the_transport_knows_no_kind_of_message() {
    // The audit log is the transport's own, and so is the handler of its heads.
    let own = Path::new("federation/src/ledger/checkpoint.rs");
    let kinds = kinds();
    assert!(kinds.len() >= 4, "{kinds:?}");
    let mut wrong = BTreeSet::new();
    for path in files(&["rs", "proto"]) {
        if !path.starts_with("federation") || path.starts_with("federation/examples") || path == own
        {
            continue;
        }
        let text = shipped(&path, &read(&path));
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric());
            let named = words.find(|word| kinds.iter().any(|kind| kind == word));
            // The class of that name is no message.
            let is_class = line.contains("DataClass::AuditCheckpoint");
            if named.is_some() && !is_class {
                wrong.insert(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "INV-54: {wrong:#?}");
}

/// What runs outside a node's `Tasks`, each for a reason of its own that its file says: it ends with a call or a connection, or
/// it is what ends the tasks.
const SPAWNERS: &[&str] = &[
    "edge/modbus/src/line.rs",
    "federation/src/link/welcome.rs",
    "fhir/src/postgres/looking.rs",
    "fhir/src/postgres/servers.rs",
    "fhir/src/rest/vantage.rs",
    "node/src/shutdown.rs",
];

#[test]
fn nothing_gets_another_name_but_durably() {
    let renames = |path: &Path| {
        let text = shipped(path, &read(path));
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        code.filter(|code| code.contains("fs::rename(")).count()
    };
    // Tests and the project's own commands keep nothing that anybody was told of, and a link to a pseudo-terminal ends with
    // the simulated device that made it.
    let told = |path: &PathBuf| !path.starts_with("xtask") && !path.starts_with("tests");
    let found: BTreeSet<_> = files(&["rs"])
        .into_iter()
        .filter(|path| told(path) && renames(path) > 0)
        .collect();
    let known = ["device-fw/src/sim/serve.rs", "storage/src/file.rs"].map(PathBuf::from);
    assert_eq!(found, BTreeSet::from(known), "INV-35");
}

#[test]
fn nothing_of_a_node_is_spawned_outside_its_tasks_but_what_is_listed() {
    let mut found = BTreeSet::new();
    for path in files(&["rs"]) {
        let part = path.iter().next().and_then(|part| part.to_str());
        if !part.is_some_and(|part| DATA_PATH.contains(&part)) {
            continue;
        }
        if shipped(&path, &read(&path)).contains("tokio::spawn(") {
            found.insert(path.to_string_lossy().into_owned());
        }
    }
    let listed: BTreeSet<_> = SPAWNERS.iter().map(|path| (*path).to_owned()).collect();
    assert_eq!(found, listed, "spawn it as a task of the node");
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let sources: String = files(&["rs"]).iter().map(|path| read(path)).collect();
    let rows: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("| INV-"))
        .collect();
    assert!(rows.len() >= 7, "ARCHITECTURE.md lists {}", rows.len());
    for row in rows {
        let quoted = row.split('`').skip(1).step_by(2);
        let named: Vec<_> = quoted.filter(|word| word.contains('_')).collect();
        assert!(!named.is_empty(), "names no test: {row}");
        for name in named {
            let test = format!("fn {name}(");
            assert!(sources.contains(&test), "there is no test {name}: {row}");
        }
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert_eq!(
        function_name("    pub async fn open(&self) {"),
        Some("open")
    );
    assert_eq!(function_name("    let fn_pointer = call(fn_name);"), None);
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    b.unwrap()\n}\nfn c() {}\n";
    let kept = shipped(Path::new("edge/src/x.rs"), text);
    assert_eq!(kept, "fn a() {}\nfn c() {}\n");
    let path = Path::new("edge/src/x.rs");
    let text = "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\nfn c() {}\n";
    assert_eq!(shipped(path, text), "fn c() {}\n");
    assert_eq!(compatible("0.23.46"), "0.23");
    assert_eq!(compatible("1.12.0"), "1");
}
