//! A command and the registers of a Modbus device: what is written for it, in which order, and what of its property the
//! registers show.
use crate::{
    Reason, Value,
    parameter::{Kind, Parameter, compare, number},
    span_text,
    table::Entry,
    write::Write,
};
use serde_json::Value as Json;
use std::{cmp::Ordering, collections::BTreeMap};

impl Entry {
    /// What is written for these parameters, in this order; `stands` is what the device has of the property.
    ///
    /// Where one parameter stays below another, their registers go in one request if they follow each other: the device takes
    /// both or neither. If they do not, the one goes first that is in order with what stands of the other, so that what stops
    /// in between leaves them in order.
    ///
    /// # Errors
    /// [`Reason::OverRange`] for a value that its register cannot hold exactly; [`Reason::UnknownCommand`] where nothing is
    /// written for the command.
    pub fn writes(
        &self,
        parameters: &BTreeMap<String, Value>,
        stands: Option<&Json>,
    ) -> Result<Vec<(Write, u64)>, Reason> {
        let is_ordered = self.parameters.iter().any(|one| one.below.is_some());
        let mut requests: Vec<Vec<(Write, u64)>> = Vec::new();
        for write in &self.write {
            let Some(number) = write.number(parameters)? else {
                continue;
            };
            let before = requests.last().and_then(|request| request.last());
            let meets = before.is_some_and(|(before, _)| before.meets(write));
            let joined = meets && (write.joined || is_ordered);
            let write = Write {
                joined,
                ..write.clone()
            };
            match requests.last_mut().filter(|_| joined) {
                Some(request) => request.push((write, number)),
                None => requests.push(vec![(write, number)]),
            }
        }
        if requests.is_empty() {
            return Err(Reason::UnknownCommand);
        }
        self.put_in_order(&mut requests, parameters, stands);
        Ok(requests.into_iter().flatten().collect())
    }

    /// What is written for these parameters to a device whose registers show these numbers at this moment.
    ///
    /// # Errors
    /// As [`Entry::goes_with`] and [`Entry::writes`]; [`Reason::DeviceFailed`] where the device does not show what it would have
    /// to go with.
    pub fn writes_beside(
        &self,
        parameters: &BTreeMap<String, Value>,
        number: impl Fn(&Write) -> Option<u64>,
    ) -> Result<Vec<(Write, u64)>, Reason> {
        if self.is_partner_hidden(parameters, &number) {
            return Err(Reason::DeviceFailed);
        }
        let stands = self.shown(number);
        self.goes_with(parameters, stands.as_ref())?;
        self.writes(parameters, stands.as_ref())
    }

    /// Whether what is given has to go with what the device has, and its registers show that.
    #[must_use]
    pub fn is_judged_by_registers(&self) -> bool {
        self.is_shown() && self.parameters.iter().any(|one| one.below.is_some())
    }

    /// Whether something is given without its partner, whose register has no number to be seen.
    fn is_partner_hidden(
        &self,
        parameters: &BTreeMap<String, Value>,
        number: impl Fn(&Write) -> Option<u64>,
    ) -> bool {
        let given = |name: &str| parameters.contains_key(name);
        let is_hidden = |name: &str| {
            let write = self.parameter(name).and_then(|one| self.read_back(one));
            !given(name) && write.and_then(&number).is_none()
        };
        self.parameters.iter().any(|one| {
            let low = one.name.as_str();
            one.below.as_ref().is_some_and(|below| {
                let high = below.as_str();
                (given(low) && is_hidden(high)) || (given(high) && is_hidden(low))
            })
        })
    }

    /// Puts the request first that is in order with what stands.
    fn put_in_order(
        &self,
        requests: &mut Vec<Vec<(Write, u64)>>,
        parameters: &BTreeMap<String, Value>,
        stands: Option<&Json>,
    ) {
        let standing = |name: &str| self.parameter(name)?.read(stands?.get(name)?).ok();
        for parameter in &self.parameters {
            let Some(below) = &parameter.below else {
                continue;
            };
            let (low, high) = (parameter.name.as_str(), below.as_str());
            let at = |name: &str| requests.iter().position(|request| sets(request, name));
            let (Some(of_low), Some(of_high)) = (at(low), at(high)) else {
                continue;
            };
            let reaches_high = is_not_below(parameters.get(low), standing(high).as_ref());
            let reaches_low = is_not_below(standing(low).as_ref(), parameters.get(high));
            let (from, to) = match of_low.cmp(&of_high) {
                Ordering::Less if reaches_high => (of_high, of_low),
                Ordering::Greater if reaches_low => (of_low, of_high),
                _ => continue,
            };
            let first = requests.remove(from);
            requests.insert(to, first);
        }
    }

    /// Whether the registers show the whole property: each of its parameters is written where it can be read back.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        let is_read = |parameter: &Parameter| self.read_back(parameter).is_some();
        self.property.is_some() && self.parameters.iter().all(is_read)
    }

    /// What registers show of the property, by the number in each; none where they hold nothing of the table, as those of a
    /// device that is as it was delivered.
    #[must_use]
    pub fn shown(&self, number: impl Fn(&Write) -> Option<u64>) -> Option<Json> {
        let mut values = BTreeMap::new();
        for parameter in &self.parameters {
            let value = self.read_back(parameter).and_then(|write| {
                let whole = number(write)?.checked_mul(u64::from(write.per.max(1)))?;
                value(parameter, whole)
            });
            match value {
                Some(value) => {
                    values.insert(parameter.name.as_str().to_owned(), value);
                }
                None if parameter.optional => {}
                None => return None,
            }
        }
        if values.is_empty() {
            return None;
        }
        self.property_of(&values).map(|(_, value)| value)
    }

    /// Whether a device may report this of the property: each part is one of its parameter. A device may have limits in an
    /// order in which nobody would set them, and says so.
    #[must_use]
    pub fn may_report(&self, value: &Json) -> bool {
        let is_part = |(name, part): (&String, &Json)| {
            let parameter = self.parameter(name);
            parameter.is_some_and(|parameter| parameter.read(part).is_ok())
        };
        match (&self.parameters[..], value) {
            ([only], _) => only.read(value).is_ok(),
            (_, Json::Object(parts)) => !parts.is_empty() && parts.iter().all(is_part),
            _ => false,
        }
    }

    /// The write of a parameter that is read back.
    fn read_back(&self, parameter: &Parameter) -> Option<&Write> {
        let mut writes = self.write.iter();
        writes.find(|write| write.read_back && write.parameter.as_ref() == Some(&parameter.name))
    }
}

/// Whether a request sets a parameter.
fn sets(request: &[(Write, u64)], name: &str) -> bool {
    let mut of = request
        .iter()
        .filter_map(|(write, _)| write.parameter.as_ref());
    of.any(|parameter| parameter.as_str() == name)
}

/// Whether a value is not below another; not where one of them is unknown.
fn is_not_below(one: Option<&Value>, other: Option<&Value>) -> bool {
    let order = || compare(&number(one?)?, &number(other?)?);
    matches!(order(), Some(Ordering::Equal | Ordering::Greater))
}

/// The value of a parameter that a number in registers is; none where it is none of its range.
fn value(parameter: &Parameter, whole: u64) -> Option<Value> {
    let json = match (parameter.kind, whole) {
        (Kind::Flag, 0) => Json::Bool(false),
        (Kind::Flag, 1) => Json::Bool(true),
        (Kind::Span, _) => Json::String(span_text(whole)),
        (Kind::Integer, _) => Json::from(whole),
        (Kind::Flag | Kind::Decimal | Kind::Choice, _) => return None,
    };
    parameter.read(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;
    use serde_json::json;
    use types::DeviceKind;

    /// Limits whose registers lie apart: no request can carry both.
    const APART: &str = r#"
        [[command]]
        name = "set-limits"
        property = "limits"
        parameters = [
            { name = "low", type = "integer", range = [1, 300], optional = true, below = "high" },
            { name = "high", type = "integer", range = [1, 300], optional = true },
        ]
        write = [{ parameter = "low", address = 10 }, { parameter = "high", address = 20 }]

        [[command]]
        name = "set-pace"
        property = "pace"
        parameters = [{ name = "pace", type = "span", range = ["1s", "1h"] }]
        write = [{ parameter = "pace", address = 30, per = 1000 }]
    "#;

    fn given(table: &Table, name: &str, parameters: &Json) -> BTreeMap<String, Value> {
        table.check(name, parameters.as_object().unwrap()).unwrap()
    }

    #[test]
    fn no_limit_is_written_alone_beside_one_that_the_device_does_not_show() {
        let table = Table::read(APART).unwrap();
        let entry = table.entry("set-limits").unwrap();
        for (parameters, expected) in [
            (json!({"low": 60}), Err(Reason::DeviceFailed)),
            (json!({"high": 120}), Ok(())),
            (json!({"low": 60, "high": 120}), Ok(())),
        ] {
            let all = given(&table, "set-limits", &parameters);
            let low = |write: &Write| (write.address == 10).then_some(50);
            let writes = entry.writes_beside(&all, low).map(drop);
            assert_eq!(writes, expected, "{parameters}");
        }
    }

    #[test]
    fn limits_are_written_so_that_what_stops_in_between_leaves_them_in_order() {
        let table = Table::read(APART).unwrap();
        let entry = table.entry("set-limits").unwrap();
        for (stands, low, high, first) in [
            (json!({"low": 50, "high": 100}), 110, 150, 20),
            (json!({"low": 50, "high": 100}), 100, 150, 20),
            (json!({"low": 50, "high": 100}), 60, 90, 10),
            (json!({"low": 50, "high": 100}), 20, 40, 10),
            (json!({}), 110, 150, 10),
        ] {
            let values = given(&table, "set-limits", &json!({"low": low, "high": high}));
            let writes = entry.writes(&values, Some(&stands)).unwrap();
            let addresses: Vec<u16> = writes.iter().map(|(write, _)| write.address).collect();
            assert_eq!(addresses, [first, 30 - first], "{stands}: {low} to {high}");
            assert!(writes.iter().all(|(write, _)| !write.joined));
        }
    }

    #[test]
    fn limits_whose_registers_follow_each_other_go_in_one_request_whatever_the_profile_says() {
        let text = crate::BUILT_IN[0].1.replace("joined = true", "");
        let table = Table::read(&text).unwrap();
        let entry = table.entry("set-alarm-limits").unwrap();
        let limits = json!({"heart-rate-low": 50, "heart-rate-high": 120, "spo2-low": 90});
        let values = given(&table, "set-alarm-limits", &limits);
        let joined = |values| -> Vec<(u16, bool)> {
            let writes = entry.writes(values, None).unwrap();
            writes
                .iter()
                .map(|(it, _)| (it.address, it.joined))
                .collect()
        };
        assert_eq!(joined(&values), [(66, false), (67, true), (68, true)]);
        let apart = json!({"heart-rate-low": 50, "spo2-low": 90});
        let values = given(&table, "set-alarm-limits", &apart);
        assert_eq!(joined(&values), [(66, false), (68, false)]);
    }

    #[test]
    fn a_property_is_what_its_registers_hold_and_nothing_where_they_hold_none_of_it() {
        let table = Table::built_in(DeviceKind::BedsideMonitor);
        let shown = |name: &str, numbers: [u64; 4]| {
            let number = |write: &Write| {
                let at = [64, 66, 67, 68]
                    .iter()
                    .position(|own| *own == write.address);
                at.map(|at| numbers[at])
            };
            let entry = table.entry(name).unwrap();
            assert!(entry.is_shown());
            entry.shown(number)
        };
        assert_eq!(shown("set-interval", [7_000, 0, 0, 0]), Some(json!("7s")));
        assert_eq!(shown("set-interval", [0; 4]), None);
        assert_eq!(shown("set-interval", [5, 0, 0, 0]), None);
        let limits = shown("set-alarm-limits", [0, 110, 100, 0]);
        // Nobody would set them so: the device has them.
        assert_eq!(
            limits,
            Some(json!({"heart-rate-low": 110, "heart-rate-high": 100}))
        );
        let entry = table.entry("set-alarm-limits").unwrap();
        assert!(entry.may_report(&limits.unwrap()));
        assert!(!entry.may_report(&json!({"heart-rate-low": 9_000})));
        assert!(!entry.may_report(&json!({"note": "x"})));
        assert_eq!(shown("set-alarm-limits", [0; 4]), None);
    }

    #[test]
    fn a_value_that_its_register_cannot_hold_exactly_is_refused() {
        let table = Table::read(APART).unwrap();
        let check = |pace: &str| {
            let parameters = json!({ "pace": pace });
            let checked = table.check("set-pace", parameters.as_object().unwrap());
            checked
                .map(drop)
                .map_err(|misuse| (misuse.field, misuse.reason))
        };
        assert_eq!(check("6s"), Ok(()));
        let field = "/parameters/pace".to_owned();
        assert_eq!(check("5500ms"), Err((field, Reason::OverRange)));
        for (range, words, key) in [
            ("[-5, 5]", 1, "parameter"),
            ("[0, 70000]", 1, "words"),
            ("[0, 65535]", 1, ""),
            ("[0, 70000]", 2, ""),
            ("[0, 2]", 0, "words"),
        ] {
            let text = format!(
                "[[command]]\nname = 'set'\nparameters = [{{ name = 'a', type = 'integer', range = {range} }}]\n\
                 write = [{{ parameter = 'a', address = 1, words = {words} }}]"
            );
            let problem = Table::read(&text).err().unwrap_or_default();
            let wanted = if key.is_empty() {
                String::new()
            } else {
                format!("command[0].write[0].{key}: ")
            };
            assert!(
                problem.starts_with(&wanted) && problem.is_empty() == key.is_empty(),
                "{problem}"
            );
        }
    }
}
