//! Keys, codes, passphrases and tokens as a type: what gives power to whoever reads it cannot be serialized, printed or
//! compared by chance, and is overwritten when it is no longer needed.
use alloc::string::String;
use core::fmt;
use zeroize::Zeroize;

/// A key, or something as good as one.
///
/// It has no `Serialize` and no `Display`, so a wire type or a message that holds it does not compile. The twin without
/// it does:
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Fine { key: u32 }
/// ```
///
/// ```compile_fail,E0277
/// #[derive(serde::Serialize)]
/// struct Leak { key: medmesh_types::Secret<u32> }
/// ```
///
/// ```compile_fail,E0277
/// fn show(key: &medmesh_types::Secret<u32>) -> String {
///     format!("{key}")
/// }
/// ```
///
/// Nor can two be compared, which would take as long as they are alike:
///
/// ```compile_fail,E0369
/// fn same(one: &medmesh_types::Secret<u32>, other: &medmesh_types::Secret<u32>) -> bool {
///     one == other
/// }
/// ```
///
/// What was moved out of or copied from it by its holder, and what a library that it is given to keeps, is not overwritten.
#[derive(Clone, Default)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Opens it, for whoever uses it: never for a log, an error or an argument of a process.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// Opens it to be changed where it lies, such as by a cipher.
    pub const fn reveal_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// From an argument of the command line.
impl core::str::FromStr for Secret<String> {
    type Err = core::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// From a file or a request that holds one.
impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, rc::Rc};
    use core::cell::Cell;

    struct Probe(Rc<Cell<u8>>);

    impl Zeroize for Probe {
        fn zeroize(&mut self) {
            self.0.set(0);
        }
    }

    #[test]
    fn a_secret_is_overwritten_when_it_is_dropped() {
        let left = Rc::new(Cell::new(7));
        let secret = Secret::new(Probe(left.clone()));
        assert_eq!(secret.reveal().0.get(), 7);
        drop(secret);
        assert_eq!(left.get(), 0);
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new(String::from("correct horse"));
        assert_eq!(
            format!("{secret:?} {:#?}", Some(&secret)),
            "Secret(..) Some(\n    Secret(..),\n)"
        );
    }

    #[test]
    fn a_secret_is_read_from_a_file_that_holds_it() {
        let secret: Secret<String> = serde_json::from_str("\"code\"").unwrap();
        assert_eq!(secret.reveal(), "code");
        assert!(serde_json::from_str::<Secret<String>>("1").is_err());
    }
}
