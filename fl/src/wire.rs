//! What crosses in a round as messages, and back: what is no such thing is refused whole.
use crate::{
    order::{Aim, Answer, Ask, Release, RoundKey, RoundOrder},
    secagg::Member,
};
use messages::{StudyAnswer, StudyAsk, StudyRelease, StudyRound};
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
    })
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

/// An answer for the region.
#[must_use]
pub fn answer(key: &RoundKey, mut answer: Answer) -> StudyAnswer {
    let numbers = answer.take_numbers();
    StudyAnswer {
        study: key.study.to_string(),
        round: key.round,
        attempt: key.attempt,
        answer: json(&answer).into(),
        numbers,
    }
}

/// The answer of a message, and of which round.
///
/// # Errors
/// [`Malformed`].
pub fn read_answer(message: StudyAnswer) -> Result<(RoundKey, Answer), Malformed> {
    let key = key(&message.study, message.round, message.attempt)?;
    let answer: Answer = read(&message.answer)?;
    Ok((key, answer.with_numbers(message.numbers)))
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
        }
    }

    #[test]
    fn what_crosses_comes_out_as_it_went_in() {
        let order = order();
        assert_eq!(read_round(round(&order)).unwrap(), order);
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
            figures: None,
            auroc: Some(0.7),
        };
        let update = Answer::Update {
            numbers: vec![1, u32::MAX],
            told,
        };
        let message = answer(&order.key, update.clone());
        assert_eq!(message.numbers, [1, u32::MAX]);
        assert_eq!(read_answer(message).unwrap(), (order.key, update));
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
