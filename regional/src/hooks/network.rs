//! Networks of addresses, and which addresses are public. Pure.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network (RFC 4632 §3.1), such as `10.20.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads a network; none where it is none, or has bits behind its length.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        let network = Self { address, bits };
        (bits <= most && network.masked(address)? == network.masked_all(address)).then_some(network)
    }

    /// Whether an address is of it. One of IPv4 that is written as IPv6 is that of IPv4.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && self.masked(address) == self.masked(self.address)
    }

    /// The bits of an address that tell the network.
    fn masked(&self, address: IpAddr) -> Option<u128> {
        let (value, width) = number(address);
        let behind = width.checked_sub(u32::from(self.bits))?;
        Some(
            value
                .checked_shr(behind)
                .unwrap_or(0)
                .checked_shl(behind)
                .unwrap_or(0),
        )
    }

    const fn masked_all(&self, address: IpAddr) -> u128 {
        number(address).0
    }
}

const fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits() as u128, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// Networks of IPv4 that are not reached over the internet (IANA IPv4 Special-Purpose Address Registry, RFC 6890).
const SPECIAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// Networks of IPv6 within 2000::/3, the only one that is reached over the internet, that are not, or lead to an address
/// of IPv4 (IANA IPv6 Special-Purpose Address Registry).
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is one of the internet, and none of a network within a house.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(network, bits)| {
            address.to_bits() >> (32 - bits) == network.to_bits() >> (32 - bits)
        }),
        IpAddr::V6(address) => {
            let special = SPECIAL_V6.iter().any(|(network, bits)| {
                address.to_bits() >> (128 - bits) == network.to_bits() >> (128 - bits)
            });
            address.to_bits() >> 125 == 0b001 && !special
        }
    }
}
