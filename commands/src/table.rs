//! The `[[command]]` table of a device profile: which commands a kind of device takes, with which parameters, within which
//! ranges, which of them need a second person, and which registers of a Modbus device carry them.
//!
//! The same table is checked where a configuration is read, where a client asks, at the edge, and by the device.
use crate::{
    Reason, Value,
    parameter::{Parameter, compare, number},
    write::Write,
};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};
use types::{DeviceKind, Name};

/// Commands of one kind of device at most.
pub const MAX_COMMANDS: usize = 64;
/// Parameters of one command at most.
pub const MAX_PARAMETERS: usize = 16;
/// A table as text ([`Table::text`]) at most, in bytes.
pub const MAX_TABLE_BYTES: usize = 16 << 10;
/// Registers or coils that one command writes at most.
const MAX_WRITES: usize = 16;

/// A name that no command of a table has: it takes another command back ([`crate::withdrawal`]).
pub const WITHDRAW: &str = "withdraw";

/// The tables of the kinds of device that come with the product, as TOML.
pub const BUILT_IN: [(DeviceKind, &str); 3] = [
    (
        DeviceKind::BedsideMonitor,
        include_str!("../tables/bedside-monitor.toml"),
    ),
    (
        DeviceKind::LabAnalyser,
        include_str!("../tables/lab-analyser.toml"),
    ),
    (
        DeviceKind::External,
        include_str!("../tables/external.toml"),
    ),
];

/// The commands of a kind of device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Table(pub Vec<Entry>);

/// One command of a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Whether a second person must approve it.
    #[serde(default)]
    pub safety: bool,
    /// The property of the twin that it sets, if it sets one.
    #[serde(default)]
    pub property: Option<Name>,
    /// What it takes.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// What is written to a Modbus device, in this order.
    #[serde(default)]
    pub write: Vec<Write>,
}

/// What is wrong with a command that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse {
    /// Which member of the request, as a JSON pointer (RFC 6901).
    pub field: String,
    /// Why.
    pub reason: Reason,
    /// What is allowed.
    pub detail: String,
}

impl Misuse {
    fn new(field: impl Into<String>, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason,
            detail: detail.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    command: Table,
}

impl Table {
    /// Reads a text that holds `[[command]]` and nothing else.
    ///
    /// # Errors
    /// What is wrong, with the place.
    pub fn read(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        match file.command.problems().first() {
            None => Ok(file.command),
            Some((path, message)) => Err(format!("{path}: {message}")),
        }
    }

    /// The table of a kind of device that comes with the product; of a cold-chain probe, which takes no command, an empty one.
    #[must_use]
    pub fn built_in(kind: DeviceKind) -> Self {
        let found = BUILT_IN.iter().find(|(known, _)| *known == kind);
        let text = found.map_or("", |(_, text)| text);
        Self::read(text).unwrap_or_default()
    }

    /// The command of a name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name.as_str() == name)
    }

    /// The command that sets a property of the twin.
    #[must_use]
    pub fn setter(&self, property: &str) -> Option<&Entry> {
        let sets = |entry: &&Entry| {
            let own = entry.property.as_ref();
            own.is_some_and(|own| own.as_str() == property)
        };
        self.0.iter().find(sets)
    }

    /// Everything that is wrong, with key paths below the profile.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.0.len() > MAX_COMMANDS {
            found.push(("command".into(), format!("are at most {MAX_COMMANDS}")));
        }
        if self.text().len() > MAX_TABLE_BYTES {
            let message = format!(
                "are at most {MAX_TABLE_BYTES} bytes without `write`, as the region is told of them"
            );
            found.push(("command".into(), message));
        }
        let (mut names, mut properties) = (BTreeSet::new(), BTreeSet::new());
        for (index, entry) in self.0.iter().enumerate() {
            let mut say = |key: &str, message: String| {
                let dot = if key.is_empty() { "" } else { "." };
                found.push((format!("command[{index}]{dot}{key}"), message));
            };
            if !names.insert(&entry.name) {
                say("name", "another command has this name".into());
            }
            let property = entry.property.as_ref();
            if property.is_some_and(|own| !properties.insert(own)) {
                say("property", "another command sets this property".into());
            }
            for (key, message) in entry.problems() {
                say(&key, message);
            }
        }
        found
    }

    /// Checks a command as a client writes it: the name, and the object of parameters.
    ///
    /// # Errors
    /// The first [`Misuse`].
    pub fn check(
        &self,
        name: &str,
        parameters: &Map<String, Json>,
    ) -> Result<BTreeMap<String, Value>, Misuse> {
        let Some(entry) = self.entry(name) else {
            let known: Vec<_> = self.0.iter().map(|entry| entry.name.as_str()).collect();
            let detail = match known.is_empty() {
                true => "the device takes no command".to_owned(),
                false => format!("the device takes: {}", known.join(", ")),
            };
            return Err(Misuse::new("/name", Reason::UnknownCommand, detail));
        };
        entry.check(parameters)
    }

    /// Checks a command as it is signed: every value is already in its one text.
    ///
    /// # Errors
    /// Why it is none of this table.
    pub fn admit(
        &self,
        name: &str,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<&Entry, Reason> {
        let entry = self.entry(name).ok_or(Reason::UnknownCommand)?;
        let json = parameters.iter();
        let json: Map<_, _> = json
            .map(|(name, value)| (name.clone(), value.to_json()))
            .collect();
        let checked = entry.check(&json).map_err(|misuse| misuse.reason)?;
        if checked == *parameters {
            Ok(entry)
        } else {
            Err(Reason::WrongType)
        }
    }

    /// What clients see of the table.
    #[must_use]
    pub fn describe(&self) -> Json {
        self.0.iter().map(Entry::describe).collect()
    }
}

impl Entry {
    fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.name.as_str() == WITHDRAW {
            let message = "is the mesh's own: it takes a command back";
            found.push(("name".into(), message.into()));
        }
        if self.parameters.len() > MAX_PARAMETERS {
            found.push(("parameters".into(), format!("are at most {MAX_PARAMETERS}")));
        }
        if self.property.is_some() && self.parameters.is_empty() {
            let message = "a command that sets a property has parameters";
            found.push(("property".into(), message.into()));
        }
        let mut names = BTreeSet::new();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let mut say = |key: &str, message: &str| {
                found.push((format!("parameters[{index}].{key}"), message.into()));
            };
            if !names.insert(&parameter.name) {
                say("name", "another parameter has this name");
            }
            for (key, message) in parameter.problems() {
                say(key, message);
            }
            if let Some(below) = &parameter.below {
                let other = self.parameter(below.as_str());
                if other.is_none_or(|other| other.kind != parameter.kind) {
                    say("below", "is another parameter of the same type");
                }
            }
        }
        if self.write.len() > MAX_WRITES {
            found.push(("write".into(), format!("are at most {MAX_WRITES}")));
        }
        for (index, write) in self.write.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|at| self.write.get(at));
            if write.joined && !before.is_some_and(|before| before.meets(write)) {
                let message = "the registers of the write before it end where these begin, and are read back alike";
                found.push((format!("write[{index}].joined"), message.into()));
            }
            let kind_of = |name: &str| self.parameter(name).map(|own| own.kind);
            let parameter = write.parameter.as_ref();
            let parameter = parameter.and_then(|name| self.parameter(name.as_str()));
            if let Some((key, message)) = write.unheld(parameter) {
                found.push((format!("write[{index}].{key}"), message.into()));
            }
            for (key, message) in write.problems(kind_of) {
                found.push((format!("write[{index}].{key}"), message.into()));
            }
        }
        found
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        let mut all = self.parameters.iter();
        all.find(|parameter| parameter.name.as_str() == name)
    }

    fn check(&self, parameters: &Map<String, Json>) -> Result<BTreeMap<String, Value>, Misuse> {
        let at = |name: &str| format!("/parameters/{}", name.replace('~', "~0").replace('/', "~1"));
        let mut values = BTreeMap::new();
        for (name, json) in parameters {
            let Some(parameter) = self.parameter(name) else {
                let known: Vec<_> = self.parameters.iter().map(|p| p.name.as_str()).collect();
                let detail = match known.is_empty() {
                    true => format!("{} takes no parameter", self.name),
                    false => format!("{} takes: {}", self.name, known.join(", ")),
                };
                return Err(Misuse::new(at(name), Reason::WrongParameters, detail));
            };
            let value = parameter
                .read(json)
                .map_err(|reason| Misuse::new(at(name), reason, parameter.expectation()))?;
            values.insert(name.clone(), value);
        }
        for parameter in &self.parameters {
            let name = parameter.name.as_str();
            if !parameter.optional && !values.contains_key(name) {
                let detail = format!("is missing: {}", parameter.expectation());
                return Err(Misuse::new(at(name), Reason::WrongParameters, detail));
            }
        }
        if let Some((name, below)) = self.out_of_order(&values) {
            let detail = format!("is less than {below}");
            return Err(Misuse::new(at(name), Reason::OverRange, detail));
        }
        for write in &self.write {
            if let Err(reason) = write.number(&values) {
                let name = write.parameter.as_ref().map_or("", Name::as_str);
                let detail = "is a value that the register of the device cannot hold exactly";
                return Err(Misuse::new(at(name), reason, detail));
            }
        }
        if values.is_empty() && !self.parameters.is_empty() {
            let detail = "at least one parameter is given";
            return Err(Misuse::new("/parameters", Reason::WrongParameters, detail));
        }
        Ok(values)
    }

    /// The first parameter that is not below the one that it has to be below.
    fn out_of_order(&self, values: &BTreeMap<String, Value>) -> Option<(&str, &str)> {
        self.parameters.iter().find_map(|parameter| {
            let (name, below) = (parameter.name.as_str(), parameter.below.as_ref()?.as_str());
            let order = number(values.get(name)?).zip(number(values.get(below)?));
            let order = order.and_then(|(own, other)| compare(&own, &other));
            (order != Some(Ordering::Less)).then_some((name, below))
        })
    }

    /// Whether parameters go with what the device has of the property already: a low limit that is given alone stays below
    /// the high one that stands.
    ///
    /// # Errors
    /// [`Reason::OverRange`].
    pub fn goes_with(
        &self,
        parameters: &BTreeMap<String, Value>,
        reported: Option<&Json>,
    ) -> Result<(), Reason> {
        let stands = reported.and_then(Json::as_object).into_iter().flatten();
        let stands = stands.filter_map(|(name, json)| {
            let value = self.parameter(name)?.read(json).ok()?;
            Some((name.clone(), value))
        });
        // What stands without a partner among what is given is as it was: no reason to refuse another.
        let is_partner = |name: &str| {
            self.parameters.iter().any(|one| {
                let (own, below) = (one.name.as_str(), one.below.as_ref().map(Name::as_str));
                let given = |name: &str| parameters.contains_key(name);
                below
                    .is_some_and(|below| own == name && given(below) || below == name && given(own))
            })
        };
        let stands = stands.filter(|(name, _)| is_partner(name.as_ref()));
        let mut all: BTreeMap<String, Value> = stands.collect();
        all.extend(parameters.clone());
        match self.out_of_order(&all) {
            None => Ok(()),
            Some(_) => Err(Reason::OverRange),
        }
    }

    fn describe(&self) -> Json {
        let parameters: Vec<Json> = self.parameters.iter().map(Parameter::describe).collect();
        json!({
            "name": self.name.as_str(),
            "safety": self.safety,
            "property": self.property.as_ref().map(Name::as_str),
            "parameters": parameters,
        })
    }

    /// The property of the twin that these parameters set it to: the value of the one parameter that it has, or an object.
    #[must_use]
    pub fn property_of(&self, parameters: &BTreeMap<String, Value>) -> Option<(&str, Json)> {
        let property = self.property.as_ref()?.as_str();
        let value = match (&self.parameters[..], parameters.values().next()) {
            ([_], Some(only)) => only.to_json(),
            _ => {
                let all = parameters.iter();
                let all = all.map(|(name, value)| (name.clone(), value.to_json()));
                Json::Object(all.collect())
            }
        };
        Some((property, value))
    }

    /// The parameters that set the property to a value: the inverse of [`Entry::property_of`].
    ///
    /// # Errors
    /// The [`Misuse`]; its field begins at the value.
    pub fn parameters_for(&self, value: &Json) -> Result<BTreeMap<String, Value>, Misuse> {
        match (&self.parameters[..], value) {
            ([only], _) => {
                let object = Map::from_iter([(only.name.as_str().to_owned(), value.clone())]);
                self.check(&object).map_err(|mut misuse| {
                    misuse.field.clear();
                    misuse
                })
            }
            (_, Json::Object(object)) => self.check(object).map_err(|mut misuse| {
                misuse.field = misuse.field.replacen("/parameters", "", 1);
                misuse
            }),
            _ => Err(Misuse::new("", Reason::WrongType, "is an object")),
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
