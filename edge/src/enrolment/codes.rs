//! The codes that wait for devices: one for a device at most, good once and for an hour, known by their digests. Pure.
use federation::pki::code_hash;
use node::{admission::Network, guesses::Guesses};
use std::collections::{BTreeMap, BTreeSet};
use types::{DeviceId, Secret, Timestamp};

/// For how long a code is good, in ms: somebody stands before the device.
const GOOD_MS: i64 = 3_600_000;
/// So many requests of one code the region may refuse: each costs its facility's other devices one of the few that the region
/// looks at in a minute.
const MAX_REFUSED: u8 = 5;
/// Random bytes of a code.
pub(super) const CODE_BYTES: usize = 16;

/// The codes of a facility's devices.
pub(super) struct Codes {
    devices: BTreeSet<DeviceId>,
    /// The last code that was drawn for each: no other is good, wherever it is.
    last: BTreeMap<DeviceId, Drawn>,
    guesses: Guesses,
}

/// The code of a device.
struct Drawn {
    invited: Invited,
    /// Somebody has it, and the region is asked; or it was used.
    is_out: bool,
    /// Requests that the region refused.
    refused: u8,
}

/// A device that may enrol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invited {
    /// SHA-256 of its code.
    pub(super) hash: [u8; 32],
    until: Timestamp,
}

/// Why a code is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCode {
    Unknown,
    /// Too many unknown ones: come again after so many seconds.
    Later(i64),
    Expired,
}

impl Codes {
    pub(super) fn new(devices: impl IntoIterator<Item = DeviceId>, now: Timestamp) -> Self {
        Self {
            devices: devices.into_iter().collect(),
            last: BTreeMap::new(),
            guesses: Guesses::new(now),
        }
    }

    /// A code for a device, in the place of one that it may have; none for a device that the facility does not have.
    pub(super) fn draw(
        &mut self,
        device: &DeviceId,
        random: [u8; CODE_BYTES],
        now: Timestamp,
    ) -> Option<(Secret<String>, Timestamp)> {
        if !self.devices.contains(device) {
            return None;
        }
        let (code, until) = (Secret::new(hex::encode(random)), now.plus_ms(GOOD_MS));
        let hash = code_hash(&code);
        let drawn = Drawn {
            invited: Invited { hash, until },
            is_out: false,
            refused: 0,
        };
        self.last.insert(device.clone(), drawn);
        Some((code, until))
    }

    /// Takes a code out, so that nobody else has it while the region is asked.
    pub(super) fn take(
        &mut self,
        code: &Secret<String>,
        from: Network,
        now: Timestamp,
    ) -> Result<(DeviceId, Invited), NoCode> {
        let hash = code_hash(code);
        let is_it = |drawn: &Drawn| drawn.invited.hash == hash && !drawn.is_out;
        let Some((device, drawn)) = self.last.iter_mut().find(|(_, drawn)| is_it(drawn)) else {
            let later = self.guesses.count(from, now);
            return Err(later.map_or(NoCode::Unknown, NoCode::Later));
        };
        drawn.is_out = true;
        if drawn.invited.until <= now {
            return Err(NoCode::Expired);
        }
        Ok((device.clone(), drawn.invited))
    }

    /// Puts one back that was not used, unless the device has another by now, or the region has refused what came with it for
    /// the last time.
    pub(super) fn put_back(&mut self, device: &DeviceId, invited: &Invited, was_refused: bool) {
        if let Some(last) = self.last.get_mut(device)
            && last.invited == *invited
        {
            last.refused += u8::from(was_refused);
            last.is_out = last.refused >= MAX_REFUSED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::guesses::PER_NETWORK;
    use std::net::{IpAddr, Ipv4Addr};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn codes() -> Codes {
        Codes::new(["lab-1", "lab-2"].map(device), NOW)
    }

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn from(host: u8) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)))
    }

    fn drawn(codes: &mut Codes, name: &str, random: u8) -> Secret<String> {
        codes.draw(&device(name), [random; 16], NOW).unwrap().0
    }

    #[test]
    fn a_code_is_good_once_for_the_device_that_it_was_drawn_for() {
        let mut codes = codes();
        let (first, second) = (drawn(&mut codes, "lab-1", 1), drawn(&mut codes, "lab-2", 2));
        let (taken, invited) = codes.take(&second, from(1), NOW).unwrap();
        assert_eq!(taken, device("lab-2"));
        let again = codes.take(&second, from(1), NOW);
        assert_eq!(again, Err(NoCode::Unknown));
        codes.put_back(&taken, &invited, false);
        assert!(codes.take(&second, from(1), NOW).is_ok());
        assert_eq!(codes.take(&first, from(1), NOW).unwrap().0, device("lab-1"));
        assert!(codes.draw(&device("lab-3"), [3; 16], NOW).is_none());
    }

    #[test]
    fn a_code_whose_requests_are_refused_is_good_for_few_of_them_and_for_any_number_of_silences() {
        let mut codes = codes();
        let code = drawn(&mut codes, "lab-1", 1);
        let again = |codes: &mut Codes, was_refused: bool| {
            let (taken, invited) = codes.take(&code, from(1), NOW).unwrap();
            codes.put_back(&taken, &invited, was_refused);
        };
        for _ in 0..100 {
            again(&mut codes, false);
        }
        for _ in 0..MAX_REFUSED {
            again(&mut codes, true);
        }
        assert_eq!(codes.take(&code, from(1), NOW), Err(NoCode::Unknown));
        let code = drawn(&mut codes, "lab-1", 2);
        assert!(codes.take(&code, from(1), NOW).is_ok(), "another code");
    }

    #[test]
    fn a_code_is_good_for_an_hour_and_until_another_is_drawn() {
        let mut codes = codes();
        let code = drawn(&mut codes, "lab-1", 1);
        let over = codes.take(&code, from(1), NOW.plus_ms(GOOD_MS));
        assert_eq!(over, Err(NoCode::Expired));
        let former = drawn(&mut codes, "lab-1", 2);
        let (taken, invited) = codes
            .take(&former, from(1), NOW.plus_ms(GOOD_MS - 1))
            .unwrap();
        let code = drawn(&mut codes, "lab-1", 3);
        // What comes back later takes nothing away.
        codes.put_back(&taken, &invited, false);
        assert_eq!(codes.take(&former, from(1), NOW), Err(NoCode::Unknown));
        assert!(codes.take(&code, from(1), NOW).is_ok());
        // Nor does it come back when the other is used.
        codes.put_back(&taken, &invited, false);
        assert_eq!(codes.take(&former, from(1), NOW), Err(NoCode::Unknown));
        assert_eq!(codes.take(&code, from(1), NOW), Err(NoCode::Unknown));
    }

    #[test]
    fn a_stranger_who_guesses_is_told_to_wait_and_keeps_no_device_out() {
        let mut codes = codes();
        let code = drawn(&mut codes, "lab-1", 1);
        let guess = Secret::new("0".repeat(32));
        let said = |it: Result<_, _>| it.unwrap_err();
        for _ in 0..PER_NETWORK {
            assert_eq!(said(codes.take(&guess, from(1), NOW)), NoCode::Unknown);
        }
        assert_eq!(said(codes.take(&guess, from(1), NOW)), NoCode::Later(60));
        assert_eq!(said(codes.take(&guess, from(2), NOW)), NoCode::Unknown);
        assert!(codes.take(&code, from(1), NOW).is_ok());
    }
}
