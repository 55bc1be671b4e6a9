//! What crosses in a round as messages, and back: what is no such thing is refused whole.
use crate::{
    large::Vector,
    order::{Aim, Answer, Ask, Release, RoundKey, RoundOrder},
    secagg::Member,
};
use messages::{LargeVector, StudyAnswer, StudyAsk, StudyEnd, StudyRelease, StudyRound};
use types::Name;

/// A message is none of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is none of a round of a study")]
pub struct Malformed;

fn key(study: &str, round: u32, attempt: u32) -> Result<RoundKey, Malformed> {
    let study: Name = study.parse().map_err(|_| Malformed)?;
    Ok(RoundKey {
        study,
        round,
        attempt,
    })
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Maps have names or numbers for keys, and nothing refuses to be written.
    serde_json::to_vec(value).unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|_| Malformed)
}

fn vector(large: Option<Vector>) -> Option<LargeVector> {
    large.map(|large| LargeVector {
        sha256: large.sha256.to_vec().into(),
        bytes: large.bytes,
    })
}

fn read_vector(large: Option<LargeVector>) -> Result<Option<Vector>, Malformed> {
    let read = |large: LargeVector| {
        let sha256 = large.sha256.as_ref().try_into().map_err(|_| Malformed)?;
        let bytes = large.bytes;
        Ok(Vector { sha256, bytes })
    };
    large.map(read).transpose()
}

/// A round for a region.
#[must_use]
pub fn round(order: &RoundOrder) -> StudyRound {
    StudyRound {
        study: order.key.study.to_string(),
        round: order.key.round,
        attempt: order.key.attempt,
        judge: order.aim == Aim::Judge,
        text: order.text.clone(),
        model: order.model.iter().map(|value| value.to_bits()).collect(),
        code: order.code.clone().unwrap_or_default(),
        signature: order.signature.clone().unwrap_or_default().into(),
        large: vector(order.large),
    }
}

/// The round of a message.
///
/// # Errors
/// [`Malformed`].
pub fn read_round(message: StudyRound) -> Result<RoundOrder, Malformed> {
    Ok(RoundOrder {
        key: key(&message.study, message.round, message.attempt)?,
        text: message.text,
        aim: if message.judge {
            Aim::Judge
        } else {
            Aim::Train
        },
        model: message.model.into_iter().map(f32::from_bits).collect(),
        large: read_vector(message.large)?,
        code: Some(message.code).filter(|code| !code.is_empty()),
        signature: Some(message.signature.to_vec()).filter(|bytes| !bytes.is_empty()),
    })
}

/// The end of a round for a region, before its time.
#[must_use]
pub fn end(key: &RoundKey) -> StudyEnd {
    StudyEnd {
        study: key.study.to_string(),
        round: key.round,
        attempt: key.attempt,
    }
}

/// Which round ends.
///
/// # Errors
/// [`Malformed`].
pub fn read_end(message: &StudyEnd) -> Result<RoundKey, Malformed> {
    key(&message.study, message.round, message.attempt)
}

/// An ask for a facility; with the first one goes the round.
#[must_use]
pub fn ask(order: &RoundOrder, member: Member, ask: &Ask) -> StudyAsk {
    StudyAsk {
        study: order.key.study.to_string(),
        round: order.key.round,
        attempt: order.key.attempt,
        member: member.0.into(),
        ask: json(ask).into(),
        order: matches!(ask, Ask::Invite).then(|| round(order)),
    }
}

/// An ask, as a facility reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which round.
    pub key: RoundKey,
    /// The facility's number in it.
    pub member: Member,
    /// What is asked.
    pub ask: Ask,
    /// The round, with the first ask.
    pub order: Option<RoundOrder>,
}

/// The ask of a message.
///
/// # Errors
/// [`Malformed`], also when the round is another one than the ask's.
pub fn read_ask(message: StudyAsk) -> Result<Asked, Malformed> {
    let key = key(&message.study, message.round, message.attempt)?;
    let order = message.order.map(read_round).transpose()?;
    let ask: Ask = read(&message.ask)?;
    let fits = order.as_ref().is_none_or(|order| order.key == key);
    if !fits || order.is_some() != matches!(ask, Ask::Invite) {
        return Err(Malformed);
    }
    Ok(Asked {
        key,
        member: Member(u16::try_from(message.member).map_err(|_| Malformed)?),
        ask,
        order,
    })
}

/// An answer for the region; of an update that is compressed `width` bits of each number are sent.
#[must_use]
pub fn answer(key: &RoundKey, mut answer: Answer, width: Option<u32>) -> StudyAnswer {
    let numbers = answer.take_numbers();
    let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    let width = width.filter(|_| !numbers.is_empty());
    let (numbers, packed) = match width {
        Some(width) => (Vec::new(), pack(&numbers, width)),
        None => (numbers, Vec::new()),
    };
    StudyAnswer {
        study: key.study.to_string(),
        round: key.round,
        attempt: key.attempt,
        answer: json(&answer).into(),
        numbers,
        packed: packed.into(),
        width: width.unwrap_or_default(),
        count: width.map_or(0, |_| count),
    }
}

/// The answer of a message, and of which round.
///
/// # Errors
/// [`Malformed`].
pub fn read_answer(message: StudyAnswer) -> Result<(RoundKey, Answer), Malformed> {
    let key = key(&message.study, message.round, message.attempt)?;
    let answer: Answer = read(&message.answer)?;
    let numbers = if message.width == 0 {
        message.numbers
    } else {
        unpack(&message.packed, message.width, message.count)?
    };
    Ok((key, answer.with_numbers(numbers)))
}

/// Of which round a message is that is no answer otherwise.
///
/// # Errors
/// [`Malformed`] when it does not even say that.
pub fn key_of(message: &StudyAnswer) -> Result<RoundKey, Malformed> {
    key(&message.study, message.round, message.attempt)
}

/// The low `width` bits of each number, one after another from the lowest bit on.
fn pack(numbers: &[u32], width: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * width as usize / 8 + 1);
    let (mut bits, mut have) = (0_u64, 0);
    for number in numbers {
        bits |= u64::from(number & mask(width)) << have;
        have += width;
        while have >= 8 {
            bytes.push(bits as u8);
            bits >>= 8;
            have -= 8;
        }
    }
    if have > 0 {
        bytes.push(bits as u8);
    }
    bytes
}

fn unpack(bytes: &[u8], width: u32, count: u32) -> Result<Vec<u32>, Malformed> {
    let whole = (u64::from(count) * u64::from(width)).div_ceil(8);
    if !(1..=32).contains(&width) || whole != bytes.len() as u64 {
        return Err(Malformed);
    }
    let mut numbers = Vec::with_capacity(count as usize);
    let (mut bits, mut have) = (0_u64, 0);
    for byte in bytes {
        bits |= u64::from(*byte) << have;
        have += 8;
        while have >= width && numbers.len() < count as usize {
            numbers.push(bits as u32 & mask(width));
            bits >>= width;
            have -= width;
        }
    }
    Ok(numbers)
}

/// The low bits of a number.
const fn mask(width: u32) -> u32 {
    if width >= 32 {
        u32::MAX
    } else {
        (1 << width) - 1
    }
}

/// What a number of `width` bits is with its sign, modulo 2^32.
#[must_use]
pub const fn with_sign(number: u32, width: u32) -> u32 {
    if width == 0 || width >= 32 {
        return number;
    }
    let up = 32 - width;
    ((number << up).cast_signed() >> up).cast_unsigned()
}

/// A release for the global node.
#[must_use]
pub fn release(mut release: Release) -> StudyRelease {
    let numbers = release.take_numbers();
    StudyRelease {
        release: json(&release).into(),
        numbers,
    }
}

/// The release of a message.
///
/// # Errors
/// [`Malformed`].
pub fn read_release(message: StudyRelease) -> Result<Release, Malformed> {
    let release: Release = read(&message.release)?;
    Ok(release.with_numbers(message.numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Told;

    fn order() -> RoundOrder {
        RoundOrder {
            key: key("heart-1f", 2, 1).unwrap(),
            text: "name = \"heart\"".into(),
            aim: Aim::Train,
            model: vec![0.1, -0.0, f32::MIN_POSITIVE],
            large: None,
            code: Some("ab".into()),
            signature: Some(vec![7; 64]),
        }
    }

    #[test]
    fn what_crosses_comes_out_as_it_went_in() {
        let order = order();
        assert_eq!(read_round(round(&order)).unwrap(), order);
        assert_eq!(read_end(&end(&order.key)).unwrap(), order.key);
        assert_eq!(read_end(&StudyEnd::default()), Err(Malformed));
        let asked = read_ask(ask(&order, Member(3), &Ask::Invite)).unwrap();
        assert_eq!(
            (asked.member, asked.order.as_ref()),
            (Member(3), Some(&order))
        );
        assert_eq!(
            read_ask(ask(&order, Member(3), &Ask::Keys)).unwrap().order,
            None
        );
        let told = Told {
            loss: Some(0.25),
            auroc: Some(0.7),
            ..Told::default()
        };
        let update = Answer::Update {
            numbers: vec![1, u32::MAX],
            large: None,
            told,
        };
        let message = answer(&order.key, update.clone(), None);
        assert_eq!(message.numbers, [1, u32::MAX]);
        assert_eq!(read_answer(message).unwrap(), (order.key, update));
    }

    #[test]
    fn numbers_of_fewer_bits_come_out_as_they_went_in_with_their_signs() {
        let key = order().key;
        for width in [3, 8, 11, 17, 31, 32] {
            let most = i64::from(mask(width) >> 1);
            let numbers: Vec<u32> = [0, 1, -1, most, -most, 2, -2]
                .map(|number: i64| number as u32)
                .to_vec();
            let update = |numbers| Answer::Update {
                numbers,
                large: None,
                told: Told::default(),
            };
            let message = answer(&key, update(numbers.clone()), Some(width));
            assert_eq!(message.packed.len(), (7 * width as usize).div_ceil(8));
            let mut short = message.clone();
            short.count += 8;
            assert_eq!(read_answer(short), Err(Malformed));
            let (_, mut read) = read_answer(message).unwrap();
            let read = read.take_numbers();
            let read: Vec<_> = read.iter().map(|n| with_sign(*n, width)).collect();
            assert_eq!(read, numbers, "{width}");
        }
    }

    #[test]
    fn what_is_no_ask_or_answer_is_refused_whole() {
        let order = order();
        let good = ask(&order, Member(1), &Ask::Invite);
        let mut other = good.clone();
        other.round = 3;
        assert_eq!(
            read_ask(other),
            Err(Malformed),
            "the order is of another round"
        );
        let mut without = good.clone();
        without.order = None;
        assert_eq!(read_ask(without), Err(Malformed));
        let mut far = good.clone();
        far.member = 70_000;
        assert_eq!(read_ask(far), Err(Malformed));
        let mut bad = good;
        bad.study = "../x".into();
        assert_eq!(read_ask(bad), Err(Malformed));
        let nothing = StudyRelease {
            release: b"{}".to_vec().into(),
            numbers: Vec::new(),
        };
        assert_eq!(read_release(nothing), Err(Malformed));
    }
}
