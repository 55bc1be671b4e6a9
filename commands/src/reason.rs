//! Why a command was not carried out: one closed list for region, edge and device.
use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a command was refused, expired or failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for answers, audit rows and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// It cannot be read.
    Malformed = "malformed",
    /// The region did not sign it as it stands: altered, or of another key.
    Forged = "forged",
    /// It is for another facility or another region.
    Foreign = "foreign",
    /// It is for another device.
    OtherDevice = "other-device",
    /// Its sequence number was taken before.
    Replayed = "replayed",
    /// A later sequence number was taken before it.
    Reordered = "reordered",
    /// Its time to live has ended.
    Stale = "stale",
    /// It says that it was made later than now, by more than clocks may differ.
    NotYet = "not-yet",
    /// It lives longer than any command may.
    TooLong = "too-long",
    /// The device takes no command of this name.
    UnknownCommand = "unknown-command",
    /// The command has no such parameter, or one is missing.
    WrongParameters = "wrong-parameters",
    /// A parameter is not of its type or unit.
    WrongType = "wrong-type",
    /// A parameter is outside its range.
    OverRange = "over-range",
    /// It needs the approval of a second person and has none.
    Unapproved = "unapproved",
    /// The rules of residency do not let it go to its facility.
    Policy = "policy",
    /// The facility's staff refused it.
    RefusedLocally = "refused-locally",
    /// The facility has no such device.
    UnknownDevice = "unknown-device",
    /// As many commands of the device wait at its facility as may.
    TooManyOpen = "too-many-open",
    /// The device was not reached before the end of its time to live.
    Unreached = "unreached",
    /// The device, or its facility, was told and has not answered before the end of the time to live, or before a later command
    /// had ended: it may have been carried out.
    Unanswered = "unanswered",
    /// What it was to bring about is desired no more: it was replaced or taken back before the device was told.
    Superseded = "superseded",
    /// The device, or the edge that writes its registers, stopped while it was carried out: it may or may not have been,
    /// and is not carried out again.
    Interrupted = "interrupted",
    /// What was written to the device does not read back.
    NotReadBack = "not-read-back",
    /// The device said that it could not.
    DeviceFailed = "device-failed",
    /// The device's answer is not signed by it.
    AnswerForged = "answer-forged",
}

impl Reason {
    /// Whether nobody has decided against a command that is refused for it: the same may be taken later, when a clock is right,
    /// the rules let it go, fewer wait, or the facility has the device again.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(
            self,
            Self::Policy
                | Self::TooManyOpen
                | Self::UnknownDevice
                | Self::NotYet
                | Self::Stale
                | Self::Replayed
                | Self::Reordered
        )
    }

    /// The reason of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == word)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_word_in_text_and_in_json() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            let json = serde_json::to_value(reason).unwrap();
            assert_eq!(json.as_str(), Some(reason.as_str()));
        }
    }
}
