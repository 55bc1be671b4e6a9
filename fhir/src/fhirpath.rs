//! FHIRPath over R4: the expressions of search parameters, of invariants and of FHIRPath Patch.
//!
//! FHIRPath 2.0 (ANSI/HL7 NMN R1-2020) with the functions of FHIR R4 fhirpath.html. Left out and refused when an
//! expression is read: `aggregate`, `memberOf`, `conformsTo`, `subsumes`, `htmlChecks` and the like, for which other
//! knowledge than the resource is needed. `as` filters a list, as the expressions of R4's search parameters want it.
//!
//! An expression is read once ([`Path::parse`]) and evaluated as often as is wanted. Both are bounded ([`MAX_CHARS`],
//! [`MAX_DEPTH`], [`MAX_STEPS`]); neither panics, whatever the text and the resource are.
mod ast;
mod convert;
mod decimal;
mod element;
mod equal;
mod eval;
mod existence;
mod lex;
mod math;
mod moment;
mod operators;
mod parse;
mod strings;
mod system;
mod tree;

pub use decimal::Decimal;
pub use element::Element;
pub use moment::{Moment, MomentKind, Precision};
pub use system::{Item, Quantity, System};

use crate::json::Json;

/// Characters of an expression. The longest of R4's search parameters has 1,055.
pub const MAX_CHARS: usize = 8_192;
/// Expressions within each other.
pub const MAX_DEPTH: usize = 48;
/// Steps of one evaluation: elements that are looked at and functions that are called.
pub const MAX_STEPS: u32 = 400_000;
/// Characters of a text that is made.
pub const MAX_TEXT: usize = 1 << 20;

/// An expression that was read.
#[derive(Clone, Debug)]
pub struct Path(ast::Expr);

/// Why an expression cannot be read, or has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is no FHIRPath, or has a function that is not offered.
    #[error("character {at}: {problem}")]
    Syntax {
        /// From 1, in bytes.
        at: usize,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// The values are none that an operation takes.
    #[error("{operation}: {problem}")]
    Operand {
        /// The operator or the function.
        operation: &'static str,
        /// What is expected.
        problem: &'static str,
    },
    /// More than a limit.
    #[error("more than {0}")]
    Limit(&'static str),
}

/// What an expression is evaluated in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// `%resource`, where it is another than the root.
    pub resource: Option<&'a Json<'a>>,
    /// `now()`, ms since 1970; it has no value when there is none.
    pub now: Option<i64>,
}

impl Path {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`PathError::Syntax`] or [`PathError::Limit`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        parse::parse(text).map(Self)
    }

    /// The elements at the top of a resource that every value of the expression lies in; none where it cannot be said.
    /// Without any of them the expression has no value.
    #[must_use]
    pub fn tops(&self) -> Option<Vec<&str>> {
        self.0.tops()
    }

    /// The values of the expression on a resource.
    ///
    /// # Errors
    /// [`PathError::Operand`] or [`PathError::Limit`].
    pub fn evaluate<'a>(
        &self,
        root: &'a Json<'a>,
        around: Surroundings<'a>,
    ) -> Result<Vec<Item<'a>>, PathError> {
        match Element::resource(root) {
            Some(element) => self.evaluate_at(&element, around),
            None => Ok(Vec::new()),
        }
    }

    /// The values of the expression on an element.
    ///
    /// # Errors
    /// [`PathError::Operand`] or [`PathError::Limit`].
    pub fn evaluate_at<'a>(
        &self,
        element: &Element<'a>,
        around: Surroundings<'a>,
    ) -> Result<Vec<Item<'a>>, PathError> {
        eval::evaluate(&self.0, element, around)
    }

    /// Whether an invariant holds: its value is true, or there is none.
    ///
    /// # Errors
    /// As [`Path::evaluate`].
    pub fn holds<'a>(
        &self,
        element: &Element<'a>,
        around: Surroundings<'a>,
    ) -> Result<bool, PathError> {
        let values = self.evaluate_at(element, around)?;
        Ok(operators::boolean(&values, "expression")? != Some(false))
    }
}

#[cfg(test)]
mod tests;
