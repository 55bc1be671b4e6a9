//! Functions on one number (FHIRPath 2.0 §5.7).
use super::{
    Decimal, PathError, Quantity,
    ast::Function,
    eval::Values,
    existence::whole,
    operators::{number, single},
    system::{Item, System},
};

pub fn call<'a>(function: Function, items: &[Item<'a>], arguments: &[Vec<Item<'a>>]) -> Values<'a> {
    use Function as F;
    let name = function.name();
    let Some(item) = single(items, name)? else {
        return Ok(Vec::new());
    };
    if let (F::Abs, Item::System(System::Quantity(quantity))) = (function, item) {
        let value = quantity.value.absolute();
        let unit = quantity.unit.clone();
        return Ok(vec![Item::System(System::Quantity(Quantity {
            value,
            unit,
        }))]);
    }
    let (value, is_whole) = read(item, name)?;
    match function {
        F::Abs if is_whole => to_whole(Some(value.absolute())),
        F::Abs => Ok(number(Some(value.absolute()))),
        F::Ceiling => to_whole(value.negative().floor().map(Decimal::negative)),
        F::Floor => to_whole(value.floor()),
        F::Truncate => to_whole(value.truncated()),
        F::Exp => float(value.to_f64().exp()),
        F::Ln => float(value.to_f64().ln()),
        F::Sqrt => float(value.to_f64().sqrt()),
        F::Round => round(value, arguments),
        _ => {
            let argument = arguments
                .first()
                .map_or(Ok(None), |argument| single(argument, name))?;
            let Some(argument) = argument else {
                return Ok(Vec::new());
            };
            let (argument, _) = read(argument, name)?;
            match function {
                F::Log => float(value.to_f64().ln() / argument.to_f64().ln()),
                _ => power(value, is_whole, argument.to_f64()),
            }
        }
    }
}

/// A number, and whether it is of the type of whole numbers.
fn read(item: &Item<'_>, operation: &'static str) -> Result<(Decimal, bool), PathError> {
    let system = item.system();
    let value = system.as_ref().and_then(System::number);
    let value = value.ok_or(PathError::Operand {
        operation,
        problem: "a number is expected",
    })?;
    Ok((value, matches!(system, Some(System::Integer(_)))))
}

fn to_whole<'a>(value: Option<Decimal>) -> Values<'a> {
    let whole = value.and_then(Decimal::to_i64);
    Ok(whole
        .map(|whole| Item::System(System::Integer(whole)))
        .into_iter()
        .collect())
}

fn float<'a>(value: f64) -> Values<'a> {
    Ok(number(
        Some(value)
            .filter(|value| value.is_finite())
            .and_then(Decimal::of_f64),
    ))
}

fn round<'a>(value: Decimal, arguments: &[Vec<Item<'a>>]) -> Values<'a> {
    let places = arguments
        .first()
        .map_or(Ok(None), |argument| whole(argument, "round"))?;
    let places = u8::try_from(places.unwrap_or(0)).map_err(|_| PathError::Operand {
        operation: "round",
        problem: "places from 0 to 255 are expected",
    })?;
    Ok(number(value.rounded(places)))
}

/// A whole number to a whole power is a whole number, where a double still tells it from its neighbours.
fn power<'a>(value: Decimal, is_whole: bool, exponent: f64) -> Values<'a> {
    let power = value.to_f64().powf(exponent);
    match is_whole && exponent >= 0.0 && exponent.fract() == 0.0 && power.abs() < 9e15 {
        true => to_whole(Decimal::of_f64(power)),
        false => float(power),
    }
}
