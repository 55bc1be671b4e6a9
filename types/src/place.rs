//! Where something is: jurisdiction, region, facility, and the tier of the node that stands there.
use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

/// How close to the bedside a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// In a facility. The only tier that holds PHI.
    Edge,
    /// One per region of a jurisdiction.
    Regional,
    /// Worldwide, without patient-level data.
    Global,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::Edge, Self::Regional, Self::Global];

    /// The tier's name in certificates, policies and audit rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Regional => "regional",
            Self::Global => "global",
        }
    }
}

/// Whose law applies.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Jurisdiction {
    /// United States (HIPAA).
    Us,
    /// European Union (GDPR).
    Eu,
    /// Asia-Pacific.
    Apac,
}

impl Jurisdiction {
    /// Every jurisdiction.
    pub const ALL: [Self; 3] = [Self::Us, Self::Eu, Self::Apac];

    /// The jurisdiction's name in certificates, policies and audit rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Eu => "eu",
            Self::Apac => "apac",
        }
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name with another alphabet or length than [`Name`] allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {max} characters of a-z, 0-9 and '-', and begins with a letter", max = Name::MAX_LEN)]
pub struct InvalidName;

/// A short machine name: `[a-z][a-z0-9-]{0,31}`. It is safe in a topic, a path, a URI and a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The longest name, in characters: five of them and their separators fit a 255-byte MQTT topic or SAN.
    pub const MAX_LEN: usize = 32;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if starts && text.len() <= Self::MAX_LEN && text.bytes().all(allowed) {
            Ok(Self(text.to_string()))
        } else {
            Err(InvalidName)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Name);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                text.parse().map(Self)
            }
        }
    )*};
}

names! {
    /// A region: what one regional node serves.
    RegionId,
    /// A facility: what one edge node serves.
    FacilityId,
    /// A device within its facility: the name in its certificate and topics. It stays in the facility.
    DeviceId,
}

/// Where a node stands. What the place lacks (the global node has no region) its variant lacks too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A facility.
    Edge {
        /// Whose law applies.
        jurisdiction: Jurisdiction,
        /// The region that the facility reports to.
        region: RegionId,
        /// The facility.
        facility: FacilityId,
    },
    /// A region.
    Regional {
        /// Whose law applies.
        jurisdiction: Jurisdiction,
        /// The region.
        region: RegionId,
    },
    /// Worldwide.
    Global,
}

impl Place {
    /// The tier of the node that stands here.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        match self {
            Self::Edge { .. } => Tier::Edge,
            Self::Regional { .. } => Tier::Regional,
            Self::Global => Tier::Global,
        }
    }

    /// Whose law applies; none for the global node.
    #[must_use]
    pub const fn jurisdiction(&self) -> Option<Jurisdiction> {
        match self {
            Self::Edge { jurisdiction, .. } | Self::Regional { jurisdiction, .. } => {
                Some(*jurisdiction)
            }
            Self::Global => None,
        }
    }

    /// The region; none for the global node.
    #[must_use]
    pub const fn region(&self) -> Option<&RegionId> {
        match self {
            Self::Edge { region, .. } | Self::Regional { region, .. } => Some(region),
            Self::Global => None,
        }
    }

    /// The facility of an edge node.
    #[must_use]
    pub const fn facility(&self) -> Option<&FacilityId> {
        match self {
            Self::Edge { facility, .. } => Some(facility),
            Self::Regional { .. } | Self::Global => None,
        }
    }
}

/// `edge/us/us/us-f1`, `regional/eu/eu`, `global`: the path of the identity URI.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge {
                jurisdiction,
                region,
                facility,
            } => write!(f, "edge/{jurisdiction}/{region}/{facility}"),
            Self::Regional {
                jurisdiction,
                region,
            } => write!(f, "regional/{jurisdiction}/{region}"),
            Self::Global => f.write_str("global"),
        }
    }
}

impl FromStr for Jurisdiction {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL
            .into_iter()
            .find(|jurisdiction| jurisdiction.as_str() == text)
            .ok_or(InvalidName)
    }
}

impl FromStr for Place {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(InvalidName);
        let place = match next()? {
            "edge" => Self::Edge {
                jurisdiction: next()?.parse()?,
                region: next()?.parse()?,
                facility: next()?.parse()?,
            },
            "regional" => Self::Regional {
                jurisdiction: next()?.parse()?,
                region: next()?.parse()?,
            },
            "global" => Self::Global,
            _ => return Err(InvalidName),
        };
        if parts.next().is_some() {
            return Err(InvalidName);
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_round_trips_through_its_text() {
        for text in ["edge/us/us/us-f1", "regional/apac/apac", "global"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_place_with_too_few_or_too_many_parts_is_refused() {
        for text in [
            "",
            "edge/us/us",
            "edge/us/us/a/b",
            "regional/mars/x",
            "global/us",
            "edge/us/US/f",
        ] {
            assert_eq!(text.parse::<Place>(), Err(InvalidName), "{text}");
        }
    }

    #[test]
    fn a_name_cannot_carry_a_wildcard_a_path_or_free_text() {
        for text in [
            "",
            "+",
            "#",
            "a/b",
            "../x",
            "Jane Doe",
            "1a",
            "a23456789012345678901234567890123",
        ] {
            assert_eq!(text.parse::<Name>(), Err(InvalidName), "{text}");
        }
    }
}
