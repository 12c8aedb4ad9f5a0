//! Where a request comes from, and what it can count as: by which its rate and its streams are limited.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Caller(Arc<str>),
    /// IPv4, or the first half of IPv6: that is what one subscriber gets.
    Address(IpAddr),
    Crowd(u64),
}

impl Key {
    /// Of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Key::Address(match address {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }

    /// The address, where one is counted.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Caller(_) | Self::Crowd(_) => None,
        }
    }
}
