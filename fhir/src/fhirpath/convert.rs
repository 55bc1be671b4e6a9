//! Conversion, and the clock (FHIRPath 2.0 §5.5, §5.9).
use super::{
    Decimal, Moment, Quantity,
    ast::Function,
    eval::Values,
    operators::{single, truth},
    system::{Item, System, calendar_code},
};

pub fn call<'a>(function: Function, items: &[Item<'a>], arguments: &[Vec<Item<'a>>]) -> Values<'a> {
    use Function as F;
    let Some(item) = single(items, function.name())? else {
        return Ok(Vec::new());
    };
    let target = match function {
        F::ConvertsToBoolean => F::ToBoolean,
        F::ConvertsToInteger => F::ToInteger,
        F::ConvertsToDecimal => F::ToDecimal,
        F::ConvertsToText => F::ToText,
        F::ConvertsToDate => F::ToDate,
        F::ConvertsToDateTime => F::ToDateTime,
        F::ConvertsToTime => F::ToTime,
        F::ConvertsToQuantity => F::ToQuantity,
        other => other,
    };
    let unit = arguments
        .first()
        .and_then(|argument| argument.first())
        .and_then(Item::text);
    let converted = converted(target, item).filter(|value| match (value, &unit) {
        (System::Quantity(quantity), Some(unit)) => {
            let wanted = Quantity {
                value: Decimal::from(1),
                unit: unit.to_string(),
            };
            quantity.comparable(&wanted).is_some()
        }
        _ => true,
    });
    match target == function {
        true => Ok(converted.map(Item::System).into_iter().collect()),
        false => Ok(truth(Some(converted.is_some()))),
    }
}

fn converted<'a>(target: Function, item: &Item<'a>) -> Option<System<'a>> {
    if target == Function::ToQuantity {
        return to_quantity(item).map(System::Quantity);
    }
    let value = match item.system() {
        Some(value) => value,
        None => System::Quantity(item.quantity()?),
    };
    let text = match &value {
        System::Text(text) => Some(text.trim().to_owned()),
        _ => None,
    };
    match (target, &value, text) {
        (Function::ToText, value, _) => Some(System::Text(value.text().into())),
        (Function::ToBoolean, System::Bool(value), _) => Some(System::Bool(*value)),
        (Function::ToBoolean, _, Some(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(System::Bool(true)),
            "false" | "f" | "no" | "n" | "0" | "0.0" => Some(System::Bool(false)),
            _ => None,
        },
        (Function::ToBoolean, value, _) => match value.number()?.to_i64() {
            Some(1) => Some(System::Bool(true)),
            Some(0) => Some(System::Bool(false)),
            _ => None,
        },
        (Function::ToInteger, System::Integer(number), _) => Some(System::Integer(*number)),
        (Function::ToInteger | Function::ToDecimal, System::Bool(value), _) => match target {
            Function::ToInteger => Some(System::Integer(i64::from(*value))),
            _ => Some(System::Decimal(Decimal::from(i64::from(*value)))),
        },
        (Function::ToInteger, _, Some(text)) => {
            let plain = text.strip_prefix('+').unwrap_or(&text);
            plain.parse().ok().map(System::Integer)
        }
        (Function::ToDecimal, _, Some(text)) => Decimal::parse(&text).map(System::Decimal),
        (Function::ToDecimal, value, _) => value.number().map(System::Decimal),
        (Function::ToDate, System::Moment(moment), _) => Some(System::Moment(moment.date())),
        (Function::ToDate, _, Some(text)) => {
            Moment::parse(&text).map(|moment| System::Moment(moment.date()))
        }
        (Function::ToDateTime, System::Moment(moment), _) => {
            Some(System::Moment(moment.date_time()))
        }
        (Function::ToDateTime, _, Some(text)) => {
            Moment::parse(&text).map(|moment| System::Moment(moment.date_time()))
        }
        (Function::ToTime, System::Moment(moment), _) => Some(System::Moment(moment.time())),
        (Function::ToTime, _, Some(text)) => {
            Moment::parse_time(text.strip_prefix('T').unwrap_or(&text)).map(System::Moment)
        }
        _ => None,
    }
}

/// `5.4 'mg'`, `4 days`, `7`.
fn to_quantity(item: &Item<'_>) -> Option<Quantity> {
    if let Some(System::Bool(value)) = item.system() {
        return Some(Quantity {
            value: Decimal::from(i64::from(value)),
            unit: "1".to_owned(),
        });
    }
    let Some(text) = item.text() else {
        return item.quantity();
    };
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
        .unwrap_or(text.len());
    let (value, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start();
    let quoted = unit
        .strip_prefix('\'')
        .and_then(|unit| unit.strip_suffix('\''));
    let calendar = || {
        let singular = unit.strip_suffix('s').unwrap_or(unit);
        calendar_code(singular).map(|_| singular)
    };
    let unit = if unit.is_empty() {
        Some("1")
    } else {
        quoted.or_else(calendar)
    };
    Some(Quantity {
        value: Decimal::parse(value)?,
        unit: unit?.to_owned(),
    })
}

pub fn clock<'a>(function: Function, now: Option<i64>) -> Vec<Item<'a>> {
    let now = now.and_then(Moment::of_ms).map(|now| match function {
        Function::Today => now.date(),
        Function::TimeOfDay => now.time(),
        _ => now,
    });
    now.map(|now| Item::System(System::Moment(now)))
        .into_iter()
        .collect()
}
