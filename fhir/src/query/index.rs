//! What a resource is found by: the rows of its index.

/// One row: a value that a parameter has in a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexRow {
    /// The code of the parameter, such as `birthdate`.
    pub param: &'static str,
    /// The occurrence of a composite, from 0 in each resource; 0 for any other parameter. The parts of a composite
    /// belong together when their parameter and their group are the same.
    pub group: u32,
    /// The part of a composite, from 0; 0 for any other parameter.
    pub part: u8,
    /// The value.
    pub value: Value,
}

/// A value of an index, by the kind of its parameter (FHIR R4 search.html#ptypes).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A code, an identifier, a contact, a boolean, or only what is written beside them.
    Token {
        /// The system; none where the resource names none.
        system: Option<String>,
        /// The code; none in the row of a concept that has a text alone.
        code: Option<String>,
        /// What `:text` looks at, folded as [`Value::Text`] is.
        text: Option<String>,
    },
    /// An identifier by its type (`:of-type`).
    OfType {
        /// The system of the type.
        system: Option<String>,
        /// The code of the type.
        code: String,
        /// The value of the identifier.
        value: String,
    },
    /// A span of time.
    Date {
        /// The first millisecond since 1970, UTC; `i64::MIN` where the start is open.
        low: i64,
        /// The last millisecond of it; `i64::MAX` where the end is open.
        high: i64,
    },
    /// A number, or a span of numbers. A decimal is a point: only what is searched for has a precision
    /// (FHIR R4 search.html#number).
    Number {
        /// The least.
        low: f64,
        /// The greatest.
        high: f64,
    },
    /// A quantity, or a span of quantities. A comparator (`<`) makes one end infinite.
    Quantity {
        /// The least, in the unit of the resource.
        low: f64,
        /// The greatest, in the unit of the resource.
        high: f64,
        /// The system of the unit.
        system: Option<String>,
        /// The unit's code.
        code: Option<String>,
        /// The unit as people read it.
        unit: Option<String>,
        /// The same in base units, where the unit is one of UCUM that is known.
        canonical: Option<Canonical>,
    },
    /// A text.
    Text {
        /// As it stands.
        exact: String,
        /// Without case and diacritics, with single spaces.
        folded: String,
    },
    /// A reference to a resource.
    Reference {
        /// The type that it leads to, where it says one.
        resource_type: Option<String>,
        /// The id, of a resource of this server.
        id: Option<String>,
        /// The version: of a resource of this server, or behind the bar of a canonical URL.
        version: Option<String>,
        /// The whole URL, of a resource elsewhere and of a canonical one (without its version).
        url: Option<String>,
        /// System and value of a logical reference (`:identifier`).
        identifier: Option<(Option<String>, String)>,
    },
    /// A URI, as it stands.
    Uri(String),
    /// A place on the earth (Location `near`).
    Position {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
    },
}

/// A quantity in base units of UCUM.
#[derive(Clone, Debug, PartialEq)]
pub struct Canonical {
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// The unit, such as `g.m-3`: the same text for every unit of the same dimension.
    pub unit: String,
}
