//! Protected health information as a type: what identifies a patient cannot be serialized or printed.
use core::fmt;

/// A value that identifies, or could identify, a patient (45 CFR 160.103).
///
/// It has no `Serialize`, so a wire type that holds it does not compile. The twin without it does:
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Fine { name: u32 }
/// ```
///
/// ```compile_fail,E0277
/// #[derive(serde::Serialize)]
/// struct Leak { name: medmesh_types::Phi<u32> }
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks a value as PHI.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Opens the value. A disallowed method outside the openers listed in `tests/golden/phi-openers.txt`.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi(..)")
    }
}
