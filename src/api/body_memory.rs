//! Memory held by request bodies: counted as bytes arrive, per client address, and separately for public routes.
//!
//! An address may hold at most as much as remains free afterwards (dynamic thresholds, Choudhury and Hahne 1998). One
//! address thus gets a half, two get a third each, and there is always room for another one.

use super::client::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory for all bodies of authorized callers, in bytes.
const GUARDED: usize = 512 << 20;
/// Bodies of authorized callers up to this size are not counted: one per connection fits.
const GUARDED_UNCOUNTED: usize = 64 << 10;
/// Memory for all bodies on public routes. Logins and usual events are small enough not to be counted, so that nobody can
/// block them.
const OPEN: usize = 16 << 20;
const OPEN_UNCOUNTED: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Senders {
    /// Anyone, on a public route.
    Open,
    /// Callers with a role.
    Guarded,
}

/// Memory for request bodies; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    open: Arc<Pool>,
    guarded: Arc<Pool>,
}

impl Memory {
    /// Creates memory for several bodies of the given maximum size.
    pub(super) fn new(largest: usize) -> Self {
        // A single address gets a half.
        let guarded = Pool::new(GUARDED.max(largest.saturating_mul(2)), GUARDED_UNCOUNTED);
        Self { open: Pool::new(OPEN, OPEN_UNCOUNTED), guarded }
    }

    /// Returns an empty reservation for a body.
    pub(super) fn room(&self, senders: Senders, address: Key) -> Room {
        let pool = match senders {
            Senders::Open => &self.open,
            Senders::Guarded => &self.guarded,
        };
        Room { pool: Arc::clone(pool), address, counted: 0 }
    }
}

#[derive(Debug)]
struct Pool {
    total: usize,
    uncounted: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: HashMap<Key, usize>,
}

impl Pool {
    fn new(total: usize, uncounted: usize) -> Arc<Self> {
        Arc::new(Self { total, uncounted, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory reserved for one body, released on drop.
#[derive(Debug)]
pub(super) struct Room {
    pool: Arc<Pool>,
    address: Key,
    counted: usize,
}

impl Room {
    /// Grows the reservation to this size. Returns `false` if there is not enough memory.
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        let wanted = if bytes <= self.pool.uncounted { 0 } else { bytes };
        let Some(more) = wanted.checked_sub(self.counted).filter(|more| *more > 0) else { return true };
        let mut held = self.pool.held();
        let all = held.all.saturating_add(more);
        let own = held.by.get(&self.address).copied().unwrap_or(0).saturating_add(more);
        if self.pool.total.checked_sub(all).is_none_or(|free| own > free) {
            return false;
        }
        held.all = all;
        held.by.insert(self.address.clone(), own);
        self.counted = wanted;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.counted == 0 {
            return;
        }
        let mut held = self.pool.held();
        held.all = held.all.saturating_sub(self.counted);
        let own = held.by.get(&self.address).copied().unwrap_or(0).saturating_sub(self.counted);
        if own == 0 {
            held.by.remove(&self.address);
        } else {
            held.by.insert(self.address.clone(), own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn address(last: u32) -> Key {
        Key::Address(IpAddr::from((0xC000_0200 + last).to_be_bytes()))
    }

    fn room(pool: &Arc<Pool>, last: u32) -> Room {
        Room { pool: Arc::clone(pool), address: address(last), counted: 0 }
    }

    /// Reserves as many bodies of this size as the address may hold.
    fn fill(pool: &Arc<Pool>, last: u32, size: usize) -> Vec<Room> {
        let mut rooms = Vec::new();
        loop {
            let mut next = room(pool, last);
            if !next.grow_to(size) {
                return rooms;
            }
            rooms.push(next);
        }
    }

    #[test]
    fn an_address_gets_no_more_than_it_leaves_and_everything_comes_back() {
        let pool = Pool::new(1_000, 10);
        let greedy = fill(&pool, 1, 20);
        assert_eq!(greedy.len(), 25, "a half");
        let second = fill(&pool, 2, 20);
        assert!((11..=12).contains(&second.len()), "half of what is left: {}", second.len());
        assert!(!room(&pool, 1).grow_to(20));
        assert!(room(&pool, 1).grow_to(10), "small ones are not counted");
        drop((greedy, second));
        let held = pool.held();
        assert_eq!((held.all, held.by.len()), (0, 0));
    }

    #[test]
    fn however_many_addresses_take_what_they_get_a_new_one_finds_room() {
        let pool = Pool::new(512 << 20, 64 << 10);
        let taken: Vec<Vec<Room>> = (0..200).map(|last| fill(&pool, last, 1 << 20)).collect();
        assert!(taken[0].len() == 256 && pool.held().all < pool.total, "{}", pool.held().all);
        let free = pool.total - pool.held().all;
        assert!(room(&pool, 1_000).grow_to(free / 2), "{free} left");
    }

    #[test]
    fn a_room_grows_with_what_arrives_and_keeps_what_it_has() {
        let memory = Memory::new(1 << 30);
        let mut one = memory.room(Senders::Guarded, address(1));
        assert!(one.grow_to(1 << 30), "the largest one fits");
        assert!(one.grow_to(5), "it never shrinks");
        assert!(!one.grow_to((1 << 30) + 1));
        let mut open = memory.room(Senders::Open, address(1));
        assert!(open.grow_to(8 << 20) && !open.grow_to((8 << 20) + 1), "another pool");
        drop(one);
        assert_eq!(memory.guarded.held().all, 0);
    }
}
