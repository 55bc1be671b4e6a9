//! Functions about which values there are (FHIRPath 2.0 §5.1, §5.3, §5.4).
use super::{
    PathError,
    ast::Function,
    equal::equal,
    eval::{Evaluator, Values},
    operators::{self, holds, truth},
    system::{Item, System},
};

/// Whether two items are one value: the same element, or equal.
pub fn same(a: &Item<'_>, b: &Item<'_>) -> bool {
    equal(a, b) == Some(true)
}

/// A whole number, where there is one.
pub fn whole(items: &[Item<'_>], operation: &'static str) -> Result<Option<i64>, PathError> {
    match operators::single(items, operation)?.map(|one| one.system()) {
        None => Ok(None),
        Some(Some(System::Integer(number))) => Ok(Some(number)),
        Some(_) => Err(PathError::Operand {
            operation,
            problem: "a whole number is expected",
        }),
    }
}

pub fn call<'a>(
    evaluator: &Evaluator<'a>,
    function: Function,
    items: Vec<Item<'a>>,
    arguments: &[Vec<Item<'a>>],
) -> Values<'a> {
    use Function as F;
    let name = function.name();
    let other: &[Item<'a>] = arguments.first().map_or(&[], Vec::as_slice);
    if matches!(
        function,
        F::SubsetOf | F::SupersetOf | F::Intersect | F::Exclude
    ) {
        evaluator.count(items.len().saturating_mul(other.len()))?;
    }
    Ok(match function {
        F::Empty => truth(Some(items.is_empty())),
        F::Not => truth(operators::boolean(&items, name)?.map(|value| !value)),
        F::AllTrue | F::AnyTrue | F::AllFalse | F::AnyFalse => {
            truth(Some(truths(function, &items)?))
        }
        F::SubsetOf => truth(Some(items.iter().all(|item| holds(other, item)))),
        F::SupersetOf => truth(Some(other.iter().all(|item| holds(&items, item)))),
        F::Count => vec![Item::System(System::Integer(
            i64::try_from(items.len()).unwrap_or(i64::MAX),
        ))],
        F::Distinct => evaluator.distinct(items)?,
        F::IsDistinct => {
            let before = items.len();
            truth(Some(evaluator.distinct(items)?.len() == before))
        }
        F::Single => operators::single(&items, name)?
            .cloned()
            .into_iter()
            .collect(),
        F::First => items.into_iter().take(1).collect(),
        F::Last => items.into_iter().next_back().into_iter().collect(),
        F::Tail => items.into_iter().skip(1).collect(),
        F::Skip | F::Take => {
            let number =
                usize::try_from(whole(other, name)?.unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            match function {
                F::Skip => items.into_iter().skip(number).collect(),
                _ => items.into_iter().take(number).collect(),
            }
        }
        F::Intersect => {
            let both = items
                .into_iter()
                .filter(|item| holds(other, item))
                .collect();
            evaluator.distinct(both)?
        }
        F::Exclude => items
            .into_iter()
            .filter(|item| !holds(other, item))
            .collect(),
        F::Union => {
            let all = items.into_iter().chain(other.iter().cloned()).collect();
            evaluator.distinct(all)?
        }
        _ => items.into_iter().chain(other.iter().cloned()).collect(),
    })
}

fn truths(function: Function, items: &[Item<'_>]) -> Result<bool, PathError> {
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        match item.system() {
            Some(System::Bool(value)) => values.push(value),
            _ => {
                return Err(PathError::Operand {
                    operation: function.name(),
                    problem: "booleans are expected",
                });
            }
        }
    }
    Ok(match function {
        Function::AllTrue => values.iter().all(|value| *value),
        Function::AnyTrue => values.iter().any(|value| *value),
        Function::AllFalse => values.iter().all(|value| !*value),
        _ => values.iter().any(|value| !*value),
    })
}
