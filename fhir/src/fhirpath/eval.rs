//! From an expression and an element to values.
use super::{
    Element, MAX_STEPS, PathError, Surroundings,
    ast::{Expr, Function, Op, Step, TypeName, TypeOp, Variable},
    convert, existence, math, operators, strings,
    system::{Item, System},
    tree,
};
use std::{borrow::Cow, cell::Cell};

/// The values of an expression.
pub type Values<'a> = Result<Vec<Item<'a>>, PathError>;

/// One evaluation.
pub struct Evaluator<'a> {
    /// The element that the expression is evaluated on.
    pub root: Element<'a>,
    /// The resource that holds it.
    pub resource: Element<'a>,
    /// `now()`, ms since 1970.
    pub now: Option<i64>,
    steps: Cell<u32>,
}

/// What `$this` and `$index` are.
#[derive(Clone, Copy)]
pub struct Focus<'f, 'a> {
    pub this: &'f [Item<'a>],
    pub index: Option<usize>,
}

pub fn evaluate<'a>(expr: &Expr, element: &Element<'a>, around: Surroundings<'a>) -> Values<'a> {
    let resource = around.resource.and_then(Element::resource);
    let evaluator = Evaluator {
        root: *element,
        resource: resource.unwrap_or(*element),
        now: around.now,
        steps: Cell::new(0),
    };
    let this = [Item::Element(*element)];
    let focus = Focus {
        this: &this,
        index: None,
    };
    evaluator.eval(expr, focus)
}

impl<'a> Evaluator<'a> {
    /// Counts steps.
    ///
    /// # Errors
    /// [`PathError::Limit`] where there were too many.
    pub fn count(&self, steps: usize) -> Result<(), PathError> {
        let all = self
            .steps
            .get()
            .saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        self.steps.set(all);
        match all > MAX_STEPS {
            true => Err(PathError::Limit("400,000 steps")),
            false => Ok(()),
        }
    }

    pub fn eval(&self, expr: &Expr, focus: Focus<'_, 'a>) -> Values<'a> {
        self.count(1)?;
        match expr {
            Expr::Literal(value) => Ok(vec![Item::System(value.clone())]),
            Expr::Empty => Ok(Vec::new()),
            Expr::This => Ok(focus.this.to_vec()),
            Expr::Index => {
                let index = focus.index.and_then(|index| i64::try_from(index).ok());
                Ok(index
                    .map(|index| Item::System(System::Integer(index)))
                    .into_iter()
                    .collect())
            }
            Expr::Variable(variable) => Ok(vec![self.variable(*variable)]),
            Expr::Name(name) => self.named(name, focus),
            Expr::Path(start, steps) => {
                let mut items = self.eval(start, focus)?;
                for step in steps {
                    items = self.step(items, step, focus)?;
                    self.count(items.len())?;
                }
                Ok(items)
            }
            Expr::Negative(inner) => {
                let items = self.eval(inner, focus)?;
                let zero = [Item::System(System::Integer(0))];
                match operators::single(&items, "-")? {
                    Some(_) => operators::binary(Op::Minus, &zero, &items),
                    None => Ok(items),
                }
            }
            Expr::Typed(inner, op, of) => typed(self.eval(inner, focus)?, *op, of),
            Expr::Binary(op, a, b) => self.binary(*op, a, b, focus),
            Expr::Union(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    all.extend(self.eval(part, focus)?);
                }
                self.distinct(all)
            }
        }
    }

    fn variable(&self, variable: Variable) -> Item<'a> {
        let url = match variable {
            Variable::Resource => return Item::Element(self.resource),
            Variable::Context => return Item::Element(self.root),
            Variable::Ucum => "http://unitsofmeasure.org",
            Variable::Sct => "http://snomed.info/sct",
            Variable::Loinc => "http://loinc.org",
        };
        Item::System(System::Text(Cow::Borrowed(url)))
    }

    /// A name at the beginning: the type of the focus itself, or its children.
    fn named(&self, name: &str, focus: Focus<'_, 'a>) -> Values<'a> {
        let mut found = Vec::new();
        for item in focus.this {
            let Item::Element(element) = item else {
                continue;
            };
            if name.starts_with(|c: char| c.is_ascii_uppercase()) && element.is_a(name) {
                found.push(item.clone());
            } else {
                found.extend(element.children_of(name).into_iter().map(Item::Element));
            }
        }
        self.count(found.len())?;
        Ok(found)
    }

    fn binary(&self, op: Op, a: &Expr, b: &Expr, focus: Focus<'_, 'a>) -> Values<'a> {
        let left = self.eval(a, focus)?;
        let (stops, name) = match op {
            Op::And => (Some(false), "and"),
            Op::Or => (Some(true), "or"),
            Op::Xor => (None, "xor"),
            Op::Implies => (Some(false), "implies"),
            _ => {
                let right = self.eval(b, focus)?;
                if matches!(
                    op,
                    Op::Equal | Op::NotEqual | Op::Equivalent | Op::NotEquivalent
                ) {
                    self.count(left.len().saturating_mul(right.len()))?;
                }
                return operators::binary(op, &left, &right);
            }
        };
        let left = operators::boolean(&left, name)?;
        if stops.is_some() && left == stops {
            return Ok(operators::truth(operators::logic(op, left, None)));
        }
        let right = operators::boolean(&self.eval(b, focus)?, name)?;
        Ok(operators::truth(operators::logic(op, left, right)))
    }

    fn step(&self, items: Vec<Item<'a>>, step: &Step, focus: Focus<'_, 'a>) -> Values<'a> {
        self.count(1)?;
        match step {
            Step::Child(name) => {
                let elements = items.iter().filter_map(|item| match item {
                    Item::Element(element) => Some(element),
                    _ => None,
                });
                let children = elements.flat_map(|element| element.children_of(name));
                Ok(children.map(Item::Element).collect())
            }
            Step::At(index) => {
                let index = self.eval(index, focus)?;
                let at = existence::whole(&index, "[]")?;
                let one = at
                    .and_then(|at| usize::try_from(at).ok())
                    .and_then(|at| items.get(at).cloned());
                Ok(one.into_iter().collect())
            }
            Step::Typed(op, of) => typed(items, *op, of),
            Step::Call(function, arguments) => self.call(*function, items, arguments, focus),
        }
    }

    fn call(
        &self,
        function: Function,
        items: Vec<Item<'a>>,
        arguments: &[Expr],
        focus: Focus<'_, 'a>,
    ) -> Values<'a> {
        use Function as F;
        match function {
            F::Where | F::Select | F::Repeat | F::All | F::Exists | F::Iif | F::Trace => {
                self.lambda(function, items, arguments, focus)
            }
            F::Children
            | F::Descendants
            | F::Extension
            | F::HasValue
            | F::GetValue
            | F::Resolve => tree::call(self, function, &items, &self.values(arguments, focus)?),
            F::IndexOf
            | F::LastIndexOf
            | F::Substring
            | F::StartsWith
            | F::EndsWith
            | F::Contains
            | F::Upper
            | F::Lower
            | F::Replace
            | F::Matches
            | F::MatchesFull
            | F::ReplaceMatches
            | F::Length
            | F::ToChars
            | F::Trim
            | F::Split
            | F::Join => strings::call(self, function, &items, &self.values(arguments, focus)?),
            F::ToBoolean
            | F::ToInteger
            | F::ToDecimal
            | F::ToText
            | F::ToDate
            | F::ToDateTime
            | F::ToTime
            | F::ToQuantity
            | F::ConvertsToBoolean
            | F::ConvertsToInteger
            | F::ConvertsToDecimal
            | F::ConvertsToText
            | F::ConvertsToDate
            | F::ConvertsToDateTime
            | F::ConvertsToTime
            | F::ConvertsToQuantity => {
                convert::call(function, &items, &self.values(arguments, focus)?)
            }
            F::Abs
            | F::Ceiling
            | F::Exp
            | F::Floor
            | F::Ln
            | F::Log
            | F::Power
            | F::Round
            | F::Sqrt
            | F::Truncate => math::call(function, &items, &self.values(arguments, focus)?),
            F::Now | F::Today | F::TimeOfDay => Ok(convert::clock(function, self.now)),
            _ => existence::call(self, function, items, &self.values(arguments, focus)?),
        }
    }

    /// The arguments, each by its values.
    fn values(
        &self,
        arguments: &[Expr],
        focus: Focus<'_, 'a>,
    ) -> Result<Vec<Vec<Item<'a>>>, PathError> {
        arguments
            .iter()
            .map(|argument| self.eval(argument, focus))
            .collect()
    }

    /// An expression on one item of a collection.
    fn on(&self, expr: &Expr, item: &Item<'a>, index: usize) -> Values<'a> {
        let focus = Focus {
            this: std::slice::from_ref(item),
            index: Some(index),
        };
        self.eval(expr, focus)
    }

    /// Functions whose arguments are evaluated on each item.
    fn lambda(
        &self,
        function: Function,
        items: Vec<Item<'a>>,
        arguments: &[Expr],
        focus: Focus<'_, 'a>,
    ) -> Values<'a> {
        let Some(first) = arguments.first() else {
            return Ok(operators::truth(Some(!items.is_empty())));
        };
        match function {
            Function::Where | Function::Exists => {
                let mut kept = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    let holds =
                        operators::boolean(&self.on(first, &item, index)?, function.name())?;
                    if holds == Some(true) {
                        kept.push(item);
                    }
                }
                match function {
                    Function::Where => Ok(kept),
                    _ => Ok(operators::truth(Some(!kept.is_empty()))),
                }
            }
            Function::All => {
                for (index, item) in items.iter().enumerate() {
                    if operators::boolean(&self.on(first, item, index)?, "all")? != Some(true) {
                        return Ok(operators::truth(Some(false)));
                    }
                }
                Ok(operators::truth(Some(true)))
            }
            Function::Select => {
                let mut all = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    all.extend(self.on(first, item, index)?);
                }
                Ok(all)
            }
            Function::Repeat => self.repeat(&items, first),
            Function::Iif => {
                let inner = Focus {
                    this: &items,
                    ..focus
                };
                let holds = operators::boolean(&self.eval(first, inner)?, "iif")?;
                match arguments.get(if holds == Some(true) { 1 } else { 2 }) {
                    Some(chosen) => self.eval(chosen, inner),
                    None => Ok(Vec::new()),
                }
            }
            // What is traced goes nowhere: it could hold what identifies.
            _ => Ok(items),
        }
    }

    fn repeat(&self, items: &[Item<'a>], expr: &Expr) -> Values<'a> {
        let mut all: Vec<Item<'a>> = Vec::new();
        let mut new: Vec<Item<'a>> = items.to_vec();
        while !new.is_empty() {
            let mut next = Vec::new();
            for (index, item) in new.iter().enumerate() {
                for found in self.on(expr, item, index)? {
                    self.count(all.len())?;
                    if !all.iter().any(|known| existence::same(known, &found)) {
                        all.push(found.clone());
                        next.push(found);
                    }
                }
            }
            new = next;
        }
        Ok(all)
    }

    /// Each value once.
    pub fn distinct(&self, items: Vec<Item<'a>>) -> Values<'a> {
        let mut all: Vec<Item<'a>> = Vec::with_capacity(items.len());
        for item in items {
            self.count(all.len())?;
            if !all.iter().any(|known| existence::same(known, &item)) {
                all.push(item);
            }
        }
        Ok(all)
    }
}

/// `is` wants one value; `as` keeps those of the type, as the expressions of R4's search parameters want it.
fn typed<'a>(items: Vec<Item<'a>>, op: TypeOp, of: &TypeName) -> Values<'a> {
    match op {
        TypeOp::As => Ok(items.into_iter().filter(|item| item.is_of(of)).collect()),
        TypeOp::Is => {
            let one = operators::single(&items, "is")?;
            Ok(operators::truth(one.map(|item| item.is_of(of))))
        }
    }
}
