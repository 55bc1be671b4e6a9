//! Sums of large updates as a region makes them: of their files, by blocks, on every core; and what noise adds.
use super::{DURABILITY, Peer, peer::Calls, seconds, shared};
use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::{Context, Result, ensure};
use fl::{
    large::{self, Blocks, Summing},
    privacy::{clip::Clip, discrete::DiscreteGaussian},
    secagg::{Mask, Member, Terms},
    update::UpdateCodec,
};
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use std::{
    fs::{self, File},
    hint::black_box,
    io::{self, Read as _},
    num::NonZeroUsize,
    os::unix::fs::FileExt as _,
    thread,
};

/// Parameters of the sums: an update of 40 MB.
const PARAMETERS: usize = 10_000_000;
/// Updates of a sum.
const UPDATES: u16 = 10;
/// Parameters of the updates that are followed from floating-point numbers to their mean.
const FOLLOWED: usize = 1_000_000;

/// The file of an update.
struct Update(File);

impl Blocks for Update {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
}

/// Updates in memory, and as files that the system has just written and still has in memory.
struct Updates {
    bytes: Vec<Vec<u8>>,
    files: Vec<File>,
}

impl Updates {
    fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut random = StdRng::seed_from_u64(1);
        let (mut all, mut files) = (Vec::new(), Vec::new());
        for number in 0..UPDATES {
            let mut bytes = vec![0; PARAMETERS * 4];
            random.fill_bytes(&mut bytes);
            let path = folder.path().join(number.to_string());
            fs::write(&path, &bytes)?;
            files.push(File::open(&path)?);
            all.push(bytes);
        }
        Ok(Self { bytes: all, files })
    }

    /// Reads all of them from memory and keeps nothing, by so many threads.
    fn read(&self, threads: NonZeroUsize) {
        thread::scope(|scope| {
            for number in 0..threads.get() {
                scope.spawn(move || {
                    for bytes in &self.bytes {
                        let length = bytes.len() / threads;
                        let own = black_box(bytes).get(number * length..(number + 1) * length);
                        let numbers = own.unwrap_or_default().as_chunks().0.iter();
                        let sum = numbers.fold(0_u32, |sum, number| {
                            sum.wrapping_add(u32::from_le_bytes(*number))
                        });
                        black_box(sum);
                    }
                });
            }
        });
    }

    /// Their files.
    fn open(&self) -> io::Result<Vec<Update>> {
        let file = |file: &File| file.try_clone().map(Update);
        self.files.iter().map(file).collect()
    }

    /// Their sum, added one after another.
    fn naive(&self) -> Vec<u8> {
        let mut sum = vec![0_u32; PARAMETERS];
        for bytes in &self.bytes {
            for (sum, number) in sum.iter_mut().zip(bytes.as_chunks().0) {
                *sum = sum.wrapping_add(u32::from_le_bytes(*number));
            }
        }
        large::to_bytes(&sum)
    }
}

fn summing(numbers: usize, masks: Vec<Mask>) -> Summing {
    Summing {
        vectors: Vec::new(),
        masks,
        numbers: numbers as u64,
    }
}

/// The sum, into memory that is there already.
fn sum_into<R: Blocks>(
    summing: Summing,
    inputs: Vec<R>,
    threads: NonZeroUsize,
    into: &mut [u8],
) -> Result<f64> {
    seconds(|| Ok(summing.sum(inputs, threads).read_exact(into)?))
}

/// A round of so many members whose vectors are kept elsewhere, up to the masks that come off.
fn masks(members: u16) -> Result<Vec<Mask>> {
    let terms = Terms::new(members, members / 2 + 1, 0)?;
    let (mut region, mut participants, shares) = shared(terms, 0)?;
    for (number, participant) in (1..).zip(&mut participants) {
        participant.mask(&shares, &mut [])?;
        region.sent(Member(number), &[0; 32])?;
    }
    let senders = region.close_vectors()?;
    for participant in &mut participants {
        region.opened(participant.unmask(&senders)?)?;
    }
    Ok(region.masks()?)
}

/// The sum of updates of files beside Flower's mean of the same numbers, beside reading them from memory, and with the masks
/// of secure aggregation.
pub fn run(bed: &Bed, peer: &Peer, report: &mut Report) -> Result<()> {
    let threads = thread::available_parallelism()?;
    let updates = Updates::make()?;
    let masks = masks(UPDATES)?;
    let wanted = updates.naive();
    let mut sum = vec![0; wanted.len()];
    let bytes = f64::from(UPDATES) * (PARAMETERS * 4) as f64 / 1e9;
    let (mut files, mut memory, mut unmasked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut warm, mut floor, mut stream) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let Calls {
            first: one,
            warm: others,
        } = peer.aggregate(UPDATES.into(), PARAMETERS)?;
        first.push(bytes / one);
        warm.push(bytes / others);
        stream.push(bytes / peer.key_stream(UPDATES.into(), PARAMETERS * 4)?);
        floor.push(
            bytes
                / seconds(|| {
                    updates.read(threads);
                    Ok(())
                })?,
        );
        let plain = || summing(PARAMETERS, Vec::new());
        files.push(bytes / sum_into(plain(), updates.open()?, threads, &mut sum)?);
        ensure!(sum == wanted, "the sum of files is another");
        let slices = updates.bytes.iter().map(Vec::as_slice).collect();
        memory.push(bytes / sum_into(plain(), slices, threads, &mut sum)?);
        ensure!(sum == wanted, "the sum of memory is another");
        let masked = summing(PARAMETERS, masks.clone());
        unmasked.push(bytes / sum_into(masked, updates.open()?, threads, &mut sum)?);
        ensure!(sum != wanted, "no mask came off");
    }
    let what = "sum of 10 updates of 10 M parameters";
    let speed = |what: String, runs: &[f64]| Figure::new(what, "GB/s", DURABILITY, runs.to_vec());
    let of = |what: &str, runs: &[f64]| speed(what.to_owned(), runs);
    let reading = format!("reading, {threads} threads");
    report.add(
        of(what, &memory)
            .beside("Flower, first call", &first)
            .aim(Aim::RatioAtLeast(30.0))
            .note(format!(
                "of arrays in memory, as Flower's are, by {threads} threads; Flower has one"
            ))
            .bound("Flower's mean is bound by memory too once its own pages are there"),
    );
    report.add(
        of(what, &memory)
            .beside("Flower, warm", &warm)
            .aim(Aim::RatioAtLeast(30.0))
            .bound("thirty times Flower's own speed is more than memory gives"),
    );
    report.add(
        of(what, &memory)
            .beside(reading.clone(), &floor)
            .aim(Aim::RatioAtLeast(0.8)),
    );
    report.add(
        of("the same of files that the system has in memory", &files)
            .beside(reading, &floor)
            .note("as a region has them: the system copies each block out of its memory first"),
    );
    report.add(
        of("the same with ten masks off", &unmasked)
            .beside("AES-256-CTR, 1 thread", &stream)
            .note("a mask is as many bytes of key stream as an update has"),
    );
    Ok(())
}

/// What noise adds to an aggregation: ten updates from floating-point numbers to their mean, all work of all sites and of the
/// region one after another in this process.
pub fn noise(bed: &Bed, report: &mut Report) -> Result<()> {
    let clip = Clip::new(1.0, 1 << 20, FOLLOWED)?;
    let share = clip.noise_share(1.0, UPDATES / 2)?;
    let codec = UpdateCodec::new(clip, false);
    let mut random = StdRng::seed_from_u64(3);
    let update: Vec<f32> = (0..FOLLOWED)
        .map(|_| random.random_range(-1e-3..1e-3))
        .collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut written, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let (all, one) = followed(&codec, &update, None, &mut random)?;
        without.push(all);
        bare.push(one);
        let (all, one) = followed(&codec, &update, Some(&share), &mut random)?;
        with.push(all);
        written.push(one);
    }
    report.add(
        Figure::new("10 updates of 1 M from floats to their mean, noised", "s", DURABILITY, with)
            .beside("without noise", &without)
            .note("the work of all sites one after another, masks and their removal included, where sites draw theirs at the same time; a region's own sum is the same; `round … noised` is what a study notices"),
    );
    report.add(
        Figure::new(
            "writing 1 M parameters with noise",
            "s",
            DURABILITY,
            written,
        )
        .beside("the same without", &bare)
        .note("clipped and rounded by one thread in both, noised by all cores"),
    );
    Ok(())
}

/// Seconds of an aggregation, and of them those in which one site writes its update.
fn followed(
    codec: &UpdateCodec,
    update: &[f32],
    noise: Option<&DiscreteGaussian>,
    random: &mut StdRng,
) -> Result<(f64, f64)> {
    let terms = Terms::new(UPDATES, UPDATES / 2 + 1, 0)?;
    let (mut region, mut participants, shares) = shared(terms, 0)?;
    let (mut writing, mut vectors) = (0.0, Vec::new());
    let all = seconds(|| {
        for (number, participant) in (1..).zip(&mut participants) {
            let mut numbers = Vec::new();
            writing += seconds(|| {
                let noise = noise.map(|noise| (noise, &mut *random));
                numbers = codec.encode(update, 1.0, noise)?;
                Ok(())
            })?;
            participant.mask(&shares, &mut numbers)?;
            region.sent(Member(number), &[0; 32])?;
            vectors.push(large::to_bytes(&numbers));
        }
        let senders = region.close_vectors()?;
        for participant in &mut participants {
            region.opened(participant.unmask(&senders)?)?;
        }
        let mut sum = vec![0; FOLLOWED * 4];
        let slices = vectors.iter().map(Vec::as_slice).collect();
        let summing = summing(FOLLOWED, region.masks()?);
        sum_into(summing, slices, thread::available_parallelism()?, &mut sum)?;
        let sum: Vec<u32> = sum
            .as_chunks()
            .0
            .iter()
            .map(|n| u32::from_le_bytes(*n))
            .collect();
        let mean = codec.mean(&sum, UPDATES)?;
        let (found, wanted) = mean.first().zip(update.first()).context("a number")?;
        ensure!(
            noise.is_some() || (found - wanted).abs() < 1e-5,
            "the mean is another"
        );
        Ok(())
    })?;
    Ok((all, writing / f64::from(UPDATES)))
}
