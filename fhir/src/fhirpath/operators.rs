//! Operators between two values (FHIRPath 2.0 §6).
use super::{
    Decimal, PathError, Quantity,
    ast::Op,
    equal::{equal, equivalent, order},
    system::{CALENDAR, Item, System, calendar_code},
};
use std::cmp::Ordering;

/// What an operator gives.
type Values<'a> = Result<Vec<Item<'a>>, PathError>;

pub fn truth<'a>(value: Option<bool>) -> Vec<Item<'a>> {
    value
        .map(|value| Item::System(System::Bool(value)))
        .into_iter()
        .collect()
}

pub fn number<'a>(value: Option<Decimal>) -> Vec<Item<'a>> {
    value
        .map(|value| Item::System(System::Decimal(value)))
        .into_iter()
        .collect()
}

/// A collection as a condition: one value that is no boolean is true (FHIRPath 2.0 §4.5).
pub fn boolean(items: &[Item<'_>], operation: &'static str) -> Result<Option<bool>, PathError> {
    match items {
        [] => Ok(None),
        [one] => Ok(Some(match one.system() {
            Some(System::Bool(value)) => value,
            _ => true,
        })),
        _ => Err(many(operation)),
    }
}

/// At most one value.
pub fn single<'i, 'a>(
    items: &'i [Item<'a>],
    operation: &'static str,
) -> Result<Option<&'i Item<'a>>, PathError> {
    match items {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(many(operation)),
    }
}

const fn many(operation: &'static str) -> PathError {
    PathError::Operand {
        operation,
        problem: "one value is expected, not several",
    }
}

/// `and`, `or`, `xor`, `implies`, of three values (FHIRPath 2.0 §6.5).
pub fn logic(op: Op, a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match op {
        Op::And => match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Op::Or => match (a, b) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        Op::Xor => Some(a? != b?),
        _ => match (a, b) {
            (Some(false), _) | (_, Some(true)) => Some(true),
            (Some(true), b) => b,
            (None, _) => None,
        },
    }
}

/// An operator that is none of [`logic`].
pub fn binary<'a>(op: Op, a: &[Item<'a>], b: &[Item<'a>]) -> Values<'a> {
    match op {
        Op::Equal => Ok(truth(all_equal(a, b))),
        Op::NotEqual => Ok(truth(all_equal(a, b).map(|equal| !equal))),
        Op::Equivalent => Ok(truth(Some(all_equivalent(a, b)))),
        Op::NotEquivalent => Ok(truth(Some(!all_equivalent(a, b)))),
        Op::In => Ok(truth(single(a, "in")?.map(|one| holds(b, one)))),
        Op::Contains => Ok(truth(single(b, "contains")?.map(|one| holds(a, one)))),
        Op::Join => {
            let text = |items: &[Item<'a>]| -> Result<String, PathError> {
                let one = single(items, "&")?.and_then(Item::system);
                Ok(one.map(|value| value.text()).unwrap_or_default())
            };
            let joined = text(a)? + &text(b)?;
            Ok(vec![Item::System(System::Text(bounded(joined)?.into()))])
        }
        Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual => compare(op, a, b),
        _ => match (single(a, name(op))?, single(b, name(op))?) {
            (Some(a), Some(b)) => arithmetic(op, a, b),
            _ => Ok(Vec::new()),
        },
    }
}

/// A text that is not longer than one may become.
pub fn bounded(text: String) -> Result<String, PathError> {
    match text.len() > super::MAX_TEXT {
        true => Err(PathError::Limit("1 MiB of text")),
        false => Ok(text),
    }
}

const fn name(op: Op) -> &'static str {
    match op {
        Op::Times => "*",
        Op::Over => "/",
        Op::Div => "div",
        Op::Mod => "mod",
        Op::Plus => "+",
        Op::Minus => "-",
        Op::Less => "<",
        Op::LessEqual => "<=",
        Op::Greater => ">",
        _ => ">=",
    }
}

fn all_equal(a: &[Item<'_>], b: &[Item<'_>]) -> Option<bool> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if a.len() != b.len() {
        return Some(false);
    }
    let mut known = Some(true);
    for (a, b) in a.iter().zip(b) {
        match equal(a, b) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => known = None,
        }
    }
    known
}

/// The same values in any order.
fn all_equivalent(a: &[Item<'_>], b: &[Item<'_>]) -> bool {
    let mut left: Vec<&Item<'_>> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(
            |one| match left.iter().position(|other| equivalent(one, other)) {
                Some(at) => {
                    left.swap_remove(at);
                    true
                }
                None => false,
            },
        )
}

/// Whether a value is among others.
pub fn holds(items: &[Item<'_>], one: &Item<'_>) -> bool {
    items.iter().any(|item| equal(item, one) == Some(true))
}

fn compare<'a>(op: Op, a: &[Item<'a>], b: &[Item<'a>]) -> Values<'a> {
    let (Some(a), Some(b)) = (single(a, name(op))?, single(b, name(op))?) else {
        return Ok(Vec::new());
    };
    let order = order(a, b, name(op))?;
    Ok(truth(order.map(|order| match op {
        Op::Less => order == Ordering::Less,
        Op::LessEqual => order != Ordering::Greater,
        Op::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })))
}

fn arithmetic<'a>(op: Op, a: &Item<'a>, b: &Item<'a>) -> Values<'a> {
    let wrong = || PathError::Operand {
        operation: name(op),
        problem: "two numbers, or what can be put together, are expected",
    };
    match (a.system(), b.system()) {
        (Some(System::Text(a)), Some(System::Text(b))) if op == Op::Plus => Ok(vec![Item::System(
            System::Text(bounded(a.into_owned() + &b)?.into()),
        )]),
        (Some(System::Moment(moment)), _) if matches!(op, Op::Plus | Op::Minus) => {
            let amount = b.quantity().ok_or_else(wrong)?;
            let count = amount.value.truncated().and_then(Decimal::to_i64);
            let count = count.map(|count| if op == Op::Minus { -count } else { count });
            let unit = calendar_unit(&amount.unit).ok_or_else(wrong)?;
            let later = count.and_then(|count| moment.later(count, unit));
            Ok(later
                .map(|later| Item::System(System::Moment(later)))
                .into_iter()
                .collect())
        }
        (Some(System::Integer(a)), Some(System::Integer(b))) => Ok(integers(op, a, b)),
        (Some(one), Some(other)) if one.number().is_some() && other.number().is_some() => {
            let (a, b) = (
                one.number().unwrap_or(Decimal::from(0)),
                other.number().unwrap_or(Decimal::from(0)),
            );
            Ok(decimals(op, a, b))
        }
        _ => {
            let (a, b) = (
                a.quantity().ok_or_else(wrong)?,
                b.quantity().ok_or_else(wrong)?,
            );
            quantities(op, &a, &b).ok_or_else(wrong)
        }
    }
}

/// The unit of the calendar for one of UCUM that is the same length.
fn calendar_unit(unit: &str) -> Option<&'static str> {
    CALENDAR.into_iter().find(|known| {
        *known == unit
            || (calendar_code(known) == Some(unit) && !matches!(*known, "year" | "month"))
    })
}

fn integers<'a>(op: Op, a: i64, b: i64) -> Vec<Item<'a>> {
    let value = match op {
        Op::Times => a.checked_mul(b),
        Op::Plus => a.checked_add(b),
        Op::Minus => a.checked_sub(b),
        Op::Div => a.checked_div(b),
        Op::Mod => a.checked_rem(b),
        _ => return decimals(op, Decimal::from(a), Decimal::from(b)),
    };
    value
        .map(|value| Item::System(System::Integer(value)))
        .into_iter()
        .collect()
}

fn decimals<'a>(op: Op, a: Decimal, b: Decimal) -> Vec<Item<'a>> {
    let value = match op {
        Op::Times => a.times(b),
        Op::Plus => a.plus(b),
        Op::Minus => a.minus(b),
        Op::Over => a.over(b),
        Op::Div => {
            let whole = a.div_rem(b).and_then(|(whole, _)| whole.to_i64());
            return whole
                .map(|whole| Item::System(System::Integer(whole)))
                .into_iter()
                .collect();
        }
        _ => a.div_rem(b).map(|(_, rest)| rest),
    };
    number(value)
}

/// Sums in one unit; a product or quotient with a plain number.
fn quantities<'a>(op: Op, a: &Quantity, b: &Quantity) -> Option<Vec<Item<'a>>> {
    let value = match op {
        Op::Plus if a.unit == b.unit => a.value.plus(b.value),
        Op::Minus if a.unit == b.unit => a.value.minus(b.value),
        Op::Times if a.unit == "1" || b.unit == "1" => a.value.times(b.value),
        Op::Over if b.unit == "1" || a.unit == b.unit => a.value.over(b.value),
        _ => return None,
    };
    let unit = match (op, a.unit == "1", a.unit == b.unit) {
        (Op::Over, _, true) => "1",
        (Op::Times, true, _) => &b.unit,
        _ => &a.unit,
    };
    let quantity = |value| {
        Item::System(System::Quantity(Quantity {
            value,
            unit: unit.to_owned(),
        }))
    };
    Some(value.map(quantity).into_iter().collect())
}
