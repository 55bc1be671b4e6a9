//! What takes a command back that the device was not told yet: a command of its own, signed and numbered as every other, that
//! names the number of the one that is not wanted any more. The facility keeps it; a device never sees it.
use crate::{
    Command, Value,
    parameter::{Bound, Kind, Parameter},
    table::{Entry, Table, WITHDRAW},
};
use std::collections::BTreeMap;
use types::Decimal;

/// The parameter that names the command.
const SEQUENCE: &str = "sequence";
/// The greatest number that can be named: one that every program reads as it stands.
const MAX_SEQUENCE: i64 = (1 << 53) - 1;

/// The table by which it is judged.
#[must_use]
pub fn table() -> Table {
    let sequence = || {
        Some(Parameter {
            name: SEQUENCE.parse().ok()?,
            kind: Kind::Integer,
            unit: None,
            range: Some((Bound::Whole(1), Bound::Whole(MAX_SEQUENCE))),
            values: Vec::new(),
            optional: false,
            below: None,
        })
    };
    let entry = || {
        Some(Entry {
            name: WITHDRAW.parse().ok()?,
            safety: false,
            property: None,
            parameters: vec![sequence()?],
            write: Vec::new(),
        })
    };
    Table(entry().into_iter().collect())
}

/// The parameters that name the command of this number.
#[must_use]
pub fn parameters(sequence: u64) -> BTreeMap<String, Value> {
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    let sequence = Value::Number(Decimal::from_parts(sequence, 0));
    BTreeMap::from([(SEQUENCE.to_owned(), sequence)])
}

/// Whether a command takes another back.
#[must_use]
pub fn is_one(command: &Command) -> bool {
    command.name.as_str() == WITHDRAW
}

/// The number of the command that it takes back.
#[must_use]
pub fn of(command: &Command) -> Option<u64> {
    match command.parameters.get(SEQUENCE) {
        Some(Value::Number(number)) => number.as_str().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn a_withdrawal_names_one_number_and_no_table_has_its_name() {
        let own = table();
        for (sequence, good) in [
            (0, false),
            (1, true),
            (1_795_963_379_787, true),
            (1 << 60, false),
        ] {
            let admitted = own.admit(WITHDRAW, &parameters(sequence));
            assert_eq!(admitted.is_ok(), good, "{sequence}");
        }
        let none = own.admit(WITHDRAW, &BTreeMap::new());
        assert_eq!(none.err(), Some(Reason::WrongParameters));
        let other = Table::read("[[command]]\nname = \"withdraw\"");
        assert!(other.is_err_and(|problem| problem.starts_with("command[0].name")));
    }
}
