//! Random 128-bit ids. They carry no time and nothing derived from what they name.
use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

/// Text that is not 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 32 lower-case hexadecimal digits")]
pub struct InvalidId;

/// 128 random bits, written as 32 lower-case hexadecimal digits (a valid FHIR `id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id128([u8; 16]);

impl Id128 {
    /// Wraps random bytes drawn by the caller.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Id128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id128 {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(InvalidId);
        };
        let pairs: &[[u8; 2]; 16] = pairs.try_into().map_err(|_| InvalidId)?;
        let mut bytes = [0; 16];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

const fn nibble(digit: u8) -> Result<u8, InvalidId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(InvalidId),
    }
}

impl TryFrom<&[u8]> for Id128 {
    type Error = InvalidId;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
        bytes.try_into().map(Self).map_err(|_| InvalidId)
    }
}

impl serde::Serialize for Id128 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> serde::Deserialize<'de> for Id128 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Id128);

        impl $name {
            /// Wraps random bytes drawn by the caller.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Id128::from_bytes(bytes))
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                bytes.try_into().map(Self)
            }
        }
    )*};
}

ids! {
    /// A patient outside the facility. Drawn at random once per patient and facility.
    PatientPseudonym,
    /// A device in clinical data outside the facility. It is not the device's [`CatalogId`].
    DevicePseudonym,
    /// A device in the catalog. Only the facility can join it with a [`DevicePseudonym`].
    CatalogId,
    /// One reading outside the facility: the value of the identifier system `urn:medmesh:reading`.
    ReadingUid,
    /// A facility in the clinical data of its region, which draws it at random once per facility.
    FacilityPseudonym,
    /// One envelope on its way between two places.
    EnvelopeId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_round_trips_through_its_text() {
        let id = Id128::from_bytes([
            0, 1, 2, 0xab, 0xcd, 0xef, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255,
        ]);
        assert_eq!(id.to_string(), "000102abcdef060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        for text in [
            "",
            "0",
            "000102ABCDEF060708090a0b0c0d0eff",
            "000102abcdef060708090a0b0c0d0ef ",
            "000102abcdef060708090a0b0c0d0eff0",
        ] {
            assert_eq!(text.parse::<Id128>(), Err(InvalidId), "{text:?}");
        }
    }
}
