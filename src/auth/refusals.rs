//! Refused logins for the audit log. Anybody can cause them, so only a few per address and minute get their own row; the
//! rest is counted in one row.

use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum number of rows per minute for one address and for all addresses.
const OF_AN_ADDRESS: u32 = 5;
const OF_ALL: u32 = 100;
const MINUTE: TimeDelta = TimeDelta::seconds(60);

/// Counts the refused logins of this process.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    since: Option<DateTime<Utc>>,
    rows: u32,
    /// Rows per address; never more addresses than rows.
    addresses: HashMap<Option<IpAddr>, u32>,
    left_out: u64,
}

/// Refused logins without a row of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Time of the first refused login of that minute.
    pub since: DateTime<Utc>,
    /// Number of refused logins.
    pub count: u64,
}

impl Refusals {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refused login. Returns whether it gets its own row.
    pub fn count(&self, address: Option<IpAddr>, now: DateTime<Utc>) -> bool {
        // Upper 64 bits of an IPv6 address: the usual prefix of one subscriber.
        let address = address.map(|address| match address {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        });
        let mut window = self.window();
        window.since.get_or_insert(now);
        let of_address = window.addresses.get(&address).copied().unwrap_or(0);
        if of_address >= OF_AN_ADDRESS || window.rows >= OF_ALL {
            window.left_out += 1;
            return false;
        }
        window.rows += 1;
        window.addresses.insert(address, of_address + 1);
        true
    }

    /// Ends a minute that is over, or the current one at shutdown (`now` absent). Returns the refused logins without a row.
    pub fn end(&self, now: Option<DateTime<Utc>>) -> Option<LeftOut> {
        let mut window = self.window();
        let since = window.since.filter(|since| now.is_none_or(|now| now - *since >= MINUTE))?;
        let ended = std::mem::take(&mut *window);
        (ended.left_out > 0).then_some(LeftOut { since, count: ended.left_out })
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_flood_is_a_few_rows_and_a_number() {
        let refusals = Refusals::default();
        let (now, address) = (DateTime::UNIX_EPOCH, |n: u32| Some(IpAddr::from(n.to_be_bytes())));
        let rows =
            |of: &dyn Fn(u32) -> u32| (0..1_000).filter(|n| refusals.count(address(of(*n)), now)).count();
        assert_eq!(rows(&|_| 7), OF_AN_ADDRESS as usize);
        assert_eq!(rows(&|n| n + 1_000), (OF_ALL - OF_AN_ADDRESS) as usize, "many addresses do not help");
        assert!(refusals.window().addresses.len() <= OF_ALL as usize);
        assert_eq!(refusals.end(Some(now + TimeDelta::seconds(59))), None, "the minute goes on");
        let left_out = LeftOut { since: now, count: 2_000 - u64::from(OF_ALL) };
        assert_eq!(refusals.end(Some(now + MINUTE)), Some(left_out));
        assert!(refusals.count(address(7), now + MINUTE), "the next minute has its own");
        assert_eq!(refusals.end(None), None, "nothing was left out");
    }
}
