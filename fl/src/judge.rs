//! How good a model is at a site, as numbers that are summed and as figures of its own.
//!
//! For a binary label the numbers are counts of scores ([`Histogram`]), twice where the model is judged after fine-tuning
//! as well. For a Cox model they are how many subjects there are, how many pairs of them can be compared and in how many
//! halves of these the model is right, and the same of pairs for each bootstrap sample of the site's subjects. Each count is
//! numbers of 16 bits, so that the sum of a thousand sites fits: two of subjects, and three of pairs, which are some 10^12 of as
//! many subjects as a table has records at most. Sums of samples that every site draws of its own subjects
//! are samples of all of them, by site: the pooled interval needs no record.
use crate::{
    metrics::{
        Curves, Histogram, Interval, Metrics, NoMetric, Pairs, SMALLEST_CELL, Scored, Subject,
        metrics, metrics_within, middle, share,
    },
    net::Net,
    order::Told,
    study::Study,
    train::Records,
};
use rand::RngCore;

/// Numbers of a Cox model's subjects: how many there are.
const SUBJECTS: usize = 2;
/// Numbers of a count of pairs, or of halves of them.
const PAIRS: usize = 3;
/// Numbers of a Cox model's comparisons: halves that are right, and pairs.
const COMPARED: usize = 2 * PAIRS;
/// Bits of each number of a count.
const BITS: u32 = 16;

/// What comes of judging.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// For the sum.
    pub numbers: Vec<u32>,
    /// The site's own figures, where it has so many records that they tell of no one.
    pub told: Told,
}

/// What the sum of all sites says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pooled {
    /// Of the model; none when there are no records.
    pub model: Option<Metrics>,
    /// Its curves.
    pub curves: Option<Curves>,
    /// Of each site's own model, after fine-tuning.
    pub personal: Option<Metrics>,
    /// Of a Cox model: Harrell's c over pairs of one site.
    pub concordance: Option<f64>,
    /// Where it may lie.
    pub concordance_within: Option<Interval>,
    /// Over how many subjects; 0 of another model.
    pub subjects: u64,
}

/// How many numbers a study's judging is.
#[must_use]
pub const fn numbers(study: &Study) -> usize {
    if study.model.is_survival() {
        return SUBJECTS + COMPARED * (1 + study.evaluation.resamples as usize);
    }
    Histogram::NUMBERS * (1 + study.personalisation.is_some() as usize)
}

/// Judges a model, and the site's own one if there is one, on the site's `test` records. `parameters` and `personal` have
/// [`Net::parameters`] numbers. Intervals are of so many bootstrap resamples, which `random` draws.
///
/// # Errors
/// [`NoMetric`] when scores are no probabilities.
pub fn of(
    model: &Net,
    parameters: &[f32],
    personal: Option<&[f32]>,
    test: &Records,
    (resamples, random): (u32, &mut impl RngCore),
) -> Result<Judged, NoMetric> {
    if matches!(model, Net::Cox(_)) {
        return Ok(compared(model, parameters, test, (resamples, random)));
    }
    let global = scored(model, parameters, test);
    let mut numbers = Histogram::of(&global)?.counts().to_vec();
    let mut within =
        |scored: &[Scored]| own_figures(scored, |scored| metrics_within(scored, resamples, random));
    let mut told = Told {
        figures: within(&global),
        ..Told::default()
    };
    if let Some(own) = personal {
        let own = scored(model, own, test);
        numbers.extend(Histogram::of(&own)?.counts());
        told.personal = within(&own);
    }
    Ok(Judged { numbers, told })
}

/// The area under the ROC curve (0 to 1) on a site's own records, in the middle of a study. `parameters` has
/// [`Net::parameters`] numbers. None of a Cox model, of so few records that it would tell of somebody, and of one label.
#[must_use]
pub fn auroc(model: &Net, parameters: &[f32], test: &Records) -> Option<f64> {
    if matches!(model, Net::Cox(_)) {
        return None;
    }
    own_figures(&scored(model, parameters, test), metrics).and_then(|figures| figures.auroc)
}

fn scored(model: &Net, parameters: &[f32], records: &Records) -> Vec<Scored> {
    let of = |(record, label): (&[f32], bool)| {
        // A score that is no number is undecided: an error would tell of its record, by itself and unmasked.
        let score = Some(model.probability(parameters, record)).filter(|score| !score.is_nan());
        let score = score.unwrap_or(0.5);
        Scored { score, label }
    };
    records.iter().map(of).collect()
}

/// A site's own figures, where it has so many records that they tell of no one.
fn own_figures(
    scored: &[Scored],
    figures: impl FnOnce(&[Scored]) -> Result<Metrics, NoMetric>,
) -> Option<Metrics> {
    (scored.len() >= SMALLEST_CELL)
        .then(|| figures(scored).ok())
        .flatten()
}

fn compared(
    model: &Net,
    parameters: &[f32],
    test: &Records,
    (resamples, random): (u32, &mut impl RngCore),
) -> Judged {
    let of = |(at, (row, event)): (usize, (&[f32], bool))| Subject {
        time: test.time(at),
        event,
        risk: model.logit(parameters, row),
    };
    let subjects: Vec<_> = test.iter().enumerate().map(of).collect();
    let pairs = Pairs::of(&subjects);
    let (halves, all) = pairs.counted(&vec![1; subjects.len()]);
    let mut numbers = parts::<SUBJECTS>(subjects.len() as u64).to_vec();
    numbers.extend([parts::<PAIRS>(halves), parts(all)].concat());
    let mut drawn = Vec::new();
    for _ in 0..resamples {
        let (halves, all) = pairs.drawn(random);
        drawn.extend(share(halves, all));
        numbers.extend([parts::<PAIRS>(halves), parts(all)].concat());
    }
    let concordance = share(halves, all).filter(|_| subjects.len() >= SMALLEST_CELL);
    Judged {
        numbers,
        told: Told {
            concordance,
            concordance_within: concordance.and_then(|_| middle(drawn, resamples)),
            ..Told::default()
        },
    }
}

/// A count as so many numbers of 16 bits, the lowest first.
fn parts<const N: usize>(count: u64) -> [u32; N] {
    let mut left = count;
    std::array::from_fn(|_| {
        let part = left % (1 << BITS);
        left >>= BITS;
        part as u32
    })
}

/// The count of the sums of its numbers.
fn whole(parts: &[u32]) -> u64 {
    let add = |sum: u64, part: &u32| (sum << BITS).saturating_add(u64::from(*part));
    parts.iter().rev().fold(0, add)
}

/// What a sum of a Cox model's comparisons says; nothing where it is of so few subjects that it tells of them.
fn comparison(study: &Study, counts: &[u32]) -> Pooled {
    let (subjects, compared) = counts.split_at(SUBJECTS.min(counts.len()));
    let of = |both: &[u32]| {
        let (halves, all) = both.split_at(PAIRS);
        share(whole(halves), whole(all))
    };
    let mut samples = compared.chunks_exact(COMPARED);
    let first = samples.next().and_then(of);
    let concordance = first.filter(|_| whole(subjects) >= SMALLEST_CELL as u64);
    let drawn = samples.filter_map(of).collect();
    Pooled {
        concordance,
        concordance_within: concordance.and_then(|_| middle(drawn, study.evaluation.resamples)),
        subjects: whole(subjects),
        ..Pooled::default()
    }
}

/// A sum of numbers as counts.
///
/// # Errors
/// What is wrong with it: a count below 0, or another length.
pub fn counts(study: &Study, sum: &[i64]) -> Result<Vec<u32>, String> {
    if sum.len() != numbers(study) {
        return Err("a sum of counts has another length".into());
    }
    let counts: Result<Vec<u32>, _> = sum.iter().map(|count| u32::try_from(*count)).collect();
    counts.map_err(|_| "a sum of counts is below 0".to_owned())
}

/// What a sum of numbers says. Intervals of figures are drawn from `random`.
///
/// # Errors
/// As of [`counts`].
pub fn pooled(study: &Study, sum: &[i64], random: &mut impl RngCore) -> Result<Pooled, String> {
    let counts = counts(study, sum)?;
    if study.model.is_survival() {
        return Ok(comparison(study, &counts));
    }
    let resamples = study.evaluation.resamples;
    let mut figures = |counts: &[u32]| {
        let of = Histogram::of_counts(counts.to_vec())?;
        // Figures and curves of so few would be nearly those of single patients.
        let records: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        if records < SMALLEST_CELL as u64 {
            return None;
        }
        Some((of.metrics_within(resamples, random).ok(), of.curves()))
    };
    let (model, personal) = counts.split_at(Histogram::NUMBERS);
    let (model, curves) = figures(model).unwrap_or_default();
    let (personal, _) = figures(personal).unwrap_or_default();
    Ok(Pooled {
        model,
        curves,
        personal,
        ..Pooled::default()
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
