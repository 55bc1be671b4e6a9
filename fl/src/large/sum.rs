//! The sum of a region's vectors at the pace of memory: block by block, each block of all vectors while it is in the
//! processor's cache, by as many threads as the machine has.
//!
//! A block's numbers are added into one accumulator that never leaves the cache, so each vector is read once and the sum
//! is written once. Numbers are added modulo 2^32, so the sum is the same to the last bit whatever the order of the vectors,
//! the number of threads and the length of a block.
use super::{Made, Vector};
use crate::secagg::{MASK_CHUNK, Mask};
use std::{
    io::{self, Read},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    thread,
};

/// Numbers of a block: 128 KiB of each of a few vectors and as much of the sum fit the second cache of a server's core.
const BLOCK: usize = 4 * MASK_CHUNK;
/// Vectors of which a block is read before they are added.
const TOGETHER: usize = 4;
/// Numbers of the sum that are made before the first of them are read: 4 MiB, so that threads have something to share.
const SPAN: usize = 32 * BLOCK;

/// A vector's bytes, which several threads read at once.
pub trait Blocks: Sync {
    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// They cannot be read; [`io::ErrorKind::UnexpectedEof`] when there are not so many.
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// So many bytes from `offset` on where they are, if they are in memory: they need not be read then.
    fn seen_at(&self, length: usize, offset: u64) -> Option<&[u8]> {
        let _ = (length, offset);
        None
    }
}

impl Blocks for &[u8] {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.seen_at(into.len(), offset);
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn seen_at(&self, length: usize, offset: u64) -> Option<&[u8]> {
        let begin = usize::try_from(offset).ok()?;
        self.get(begin..begin.checked_add(length)?)
    }
}

/// What a region's sum is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Summing {
    /// The masked vectors.
    pub vectors: Vec<Vector>,
    /// What comes off their sum.
    pub masks: Vec<Mask>,
    /// Numbers of each.
    pub numbers: u64,
}

impl Summing {
    /// The sum as it is read, made by so many threads. `inputs`: of [`Summing::vectors`].
    pub fn sum<R: Blocks>(self, inputs: Vec<R>, threads: NonZeroUsize) -> Sum<R> {
        Sum {
            inputs,
            masks: self.masks,
            numbers: self.numbers,
            begin: 0,
            threads: threads.get(),
            made: Made::new(),
        }
    }
}

/// A sum without its masks, a span at a time. It holds one span, and of each thread four blocks and their sum, however
/// many vectors there are.
pub struct Sum<R> {
    inputs: Vec<R>,
    masks: Vec<Mask>,
    numbers: u64,
    /// The numbers before the next span.
    begin: u64,
    threads: usize,
    made: Made,
}

impl<R: Blocks> Sum<R> {
    /// Makes `span`, the bytes of the sum from the number `begin` on.
    fn make(&self, begin: u64, span: &mut [u8]) -> io::Result<()> {
        let blocks = span.len().div_ceil(4 * BLOCK);
        let firsts = (begin..).step_by(BLOCK);
        // Whoever is done takes the next block, so that files are read nearly from the first byte to the last.
        let left = Mutex::new(firsts.zip(span.chunks_mut(4 * BLOCK)));
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let mut room = Room::new();
            while let Some((first, block)) = next() {
                self.block(first, block, &mut room)?;
            }
            io::Result::Ok(())
        };
        let threads = self.threads.min(blocks);
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let mut ended = others.into_iter().map(thread::ScopedJoinHandle::join);
            let panicked = |_| Err(io::Error::other("a thread that sums has ended"));
            own.and(ended.try_for_each(|end| end.unwrap_or_else(panicked)))
        })
    }

    fn block(&self, first: u64, to: &mut [u8], room: &mut Room) -> io::Result<()> {
        let sum = room.sum.get_mut(..to.len() / 4).unwrap_or_default();
        sum.fill(0);
        for inputs in self.inputs.chunks(TOGETHER) {
            let mut seen: [&[u8]; TOGETHER] = [&[]; TOGETHER];
            for ((input, bytes), seen) in inputs.iter().zip(&mut room.bytes).zip(&mut seen) {
                *seen = match input.seen_at(to.len(), first * 4) {
                    Some(there) => there,
                    None => {
                        let bytes = bytes.get_mut(..to.len()).unwrap_or_default();
                        input.read_exact_at(bytes, first * 4)?;
                        bytes
                    }
                };
            }
            add(sum, seen.get(..inputs.len()).unwrap_or_default());
        }
        for mask in &self.masks {
            mask.put(first, sum);
        }
        for (to, number) in to.as_chunks_mut().0.iter_mut().zip(sum) {
            *to = number.to_le_bytes();
        }
        Ok(())
    }
}

impl<R: Blocks> Read for Sum<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.numbers - self.begin).unwrap_or(usize::MAX);
        let room = into.len() / 4;
        // Whoever has room for much of it gets it at once, from all threads.
        if self.made.is_read() && left > 0 && room >= left.min(SPAN) {
            let count = match room >= left {
                true => left,
                false => room / BLOCK * BLOCK,
            };
            let span = into.get_mut(..count * 4).unwrap_or_default();
            self.make(self.begin, span)?;
            self.begin += count as u64;
            return Ok(count * 4);
        }
        if self.made.is_read() && left > 0 {
            let count = left.min(SPAN);
            let mut span = self.made.take();
            span.resize(count * 4, 0);
            self.make(self.begin, &mut span)?;
            self.begin += count as u64;
            self.made.put(span);
        }
        self.made.read(into)
    }
}

/// Adds the numbers of blocks: of [`TOGETHER`] of them with one look at each number of the sum.
fn add(sum: &mut [u32], blocks: &[&[u8]]) {
    fn numbers(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }
    let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    if let [a, b, c, d] = blocks {
        let pairs = numbers(a).iter().zip(numbers(b));
        let others = numbers(c).iter().zip(numbers(d));
        for (sum, ((a, b), (c, d))) in sum.iter_mut().zip(pairs.zip(others)) {
            let two = number(a).wrapping_add(number(b));
            let others = number(c).wrapping_add(number(d));
            *sum = sum.wrapping_add(two).wrapping_add(others);
        }
        return;
    }
    if let [a, b] = blocks {
        for (sum, (a, b)) in sum.iter_mut().zip(numbers(a).iter().zip(numbers(b))) {
            *sum = sum.wrapping_add(number(a).wrapping_add(number(b)));
        }
        return;
    }
    for block in blocks {
        for (sum, bytes) in sum.iter_mut().zip(numbers(block)) {
            *sum = sum.wrapping_add(number(bytes));
        }
    }
}

/// What a thread works in.
struct Room {
    bytes: [Vec<u8>; TOGETHER],
    sum: Vec<u32>,
}

impl Room {
    fn new() -> Self {
        Self {
            bytes: std::array::from_fn(|_| vec![0; 4 * BLOCK]),
            sum: vec![0; BLOCK],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    fn vectors(count: usize, numbers: usize, seed: u64) -> Vec<Vec<u8>> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut one = || -> Vec<u8> { (0..4 * numbers).map(|_| random.random()).collect() };
        (0..count).map(|_| one()).collect()
    }

    fn summing(numbers: usize) -> Summing {
        Summing {
            vectors: Vec::new(),
            masks: Vec::new(),
            numbers: numbers as u64,
        }
    }

    /// The sum number by number, as it is defined.
    fn naive(vectors: &[Vec<u8>], numbers: usize) -> Vec<u8> {
        let number = |at: usize| {
            let of = |bytes: &Vec<u8>| u32::from_le_bytes(bytes[4 * at..][..4].try_into().unwrap());
            vectors.iter().map(of).fold(0, u32::wrapping_add)
        };
        (0..numbers)
            .flat_map(|at| number(at).to_le_bytes())
            .collect()
    }

    fn sum_of<'a>(
        vectors: impl Iterator<Item = &'a Vec<u8>>,
        numbers: usize,
        count: usize,
    ) -> io::Result<Vec<u8>> {
        let inputs: Vec<&[u8]> = vectors.map(|bytes| &bytes[..]).collect();
        let mut all = Vec::new();
        summing(numbers)
            .sum(inputs, threads(count))
            .read_to_end(&mut all)?;
        Ok(all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_sum_by_blocks_is_that_of_number_by_number_whoever_came_first_and_by_any_number_of_threads(
            near in prop::sample::select(vec![0, BLOCK, 2 * BLOCK, SPAN, SPAN + BLOCK]),
            off in -3_isize..4,
            count in 0_usize..9,
            threads in 1_usize..7,
            turn in 0_usize..9,
            seed: u64,
        ) {
            let numbers = near.saturating_add_signed(off);
            let vectors = vectors(count, numbers, seed);
            let wanted = naive(&vectors, numbers);
            let (later, first) = vectors.split_at(turn.min(count));
            let turned = first.iter().rev().chain(later);
            // Not `prop_assert_eq`, which would print megabytes.
            prop_assert!(sum_of(vectors.iter(), numbers, threads).unwrap() == wanted);
            prop_assert!(sum_of(turned, numbers, threads).unwrap() == wanted);
        }
    }

    #[test]
    fn a_vector_that_ends_before_is_named_by_its_error_in_whichever_thread() {
        let numbers = SPAN + 2 * BLOCK;
        let whole = vectors(2, numbers, 1);
        for count in [1, 4] {
            for left in [0, 4 * BLOCK, 4 * numbers - 1] {
                let mut short = whole.clone();
                short[1].truncate(left);
                let error = sum_of(short.iter(), numbers, count).unwrap_err();
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof,
                    "{left} by {count}"
                );
            }
        }
    }

    /// Zeros without end, of which it is counted how many bytes are asked for at once by all threads.
    #[derive(Default)]
    struct Counted {
        now: AtomicUsize,
        most: AtomicUsize,
        last: AtomicUsize,
    }

    impl Blocks for &Counted {
        fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
            let now = self.now.fetch_add(into.len(), Ordering::SeqCst) + into.len();
            self.most.fetch_max(now, Ordering::SeqCst);
            self.last
                .fetch_max(offset as usize + into.len(), Ordering::SeqCst);
            thread::yield_now();
            self.now.fetch_sub(into.len(), Ordering::SeqCst);
            into.fill(0);
            Ok(())
        }
    }

    #[test]
    fn of_any_number_of_vectors_each_thread_reads_a_block_at_a_time_and_a_span_of_their_sum_is_held()
     {
        let (counted, numbers, count) = (Counted::default(), 3 * SPAN, 3);
        let mut sum = summing(numbers).sum(vec![&counted; 200], threads(count));
        let (mut piece, mut written) = (vec![0; 1 << 16], 0);
        loop {
            let read = sum.read(&mut piece).unwrap();
            assert!(counted.last.load(Ordering::SeqCst) <= written + 4 * SPAN);
            assert!(sum.made.capacity() <= 4 * SPAN, "{}", sum.made.capacity());
            written += read;
            if read == 0 {
                break;
            }
        }
        assert_eq!(written, 4 * numbers);
        assert!(counted.most.load(Ordering::SeqCst) <= count * 4 * BLOCK);
    }
}
