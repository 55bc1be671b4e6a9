//! Paths in a configuration: which files and folders it names, and how it is changed where they lie elsewhere. Pure but for
//! a look at what there is.
use std::path::Path;
use toml::{Table, Value};

/// Every text of a configuration that is the path of a file or folder that is there, but for those in the data
/// directory, each once.
pub fn named(table: &Table, data_dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    each(&Value::Table(table.clone()), &mut |text| {
        let is_path = text.contains('/') && !text.contains("://");
        let path = Path::new(text);
        let is_there = path.is_file() || path.is_dir();
        let known = found.iter().any(|known| known == text);
        if is_path && is_there && !known && !is_in(text, data_dir) {
            found.push(text.to_owned());
        }
    });
    found
}

/// Whether a path is the data directory, below it, or above it: what is above holds more than the node's own.
fn is_in(text: &str, data_dir: &str) -> bool {
    let (path, data) = (Path::new(text), Path::new(data_dir));
    path.starts_with(data) || data.starts_with(path)
}

/// Exchanges texts of a configuration for others.
pub fn exchange(table: &Table, other: &impl Fn(&str) -> Option<String>) -> Table {
    let pairs = table
        .iter()
        .map(|(key, value)| (key.clone(), exchanged(value, other)));
    pairs.collect()
}

fn exchanged(value: &Value, other: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => Value::String(other(text).unwrap_or_else(|| text.clone())),
        Value::Array(all) => Value::Array(all.iter().map(|it| exchanged(it, other)).collect()),
        Value::Table(table) => Value::Table(exchange(table, other)),
        other => other.clone(),
    }
}

fn each(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(all) => all.iter().for_each(|it| each(it, see)),
        Value::Table(table) => table.values().for_each(|it| each(it, see)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_configuration_names_are_found_once_and_go_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display();
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        std::fs::create_dir_all(dir.path().join("profiles")).unwrap();
        for file in ["ca.pem", "data/signing.key"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let text = format!(
            "data_dir = '{root}/data'\nprofiles = '{root}/profiles'\nhome = '{root}'\n[tls]\nca = '{root}/ca.pem'\n\
             again = '{root}/ca.pem'\nkey = '{root}/data/signing.key'\ngone = '{root}/gone'\n\
             [[devices]]\naddress = 'rtu://{root}/ca.pem'\n"
        );
        let table: Table = text.parse().unwrap();
        let found = named(&table, &format!("{root}/data"));
        let mut expected = [format!("{root}/ca.pem"), format!("{root}/profiles")];
        expected.sort();
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        let moved = exchange(&table, &|text| {
            text.ends_with("ca.pem").then(|| "new".to_owned())
        });
        assert_eq!(moved["tls"]["again"].as_str(), Some("new"));
        assert_eq!(moved["data_dir"], table["data_dir"]);
    }
}
