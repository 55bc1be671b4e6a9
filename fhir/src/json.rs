//! JSON as FHIR needs it: the text of every number, the order of members, and no member twice.
//!
//! One pass over the text makes a tree that borrows from it. What would cost more than it is worth is refused while
//! it is read: depth, members, long numbers ([`MAX_DEPTH`], [`MAX_NUMBER_CHARS`]). How long the text may be is the
//! caller's to say.
use std::{borrow::Cow, collections::HashSet};

/// Objects and lists within each other. The deepest example of R4 has 19.
pub const MAX_DEPTH: usize = 64;
/// Characters of one number: more than any measurement needs, and no work for arithmetic.
pub const MAX_NUMBER_CHARS: usize = 64;
/// Members up to which a name that stands twice is looked for pair by pair.
const FEW: usize = 24;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string, without its escapes.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
}

/// The members of an object in their order, each name once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(pub Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// The value of a member that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// Whether there is a member of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The elements of a member that is a list; the member itself otherwise, if there is one.
    pub fn each(&self, name: &str) -> std::slice::Iter<'_, Json<'a>> {
        match self.get(name) {
            Some(Json::List(list)) => list.iter(),
            Some(one) => std::slice::from_ref(one).iter(),
            None => [].iter(),
        }
    }
}

impl<'a> Json<'a> {
    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of an object.
    #[must_use]
    pub const fn object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Reads a text that is one value.
    ///
    /// # Errors
    /// [`JsonError`], with the place.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        let mut reader = Reader {
            text,
            at: 0,
            members: Vec::with_capacity(16),
        };
        reader.whole().map_err(|problem| reader.wrong(problem))
    }
}

/// An object with those of these members that there are, behind its own.
#[must_use]
pub fn with<const N: usize>(
    mut object: serde_json::Value,
    members: [(&str, Option<serde_json::Value>); N],
) -> serde_json::Value {
    if let serde_json::Value::Object(own) = &mut object {
        let there = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        own.extend(there);
    }
    object
}

/// Why a text is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct JsonError {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// What is wrong there. It repeats nothing of the text.
    pub problem: &'static str,
}

/// A member of an object.
type Member<'a> = (Cow<'a, str>, Json<'a>);
/// What is wrong where the reader stands: as small as it can be, since every value is told with one or without.
type Problem = &'static str;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The members read so far of every object that has not ended, the innermost one's last: each object is made when it
    /// ends, with the room that it needs.
    members: Vec<Member<'a>>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, problem: &'static str) -> JsonError {
        let before = self.text.as_bytes().get(..self.at).unwrap_or_default();
        let line_starts = before.iter().rposition(|byte| *byte == b'\n');
        JsonError {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: self.at - line_starts.map_or(0, |at| at + 1) + 1,
            problem,
        }
    }

    fn whole(&mut self) -> Result<Json<'a>, Problem> {
        let value = self.value(0)?;
        self.space();
        match self.peek() {
            None => Ok(value),
            Some(_) => Err("something follows the value"),
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte after white space, which is taken.
    fn next_of(&mut self, problem: Problem) -> Result<u8, Problem> {
        self.space();
        let next = self.peek().ok_or(problem)?;
        self.at += 1;
        Ok(next)
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, Problem> {
        self.space();
        if depth > MAX_DEPTH {
            return Err("more than 64 objects and lists within each other");
        }
        match self.peek() {
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            _ => self.word("null", Json::Null),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, Problem> {
        if !self.rest().starts_with(word) {
            return Err("a value is expected");
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, Problem> {
        const END: Problem = "the object does not end";
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(Object::default()));
        }
        let first = self.members.len();
        let mut names = Names::default();
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err("a member's name is expected");
            }
            let start = self.at;
            let name = self.string()?;
            if names.stands_twice(&name, self.members.get(first..).unwrap_or_default()) {
                self.at = start;
                return Err("a member stands twice");
            }
            if self.next_of(END)? != b':' {
                self.at -= 1;
                return Err("a colon is expected");
            }
            let value = self.value(depth + 1)?;
            self.members.push((name, value));
            match self.next_of(END)? {
                b',' => {}
                b'}' => return Ok(Json::Object(Object(self.members.drain(first..).collect()))),
                _ => {
                    self.at -= 1;
                    return Err("a comma or the end of the object is expected");
                }
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json<'a>, Problem> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(Vec::new()));
        }
        // Most lists of FHIR have one element.
        let mut list = Vec::with_capacity(1);
        loop {
            list.push(self.value(depth + 1)?);
            match self.next_of("the list does not end")? {
                b',' => {}
                b']' => return Ok(Json::List(list)),
                _ => {
                    self.at -= 1;
                    return Err("a comma or the end of the list is expected");
                }
            }
        }
    }

    /// RFC 8259 §6.
    fn number(&mut self) -> Result<Json<'a>, Problem> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if text.len() > MAX_NUMBER_CHARS {
            self.at = start;
            return Err("a number of more than 64 characters");
        }
        Ok(Json::Number(text))
    }

    fn digits(&mut self) -> Result<(), Problem> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.at == start {
            true => Err("a digit is expected"),
            false => Ok(()),
        }
    }

    /// Borrowed where no escape is in it.
    fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        self.at += 1;
        let part = self.plain()?;
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(part))
            }
            _ => self.unescaped(part),
        }
    }

    /// What comes before the end of a string, an escape, or what a string does not have.
    fn plain(&mut self) -> Result<&'a str, Problem> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let Some(plain) = plain_bytes(rest) else {
            self.at = self.text.len();
            return Err("the string does not end");
        };
        let part = self.text.get(self.at..self.at + plain);
        self.at += plain;
        Ok(part.unwrap_or_default())
    }

    /// The rest of a string behind the part before its first escape, and that part.
    #[cold]
    fn unescaped(&mut self, first: &str) -> Result<Cow<'a, str>, Problem> {
        let mut whole = first.to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(whole));
                }
                Some(b'\\') => {
                    self.at += 1;
                    whole.push(self.escaped()?);
                    whole.push_str(self.plain()?);
                }
                _ => return Err("a control character in a string"),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Problem> {
        let Some(escape) = self.peek() else {
            return Err("the string does not end");
        };
        self.at += 1;
        Ok(match escape {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err("no escape of JSON");
            }
        })
    }

    fn unicode(&mut self) -> Result<char, Problem> {
        const HALF: Problem = "half a surrogate pair";
        let first = self.hex()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(HALF);
        }
        if first >= 0xdc00 || !self.rest().starts_with("\\u") {
            return Err(HALF);
        }
        self.at += 2;
        let second = self.hex()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(HALF);
        }
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(code).ok_or(HALF)
    }

    fn hex(&mut self) -> Result<u32, Problem> {
        let digits = self.text.get(self.at..self.at + 4);
        let all_hex = |text: &&str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = digits.filter(all_hex);
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or("four hexadecimal digits are expected")?;
        self.at += 4;
        Ok(code)
    }
}

/// The names of an object's members so far, by which one that stands twice is found.
#[derive(Default)]
struct Names<'a> {
    /// A bit of 64 for each: where that of a name is not set, none is equal to it.
    seen: u64,
    /// All of them, where there are many.
    all: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Names<'a> {
    /// Whether the name is among those of the members before it; it is one of them from now on.
    #[expect(
        clippy::ptr_arg,
        reason = "what is borrowed from the text is kept as such"
    )]
    fn stands_twice(&mut self, name: &Cow<'a, str>, before: &[Member<'a>]) -> bool {
        if before.len() >= FEW {
            let known = || before.iter().map(|(known, _)| known.clone()).collect();
            return !self.all.get_or_insert_with(known).insert(name.clone());
        }
        let bit = bit_of(name.as_bytes());
        let may_be_known = self.seen & bit != 0;
        self.seen |= bit;
        may_be_known && before.iter().any(|(known, _)| known == name)
    }
}

/// A bit of 64 by the length of a name and its ends, in which the names of R4 differ.
fn bit_of(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |byte| usize::from(*byte));
    let last = name.last().map_or(0, |byte| usize::from(*byte));
    let mixed = first ^ (last << 3) ^ (name.len() << 1) ^ (first >> 3);
    1 << (mixed & 63)
}

/// Bytes of a string before its end, an escape or a control character, looked at eight at a time; none where it goes on
/// to the end of the text.
fn plain_bytes(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    // Sets the highest bit of each byte that is below a number; of the bytes above the first of these it may, too.
    let below = |word: u64, number: u64| word.wrapping_sub(ONES * number) & !word & HIGHEST;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let (words, tail) = rest.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let stops = is(word, b'"') | is(word, b'\\') | below(word, u64::from(b' '));
        if stops != 0 {
            return Some(at * 8 + stops.trailing_zeros() as usize / 8);
        }
    }
    let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    let in_tail = tail.iter().position(stops);
    in_tail.map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_keep_their_text_members_their_order_and_strings_lose_their_escapes() {
        let text =
            r#" {"b": [1.50, -0, 1E+5, true, null], "a": "x\u00e9\n\"\ud83d\ude00", "c": {}} "#;
        let Ok(Json::Object(object)) = Json::parse(text) else {
            panic!("{text}");
        };
        let names: Vec<_> = object.0.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["b", "a", "c"]);
        let numbers: Vec<_> = object.each("b").take(3).cloned().collect();
        let expected = ["1.50", "-0", "1E+5"].map(Json::Number);
        assert_eq!(numbers, expected);
        assert_eq!(object.text("a"), Some("x\u{e9}\n\"\u{1f600}"));
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_is_wrong() {
        for (text, place) in [
            ("", (1, 1)),
            ("{\"a\":1,\n \"a\":2}", (2, 2)),
            ("[1,]", (1, 4)),
            ("[01]", (1, 3)),
            ("[1.]", (1, 4)),
            ("[.5]", (1, 2)),
            ("[+1]", (1, 2)),
            ("[NaN]", (1, 2)),
            ("\"\\x\"", (1, 3)),
            ("\"\\ud800\"", (1, 8)),
            ("\"\\udc00\"", (1, 8)),
            ("\"a\nb\"", (1, 3)),
            ("\"abc", (1, 5)),
            ("{\"a\" 1}", (1, 6)),
            ("{a:1}", (1, 2)),
            ("{} {}", (1, 4)),
            ("'a'", (1, 1)),
            ("\u{feff}{}", (1, 1)),
        ] {
            let error = Json::parse(text).unwrap_err();
            assert_eq!((error.line, error.column), place, "{text:?}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Json::parse(&deep).unwrap_err().problem.contains("64"));
        let long = "1".repeat(MAX_NUMBER_CHARS + 1);
        assert!(Json::parse(&long).unwrap_err().problem.contains("64"));
        let many: Vec<String> = (0..50_000)
            .map(|number| format!("\"n{number}\":1"))
            .collect();
        assert!(Json::parse(&format!("{{{}}}", many.join(","))).is_ok());
        let twice = format!("{{{},\"n7\":1}}", many.join(","));
        assert_eq!(
            Json::parse(&twice).unwrap_err().problem,
            "a member stands twice"
        );
    }

    #[test]
    fn a_string_stops_at_the_first_byte_that_ends_or_breaks_it_wherever_that_is() {
        let plain: Vec<u8> = [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff].repeat(3);
        for length in 0..plain.len() {
            assert_eq!(plain_bytes(&plain[..length]), None);
            for stop in [b'"', b'\\', 0, 1, b'\n', 0x1f] {
                for at in 0..length {
                    let mut bytes = plain[..length].to_vec();
                    bytes[at] = stop;
                    // What follows the first does not matter.
                    bytes[length - 1] = b'"';
                    assert_eq!(plain_bytes(&bytes), Some(at), "{bytes:?}");
                }
            }
        }
    }

    fn same(ours: &Json<'_>, theirs: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (ours, theirs) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(a), Value::Bool(b)) => a == b,
            (Json::Number(a), Value::Number(b)) => {
                a.parse::<f64>().ok() == b.to_string().parse::<f64>().ok()
            }
            (Json::Text(a), Value::String(b)) => a == b,
            (Json::List(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Json::Object(a), Value::Object(b)) => {
                let held = |(name, value): &(Cow<'_, str>, Json<'_>)| {
                    b.get(name.as_ref()).is_some_and(|other| same(value, other))
                };
                a.0.len() == b.len() && a.0.iter().all(held)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_another_reader_reads(text in r#"([\[\]{},:"\\ ]|[0-9.eE+-]|true|null|"[a-c]"|\\u[0-9a-f]{4}|"[a-c]":|.){0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match (Json::parse(&text), theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert!(same(&ours, &theirs), "{text}"),
                // The other one takes the last of two members, and refuses numbers that no double holds.
                (Err(error), Ok(_)) => prop_assert!(error.problem.contains("twice"), "{text}: {error}"),
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("number out of range"), "{text}: {error}"),
                (Err(_), Err(_)) => {}
            }
        }
    }
}
