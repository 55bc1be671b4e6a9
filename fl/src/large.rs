//! Vectors that fit no parcel: they travel as blobs, each by its name, and whoever coordinates sums them and takes the next
//! step a chunk at a time. However many members send, and however large the model is, memory holds a few chunks of each thread.
//!
//! A vector is its numbers one after another, each four bytes from the lowest on (of moments: eight). Such a file is not
//! encrypted where it lies, so nothing but models and masked updates may be one: a study whose updates are seen one by one
//! has to fit a parcel (`refused`).
mod sum;

pub use sum::{Blocks, Sum, Summing};

use crate::{
    strategy::{Coordinator, Moments},
    study::{Problem, Strategy, Study},
    update::{Seen, UpdateCodec},
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read},
    num::NonZeroUsize,
    thread::{self, ScopedJoinHandle},
};
use types::RegionId;

/// The most numbers of an order or an update that travel in a parcel, which has at most 1 MiB.
pub const MAX_PARCEL_NUMBERS: u64 = 100_000;
/// Numbers that are worked on at once: a quarter of a MiB of each vector. A whole number of a mask's own chunks.
const CHUNK: usize = 8 * crate::secagg::MASK_CHUNK;

/// A vector that is a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vector {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length, in bytes.
    pub bytes: u64,
}

impl Vector {
    /// How many numbers of four bytes it has; none when that is no whole number.
    #[must_use]
    pub const fn numbers(&self) -> Option<u64> {
        if self.bytes.is_multiple_of(4) {
            Some(self.bytes / 4)
        } else {
            None
        }
    }

    /// Whether it has so many numbers.
    #[must_use]
    pub fn has(&self, numbers: usize) -> bool {
        self.numbers() == Some(numbers as u64)
    }
}

/// Whether the vectors of a study fit no parcel.
#[must_use]
pub fn is_large(study: &Study, parameters: u64) -> bool {
    parameters.saturating_mul(study.vectors() as u64) > MAX_PARCEL_NUMBERS
}

/// Everything for which a study whose vectors fit no parcel cannot run; nothing where they fit.
pub(crate) fn refused(study: &Study, parameters: u64) -> Vec<Problem> {
    if !is_large(study, parameters) {
        return Vec::new();
    }
    let beyond = format!(
        "the {} numbers of an update are more than the {MAX_PARCEL_NUMBERS} of a parcel, and",
        parameters.saturating_mul(study.vectors() as u64)
    );
    let refused = |path: &str, why: &str| Problem::new(path, format!("{beyond} {why}"));
    let open = "a larger one is a file that is not encrypted: it has to be masked";
    let scaffold = matches!(study.training.strategy, Strategy::Scaffold { .. });
    let all = [
        (!study.aggregation.secure).then(|| refused("aggregation.secure", open)),
        (study.aggregation.compression.is_some())
            .then(|| refused("aggregation.compression", "larger ones are not compressed")),
        scaffold.then(|| {
            let why = "`scaffold` keeps a control of each site beside it";
            refused("training.strategy.kind", why)
        }),
    ];
    all.into_iter().flatten().collect()
}

/// The bytes of numbers.
#[must_use]
pub fn to_bytes(numbers: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; numbers.len() * 4];
    for (to, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
        *to = number.to_le_bytes();
    }
    bytes
}

/// The bytes of a model.
#[must_use]
pub fn model_bytes(model: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; model.len() * 4];
    for (to, value) in bytes.as_chunks_mut().0.iter_mut().zip(model) {
        *to = value.to_le_bytes();
    }
    bytes
}

/// The model of its bytes; none when they are none, or one of its numbers is not finite.
#[must_use]
pub fn model_of(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    let model: Vec<f32> = numbers.iter().map(|n| f32::from_le_bytes(*n)).collect();
    (rest.is_empty() && model.iter().all(|value| value.is_finite())).then_some(model)
}

/// The model of so many bytes, as it is read: it is in memory once.
///
/// # Errors
/// It ends before, or one of its numbers is not finite.
pub fn read_model(mut from: impl Read, bytes: u64) -> io::Result<Vec<f32>> {
    let mut left = bytes / 4;
    let mut model = Vec::with_capacity(usize::try_from(left).unwrap_or_default());
    let mut bytes = vec![0; CHUNK * 4];
    while left > 0 {
        let count = next_of(left);
        let chunk = bytes.get_mut(..count * 4).unwrap_or_default();
        from.read_exact(chunk)?;
        let read = model_of(chunk).ok_or_else(|| invalid("the model is none".into()))?;
        model.extend(read);
        left -= count as u64;
    }
    Ok(model)
}

/// How many numbers are next of so many.
fn next_of(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK)
}

/// Bytes that were made and are read next.
struct Made {
    bytes: Vec<u8>,
    at: usize,
}

impl Made {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            at: 0,
        }
    }

    const fn is_read(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn put(&mut self, bytes: Vec<u8>) {
        (self.bytes, self.at) = (bytes, 0);
    }

    /// Their room, for those that are made next.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    #[cfg(test)]
    const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.read(into)?;
        self.at += count;
        Ok(count)
    }
}

/// What the next model of a study follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Stepping {
    /// The model before it.
    pub model: Vector,
    /// What an adaptive strategy remembers; none of others, and before the first step.
    pub moments: Option<Vector>,
    /// The sums of the regions, and of how many sites each is.
    pub sums: Vec<(RegionId, Vector, u16)>,
    pub(crate) codec: UpdateCodec,
    pub(crate) strategy: Strategy,
    pub(crate) steps: u32,
    /// The largest number that a sum with all its noise can have; none where it is bounded by its norm.
    pub(crate) largest: Option<u64>,
}

/// What was found of the sums before a step is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Looked {
    divisor: f64,
    /// Which share of the members was within an adaptive clip.
    pub within: Option<f64>,
}

impl Stepping {
    /// Of how many sites the sums are.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.sums.iter().map(|(_, _, of)| u32::from(*of)).sum()
    }

    /// Whether the strategy remembers anything from step to step.
    #[must_use]
    pub const fn remembers(&self) -> bool {
        matches!(
            self.strategy,
            Strategy::FedAdam(_) | Strategy::FedYogi(_) | Strategy::FedAdagrad(_)
        )
    }

    /// Reads the sums, in their order, and refuses what no honest region could have come to.
    ///
    /// # Errors
    /// Which region's sum is none, and why; that a file cannot be read.
    pub fn look<R: Read>(&self, inputs: Vec<R>) -> Result<Looked, String> {
        let mut behind: Vec<i64> = Vec::new();
        for ((region, vector, members), input) in self.sums.iter().zip(inputs) {
            let seen = self
                .seen(vector, input)
                .map_err(|error| error.to_string())?;
            let refused = |why: String| format!("region {region}: {why}");
            match self.largest {
                Some(most) if seen.largest > most => {
                    return Err(refused(format!(
                        "a number of its sum is {}, and {most} with all noise at most",
                        seen.largest
                    )));
                }
                Some(_) => {}
                None => self
                    .codec
                    .bounded_as(&seen, u32::from(*members))
                    .map_err(|error| refused(error.to_string()))?,
            }
            behind.resize(seen.behind.len(), 0);
            for (sum, number) in behind.iter_mut().zip(&seen.behind) {
                *sum += number;
            }
        }
        let said = self.codec.said(&behind, self.members());
        let (divisor, within) = said.map_err(|error| error.to_string())?;
        Ok(Looked { divisor, within })
    }

    fn seen(&self, vector: &Vector, mut input: impl Read) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut left = vector.bytes / 4;
        let mut bytes = vec![0; CHUNK * 4];
        while left > 0 {
            let count = next_of(left);
            let chunk = bytes.get_mut(..count * 4).unwrap_or_default();
            input.read_exact(chunk)?;
            let numbers = chunk.as_chunks().0.iter();
            self.codec.see(
                &mut seen,
                numbers.map(|n| i64::from(i32::from_le_bytes(*n))),
            );
            left -= count as u64;
        }
        Ok(seen)
    }

    /// The next model as it is read, or what the strategy remembers for the step after it. `inputs`: the sums, in their
    /// order; `before`: the model, and what was remembered. Each of the threads makes a chunk at a time: it comes to the same to
    /// the last bit, however many they are.
    pub fn step<R: Read>(
        &self,
        looked: Looked,
        part: Part,
        inputs: Vec<R>,
        before: (R, Option<R>),
        threads: NonZeroUsize,
    ) -> Step<'_, R> {
        Step {
            of: self,
            looked,
            part,
            inputs,
            before,
            threads: threads.get(),
            left: self.model.bytes / 4,
            made: Made::new(),
        }
    }

    /// What a chunk becomes.
    fn stepped(&self, chunk: Chunk, divisor: f64, part: Part) -> io::Result<Vec<u8>> {
        let mean = self.codec.values(&chunk.sum, divisor);
        let mut stepped = Coordinator::part(chunk.model, chunk.moments, self.steps);
        let moved = stepped.step(&self.strategy, &mean);
        moved.map_err(|error| invalid(error.to_string()))?;
        Ok(match part {
            Part::Model => model_bytes(stepped.model()),
            Part::Moments => stepped.moments().to_bytes(),
        })
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What the next numbers of a model follow from.
struct Chunk {
    sum: Vec<i64>,
    model: Vec<f32>,
    moments: Moments,
}

/// What a step makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next model.
    Model,
    /// What an adaptive strategy remembers.
    Moments,
}

/// A step, a chunk of each thread at a time.
pub struct Step<'a, R> {
    of: &'a Stepping,
    looked: Looked,
    part: Part,
    inputs: Vec<R>,
    before: (R, Option<R>),
    threads: usize,
    left: u64,
    made: Made,
}

impl<R: Read> Step<'_, R> {
    fn read_chunk(&mut self) -> io::Result<Chunk> {
        let count = next_of(self.left);
        let mut bytes = vec![0; count * 4];
        let mut sum = vec![0_i64; count];
        for input in &mut self.inputs {
            input.read_exact(&mut bytes)?;
            for (sum, number) in sum.iter_mut().zip(bytes.as_chunks().0) {
                *sum += i64::from(i32::from_le_bytes(*number));
            }
        }
        let (model, moments) = &mut self.before;
        model.read_exact(&mut bytes)?;
        let model = model_of(&bytes).ok_or_else(|| invalid("the model is none".into()))?;
        let moments = match moments {
            None => Moments::none(count),
            Some(file) => {
                let mut bytes = vec![0; count * 16];
                file.read_exact(&mut bytes)?;
                Moments::of_bytes(&bytes)
            }
        };
        self.left -= count as u64;
        Ok(Chunk {
            sum,
            model,
            moments,
        })
    }

    /// The next chunks, one by each thread.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let (of, divisor, part) = (self.of, self.looked.divisor, self.part);
        thread::scope(|scope| {
            let mut others = Vec::new();
            while others.len() + 1 < self.threads && self.left > CHUNK as u64 {
                let chunk = self.read_chunk()?;
                others.push(scope.spawn(move || of.stepped(chunk, divisor, part)));
            }
            let own = of.stepped(self.read_chunk()?, divisor, part);
            let mut made = Vec::new();
            let panicked = |_| Err(io::Error::other("a thread that steps has ended"));
            for other in others.into_iter().map(ScopedJoinHandle::join) {
                made.extend(other.unwrap_or_else(panicked)?);
            }
            made.extend(own?);
            Ok(made)
        })
    }
}

impl<R: Read> Read for Step<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.made.is_read() && self.left > 0 {
            let next = self.next()?;
            self.made.put(next);
        }
        self.made.read(into)
    }
}

#[cfg(test)]
#[path = "large_tests.rs"]
mod tests;
