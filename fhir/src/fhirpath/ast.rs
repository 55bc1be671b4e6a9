//! Expressions as a tree.
use super::system::System;

/// An expression: where it begins, and what is done with it one after the other.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A literal.
    Literal(System<'static>),
    /// `{}`.
    Empty,
    /// `$this`, and what stands before the first dot of a function.
    This,
    /// `$index`.
    Index,
    /// `%name`.
    Variable(Variable),
    /// A name at the beginning: a type that the focus is of, or a child of it.
    Name(String),
    /// Steps behind an expression.
    Path(Box<Self>, Vec<Step>),
    /// `-` before an expression.
    Negative(Box<Self>),
    /// `is` and `as`.
    Typed(Box<Self>, TypeOp, TypeName),
    /// Any other operator.
    Binary(Op, Box<Self>, Box<Self>),
    /// `a | b | …`, flat.
    Union(Vec<Self>),
}

impl Expr {
    /// See [`super::Path::tops`].
    pub fn tops(&self) -> Option<Vec<&str>> {
        match self {
            Self::Path(start, steps) => match (start.as_ref(), steps.first()) {
                (Self::Name(kind), Some(Step::Child(name)))
                    if kind.starts_with(|c: char| c.is_ascii_uppercase()) =>
                {
                    // What counts or negates has a value without the element too.
                    let keeps = |step: &Step| match step {
                        Step::Child(_) | Step::At(_) | Step::Typed(TypeOp::As, _) => true,
                        Step::Call(function, _) => *function == Function::Where,
                        Step::Typed(TypeOp::Is, _) => false,
                    };
                    steps.iter().all(keeps).then(|| vec![name.as_str()])
                }
                _ => None,
            },
            Self::Typed(inner, TypeOp::As, _) => inner.tops(),
            Self::Union(parts) => {
                let tops: Option<Vec<Vec<&str>>> = parts.iter().map(Self::tops).collect();
                Some(tops?.concat())
            }
            _ => None,
        }
    }
}

/// What is known from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    Resource,
    Context,
    Ucum,
    Sct,
    Loinc,
}

/// A step along a path.
#[derive(Clone, Debug)]
pub enum Step {
    /// `.name`.
    Child(String),
    /// `[n]`.
    At(Expr),
    /// `.function(arguments)`.
    Call(Function, Vec<Expr>),
    /// `.is(Type)`, `.as(Type)`, `.ofType(Type)`.
    Typed(TypeOp, TypeName),
}

/// What is done with a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeOp {
    Is,
    As,
}

/// A type, with the model that it is of where that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    pub space: Option<String>,
    pub name: String,
}

/// Operators between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Times,
    Over,
    Div,
    Mod,
    Plus,
    Minus,
    Join,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    In,
    Contains,
    And,
    Or,
    Xor,
    Implies,
}

macro_rules! functions {
    ($($variant:ident $name:literal $least:literal $most:literal,)*) => {
        /// The functions that are offered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function { $($variant,)* }

        impl Function {
            /// By its name, with the least and the greatest number of arguments.
            pub fn find(name: &str) -> Option<(Self, usize, usize)> {
                match name { $($name => Some((Self::$variant, $least, $most)),)* _ => None }
            }

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

functions! {
    Empty "empty" 0 0, Exists "exists" 0 1, All "all" 1 1, AllTrue "allTrue" 0 0, AnyTrue "anyTrue" 0 0,
    AllFalse "allFalse" 0 0, AnyFalse "anyFalse" 0 0, SubsetOf "subsetOf" 1 1, SupersetOf "supersetOf" 1 1,
    Count "count" 0 0, Distinct "distinct" 0 0, IsDistinct "isDistinct" 0 0, Not "not" 0 0,
    Where "where" 1 1, Select "select" 1 1, Repeat "repeat" 1 1,
    Single "single" 0 0, First "first" 0 0, Last "last" 0 0, Tail "tail" 0 0, Skip "skip" 1 1, Take "take" 1 1,
    Intersect "intersect" 1 1, Exclude "exclude" 1 1, Union "union" 1 1, Combine "combine" 1 1,
    Iif "iif" 2 3, ToBoolean "toBoolean" 0 0, ToInteger "toInteger" 0 0, ToDecimal "toDecimal" 0 0,
    ToText "toString" 0 0, ToDate "toDate" 0 0, ToDateTime "toDateTime" 0 0, ToTime "toTime" 0 0,
    ToQuantity "toQuantity" 0 1, ConvertsToBoolean "convertsToBoolean" 0 0,
    ConvertsToInteger "convertsToInteger" 0 0, ConvertsToDecimal "convertsToDecimal" 0 0,
    ConvertsToText "convertsToString" 0 0, ConvertsToDate "convertsToDate" 0 0,
    ConvertsToDateTime "convertsToDateTime" 0 0, ConvertsToTime "convertsToTime" 0 0,
    ConvertsToQuantity "convertsToQuantity" 0 1,
    IndexOf "indexOf" 1 1, LastIndexOf "lastIndexOf" 1 1, Substring "substring" 1 2, StartsWith "startsWith" 1 1,
    EndsWith "endsWith" 1 1, Contains "contains" 1 1, Upper "upper" 0 0, Lower "lower" 0 0, Replace "replace" 2 2,
    Matches "matches" 1 1, MatchesFull "matchesFull" 1 1, ReplaceMatches "replaceMatches" 2 2, Length "length" 0 0,
    ToChars "toChars" 0 0, Trim "trim" 0 0, Split "split" 1 1, Join "join" 0 1,
    Abs "abs" 0 0, Ceiling "ceiling" 0 0, Exp "exp" 0 0, Floor "floor" 0 0, Ln "ln" 0 0, Log "log" 1 1,
    Power "power" 1 1, Round "round" 0 1, Sqrt "sqrt" 0 0, Truncate "truncate" 0 0,
    Children "children" 0 0, Descendants "descendants" 0 0,
    Trace "trace" 1 2, Now "now" 0 0, Today "today" 0 0, TimeOfDay "timeOfDay" 0 0,
    Extension "extension" 1 1, HasValue "hasValue" 0 0, GetValue "getValue" 0 0, Resolve "resolve" 0 0,
}
