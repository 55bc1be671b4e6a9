//! What is wrong with a text that is not R4.

/// Issues that are told of one resource; one with more is refused just the same.
pub const MAX_ISSUES: usize = 100;

/// A kind of fault, as a code of FHIR R4 IssueType.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The text is no JSON.
    Invalid,
    /// An element that is not there in R4, or stands as another kind of JSON than its type's.
    Structure,
    /// An element that has to be there is missing.
    Required,
    /// A value that is none of its type.
    Value,
    /// A code that is not in its required value set.
    CodeInvalid,
    /// A rule over several elements.
    Invariant,
}

impl Fault {
    /// The code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Structure => "structure",
            Self::Required => "required",
            Self::Value => "value",
            Self::CodeInvalid => "code-invalid",
            Self::Invariant => "invariant",
        }
    }
}

/// One finding. It repeats no value of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What kind of fault.
    pub fault: Fault,
    /// FHIRPath of the element, such as `Observation.component[0].value`.
    pub expression: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}
