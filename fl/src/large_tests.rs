//! What is made a chunk at a time is what is made at once, to the last bit; what is none is refused.
use super::*;
use crate::{
    privacy::clip::Clip,
    secagg::{Aggregator, Member, Participant, RoundId, RoundSecret, Terms},
    study::Adaptive,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{cell::Cell, collections::BTreeMap, rc::Rc};

/// Not a whole number of chunks.
const LONG: usize = 2 * CHUNK + 17;

fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

fn vector(bytes: &[u8]) -> Vector {
    Vector {
        sha256: digest(bytes),
        bytes: bytes.len() as u64,
    }
}

fn all_of(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

/// A round of three members, of whom the last one is lost before it sends: what is summed, and the sum at once.
fn round() -> (Summing, Vec<Vec<u8>>, Vec<u32>) {
    let (terms, id) = (Terms::new(3, 2, 0).unwrap(), RoundId([3; 32]));
    let mut random = StdRng::seed_from_u64(3);
    let mut regions = [LONG, 0].map(|kept| Aggregator::new(id, terms, kept));
    let members = 1..=3_u16;
    let mut members: Vec<_> = members
        .map(|n| Participant::new(id, terms, Member(n), RoundSecret::new([n as u8; 32])))
        .collect();
    for region in &mut regions {
        for member in &members {
            region.advert(member.advertise()).unwrap();
        }
    }
    let adverts = regions[0].close_adverts().unwrap().clone();
    regions[1].close_adverts().unwrap();
    for member in &mut members {
        let shares = member.share(&adverts).unwrap();
        for region in &mut regions {
            region.shares(shares.clone()).unwrap();
        }
    }
    let shares: BTreeMap<_, _> = regions[0].close_shares().unwrap().clone();
    regions[1].close_shares().unwrap();
    let mut files = Vec::new();
    for (n, member) in (1..=2).zip(&mut members) {
        let mut numbers: Vec<u32> = (0..LONG).map(|_| random.random()).collect();
        member.mask(&shares, &mut numbers).unwrap();
        let bytes = to_bytes(&numbers);
        regions[0].vector(Member(n), &numbers).unwrap();
        regions[1].sent(Member(n), &digest(&bytes)).unwrap();
        files.push(bytes);
    }
    let senders = regions[0].close_vectors().unwrap();
    assert_eq!(regions[1].close_vectors().unwrap(), senders);
    for member in members.iter_mut().take(2) {
        let opened = member.unmask(&senders).unwrap();
        for region in &mut regions {
            region.opened(opened.clone()).unwrap();
        }
    }
    let summing = Summing {
        vectors: files.iter().map(|bytes| vector(bytes)).collect(),
        masks: regions[1].masks().unwrap(),
        numbers: LONG as u64,
    };
    (summing, files, regions[0].sum().unwrap())
}

#[test]
fn a_sum_that_is_made_of_files_a_chunk_at_a_time_is_the_sum_that_is_made_at_once() {
    let (summing, files, at_once) = round();
    let inputs: Vec<_> = files.iter().map(|bytes| &bytes[..]).collect();
    assert_eq!(
        summing.masks.len(),
        2 + 2,
        "of two who sent, and two in common with the lost"
    );
    for threads in [1, 3] {
        let sum = summing
            .clone()
            .sum(inputs.clone(), threads.try_into().unwrap());
        assert_eq!(all_of(sum), to_bytes(&at_once));
    }
    // A file that ends before is no update.
    let short: Vec<_> = files.iter().map(|bytes| &bytes[..4 * CHUNK]).collect();
    let mut all = Vec::new();
    let mut sum = summing.sum(short, 2.try_into().unwrap());
    let error = sum.read_to_end(&mut all).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

fn random_numbers(random: &mut StdRng, most: i64) -> Vec<u8> {
    let numbers: Vec<u32> = (0..LONG)
        .map(|_| random.random_range(-most..=most) as u32)
        .collect();
    to_bytes(&numbers)
}

fn stepping(strategy: &Strategy, sums: &[Vec<u8>]) -> Stepping {
    let clip = Clip::new(4.0, 1 << 20, LONG).unwrap();
    let named = ["us", "eu"].iter().zip(sums);
    let named = named.map(|(name, bytes)| (name.parse().unwrap(), vector(bytes), 3));
    Stepping {
        model: Vector {
            sha256: [0; 32],
            bytes: 4 * LONG as u64,
        },
        moments: None,
        sums: named.collect(),
        codec: UpdateCodec::new(clip, true).with_adaptive(true),
        strategy: strategy.clone(),
        steps: 0,
        largest: None,
    }
}

/// Sums of two regions, with the weight of their members and their word on the clip behind.
fn sums(random: &mut StdRng) -> Vec<Vec<u8>> {
    let one = |random: &mut StdRng| {
        let mut bytes = random_numbers(random, 1_000);
        bytes.extend(to_bytes(&[2 << 20, 40_000]));
        bytes
    };
    vec![one(random), one(random)]
}

fn read_of(files: &[Vec<u8>]) -> Vec<&[u8]> {
    files.iter().map(|bytes| &bytes[..]).collect()
}

#[test]
fn a_step_that_is_taken_a_chunk_at_a_time_is_the_step_that_is_taken_at_once() {
    let adaptive = Adaptive {
        server_learning_rate: 0.1,
        beta_1: 0.9,
        beta_2: 0.99,
        tau: 1e-3,
    };
    for strategy in [Strategy::FedAvg {}, Strategy::FedYogi(adaptive)] {
        let mut random = StdRng::seed_from_u64(7);
        let model: Vec<f32> = (0..LONG).map(|_| random.random_range(-1.0..1.0)).collect();
        let mut at_once = Coordinator::new(model.clone()).unwrap();
        let (mut model, mut moments) = (model_bytes(&model), None::<Vec<u8>>);
        for step in 0..2 {
            let sums = sums(&mut random);
            let mut stepping = stepping(&strategy, &sums);
            stepping.steps = step;
            let looked = stepping.look(read_of(&sums)).unwrap();
            let make = |part| {
                let before = (&model[..], moments.as_deref());
                let threads = NonZeroUsize::new([1, 3][step as usize]).unwrap();
                all_of(stepping.step(looked, part, read_of(&sums), before, threads))
            };
            let next = make(Part::Model);
            moments = stepping.remembers().then(|| make(Part::Moments));
            model = next;
            let of = |bytes: &[u8]| -> Vec<i64> {
                let numbers = bytes.as_chunks().0.iter();
                numbers.map(|n| i64::from(i32::from_le_bytes(*n))).collect()
            };
            let all: Vec<_> = of(&sums[0])
                .iter()
                .zip(of(&sums[1]))
                .map(|(a, b)| a + b)
                .collect();
            let mean = stepping.codec.read(&all, 6).unwrap();
            at_once.step(&strategy, &mean.update).unwrap();
            assert_eq!(looked.within, mean.within);
        }
        assert_eq!(model, model_bytes(at_once.model()), "{strategy:?}");
    }
}

#[test]
fn a_sum_that_no_region_could_have_come_to_is_refused_and_the_region_named() {
    let mut random = StdRng::seed_from_u64(9);
    let mut sums = sums(&mut random);
    let good = sums.clone();
    sums[1][..4].copy_from_slice(&i32::MAX.to_le_bytes());
    let stepping = stepping(&Strategy::FedAvg {}, &good);
    assert!(stepping.look(read_of(&good)).is_ok());
    let why = stepping.look(read_of(&sums)).unwrap_err();
    assert!(
        why.starts_with("region eu: the sum of 3 has a norm of"),
        "{why}"
    );
    let mut noised = stepping.clone();
    noised.largest = Some(3 << 20);
    let why = noised.look(read_of(&sums)).unwrap_err();
    assert!(
        why.contains("region eu: a number of its sum is 2147483647"),
        "{why}"
    );
    assert!(stepping.look(vec![&good[0][..], &good[1][..99]]).is_err());
}

#[test]
fn a_model_with_a_number_that_is_none_is_none() {
    let good = model_bytes(&[0.5, -1.0]);
    assert_eq!(model_of(&good).unwrap(), [0.5, -1.0]);
    assert_eq!(model_of(&good[..7]), None);
    assert_eq!(model_of(&model_bytes(&[f32::NAN])), None);
    let long: Vec<f32> = (0..LONG).map(|at| at as f32).collect();
    let mut bytes = model_bytes(&long);
    let length = bytes.len() as u64;
    assert_eq!(read_model(&bytes[..], length).unwrap(), long);
    assert!(read_model(&bytes[..], length + 4).is_err());
    bytes.splice(4 * CHUNK.., f32::INFINITY.to_le_bytes());
    assert!(read_model(&bytes[..], 4 * CHUNK as u64 + 4).is_err());
}

/// A file, of which it is counted how far it was read, and how much at once.
struct Counted<'a> {
    rest: &'a [u8],
    read: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.read(into)?;
        self.read.set(self.read.get() + count);
        self.most.set(self.most.get().max(into.len()));
        Ok(count)
    }
}

/// Files of the same bytes, with how far each was read and the most that was asked for at once.
#[allow(
    clippy::type_complexity,
    reason = "the counters are shared with the files"
)]
fn counted(
    bytes: &[u8],
    count: usize,
) -> (Vec<Counted<'_>>, Vec<Rc<Cell<usize>>>, Rc<Cell<usize>>) {
    let (read, most): (Vec<Rc<Cell<usize>>>, Rc<Cell<usize>>) =
        ((0..count).map(|_| Rc::default()).collect(), Rc::default());
    let file = |read: &Rc<Cell<usize>>| Counted {
        rest: bytes,
        read: read.clone(),
        most: most.clone(),
    };
    (read.iter().map(file).collect(), read, most)
}

#[test]
fn of_any_number_of_files_no_more_than_a_chunk_of_each_is_read_before_it_is_written() {
    const CHUNK_BYTES: usize = 4 * CHUNK;
    /// Reads all of it in small pieces: nothing is read ahead by more than a chunk.
    fn is_in_step(mut made: impl Read, read: &[Rc<Cell<usize>>], most: &Cell<usize>) -> usize {
        let (mut piece, mut written) = ([0; 1 << 12], 0);
        loop {
            let count = made.read(&mut piece).unwrap();
            for of in read {
                assert!(
                    of.get() <= written + CHUNK_BYTES,
                    "{} of {written}",
                    of.get()
                );
            }
            assert!(most.get() <= CHUNK_BYTES, "{} at once", most.get());
            written += count;
            if count == 0 {
                return written;
            }
        }
    }
    let bytes = to_bytes(&vec![3; LONG]);
    // A step that is taken of sums of regions, and of the model before it.
    let mut random = StdRng::seed_from_u64(3);
    let sums = sums(&mut random);
    let stepping = stepping(&Strategy::FedAvg {}, &sums);
    let looked = stepping.look(read_of(&sums)).unwrap();
    let (mut files, read, most) = counted(&bytes, 3);
    let model = files.pop().unwrap();
    let step = stepping.step(looked, Part::Model, files, (model, None), NonZeroUsize::MIN);
    assert_eq!(is_in_step(step, &read, &most), bytes.len());
}
