//! Simulated time and randomness: one hand and one generator for each thread that simulates, set anew for every line.
use node::clock::Clock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use store::Entropy;
use store::clockguard::{Now, Time};
use types::Timestamp;

/// Threads that may simulate at once.
pub const WORKERS: usize = 4;
/// When every line begins: as good as any instant.
const START: i64 = 1_767_225_600_000;

/// A clock that moves when it is told to.
pub struct Hand {
    now: AtomicI64,
    /// What the machine's clock lacks.
    correction: AtomicI64,
    draws: fn() -> [u8; 16],
    drawn: &'static AtomicU64,
}

static HANDS: [Hand; WORKERS] = [
    Hand::new(id::<0>, &DRAWN[0]),
    Hand::new(id::<1>, &DRAWN[1]),
    Hand::new(id::<2>, &DRAWN[2]),
    Hand::new(id::<3>, &DRAWN[3]),
];

static DRAWN: [AtomicU64; WORKERS] = [const { AtomicU64::new(0) }; WORKERS];

/// The hand and the generator of a thread, as they are at the beginning of a line.
#[must_use]
pub fn begin(worker: usize) -> (&'static Hand, Entropy) {
    const DRAWS: [Entropy; WORKERS] = [draw::<0>, draw::<1>, draw::<2>, draw::<3>];
    let worker = worker % WORKERS;
    DRAWN[worker].store(0, Ordering::SeqCst);
    HANDS[worker].set(START);
    (&HANDS[worker], DRAWS[worker])
}

/// SplitMix64 by Sebastiano Vigna (2015): the n-th draw of a line is the same in every run.
fn draw<const WORKER: usize>(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let n = DRAWN[WORKER].fetch_add(1, Ordering::SeqCst) + 1;
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = (z ^ (z >> 31)).to_le_bytes();
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
}

fn id<const WORKER: usize>() -> [u8; 16] {
    let mut id = [0; 16];
    draw::<WORKER>(&mut id);
    id
}

impl Hand {
    const fn new(draws: fn() -> [u8; 16], drawn: &'static AtomicU64) -> Self {
        Self {
            now: AtomicI64::new(START),
            correction: AtomicI64::new(0),
            draws,
            drawn,
        }
    }

    /// Draws from another part of the sequence, so that two disks that are set up have nothing in common.
    pub fn draw_from(&self, part: u32) {
        self.drawn.store(u64::from(part) << 32, Ordering::SeqCst);
    }

    /// Draws ids, alike in every run of a line.
    #[must_use]
    pub const fn draws(&self) -> fn() -> [u8; 16] {
        self.draws
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    /// Moves the hand on.
    pub fn forward(&self, ms: i64) {
        self.set(self.now().plus_ms(ms).0);
    }

    fn set(&self, now: i64) {
        self.now.store(now, Ordering::SeqCst);
        let behind = now - Clock::new(None).real().0;
        self.correction.store(behind, Ordering::SeqCst);
    }

    /// A clock of the product that shows the same time, and a few milliseconds more.
    #[must_use]
    pub fn clock(&'static self) -> Clock {
        Clock::new(None).corrected_by(&self.correction)
    }
}

impl Time for &'static Hand {
    fn now(&self) -> Now {
        let now = Hand::now(self);
        Now {
            real: now,
            mesh: now,
            trusted: true,
        }
    }
}
