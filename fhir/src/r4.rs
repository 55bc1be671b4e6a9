//! The definitions of FHIR R4 (4.0.1) as tables: types and their elements, required value sets, search parameters.
//!
//! The tables are text that `cargo xtask gen-fhir` makes of HL7's definitions; they are read once, when they are first
//! asked for, so that they cost no time to compile. [`validate`] asks with them whether a text is R4. What this
//! region may hold is another question, and `crate::validate`'s.
mod displays;
mod invariants;
mod names;
mod outcome;
mod place;
mod primitive;
mod read;
mod validate;

pub(crate) use displays::display_of;
pub use outcome::{Fault, Issue, MAX_ISSUES};
pub use primitive::Primitive;
pub use validate::{validate, validate_tree};

use invariants::Rule;
pub(crate) use names::ByName;
use names::NameSet;
pub(crate) use place::Place;
use std::{collections::HashMap, sync::LazyLock};

/// The tables.
pub static R4: LazyLock<R4> = LazyLock::new(|| {
    read::tables(
        include_str!("r4/types.txt"),
        &SETS,
        include_str!("r4/search.txt"),
        include_str!("r4/compartments.txt"),
    )
});

/// The required value sets whose codes are listed, by their names.
static SETS: LazyLock<ByName<&str, ValueSet>> =
    LazyLock::new(|| read::sets(include_str!("r4/codes.txt")));

/// See the head of this file.
#[derive(Debug)]
pub struct R4 {
    /// Shapes of types and of elements that have elements of their own.
    shapes: Vec<Shape>,
    /// The shape of a type, by its name.
    types: ByName<&'static str, usize>,
    /// The type that a type is made from, by its name.
    bases: HashMap<&'static str, &'static str>,
    /// The names of the resource types, sorted.
    resources: Vec<&'static str>,
    params: HashMap<&'static str, Vec<SearchParam>>,
    /// The parameters that put a resource of a type into a compartment, by compartment and type.
    compartments: HashMap<&'static str, HashMap<&'static str, Vec<&'static str>>>,
}

/// What an object may hold.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The name of a type, or the path of an element, such as `Observation.component`.
    pub name: String,
    /// Members by their names in JSON: one of `value[x]` for each of its types.
    pub fields: ByName<String, Field>,
    /// Elements that have to be there, by their names in FHIRPath.
    pub required: Vec<&'static str>,
    /// The same as [`Field::bit`]s.
    required_bits: u64,
    /// Whether it is that of a resource type.
    is_resource: bool,
    /// What holds of several of its elements.
    rules: &'static [Rule],
    /// Members that are a SimpleQuantity.
    simple: &'static [&'static str],
}

/// A member.
#[derive(Clone, Debug)]
pub struct Field {
    /// The element's name in FHIRPath: `value` for `valueQuantity`.
    pub element: &'static str,
    /// Whether it is a list.
    pub is_list: bool,
    /// What it holds.
    pub kind: Kind,
    /// The value set that its code has to be of, where its codes are listed.
    pub set: Option<&'static ValueSet>,
    /// The types that a reference may lead to; any when there is none.
    pub targets: &'static str,
    /// Whether it belongs to the summary of a resource (FHIR R4 `isSummary`).
    pub in_summary: bool,
    /// Whether it may change the meaning of what is beside it (FHIR R4 `isModifier`).
    pub is_modifier: bool,
    /// Whether it has to be there.
    pub is_required: bool,
    /// Its element's own bit among those of the shape, the same for every type of a choice.
    bit: u64,
}

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of one JSON type.
    Primitive(Primitive),
    /// An object of a shape.
    Object(usize),
    /// A resource of any type.
    Resource,
}

/// Codes by their systems.
#[derive(Clone, Debug, Default)]
pub struct ValueSet {
    name: &'static str,
    systems: Vec<(&'static str, NameSet)>,
}

impl ValueSet {
    /// Its name, such as `observation-status`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a code is in the value set, of whichever system.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.systems.iter().any(|(_, codes)| codes.contains(code))
    }

    /// The system of a code of the value set; the first, where it is of several.
    #[must_use]
    pub fn system_of(&self, code: &str) -> Option<&'static str> {
        let of = self.systems.iter().find(|(_, codes)| codes.contains(code));
        of.map(|(system, _)| *system)
    }

    /// Whether a code of a system is in the value set.
    #[must_use]
    pub fn has(&self, system: &str, code: &str) -> bool {
        let mut of_system = self.systems.iter().filter(|(known, _)| *known == system);
        of_system.any(|(_, codes)| codes.contains(code))
    }
}

/// A standard search parameter of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchParam {
    /// Its name, such as `birthdate`.
    pub name: &'static str,
    /// FHIR R4 SearchParamType.
    pub kind: &'static str,
    /// FHIRPath of what it finds.
    pub expression: &'static str,
    /// The types that a reference may lead to, with bars between them.
    pub targets: &'static str,
    /// The parts of a composite, as `name=expression` with semicolons between them.
    pub parts: &'static str,
}

impl R4 {
    /// Whether there is a resource type of that name.
    #[must_use]
    pub fn is_resource(&self, name: &str) -> bool {
        self.resource(name).is_some()
    }

    /// A resource type by its name, and its shape.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<(&'static str, &Shape)> {
        let (name, at) = self.types.get_key_value(name)?;
        let shape = self.shape(*at)?;
        shape.is_resource.then_some((*name, shape))
    }

    /// The names of the resource types, sorted.
    #[must_use]
    pub fn resources(&self) -> &[&'static str] {
        &self.resources
    }

    /// The shape of a type.
    #[must_use]
    pub fn shape_of(&self, name: &str) -> Option<&Shape> {
        self.shape(*self.types.get(name)?)
    }

    /// The type that a type is made from: `DomainResource` for `Patient`, `BackboneElement` for
    /// `Observation.component`.
    #[must_use]
    pub fn base_of(&self, name: &str) -> Option<&'static str> {
        match self.bases.get(name) {
            Some(base) => Some(base),
            None => name.contains('.').then_some("BackboneElement"),
        }
    }

    /// The shape of a member.
    #[must_use]
    pub fn shape(&self, at: usize) -> Option<&Shape> {
        self.shapes.get(at)
    }

    /// A required value set, when its codes are listed.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&'static ValueSet> {
        SETS.get(name)
    }

    /// The parameters of a type that put a resource into a compartment (FHIR R4 compartmentdefinition.html).
    #[must_use]
    pub fn compartment(&self, compartment: &str, name: &str) -> &[&'static str] {
        let types = self.compartments.get(compartment);
        let params = types.and_then(|types| types.get(name));
        params.map_or(&[], Vec::as_slice)
    }

    /// The search parameters of a type, without those of every type (`Resource`, `DomainResource`).
    #[must_use]
    pub fn params_of(&self, name: &str) -> &[SearchParam] {
        self.params.get(name).map_or(&[], Vec::as_slice)
    }
}
