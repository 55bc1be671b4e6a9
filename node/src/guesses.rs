//! Codes that nobody was given, by who sent them: so many from one network in a minute, and a bound on all together.
//!
//! A good code is never counted and never refused here: whoever guesses costs others nothing but that, while there is a
//! flood of guesses, a mistyped code is told to wait.
use crate::admission::Network;
use std::collections::HashMap;
use types::Timestamp;

/// Unknown codes of one network in a minute: a person who mistypes, and a house whose kits are of another authority. With
/// codes of 128 bits no number of guesses that fits through a door matters: the bound is for logs and for the disk.
pub const PER_NETWORK: u32 = 30;
/// Unknown codes of everybody together in a minute, and with it the networks that are remembered.
pub const ALTOGETHER: u32 = 3_000;
/// What is counted together, in ms.
pub const MINUTE_MS: i64 = 60_000;

/// The unknown codes of the minute that began last.
#[derive(Debug)]
pub struct Guesses {
    began: Timestamp,
    all: u32,
    by: HashMap<Network, u32>,
}

impl Guesses {
    /// None yet.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            began: now,
            all: 0,
            by: HashMap::new(),
        }
    }

    /// Counts an unknown code; when it is one too many, the seconds until others are looked at again.
    pub fn count(&mut self, from: Network, now: Timestamp) -> Option<i64> {
        // A clock that was set back begins another minute too.
        if !(0..MINUTE_MS).contains(&now.since(self.began)) {
            *self = Self::new(now);
        }
        let left_s = (MINUTE_MS - now.since(self.began) + 999) / 1_000;
        let own = self.by.get(&from).copied().unwrap_or(0);
        if own >= PER_NETWORK || self.all >= ALTOGETHER {
            return Some(left_s);
        }
        self.all += 1;
        self.by.insert(from, own + 1);
        None
    }

    /// As if as many had come as are taken: for tests.
    #[doc(hidden)]
    pub const fn exhaust(&mut self) {
        self.all = ALTOGETHER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv6Addr};

    fn v6(network: u16, host: u16) -> Network {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host);
        Network::of(IpAddr::V6(address))
    }

    #[test]
    fn guesses_of_one_network_are_few_in_a_minute_and_cost_no_other_network_any() {
        let mut guesses = Guesses::new(Timestamp(0));
        let mut at = |from, ms| guesses.count(from, Timestamp(ms));
        let hosts = 0..u16::try_from(PER_NETWORK).unwrap();
        assert!(hosts.clone().all(|host| at(v6(1, host), 0).is_none()));
        assert_eq!(at(v6(1, 99), 29_500), Some(31), "however many hosts it has");
        assert_eq!(at(v6(2, 99), 29_500), None);
        assert_eq!(at(v6(1, 99), MINUTE_MS - 1), Some(1));
        assert_eq!(at(v6(1, 99), MINUTE_MS), None, "another minute");
        let set_back = -3_600_000;
        assert!(hosts.clone().all(|_| at(v6(1, 0), set_back).is_none()));
        assert_eq!(at(v6(1, 0), set_back), Some(60));
    }

    #[test]
    fn guesses_of_a_thousand_networks_are_bounded_and_so_is_what_is_remembered() {
        let mut guesses = Guesses::new(Timestamp(0));
        for network in 0..u16::try_from(2 * ALTOGETHER).unwrap() {
            let refused = guesses.count(v6(network, 1), Timestamp(0)).is_some();
            assert_eq!(refused, u32::from(network) >= ALTOGETHER, "{network}");
        }
        assert_eq!(guesses.by.len(), ALTOGETHER as usize);
        assert_eq!(guesses.count(v6(0, 1), Timestamp(MINUTE_MS)), None);
        assert_eq!(guesses.by.len(), 1);
    }
}
