//! How times leave a facility: shifted, or true under a signed policy.
//!
//! `shifted` is the default. `limited` is a limited data set of 45 CFR 164.514(e), in which dates may stay, and needs
//! a data use agreement; that there is one is said by the jurisdiction's data-protection officer, who signs a note
//! for one facility, for a time. Of a region the officer says that all of its facilities are so, and that the region may
//! say when it stored what they sent. A note that is there and is wrong in any way is an error of the configuration: the
//! node does not start, and does not go on as if nothing had been said.
//!
//! The note is in the format of [`crate::note`], so that any tool for signed notes can make and check it:
//!
//! ```text
//! medmesh/deid-profile/v1
//! jurisdiction us
//! facility us-f1
//! profile limited
//! not-after 2027-06-30T00:00:00.000Z
//!
//! — medmesh/data-protection/us …
//! ```
//!
//! For a region the third line is `region us`.

use crate::note::{self, NoteError};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::fmt;
use types::{FacilityId, Jurisdiction, Place, RegionId, Timestamp};

const HEAD: &str = "medmesh/deid-profile/v1";

/// How times leave the facility.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Moved by a random constant of whole days per patient.
    #[default]
    Shifted,
    /// True (45 CFR 164.514(e)(2)).
    Limited,
}

impl Profile {
    /// The profile's name in notes and in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shifted => "shifted",
            Self::Limited => "limited",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Shifted, Self::Limited]
            .into_iter()
            .find(|profile| profile.as_str() == text)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a signed profile does not hold. Nothing may be sent under it, nor under another one instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not signed by the jurisdiction's data-protection key.
    #[error("the profile is not signed by the jurisdiction's data-protection key: {0}")]
    Signature(NoteError),
    /// The text is not that of a profile.
    #[error("the profile is malformed: see federation/src/profile.rs for its form")]
    Malformed,
    /// For another facility, region or jurisdiction.
    #[error("the profile is for another facility or region")]
    OtherPlace,
    /// Its time is over.
    #[error("the profile has expired: ask the data-protection officer for a new one, or remove it")]
    Expired,
    /// The global node has no profile.
    #[error("only a facility or a region has a de-identification profile")]
    NoPlace,
}

/// Whom a profile is granted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedTo {
    /// One facility.
    Facility(FacilityId),
    /// A region, of whose facilities it says that each has the profile.
    Region(RegionId),
}

impl GrantedTo {
    fn of(place: &Place) -> Option<Self> {
        match (place.facility(), place.region()) {
            (Some(facility), _) => Some(Self::Facility(facility.clone())),
            (None, Some(region)) => Some(Self::Region(region.clone())),
            (None, None) => None,
        }
    }

    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ')? {
            ("facility", id) => Some(Self::Facility(id.parse().ok()?)),
            ("region", id) => Some(Self::Region(id.parse().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for GrantedTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Facility(id) => write!(f, "facility {id}"),
            Self::Region(id) => write!(f, "region {id}"),
        }
    }
}

/// What a data-protection officer grants to one facility or region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedProfile {
    /// The jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The facility or the region.
    pub to: GrantedTo,
    /// The profile.
    pub profile: Profile,
    /// From this instant on it no longer holds (real time).
    pub not_after: Timestamp,
}

/// The name under which a jurisdiction's data-protection officer signs.
#[must_use]
pub fn signer_name(jurisdiction: Jurisdiction) -> String {
    format!("medmesh/data-protection/{jurisdiction}")
}

impl SignedProfile {
    fn text(&self) -> String {
        format!(
            "{HEAD}\njurisdiction {}\n{}\nprofile {}\nnot-after {}\n",
            self.jurisdiction, self.to, self.profile, self.not_after
        )
    }

    /// The note, signed with the jurisdiction's data-protection key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), &signer_name(self.jurisdiction), key)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let field = |line: Option<&'_ str>, name| {
            Some(line?.strip_prefix(name)?.strip_prefix(' ')?.to_owned())
        };
        let parsed = Self {
            jurisdiction: field(lines.next(), "jurisdiction")?.parse().ok()?,
            to: GrantedTo::parse(lines.next()?)?,
            profile: Profile::parse(&field(lines.next(), "profile")?)?,
            not_after: field(lines.next(), "not-after")?.parse().ok()?,
        };
        // Only the one way to write it, so that what is read is what was signed.
        (parsed.text() == text).then_some(parsed)
    }

    /// The profile that a note grants to the facility or region at `me`. `key` is the data-protection key of its jurisdiction.
    ///
    /// # Errors
    /// [`ProfileError`]; the note's expiry is for [`SignedProfile::at`] to say.
    pub fn open(note: &str, key: &VerifyingKey, me: &Place) -> Result<Self, ProfileError> {
        let (Some(jurisdiction), Some(to)) = (me.jurisdiction(), GrantedTo::of(me)) else {
            return Err(ProfileError::NoPlace);
        };
        let text =
            note::verify(note, &signer_name(jurisdiction), key).map_err(ProfileError::Signature)?;
        let granted = Self::parse(text).ok_or(ProfileError::Malformed)?;
        if granted.jurisdiction == jurisdiction && granted.to == to {
            Ok(granted)
        } else {
            Err(ProfileError::OtherPlace)
        }
    }

    /// The profile at an instant of real time; asked again before each commit, since a node may run past its end.
    ///
    /// # Errors
    /// [`ProfileError::Expired`].
    pub fn at(&self, now: Timestamp) -> Result<Profile, ProfileError> {
        if now < self.not_after {
            Ok(self.profile)
        } else {
            Err(ProfileError::Expired)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[4; 32])
    }

    fn me() -> Place {
        "edge/us/us/us-f1".parse().unwrap()
    }

    fn granted() -> SignedProfile {
        SignedProfile {
            jurisdiction: Jurisdiction::Us,
            to: GrantedTo::Facility("us-f1".parse().unwrap()),
            profile: Profile::Limited,
            not_after: Timestamp(1_000),
        }
    }

    fn open(note: &str, me: &Place) -> Result<SignedProfile, ProfileError> {
        SignedProfile::open(note, &key().verifying_key(), me)
    }

    #[test]
    fn a_signed_profile_holds_for_its_facility_until_it_ends() {
        let opened = open(&granted().sign(&key()), &me()).unwrap();
        assert_eq!(opened, granted());
        assert_eq!(opened.at(Timestamp(999)), Ok(Profile::Limited));
        assert_eq!(opened.at(Timestamp(1_000)), Err(ProfileError::Expired));
        assert_eq!(Profile::default(), Profile::Shifted);
    }

    #[test]
    fn anything_wrong_with_a_signed_profile_is_refused() {
        let note = granted().sign(&key());
        let another_key = granted().sign(&SigningKey::from_bytes(&[5; 32]));
        let later = note.replace("1970", "2970");
        let written_otherwise = note::sign(
            &granted().text().replace(".000Z", "Z"),
            &signer_name(Jurisdiction::Us),
            &key(),
        );
        let longer = note::sign(
            &(granted().text() + "more\n"),
            &signer_name(Jurisdiction::Us),
            &key(),
        );
        for (note, expected) in [
            (
                another_key.as_str(),
                ProfileError::Signature(NoteError::Signature),
            ),
            (&later, ProfileError::Signature(NoteError::Signature)),
            (
                &granted().text(),
                ProfileError::Signature(NoteError::Malformed),
            ),
            ("", ProfileError::Signature(NoteError::Malformed)),
            (&written_otherwise, ProfileError::Malformed),
            (&longer, ProfileError::Malformed),
        ] {
            assert_eq!(open(note, &me()), Err(expected), "{note}");
        }
    }

    #[test]
    fn a_profile_of_another_facility_or_jurisdiction_is_refused() {
        let note = granted().sign(&key());
        let sibling = "edge/us/us/us-f2".parse().unwrap();
        assert_eq!(open(&note, &sibling), Err(ProfileError::OtherPlace));
        let region: Place = "regional/us/us".parse().unwrap();
        assert_eq!(open(&note, &region), Err(ProfileError::OtherPlace));
        let of_region = SignedProfile {
            to: GrantedTo::Region("us".parse().unwrap()),
            ..granted()
        };
        assert_eq!(
            open(&of_region.sign(&key()), &region),
            Ok(of_region.clone())
        );
        assert_eq!(
            open(&of_region.sign(&key()), &me()),
            Err(ProfileError::OtherPlace)
        );
        let abroad = "edge/eu/eu/us-f1".parse().unwrap();
        assert!(matches!(
            open(&note, &abroad),
            Err(ProfileError::Signature(_))
        ));
        assert_eq!(open(&note, &Place::Global), Err(ProfileError::NoPlace));
    }
}
