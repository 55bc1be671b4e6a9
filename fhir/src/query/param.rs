//! The standard search parameters of R4, by resource type.
use crate::r4::{Field, Kind as Held, Primitive, R4, SearchParam};
use std::{collections::HashMap, sync::LazyLock};

/// A search parameter of a resource type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The resource type that it is of; its own for each type that shares it.
    pub resource_type: &'static str,
    /// Its name in a query, such as `birthdate`.
    pub code: &'static str,
    /// How it is searched.
    pub kind: Kind,
    /// FHIRPath of what it finds, from the resource.
    pub expression: &'static str,
    /// The resource types that a reference may lead to.
    pub targets: Vec<&'static str>,
    /// The parts of a composite, in the order of a query; empty for any other.
    pub parts: Vec<Part>,
}

impl Param {
    /// Whether what it finds may be a canonical URL, which leads to what has that `url` (FHIR R4 references.html#canonical).
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.kind == Kind::Reference && self.expression.split('|').any(ends_in_a_url)
    }

    /// Whether a chain or an include goes on from what it leads to. What is first in a Bundle is a part of that, and no
    /// resource of its own.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.kind == Kind::Reference && self.resource_type != "Bundle"
    }
}

/// Whether the element at the end of a path may be a URL. Functions on the way (`where(…)`) lead to no other element.
fn ends_in_a_url(path: &str) -> bool {
    if path.contains("ofType(canonical)") || path.contains("ofType(uri)") {
        return true;
    }
    let mut steps = path.trim().split('.').filter(|step| !step.contains('('));
    let mut shape = steps.next().and_then(|first| R4.shape_of(first));
    let mut is_url = false;
    for step in steps {
        let fields = shape.into_iter().flat_map(|shape| shape.fields.values());
        let fields: Vec<&Field> = fields.filter(|field| field.element == step).collect();
        is_url = fields.iter().any(|field| {
            let urls = [Primitive::Canonical, Primitive::Uri, Primitive::Url];
            urls.iter().any(|url| field.kind == Held::Primitive(*url))
        });
        shape = fields.iter().find_map(|field| match field.kind {
            Held::Object(at) => R4.shape(at),
            _ => None,
        });
    }
    is_url
}

/// A part of a composite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The parameter of the same type that it is searched as.
    pub code: &'static str,
    /// How it is searched.
    pub kind: Kind,
    /// FHIRPath from the element that the composite finds.
    pub expression: &'static str,
}

/// FHIR R4 SearchParamType.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are FHIR's")]
pub enum Kind {
    Number,
    Date,
    String,
    Token,
    Reference,
    Composite,
    Quantity,
    Uri,
    Special,
}

impl Kind {
    /// The code of R4.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Date => "date",
            Self::String => "string",
            Self::Token => "token",
            Self::Reference => "reference",
            Self::Composite => "composite",
            Self::Quantity => "quantity",
            Self::Uri => "uri",
            Self::Special => "special",
        }
    }

    fn parse(code: &str) -> Option<Self> {
        let all = [
            Self::Number,
            Self::Date,
            Self::String,
            Self::Token,
            Self::Reference,
            Self::Composite,
            Self::Quantity,
            Self::Uri,
            Self::Special,
        ];
        all.into_iter().find(|kind| kind.as_str() == code)
    }
}

static PARAMS: LazyLock<HashMap<&'static str, Vec<Param>>> = LazyLock::new(|| {
    let of = |kind: &&'static str| (*kind, params_of(kind));
    R4.resources().iter().map(of).collect()
});

/// The parameters of a resource type, with those of every resource (`_tag`), sorted by their codes. `_text`,
/// `_content` and `_query` are left out: nothing here answers them.
pub fn params(resource_type: &str) -> impl Iterator<Item = &'static Param> + use<> {
    PARAMS.get(resource_type).into_iter().flatten()
}

/// One parameter of a resource type.
#[must_use]
pub fn param(resource_type: &str, code: &str) -> Option<&'static Param> {
    let of_type = PARAMS.get(resource_type)?;
    let at = of_type
        .binary_search_by(|known| known.code.cmp(code))
        .ok()?;
    of_type.get(at)
}

fn params_of(resource_type: &'static str) -> Vec<Param> {
    let own = R4.params_of(resource_type).iter();
    let all = own.chain(R4.params_of("Resource"));
    let mut params: Vec<Param> = all.filter_map(|param| read(resource_type, param)).collect();
    params.sort_by_key(|param| param.code);
    params
}

fn read(resource_type: &'static str, param: &SearchParam) -> Option<Param> {
    if param.expression.is_empty() {
        return None;
    }
    let parts = param.parts.split(';').filter_map(|part| {
        let (code, expression) = part.split_once('=')?;
        let of = |name: &&SearchParam| name.name == code;
        let kind = R4.params_of(resource_type).iter().find(of)?.kind;
        Some(Part {
            code,
            kind: Kind::parse(kind)?,
            expression,
        })
    });
    let mut parts: Vec<Part> = parts.collect();
    // R4 has the expressions of these two the wrong way round; R5 corrects it.
    if let ("DocumentReference", "relationship", [one, other]) =
        (resource_type, param.name, parts.as_mut_slice())
    {
        std::mem::swap(&mut one.expression, &mut other.expression);
    }
    let targets = param.targets.split('|').filter(|target| !target.is_empty());
    Some(Param {
        resource_type,
        code: param.name,
        kind: Kind::parse(param.kind)?,
        expression: param.expression,
        targets: targets.collect(),
        parts,
    })
}
