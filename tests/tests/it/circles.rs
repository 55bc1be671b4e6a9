//! INV-1 within a crate: the files of one import each other one way. What a file imports is read from its text: `use` trees
//! and paths in line; a name that a module hands on is of the file that it comes from. Modules and what is below them are one
//! house with its rooms, and may name each other. `it::architecture` fails by what is found here.
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

/// A module, as its path from the root of its crate.
type Module = Vec<String>;

/// The module of a file below `src`; none for a program of its own.
pub fn module(below: &Path) -> Option<Module> {
    let mut names: Module = below
        .iter()
        .map(|part| part.to_string_lossy().into())
        .collect();
    let last = names.pop()?;
    if names.first().is_some_and(|first| first == "bin") {
        return None;
    }
    match last.strip_suffix(".rs")? {
        "mod" => {}
        "lib" | "main" if names.is_empty() => {}
        name => names.push(name.into()),
    }
    Some(names)
}

/// The words and signs of a text without comments and strings.
fn tokens(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        // Every other piece between quotes is a string; of one over several lines the words are no paths.
        let code = line.split("//").next().unwrap_or_default();
        let code: String = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let mut word = String::new();
        let mut rest = code.chars().peekable();
        while let Some(sign) = rest.next() {
            if sign.is_alphanumeric() || sign == '_' {
                word.push(sign);
                continue;
            }
            found.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            match sign {
                ':' if rest.next_if_eq(&':').is_some() => found.push("::".into()),
                '{' | '}' | ',' | ';' => found.push(sign.into()),
                sign if sign.is_whitespace() => {}
                _ => found.push(" ".into()),
            }
        }
        found.extend(Some(word).filter(|word| !word.is_empty()));
    }
    found
}

/// Reads the paths that begin at a token, with the names under which they are known: of a tree all of them.
fn paths(tokens: &[String], at: &mut usize, before: &[String], found: &mut Vec<(Module, String)>) {
    let is_word = |token: &String| token.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(*at) {
        if token == "{" {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| token != "}") {
                let begun = *at;
                paths(tokens, at, &path, found);
                *at += usize::from(*at == begun || tokens.get(*at).is_some_and(|it| it == ","));
            }
            *at += 1;
            return;
        }
        if !is_word(token) {
            return;
        }
        if token != "self" || path.is_empty() {
            path.push(token.clone());
        }
        *at += 1;
        match tokens.get(*at).map(String::as_str) {
            Some("::") => *at += 1,
            Some("as") => {
                let name = tokens.get(*at + 1).cloned().unwrap_or_default();
                *at += 2;
                return found.push((path, name));
            }
            _ => {
                let name = path.last().cloned().unwrap_or_default();
                return found.push((path, name));
            }
        }
    }
}

/// What the files of a crate say of each other.
#[derive(Default)]
pub struct Imports {
    /// By module: the names that it uses and where they lead, from the root of the crate.
    uses: BTreeMap<Module, BTreeMap<String, Module>>,
    /// By module: every path in it.
    named: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    /// Of the modules of a crate with their texts.
    pub fn of(texts: &BTreeMap<Module, String>) -> Self {
        let mut imports = Self::default();
        for (module, text) in texts {
            let (tokens, mut at) = (tokens(text), 0);
            let (mut uses, mut named) = (BTreeMap::new(), BTreeSet::new());
            while at < tokens.len() {
                let is_use = tokens[at] == "use";
                at += usize::from(is_use);
                let (begun, mut found) = (at, Vec::new());
                if is_use || tokens.get(at + 1).is_some_and(|next| next == "::") {
                    paths(&tokens, &mut at, &[], &mut found);
                }
                at += usize::from(at == begun);
                for (path, name) in found {
                    let Some(path) = absolute(module, &path, texts) else {
                        continue;
                    };
                    if is_use {
                        uses.insert(name, path.clone());
                    }
                    named.insert(path);
                }
            }
            imports.uses.insert(module.clone(), uses);
            imports.named.insert(module.clone(), named);
        }
        imports
    }

    /// The module in whose file the thing at a path is.
    fn home(&self, path: &[String], depth: usize) -> Module {
        let known = |length: &usize| self.uses.contains_key(&path[..*length]);
        let length = (0..=path.len()).rev().find(known).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let handed_on = rest.first().and_then(|name| self.uses[module].get(name));
        match handed_on {
            Some(from) if depth < 8 && from != path => {
                let from: Module = [from.as_slice(), &rest[1..]].concat();
                self.home(&from, depth + 1)
            }
            _ => module.to_vec(),
        }
    }

    /// A circle of modules, if there is one: each imports the next, and the last one the first.
    pub fn circle(&self) -> Option<Vec<Module>> {
        let mut next: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
        for (module, named) in &self.named {
            let apart = |other: &Module| !other.starts_with(module) && !module.starts_with(other);
            let homes = named.iter().map(|path| self.home(path, 0));
            next.insert(module, homes.filter(apart).collect());
        }
        next.keys().find_map(|first| {
            let mut ways = VecDeque::from([vec![(*first).clone()]]);
            let mut seen = BTreeSet::new();
            while let Some(way) = ways.pop_front() {
                for to in next.get(way.last()?).into_iter().flatten() {
                    if to == *first {
                        return Some(way);
                    }
                    if seen.insert(to.clone()) {
                        ways.push_back([way.as_slice(), std::slice::from_ref(to)].concat());
                    }
                }
            }
            None
        })
    }
}

/// A path from the root of the crate; none for one that leads out of it.
fn absolute(module: &Module, path: &[String], all: &BTreeMap<Module, String>) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut from = module.clone();
    match first.as_str() {
        "crate" => return Some(rest.to_vec()),
        "self" => {}
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            from.truncate(module.len().checked_sub(ups)?);
            return Some([from.as_slice(), &path[ups..]].concat());
        }
        name => {
            from.push(name.into());
            return all
                .contains_key(&from)
                .then(|| [from.as_slice(), rest].concat());
        }
    }
    Some([from.as_slice(), rest].concat())
}

#[test]
fn a_circle_is_found_through_trees_lines_and_names_that_are_handed_on() {
    let circle = |files: &[(&str, &str)]| {
        let texts = files.iter().map(|(path, text)| {
            let module = module(Path::new(path)).unwrap();
            (module, (*text).to_owned())
        });
        let circle = Imports::of(&texts.collect()).circle();
        circle.map(|all| {
            all.iter()
                .map(|it| it.join("::"))
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    let lib = (
        "lib.rs",
        "mod a; mod b; mod c;\npub use b::{self, inner::Thing as B};",
    );
    let b = ("b/mod.rs", "mod inner;\nuse crate::c;");
    let a = "use crate::{\n    B,\n    c::{self, C},\n};";
    for (rest, expected) in [
        // One way, and back by a name that the crate hands on, or by a path in a line.
        (
            ("b/inner.rs", "// crate::a::A\nfn f() { \"crate::a::A\"; }"),
            None,
        ),
        (
            ("b/inner.rs", "fn f() -> crate::a::A {}"),
            Some("a b::inner"),
        ),
        (
            ("b/inner.rs", "use super::super::a::{A};"),
            Some("a b::inner"),
        ),
        // A module and what is below it name each other.
        (("b/inner.rs", "use super::c;"), None),
    ] {
        let found = circle(&[lib, ("a.rs", a), b, rest, ("c.rs", "pub struct C;")]);
        assert_eq!(found.as_deref(), expected, "{rest:?}");
    }
}
