//! Reads a configuration and finds **all** that is wrong with it, before a socket is bound.
//!
//! serde stops at the first fault. So a fault is noted, the value at its place is removed or replaced by a stand-in
//! of another shape, and reading starts again, until everything was read. A configuration that needed a stand-in is
//! never returned.
mod words;

use super::{Problem, Validate};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::{Table, Value};
use words::without_value;

/// Exit code of a program whose configuration is wrong (`EX_USAGE` of BSD's sysexits).
pub const EXIT_CODE: u8 = 64;

/// Readings of one file: each notes a fault or tries a stand-in. Enough for more faults than anyone reads at once.
const MAX_READINGS: usize = 2_000;
/// Readings besides, of one file, to find which key of a table is wrong: two for each key. Beyond them the table is named.
const MAX_LOOKS: usize = 2_000;
/// A configuration file; the largest realistic one lists some thousand devices and beds.
const MAX_FILE_BYTES: u64 = 8 << 20;

const PREFIX: &str = "MEDMESH_";
/// Variables with the prefix that are no configuration keys: of the parent process, of the build, of the command line
/// and of the tests.
const RESERVED: &[&str] = &[
    "MEDMESH_PARENT",
    "MEDMESH_LISTENERS",
    "MEDMESH_RENEWALS",
    "MEDMESH_CODE",
    "MEDMESH_BIN",
    "MEDMESH_DATA",
];
/// Beginnings of such variables: what is dangerous and refused outside a local mesh, and what the tests are told.
const RESERVED_PREFIXES: &[&str] = &["MEDMESH_DANGEROUS_", "MEDMESH_TEST_", "MEDMESH_UNGUARDED"];

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, at least one thing.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used:", self.path.display())?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// The overrides in this process's environment: `MEDMESH_STORE__MAX_SIZE=1GiB` sets `store.max_size`.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.into_string().ok()?)).filter(|(name, _)| is_override(name))
    })
}

fn is_override(name: &str) -> bool {
    let reserved = RESERVED.contains(&name)
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    name.starts_with(PREFIX) && !reserved
}

/// Reads `path`, applies `overrides` (pairs as of [`environment`]) and checks the result.
///
/// # Errors
/// [`ConfigError`] with every problem found; the caller exits with [`EXIT_CODE`].
pub fn load<T: DeserializeOwned + Validate>(
    path: &Path,
    overrides: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let fail = |problems| ConfigError {
        path: path.to_owned(),
        problems,
    };
    let text = read(path).map_err(|problem| fail(vec![problem]))?;
    parse(&text, overrides).map_err(fail)
}

/// Reads a configuration's text, applies `overrides` and checks the result.
///
/// # Errors
/// Every problem found, at least one.
pub fn parse<T: DeserializeOwned + Validate>(
    text: &str,
    overrides: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Vec<Problem>> {
    let mut table = table(text).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    for (name, value) in overrides {
        if let Err(problem) = override_key(&mut table, &name, &value) {
            problems.push(problem);
        }
    }
    let mut reader = Reader::new(Value::Table(table), T::stand_ins());
    let config = reader.read::<T>();
    problems.extend(reader.problems);
    if let Some(config) = &config {
        let own = |problem: &Problem| {
            let mut tried = reader.tries.keys();
            !is_at_or_below_any(&problem.path, tried.clone())
                && !tried.any(|path| problem.names(path))
        };
        problems.extend(config.problems().into_iter().filter(own));
    }
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let io = |error: std::io::Error| Problem::new("", error.to_string());
    let found = std::fs::metadata(path).map_err(io)?;
    // A pipe is empty when it is read again, as by a program that follows this one; a device may have no end.
    if !found.is_file() {
        return Err(Problem::new("", "is no regular file"));
    }
    if found.len() > MAX_FILE_BYTES {
        return Err(Problem::new("", "is larger than 8MiB"));
    }
    std::fs::read_to_string(path).map_err(io)
}

fn table(text: &str) -> Result<Table, Problem> {
    text.parse::<Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        let mut why = format!(
            "line {line} is not TOML: {}",
            without_value(error.message())
        );
        let place = error.span().filter(|_| error.message() == "duplicate key");
        if let Some(key) = place.and_then(|place| key_at(text, place)) {
            why += &format!(" at `{key}`");
        }
        Problem::new("", why)
    })
}

/// The key that a place of a text is; none when it is anything else, which is not shown to anybody.
fn key_at(text: &str, place: Range<usize>) -> Option<&str> {
    let (key, rest) = (text.get(place.clone())?, text.get(place.end..)?);
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    let is_key = !key.is_empty() && key.chars().all(is_bare);
    let is_named = rest
        .trim_start_matches([' ', '\t'])
        .starts_with(['=', '.', ']']);
    (is_key && is_named).then_some(key)
}

/// Sets one key from `MEDMESH_A__B=value`; a value that is TOML keeps its type, anything else is a string.
fn override_key(root: &mut Table, name: &str, text: &str) -> Result<(), Problem> {
    let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    let mut steps: Vec<&str> = key.split("__").collect();
    let last = steps.pop().unwrap_or_default();
    let mut table = root;
    for step in steps {
        let next = table
            .entry(step)
            .or_insert_with(|| Value::Table(Table::new()));
        table = next.as_table_mut().ok_or_else(|| {
            Problem::new(
                key.replace("__", "."),
                format!("{name} sets a key below `{step}`, which is not a table"),
            )
        })?;
    }
    table.insert(last.to_owned(), override_value(text));
    Ok(())
}

fn override_value(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>();
    match parsed {
        Ok(mut table) if table.len() == 1 => table
            .remove("v")
            .unwrap_or_else(|| Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}

/// Values of every shape that configurations are made of, tried in turn at a place whose own value is missing or
/// wrong, so that the rest of the file is read too; `own`: those of this kind of configuration. A value that was taken away
/// has had its first try by that, so that none of `own` is the first.
fn stand_ins(own: Vec<Value>) -> Vec<Value> {
    let mut all = vec![Value::String("a".to_owned())];
    all.extend(own);
    let text = ["us", "127.0.0.1:0", "1s", "1B", "sqlite"];
    all.extend(text.map(|t| Value::String(t.to_owned())));
    all.extend([
        Value::Table(Table::new()),
        Value::Array(Vec::new()),
        Value::Integer(1),
        Value::Boolean(false),
    ]);
    all
}

struct Reader {
    root: Value,
    stand_ins: Vec<Value>,
    problems: Vec<Problem>,
    /// How many stand-ins were tried at a path.
    tries: BTreeMap<String, usize>,
    /// Looks that are left, of [`MAX_LOOKS`].
    looks: Cell<usize>,
}

impl Reader {
    fn new(root: Value, own: Vec<Value>) -> Self {
        Self {
            root,
            stand_ins: stand_ins(own),
            problems: Vec::new(),
            tries: BTreeMap::new(),
            looks: Cell::new(MAX_LOOKS),
        }
    }

    /// The value, possibly with stand-ins where `problems` says so; none when a place could not be filled.
    fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        for _ in 0..MAX_READINGS {
            let fault = match serde_path_to_error::deserialize(self.root.clone()) {
                Ok(value) => return Some(value),
                Err(error) => self.located::<T>(Fault::of(&error)),
            };
            if !is_at_or_below_any(&fault.shown(), self.tries.keys()) {
                self.problems
                    .push(Problem::new(fault.shown(), fault.message.clone()));
            }
            if !self.mend(&fault) {
                return None;
            }
        }
        None
    }

    /// Finds the key of a fault within a table that says by one of its keys what it is: serde reads such a table as a whole,
    /// and stops at it.
    fn located<T: DeserializeOwned>(&self, mut fault: Fault) -> Fault {
        if fault.unknown {
            return fault;
        }
        if self.is_of_kind::<T>(&fault)
            && let Some(Step::Key(key)) = fault.steps.pop()
        {
            // The other keys are of another kind of table: all of it is replaced.
            fault.within = Some(key);
            return fault;
        }
        let table = fault.steps.iter().try_fold(&self.root, look_into);
        let keys = table.and_then(Value::as_table).into_iter().flatten();
        let keys: Vec<&String> = keys.map(|(key, _)| key).collect();
        let Some(left) = self.looks.get().checked_sub(2 * keys.len()) else {
            return fault;
        };
        self.looks.set(left);
        // Without the key that is wrong, and without the one that says what the table is, something else is wrong.
        let is_other = |key: &&&String| {
            let said = self.said_with::<T>(&fault, key, None);
            said.is_none_or(|other| !other.is_like(&fault))
        };
        let says_kind = |key: &&String| {
            let nothing = Value::String("nothing that there is".to_owned());
            let said = self.said_with::<T>(&fault, key, Some(nothing));
            let its = format!("{}.{key}", fault.path());
            said.is_some_and(|other| other.names_the_kind && other.path() == its)
        };
        let others: Vec<&String> = keys.iter().filter(is_other).copied().collect();
        let (kind, wrong): (Vec<_>, Vec<_>) = others.into_iter().partition(says_kind);
        if let ([_], [wrong]) = (&kind[..], &wrong[..]) {
            fault.steps.push(Step::Key((*wrong).clone()));
        }
        fault
    }

    /// Whether a fault is at the key that says what a table is, and not at one of several words of any other key: serde looks
    /// at nothing else of such a table before it knows that.
    fn is_of_kind<T: DeserializeOwned>(&self, fault: &Fault) -> bool {
        let Some((Step::Key(key), parents)) = fault.steps.split_last() else {
            return false;
        };
        let mut root = self.root.clone();
        let table = parents.iter().try_fold(&mut root, step_into);
        let Some(table) = table.and_then(Value::as_table_mut) else {
            return false;
        };
        let Some(value) = table.remove(key).filter(|_| fault.names_the_kind) else {
            return false;
        };
        // A key that no table has, before the other one.
        *table = Table::new();
        table.insert(String::new(), Value::Integer(0));
        table.insert(key.clone(), value);
        let said = serde_path_to_error::deserialize::<_, T>(root).err();
        said.is_some_and(|error| Fault::of(&error).is_like(fault))
    }

    /// What serde says where a key of the table of a fault is left out, or has another value.
    fn said_with<T: DeserializeOwned>(
        &self,
        fault: &Fault,
        key: &str,
        value: Option<Value>,
    ) -> Option<Fault> {
        let mut root = self.root.clone();
        let table = fault.steps.iter().try_fold(&mut root, step_into);
        if let Some(table) = table.and_then(Value::as_table_mut) {
            match value {
                Some(value) => table.insert(key.to_owned(), value),
                None => table.remove(key),
            };
        }
        let said = serde_path_to_error::deserialize::<_, T>(root).err();
        said.map(|error| Fault::of(&error))
    }

    /// Takes the faulty value away, or puts the next stand-in into its place; false when nothing is left to try.
    fn mend(&mut self, fault: &Fault) -> bool {
        let Some((last, parents)) = fault.steps.split_last() else {
            return false;
        };
        let Some(parent) = parents.iter().try_fold(&mut self.root, step_into) else {
            return false;
        };
        let tried = self.tries.entry(fault.path()).or_default();
        *tried += 1;
        match (parent, last) {
            (Value::Table(table), Step::Key(key)) if *tried == 1 && table.contains_key(key) => {
                table.remove(key);
                true
            }
            (Value::Table(table), Step::Key(key)) if !fault.unknown => {
                let Some(value) = self.stand_ins.get(*tried - 1) else {
                    return false;
                };
                table.insert(key.clone(), value.clone());
                true
            }
            (Value::Array(list), Step::Index(index)) => {
                let stand_in = self.stand_ins.get(*tried - 1);
                let Some((place, value)) = list.get_mut(*index).zip(stand_in) else {
                    return false;
                };
                *place = value.clone();
                true
            }
            _ => false,
        }
    }
}

fn step_into<'a>(value: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match step {
        Step::Key(key) => value.get_mut(key.as_str()),
        Step::Index(index) => value.get_mut(*index),
    }
}

fn look_into<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Key(key) => value.get(key.as_str()),
        Step::Index(index) => value.get(*index),
    }
}

fn is_at_or_below_any<'a>(path: &str, mut places: impl Iterator<Item = &'a String>) -> bool {
    places.any(|place| {
        path.strip_prefix(place.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Where serde stopped, and why, without the value that it stopped at.
struct Fault {
    steps: Vec<Step>,
    message: String,
    /// All of serde's words, with the value: to be compared, and shown to nobody.
    said: String,
    unknown: bool,
    /// Whether it is the value that says what kind of table it is in.
    names_the_kind: bool,
    /// The key of the table at the end of the steps that the fault is at, where the table is replaced as a whole.
    within: Option<String>,
}

impl Fault {
    fn of(error: &serde_path_to_error::Error<toml::de::Error>) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        for segment in error.path().iter() {
            match segment {
                Segment::Map { key } => steps.push(Step::Key(key.clone())),
                Segment::Seq { index } => steps.push(Step::Index(*index)),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        let text = error.inner().message();
        let mut fault = Self {
            steps,
            message: without_value(text),
            said: text.to_owned(),
            unknown: false,
            names_the_kind: text.starts_with("unknown variant "),
            within: None,
        };
        if let Some((key, rest)) = quoted_after("unknown field `", text) {
            fault.set_last(key);
            fault.unknown = true;
            fault.message = format!("is not a key here{rest}");
        } else if let Some((key, _)) = quoted_after("missing field `", text) {
            fault.steps.push(Step::Key(key.to_owned()));
            fault.message = "is missing".to_owned();
        }
        fault
    }

    /// serde names the unknown key in the message, and in the path only sometimes.
    fn set_last(&mut self, key: &str) {
        let named = matches!(self.steps.last(), Some(Step::Key(last)) if last == key);
        if !named {
            self.steps.push(Step::Key(key.to_owned()));
        }
    }

    /// Whether the same is said of the same place.
    fn is_like(&self, other: &Self) -> bool {
        self.said == other.said && self.path() == other.path()
    }

    /// The path for whoever reads the problem.
    fn shown(&self) -> String {
        let path = self.path();
        match &self.within {
            Some(key) if path.is_empty() => key.clone(),
            Some(key) => format!("{path}.{key}"),
            None => path,
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.push_str(&format!(".{key}")),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

fn quoted_after<'a>(start: &str, text: &'a str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(start)?.split_once('`')
}

#[cfg(test)]
mod tests;
