//! From the text of an expression to its tokens.
use super::{MAX_CHARS, Moment, PathError};
use crate::fhirpath::Decimal;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name, or a word that is an operator.
    Word(String),
    /// A name between back quotes: never an operator.
    Quoted(String),
    Text(String),
    Integer(i64),
    Decimal(Decimal),
    Moment(Moment),
    /// `$this`, `$index`, `$total`.
    Dollar(String),
    /// `%name`.
    Percent(String),
    /// Signs, one or two.
    Sign(&'static str),
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.precision == other.precision && self.is_equivalent(other)
    }
}

const SIGNS: [&str; 26] = [
    "<=", ">=", "!=", "!~", "<", ">", "=", "~", "(", ")", "[", "]", "{", "}", ".", ",", "+", "-",
    "*", "/", "|", "&", ";", ":", "?", "!",
];

/// Tokens, each with where it begins, from 1.
pub fn tokens(text: &str) -> Result<Vec<(usize, Token)>, PathError> {
    if text.len() > MAX_CHARS {
        return Err(PathError::Limit("8,192 characters"));
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    while lexer.skip()? {
        let at = lexer.at + 1;
        tokens.push((at, lexer.token()?));
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, problem: &str) -> PathError {
        PathError::Syntax {
            at: self.at + 1,
            problem: problem.to_owned(),
        }
    }

    /// White space and comments; whether something follows.
    fn skip(&mut self) -> Result<bool, PathError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                let end = trimmed
                    .find("*/")
                    .ok_or_else(|| self.wrong("the comment does not end"))?;
                self.at += end + 2;
            } else {
                return Ok(!trimmed.is_empty());
            }
        }
    }

    /// What a test holds for, from here.
    fn run(&mut self, holds: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !holds(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn token(&mut self) -> Result<Token, PathError> {
        let rest = self.rest();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match rest.chars().next() {
            Some('\'') => Ok(Token::Text(self.quoted('\'')?)),
            Some('"') => Ok(Token::Text(self.quoted('"')?)),
            Some('`') => Ok(Token::Quoted(self.quoted('`')?)),
            Some('@') => self.moment(),
            Some('$') => {
                self.at += 1;
                Ok(Token::Dollar(self.run(is_name).to_owned()))
            }
            Some('%') => {
                self.at += 1;
                match self.rest().chars().next() {
                    Some('`') => Ok(Token::Percent(self.quoted('`')?)),
                    Some('\'') => Ok(Token::Percent(self.quoted('\'')?)),
                    _ => Ok(Token::Percent(
                        self.run(|c| is_name(c) || c == '-').to_owned(),
                    )),
                }
            }
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if is_name(c) => Ok(Token::Word(self.run(is_name).to_owned())),
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| self.wrong("no sign of FHIRPath"))?;
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
        }
    }

    fn number(&mut self) -> Result<Token, PathError> {
        let start = self.at;
        self.run(|c| c.is_ascii_digit());
        let behind = self
            .rest()
            .strip_prefix('.')
            .and_then(|rest| rest.chars().next());
        let is_decimal = behind.is_some_and(|c| c.is_ascii_digit());
        if is_decimal {
            self.at += 1;
            self.run(|c| c.is_ascii_digit());
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let token = match is_decimal {
            true => Decimal::parse(text).map(Token::Decimal),
            false => text.parse().ok().map(Token::Integer),
        };
        token.ok_or_else(|| self.wrong("a number of fewer digits is expected"))
    }

    fn moment(&mut self) -> Result<Token, PathError> {
        let start = self.at;
        self.at += 1;
        let is_time = self.rest().starts_with('T');
        // `.` ends a moment where a name follows, and belongs to it where a fraction does.
        let mut text = String::new();
        let mut chars = self.rest().chars().peekable();
        let mut seen_t = false;
        while let Some(c) = chars.next() {
            let belongs = match c {
                '0'..='9' | ':' => true,
                'T' => !std::mem::replace(&mut seen_t, true),
                'Z' => seen_t,
                '-' | '+' => chars.peek().is_some_and(char::is_ascii_digit),
                '.' => seen_t && chars.peek().is_some_and(char::is_ascii_digit),
                _ => false,
            };
            if !belongs {
                break;
            }
            text.push(c);
            if c == 'Z' {
                break;
            }
        }
        self.at += text.len();
        let moment = match is_time {
            true => Moment::parse_time(text.get(1..).unwrap_or_default()),
            false => Moment::parse(&text),
        };
        moment.map(Token::Moment).ok_or_else(|| PathError::Syntax {
            at: start + 1,
            problem: "a date or a time is expected behind @".to_owned(),
        })
    }

    fn quoted(&mut self, quote: char) -> Result<String, PathError> {
        let mut text = String::new();
        let start = self.at;
        self.at += quote.len_utf8();
        let mut chars = self.rest().chars();
        while let Some(c) = chars.next() {
            if c == quote {
                self.at = self.text.len() - chars.as_str().len();
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let escape = chars.next();
            text.push(match escape {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits = chars.as_str().get(..4).unwrap_or_default();
                    let code = u32::from_str_radix(digits, 16)
                        .ok()
                        .and_then(char::from_u32);
                    chars = chars.as_str().get(4..).unwrap_or_default().chars();
                    code.ok_or_else(|| {
                        self.wrong("four hexadecimal digits are expected behind \\u")
                    })?
                }
                Some(c @ ('\'' | '"' | '`' | '\\' | '/')) => c,
                _ => return Err(self.wrong("no escape of FHIRPath")),
            });
        }
        self.at = start;
        Err(self.wrong("the text does not end"))
    }
}
