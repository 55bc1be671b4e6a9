//! Reads the tables. A table that cannot be read is a fault of the build that a test finds: here it is only left out.
use super::{
    ByName, Field, Kind, Primitive, R4, SearchParam, Shape, ValueSet,
    invariants::{rules_of, simple},
};
use std::collections::HashMap;

/// A type as it stands in its table.
struct Row {
    name: &'static str,
    base: &'static str,
    kind: &'static str,
    elements: Vec<Element>,
}

#[derive(Clone, Copy)]
struct Element {
    path: &'static str,
    is_required: bool,
    is_list: bool,
    types: &'static str,
    set: Option<&'static ValueSet>,
    in_summary: bool,
    is_modifier: bool,
}

/// Value sets by their names.
type Sets = ByName<&'static str, ValueSet>;

pub fn tables(
    types: &'static str,
    sets: &'static Sets,
    search: &'static str,
    compartments: &'static str,
) -> R4 {
    let rows = rows(types, sets);
    let mut shapes = Shapes::default();
    for row in rows.iter().filter(|row| row.kind != "primitive") {
        shapes.name(row.name.to_owned());
    }
    let by_name: HashMap<&str, &Row> = rows.iter().map(|row| (row.name, row)).collect();
    for row in rows.iter().filter(|row| row.kind != "primitive") {
        shapes.fill(row, &by_name);
    }
    let of_kind = |kind: &'static str| rows.iter().filter(move |row| row.kind == kind);
    let mut resources: Vec<&str> = of_kind("resource").map(|row| row.name).collect();
    resources.sort_unstable();
    for name in &resources {
        shapes.is_resource(name);
    }
    let known = |row: &Row| Some((row.name, *shapes.places.get(row.name)?));
    R4 {
        types: rows.iter().filter_map(known).collect(),
        bases: rows.iter().map(|row| (row.name, row.base)).collect(),
        shapes: shapes.all,
        resources,
        params: params(search),
        compartments: compartments_of(compartments),
    }
}

/// Compartment, type and parameters of each line.
fn compartments_of(
    text: &'static str,
) -> HashMap<&'static str, HashMap<&'static str, Vec<&'static str>>> {
    let mut all: HashMap<&'static str, HashMap<&'static str, Vec<&'static str>>> = HashMap::new();
    for line in lines(text) {
        let mut words = line.split_ascii_whitespace();
        if let (Some(compartment), Some(name)) = (words.next(), words.next()) {
            let types = all.entry(compartment).or_default();
            types.insert(name, words.collect());
        }
    }
    all
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn rows(text: &'static str, sets: &'static Sets) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines(text) {
        let mut words = line.split_ascii_whitespace();
        let mut next = || words.next().unwrap_or_default();
        if let (true, Some(row)) = (line.starts_with(' '), rows.last_mut()) {
            row.elements.push(Element {
                path: next(),
                is_required: next() != "0",
                is_list: next() == "*",
                types: next(),
                set: None,
                in_summary: false,
                is_modifier: false,
            });
            for word in words {
                let Some(element) = row.elements.last_mut() else {
                    continue;
                };
                match word.strip_prefix('=') {
                    Some(set) => element.set = sets.get(set),
                    None if word == "^" => element.in_summary = true,
                    None => element.is_modifier = word == "!",
                }
            }
        } else {
            rows.push(Row {
                name: next(),
                base: next(),
                kind: next(),
                elements: Vec::new(),
            });
        }
    }
    rows
}

/// Shapes by their names, as they are found.
#[derive(Default)]
struct Shapes {
    all: Vec<Shape>,
    places: HashMap<String, usize>,
}

impl Shapes {
    /// The place of a shape, which is made where it is new.
    fn name(&mut self, name: String) -> usize {
        let Self { all, places } = self;
        *places.entry(name.clone()).or_insert_with(|| {
            all.push(Shape {
                rules: rules_of(&name),
                simple: simple(&name),
                name,
                ..Shape::default()
            });
            all.len() - 1
        })
    }

    /// Says of a type that it is a resource's.
    fn is_resource(&mut self, name: &str) {
        let place = self.places.get(name);
        if let Some(shape) = place.and_then(|at| self.all.get_mut(*at)) {
            shape.is_resource = true;
        }
    }

    /// Adds the elements of a type and of those that it is made from.
    fn fill(&mut self, row: &Row, by_name: &HashMap<&str, &Row>) {
        let own = self.name(row.name.to_owned());
        self.inherit(own, row.base, by_name);
        for element in &row.elements {
            let (parent, name) = match element.path.rsplit_once('.') {
                None => (own, element.path),
                Some((path, name)) => (self.name(format!("{}.{path}", row.name)), name),
            };
            self.add(parent, row, name, element, by_name);
        }
    }

    fn inherit(&mut self, shape: usize, base: &str, by_name: &HashMap<&str, &Row>) {
        let Some(row) = by_name.get(base) else {
            return;
        };
        self.inherit(shape, row.base, by_name);
        for element in &row.elements {
            if !element.path.contains('.') {
                self.add(shape, row, element.path, element, by_name);
            }
        }
    }

    fn add(
        &mut self,
        parent: usize,
        row: &Row,
        name: &'static str,
        element: &Element,
        by_name: &HashMap<&str, &Row>,
    ) {
        let (base, is_choice) = match name.strip_suffix("[x]") {
            Some(base) => (base, true),
            None => (name, false),
        };
        let bit = self.all.get(parent).map_or(0, |shape| shape.bit_of(base));
        for text in element.types.split(',') {
            let (kind, targets) = text.split_once('(').unwrap_or((text, ""));
            let of = match (kind, kind.strip_prefix('#')) {
                (_, Some(path)) => Kind::Object(self.name(format!("{}.{path}", row.name))),
                // These have elements of their own, which follow.
                ("BackboneElement" | "Element", _) => {
                    let inner = self.name(format!("{}.{}", row.name, element.path));
                    self.inherit(inner, kind, by_name);
                    Kind::Object(inner)
                }
                ("Resource", _) => Kind::Resource,
                _ => match Primitive::parse(kind) {
                    Some(primitive) => Kind::Primitive(primitive),
                    None => Kind::Object(self.name(kind.to_owned())),
                },
            };
            let member = match is_choice {
                true => format!("{base}{}", capital(kind)),
                false => base.to_owned(),
            };
            let field = Field {
                element: base,
                is_list: element.is_list,
                kind: of,
                set: element.set,
                in_summary: element.in_summary,
                is_modifier: element.is_modifier,
                is_required: element.is_required,
                targets: targets.trim_end_matches(')'),
                bit,
            };
            if let Some(shape) = self.all.get_mut(parent) {
                shape.fields.insert(member, field);
            }
        }
        if let (true, Some(shape)) = (element.is_required, self.all.get_mut(parent)) {
            shape.required.push(base);
            shape.required_bits |= bit;
        }
    }
}

impl Shape {
    /// The bit of an element: that which it has, or the next one.
    fn bit_of(&self, element: &str) -> u64 {
        let own = self.fields.values().find(|field| field.element == element);
        let all = self.fields.values().fold(0, |all, field| all | field.bit);
        own.map_or(u64::wrapping_add(all, 1), |own| own.bit)
    }
}

/// With a capital letter, as a type stands in the name of a choice.
fn capital(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

pub fn sets(text: &'static str) -> Sets {
    let mut sets = Sets::default();
    let mut name = "";
    for line in lines(text) {
        if let Some(new) = line.strip_prefix('=') {
            name = new;
        } else if let Some((system, codes)) = line.trim_start().split_once(' ') {
            let codes = codes.split(' ').collect();
            let set = sets.entry(name).or_default();
            set.name = name;
            set.systems.push((system, codes));
        }
    }
    sets
}

fn params(text: &'static str) -> HashMap<&'static str, Vec<SearchParam>> {
    let mut params: HashMap<&'static str, Vec<SearchParam>> = HashMap::new();
    for line in lines(text) {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let kind = next();
        params.entry(kind).or_default().push(SearchParam {
            name: next(),
            kind: next(),
            expression: next(),
            targets: next(),
            parts: next(),
        });
    }
    params
}
