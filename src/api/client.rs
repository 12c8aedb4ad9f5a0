//! Client address of a request, and the key under which its rate and streams are limited.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Client address of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Key under which requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Caller(Arc<str>),
    /// IPv4 address, or the upper 64 bits of an IPv6 address, the usual prefix of one subscriber.
    Address(IpAddr),
    Crowd(u64),
}

impl Key {
    /// Returns the key of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Key::Address(match address {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }

    /// Returns the address if the key is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Caller(_) | Self::Crowd(_) => None,
        }
    }
}
