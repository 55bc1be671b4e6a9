//! From tokens to an expression (FHIRPath 2.0, grammar).
use super::{
    MAX_DEPTH, PathError,
    ast::{Expr, Function, Op, Step, TypeName, TypeOp, Variable},
    lex::{Token, tokens},
    system::{CALENDAR, Quantity, System},
};
use crate::fhirpath::Decimal;

pub fn parse(text: &str) -> Result<Expr, PathError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        end: text.len() + 1,
        tokens,
        next: 0,
        depth: 0,
    };
    let expr = parser.expression(0)?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.wrong("an operator or the end is expected")),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    /// Where the text ends.
    end: usize,
    depth: usize,
}

/// How tightly operators bind; a greater number binds tighter.
const TYPED: u8 = 8;
const UNION: u8 = 7;

/// The operator of a token and how tightly it binds.
fn operator(token: &Token) -> Option<(Op, u8)> {
    Some(match token {
        Token::Sign("*") => (Op::Times, 10),
        Token::Sign("/") => (Op::Over, 10),
        Token::Sign("+") => (Op::Plus, 9),
        Token::Sign("-") => (Op::Minus, 9),
        Token::Sign("&") => (Op::Join, 9),
        Token::Sign("<") => (Op::Less, 6),
        Token::Sign("<=") => (Op::LessEqual, 6),
        Token::Sign(">") => (Op::Greater, 6),
        Token::Sign(">=") => (Op::GreaterEqual, 6),
        Token::Sign("=") => (Op::Equal, 5),
        Token::Sign("!=") => (Op::NotEqual, 5),
        Token::Sign("~") => (Op::Equivalent, 5),
        Token::Sign("!~") => (Op::NotEquivalent, 5),
        Token::Word(word) => match word.as_str() {
            "div" => (Op::Div, 10),
            "mod" => (Op::Mod, 10),
            "in" => (Op::In, 4),
            "contains" => (Op::Contains, 4),
            "and" => (Op::And, 3),
            "or" => (Op::Or, 2),
            "xor" => (Op::Xor, 2),
            "implies" => (Op::Implies, 1),
            _ => return None,
        },
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn wrong(&self, problem: impl Into<String>) -> PathError {
        PathError::Syntax {
            at: self.tokens.get(self.next).map_or(self.end, |(at, _)| *at),
            problem: problem.into(),
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Some(Token::Sign(found)) if *found == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.next += usize::from(found);
        found
    }

    fn require(&mut self, sign: &str) -> Result<(), PathError> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(self.wrong(format!("{sign} is expected"))),
        }
    }

    fn deeper(&mut self, levels: usize) -> Result<(), PathError> {
        self.depth += levels;
        match self.depth > MAX_DEPTH {
            true => Err(PathError::Limit("48 expressions within each other")),
            false => Ok(()),
        }
    }

    /// Operators that bind tighter than `least`.
    fn expression(&mut self, least: u8) -> Result<Expr, PathError> {
        let depth = self.depth;
        self.deeper(1)?;
        let mut left = self.prefixed()?;
        loop {
            let (is_typed, is_union) = match self.peek() {
                Some(Token::Word(word)) if word == "is" || word == "as" => (true, false),
                Some(Token::Sign("|")) => (false, true),
                _ => (false, false),
            };
            if is_typed && TYPED > least {
                // Each operator puts what came before one level deeper.
                self.deeper(1)?;
                let op = match self.peek() {
                    Some(Token::Word(word)) if word == "is" => TypeOp::Is,
                    _ => TypeOp::As,
                };
                self.next += 1;
                left = Expr::Typed(Box::new(left), op, self.type_name()?);
            } else if is_union && UNION > least {
                let mut parts = vec![left];
                while self.take("|") {
                    parts.push(self.expression(UNION)?);
                }
                left = Expr::Union(parts);
            } else if let Some((op, binds)) = self
                .peek()
                .and_then(operator)
                .filter(|(_, binds)| *binds > least)
            {
                self.deeper(1)?;
                self.next += 1;
                let right = self.expression(binds)?;
                left = Expr::Binary(op, Box::new(left), Box::new(right));
            } else {
                self.depth = depth;
                return Ok(left);
            }
        }
    }

    fn prefixed(&mut self) -> Result<Expr, PathError> {
        if self.take("-") {
            self.deeper(1)?;
            let inner = self.prefixed()?;
            return Ok(Expr::Negative(Box::new(inner)));
        }
        if self.take("+") {
            self.deeper(1)?;
            return self.prefixed();
        }
        let start = self.start()?;
        let (start, mut steps) = start;
        loop {
            if self.take(".") {
                steps.push(self.step()?);
            } else if self.take("[") {
                let index = self.expression(0)?;
                self.require("]")?;
                steps.push(Step::At(index));
            } else if steps.is_empty() {
                return Ok(start);
            } else {
                return Ok(Expr::Path(Box::new(start), steps));
            }
        }
    }

    fn start(&mut self) -> Result<(Expr, Vec<Step>), PathError> {
        let Some((_, token)) = self.tokens.get(self.next).cloned() else {
            return Err(self.wrong("an expression is expected"));
        };
        let is_call = matches!(self.tokens.get(self.next + 1), Some((_, Token::Sign("("))));
        if let (Token::Word(_) | Token::Quoted(_), true) = (&token, is_call) {
            return Ok((Expr::This, vec![self.step()?]));
        }
        self.next += 1;
        let expr = match token {
            Token::Text(text) => Expr::Literal(System::Text(text.into())),
            Token::Integer(number) => self.number(Decimal::from(number), System::Integer(number)),
            Token::Decimal(number) => self.number(number, System::Decimal(number)),
            Token::Moment(moment) => Expr::Literal(System::Moment(moment)),
            Token::Word(word) if word == "true" || word == "false" => {
                Expr::Literal(System::Bool(word == "true"))
            }
            Token::Word(name) | Token::Quoted(name) => Expr::Name(name),
            Token::Dollar(name) if name == "this" => Expr::This,
            Token::Dollar(name) if name == "index" => Expr::Index,
            Token::Percent(name) => Expr::Variable(match name.as_str() {
                "resource" | "rootResource" => Variable::Resource,
                "context" => Variable::Context,
                "ucum" => Variable::Ucum,
                "sct" => Variable::Sct,
                "loinc" => Variable::Loinc,
                _ => {
                    self.next -= 1;
                    return Err(self.wrong("a variable that is known is expected"));
                }
            }),
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.require(")")?;
                inner
            }
            Token::Sign("{") => {
                self.require("}")?;
                Expr::Empty
            }
            _ => {
                self.next -= 1;
                return Err(self.wrong("an expression is expected"));
            }
        };
        Ok((expr, Vec::new()))
    }

    /// A number, or a quantity where a unit follows.
    fn number(&mut self, value: Decimal, plain: System<'static>) -> Expr {
        let unit = match self.peek() {
            Some(Token::Text(unit)) => unit.clone(),
            Some(Token::Word(word)) => match word.strip_suffix('s').unwrap_or(word) {
                singular if CALENDAR.contains(&singular) => singular.to_owned(),
                _ => return Expr::Literal(plain),
            },
            _ => return Expr::Literal(plain),
        };
        self.next += 1;
        Expr::Literal(System::Quantity(Quantity { value, unit }))
    }

    /// What stands behind a dot.
    fn step(&mut self) -> Result<Step, PathError> {
        let name = match self.peek() {
            Some(Token::Word(name) | Token::Quoted(name)) => name.clone(),
            _ => return Err(self.wrong("a name is expected")),
        };
        self.next += 1;
        if !self.take("(") {
            return Ok(Step::Child(name));
        }
        let op = match name.as_str() {
            "is" => Some(TypeOp::Is),
            "as" | "ofType" => Some(TypeOp::As),
            _ => None,
        };
        if let Some(op) = op {
            let of = self.type_name()?;
            self.require(")")?;
            return Ok(Step::Typed(op, of));
        }
        let Some((function, least, most)) = Function::find(&name) else {
            self.next -= 2;
            return Err(self.wrong("a function that is offered is expected"));
        };
        let mut arguments = Vec::new();
        if !self.is_sign(")") {
            loop {
                arguments.push(self.expression(0)?);
                if !self.take(",") {
                    break;
                }
            }
        }
        if arguments.len() < least || arguments.len() > most {
            return Err(self.wrong(format!("{name} takes {least} to {most} arguments")));
        }
        self.require(")")?;
        Ok(Step::Call(function, arguments))
    }

    fn type_name(&mut self) -> Result<TypeName, PathError> {
        let first = self.name()?;
        match self.is_sign(".") && matches!(first.as_str(), "FHIR" | "System") {
            true => {
                self.next += 1;
                Ok(TypeName {
                    space: Some(first),
                    name: self.name()?,
                })
            }
            false => Ok(TypeName {
                space: None,
                name: first,
            }),
        }
    }

    fn name(&mut self) -> Result<String, PathError> {
        match self.peek() {
            Some(Token::Word(name) | Token::Quoted(name)) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.wrong("the name of a type is expected")),
        }
    }
}
