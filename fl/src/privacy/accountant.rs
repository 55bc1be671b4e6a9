//! ε of a list of events: never below the true value, and close to it.
//!
//! Full-batch Gaussians compose to one Gaussian, whose δ(ε) has a closed form (Balle and Wang 2018, arXiv:1805.06530,
//! theorem 8). For everything else the privacy loss distribution is composed by the Fourier transform (Koskela, Jälkö,
//! Honkela 2020, arXiv:1906.03049) after P has been tilted by e^{θL}: the part of the distribution that decides is then
//! in the middle, so that it keeps its digits and a short transform holds it.
use super::{
    event::{Delta, Event},
    fft::Fft,
    loss::{LossDistribution, Tilted},
    normal::ln_cdf,
    powers::Powers,
    rdp::{self, Direction},
};

/// By how much the grid may raise ε: a tenth of a per cent.
const GRID_SHARE: f64 = 1e-3;
/// The same of a grid that only has to show that ε is less than another one.
const COARSE_SHARE: f64 = 16.0 * GRID_SHARE;
/// How often a grid that is too long is made twice as coarse.
const COARSER: u32 = 12;
/// How often a grid is fitted to the ε that the last one gave, and by which share of it two have to agree.
const FITS: usize = 4;
const SETTLED: f64 = 0.8;
/// A grid has this many points below ε at least: between two, δ(ε) is a straight line in e^ε.
const POINTS_BELOW: f64 = 200.0;
/// ln of the tilted mass that may lie outside of the transform's window at either end.
const LN_OUTSIDE: f64 = -34.0;
/// A loss of so many standard deviations is far, and what is tried for the bound of the tail then, in units of its inverse.
const FAR: f64 = 30.0;
const LOSSES: [f64; 5] = [2.5, 5.0, 10.0, 20.0, 40.0];
/// The longest transform; where a longer one would be needed, Rényi's bound stands.
const MAX_TRANSFORM: f64 = (1 << 21) as f64;
/// Tilts that are tried, as shares of the one of Rényi's bound.
const TILTS: [f64; 5] = [0.02, 0.1, 0.25, 0.5, 0.75];
/// ln of what rounding may become of δ, in units of the rounding of the transform: 1e-16·e^16 is 1e-9.
const LN_DIGITS: f64 = 16.0;
/// The same of an ε that was found: of δ, e^28 of the tilted sum is 1.4e-4 by rounding and 2.5e-3 by what lies below the window,
/// less than a grid adds. With more the tilted sum is elsewhere, and what was found is its rounding.
const LN_FOUND: f64 = 28.0;
/// The share of a bound at which ε is looked for; a lower one is fitted again.
const LIKELY: f64 = 0.8;
/// What rounding of quadrature and transform may have taken from δ: of δ, and of δ for each step.
const ROUNDING: f64 = 1e-6;
const ROUNDING_PER_STEP: f64 = 1e-12;
/// By how much a release's ε is rounded up, of ε: what is below the grid's own error.
const ROUND_UP: f64 = 5e-4;

/// ε of `events` at `delta`, for neighbours of which one has one unit more (add or remove one).
///
/// Never below the true value, and at most a per cent above it but where grids reach their named limits, or events so unlike
/// that an ε is of hundreds leave no digits. No events spend nothing.
#[must_use]
pub fn epsilon(events: &[Event], delta: Delta) -> f64 {
    let events = merge(events);
    if events.is_empty() {
        return 0.0;
    }
    if events.iter().all(|event| event.sampling() >= 1.0) {
        return gaussian(spread(&events), delta);
    }
    if let [event] = &events[..]
        && event.steps() == 1
    {
        return once(event, delta);
    }
    let (bound, theta) = rdp::least(&events, Direction::Remove, delta, rdp::ROUGH_SEARCH);
    let remove = Search::of(&events, Direction::Remove, delta, theta);
    let removed = remove.epsilon(bound, GRID_SHARE, 0.0);
    let (bound, theta) = rdp::least(&events, Direction::Add, delta, rdp::ROUGH_SEARCH);
    let add = Search::of(&events, Direction::Add, delta, theta);
    // Adding nearly always costs less, which a coarse grid shows.
    let added = add.epsilon(bound, COARSE_SHARE, removed);
    removed.max(if added <= removed {
        added
    } else {
        add.epsilon(added, GRID_SHARE, removed)
    })
}

/// ε of `events` at `delta` by Rényi differential privacy alone: an upper bound, some per cent above [`epsilon`].
///
/// It also holds for the discrete Gaussian at sampling 1, whose Rényi divergences are at most those of the Gaussian
/// (Canonne, Kamath, Steinke 2020, arXiv:2004.00010, theorem 4), in every dimension.
#[must_use]
pub fn epsilon_by_rdp(events: &[Event], delta: Delta) -> f64 {
    if events.is_empty() {
        return 0.0;
    }
    // Order by order, removing costs no less than adding (MTZ19 theorem 5).
    rdp::least(events, Direction::Remove, delta, rdp::FINE_SEARCH).0
}

/// The same events with equal mechanisms counted together, and all full-batch Gaussians as one.
fn merge(events: &[Event]) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::new();
    for event in events.iter().filter(|event| event.sampling() < 1.0) {
        let same = |other: &&mut Event| {
            other.sampling() == event.sampling()
                && other.noise_multiplier() == event.noise_multiplier()
        };
        let sum = merged.iter_mut().find(same).and_then(|other| {
            let steps = other.steps().checked_add(event.steps())?;
            let sum = Event::new(event.sampling(), event.noise_multiplier(), steps).ok()?;
            *other = sum;
            Some(())
        });
        if sum.is_none() {
            merged.push(*event);
        }
    }
    let full: Vec<_> = events
        .iter()
        .filter(|event| event.sampling() >= 1.0)
        .copied()
        .collect();
    if !full.is_empty() {
        let one = Event::new(1.0, 1.0 / spread(&full), 1);
        // A spread beyond what an event can say: the events stay as they are.
        merged.extend(one.map_or(full, |one| vec![one]));
    }
    merged
}

/// By how many standard deviations a unit moves the composition of full-batch Gaussians.
fn spread(events: &[Event]) -> f64 {
    let square = |event: &Event| event.steps() as f64 / event.noise_multiplier().powi(2);
    events.iter().map(square).sum::<f64>().sqrt()
}

/// ε of one Gaussian whose mean a unit moves by `spread` standard deviations.
fn gaussian(spread: f64, delta: Delta) -> f64 {
    // ln δ(ε), δ(ε) = Φ(s/2 − ε/s) − e^ε·Φ(−s/2 − ε/s).
    let ln_delta = |epsilon: f64| {
        let first = ln_cdf(0.5 * spread - epsilon / spread);
        let second = epsilon + ln_cdf(-0.5 * spread - epsilon / spread);
        first + (-(second - first).min(0.0).exp()).ln_1p()
    };
    let target = delta.get().ln();
    if ln_delta(0.0) <= target {
        return 0.0;
    }
    // Concentrated differential privacy bounds it from above (Bun and Steinke 2016, proposition 1.3).
    let mut low = 0.0;
    let mut high = 0.5 * spread * spread + spread * (-2.0 * target).sqrt();
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if ln_delta(middle) > target {
            low = middle;
        } else {
            high = middle;
        }
    }
    high * (1.0 + ROUND_UP / 2.0)
}

/// ε of one use, in whichever direction it is larger: δ(ε) has a closed form.
fn once(event: &Event, delta: Delta) -> f64 {
    let target = delta.get().ln();
    let most = |direction| {
        let mechanism = rdp::Mechanism::of(event, direction);
        if mechanism.ln_delta(0.0) <= target {
            return 0.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        while mechanism.ln_delta(high) > target {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if mechanism.ln_delta(middle) > target {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    };
    most(Direction::Remove).max(most(Direction::Add)) * (1.0 + ROUND_UP)
}

/// What ε is looked for.
struct Search<'a> {
    events: &'a [Event],
    direction: Direction,
    delta: Delta,
    /// The tilt that suits Rényi's bound.
    theta: f64,
}

impl<'a> Search<'a> {
    const fn of(events: &'a [Event], direction: Direction, delta: Delta, theta: f64) -> Self {
        Self {
            events,
            direction,
            delta,
            theta,
        }
    }

    /// ε in one direction by the composed distribution, or by Rényi (`bound`) when that is less or the grid too long. The
    /// grid may raise it by `share`. What is no more than `enough` is not looked at any closer.
    ///
    /// The grid is fitted to the ε that is expected. When less is found, it is fitted again to that, and to how δ falls
    /// there. What is found where the transform keeps no digits only says where to look next.
    fn epsilon(&self, bound: f64, share: f64, enough: f64) -> f64 {
        let (mut least, mut likely, mut slope) = (bound, bound, self.theta);
        for _ in 0..FITS {
            if least <= enough || likely <= 0.0 {
                break;
            }
            let Some(grid) = self.fit(likely, slope, share) else {
                break;
            };
            let Some((found, falls)) = grid.epsilon(self.delta) else {
                break;
            };
            if grid.has_digits(found, self.delta) {
                least = least.min(found * (1.0 + ROUND_UP));
            }
            let found = found * (1.0 + ROUND_UP);
            let settled = found > SETTLED * likely;
            (likely, slope) = (likely.min(found), slope.max(falls));
            if settled {
                break;
            }
        }
        least
    }

    fn fit(&self, bound: f64, slope: f64, share: f64) -> Option<Grid> {
        let grid = Grid::fit(self, bound, slope, share)?;
        Some(grid.tilted_for(self.events, self.direction, self.delta, bound))
    }
}

/// The loss distributions of all events on one grid, tilted by `theta`.
struct Grid {
    h: f64,
    theta: f64,
    parts: Vec<LossDistribution>,
}

impl Grid {
    /// The coarsest grid that raises ε by no more than `share` of it.
    ///
    /// To first order ε moves by the change of K(θ)/θ, where θ is the `slope` by which ln δ falls. A loss that goes to the two ends of its cell gains a variance of
    /// h²/6 on average, and half of that in its mean, as E[e^{−L}] is kept: so all of them together change K(θ)/θ by
    /// (1 + θ)·steps·h²/12.
    fn fit(of: &Search<'_>, bound: f64, slope: f64, share: f64) -> Option<Self> {
        let (direction, theta, ln_delta) = (of.direction, of.theta, of.delta.get().ln());
        let on = |h: f64| {
            let part = |event: &Event| LossDistribution::of(event, direction, h, ln_delta);
            let parts = of.events.iter().map(part).collect::<Option<Vec<_>>>()?;
            Some(Self { h, theta, parts })
        };
        let steps: f64 = of.events.iter().map(|event| event.steps() as f64).sum();
        let h = (12.0 * share * bound / ((1.0 + slope) * steps)).sqrt();
        let h = h.min(bound / POINTS_BELOW);
        // Where the grid would be too long a coarser one has to do, which raises ε.
        (0..COARSER).find_map(|times| on(h * f64::from(1 << times)))
    }

    /// The same with the least tilt that keeps digits enough where ε is likely to be.
    ///
    /// What the transform rounds off is 1e-16 of the tilted sum, which is e^{K(θ) − θε} of it in δ. Where large losses
    /// are rare and large, as of small samples, the tilt that suits Rényi's bound best makes the sum's tail long.
    fn tilted_for(
        mut self,
        events: &[Event],
        direction: Direction,
        delta: Delta,
        bound: f64,
    ) -> Self {
        for share in TILTS {
            let theta = self.theta * share;
            let rounded = rdp::log_moment(events, direction, theta) - theta * LIKELY * bound;
            if rounded <= delta.get().ln() + LN_DIGITS {
                self.theta = theta;
                break;
            }
        }
        self
    }

    /// Whether δ(ε) has digits left where ε was found: rounding and what is outside of the window are of the tilted sum, which is
    /// e^{K(θ) − θε} of it in δ.
    fn has_digits(&self, epsilon: f64, delta: Delta) -> bool {
        self.log_moment(self.theta) - self.theta * epsilon <= delta.get().ln() + LN_FOUND
    }

    /// K(θ) of everything on the grid.
    fn log_moment(&self, theta: f64) -> f64 {
        let one = |part: &LossDistribution| part.steps * part.log_moment(theta, self.h);
        self.parts.iter().map(one).sum()
    }

    /// Where the tilted sum of all losses lies, but for e^{[`LN_OUTSIDE`]} of it at either end (Chernoff).
    fn window(&self, tilted: &[Tilted]) -> Option<Window> {
        let (mut mean, mut variance) = (0.0, 0.0);
        for (part, tilted) in self.parts.iter().zip(tilted) {
            mean += part.steps * tilted.mean;
            variance += part.steps * tilted.variance;
        }
        let at = self.log_moment(self.theta);
        let deviation = variance.sqrt() + self.h;
        // Where every single loss is at an end, the sum is; nearer ends are found below.
        let (mut top, mut bottom) = (self.h, -self.h);
        for part in &self.parts {
            let ends = part.ends(self.h);
            bottom += part.steps * ends.0;
            top += part.steps * ends.1;
        }
        for factor in [0.5, 2.0, 4.0, 6.0, 9.0] {
            let s = factor / deviation;
            top = top.min((self.log_moment(self.theta + s) - at - LN_OUTSIDE) / s);
            let lower = self.log_moment(self.theta - s);
            bottom = bottom.max(-(lower - at - LN_OUTSIDE) / s);
        }
        // Where single losses are far beyond the deviation of all, as of small samples, a few of them are the tail.
        let ends = self.parts.iter().map(|part| part.ends(self.h));
        let (least, most) = ends.fold((0.0, 0.0), |(least, most): (f64, f64), (low, high)| {
            (least.min(low), most.max(high))
        });
        let inverse = |loss: f64| {
            let far = loss > FAR * deviation;
            far.then(|| LOSSES.map(|losses| losses / loss))
        };
        for s in inverse(most).into_iter().flatten() {
            top = top.min((self.log_moment(self.theta + s) - at - LN_OUTSIDE) / s);
        }
        for s in inverse(-least).into_iter().flatten() {
            let lower = self.log_moment(self.theta - s);
            bottom = bottom.max(-(lower - at - LN_OUTSIDE) / s);
        }
        let window = Window { mean, bottom, top };
        (window.bottom < window.top && window.top.is_finite() && window.bottom.is_finite())
            .then_some(window)
    }

    /// The least ε whose δ is at most the one asked for, and by how much ln δ falls there with ε; none when it is not in
    /// the window.
    fn epsilon(&self, delta: Delta) -> Option<(f64, f64)> {
        let tilt = |part: &LossDistribution| part.tilted(self.theta, self.h);
        let tilted: Vec<_> = self.parts.iter().map(tilt).collect();
        let window = self.window(&tilted)?;
        if window.points(self.h) > MAX_TRANSFORM {
            return None;
        }
        let fft = Fft::at_least(window.points(self.h) as usize + 1);
        let (mut sum, first) = self.sum(&fft, &window, &tilted);
        let at = self.log_moment(self.theta);
        // Weights under P are those of the tilted sum times e^{K(θ) − θL}; they are kept in units of the weight at
        // the mean.
        let ln_unit = at - self.theta * window.mean;
        let steps: f64 = self.parts.iter().map(|part| part.steps).sum();
        let rounded = 1.0 + ROUNDING + ROUNDING_PER_STEP * steps;
        let target = (delta.get().ln() - ln_unit).exp() / rounded;
        let outside = LN_OUTSIDE.exp() * (-self.theta * (window.top - window.mean)).exp();
        let unbounded: f64 = self
            .parts
            .iter()
            .map(|part| part.steps * part.unbounded)
            .sum();
        let mut above = Above {
            delta: outside + unbounded * (-ln_unit).exp(),
            weight: 0.0,
            step: Step::of(self.h),
        };
        if above.delta >= target {
            return None;
        }
        Powers::of(-self.theta * self.h, f64::exp).scale(first, &mut sum, |index| {
            (-self.theta * (index as f64 * self.h - window.mean)).exp()
        });
        for (offset, weight) in sum.iter().enumerate().rev() {
            let loss = (first + offset as i64) as f64 * self.h;
            if let Some(below) = above.crossing(target) {
                let found = loss + self.h - below;
                return Some((found.max(0.0), above.weight / target));
            }
            if loss <= 0.0 {
                return Some((0.0, 0.0));
            }
            // Beyond every number: nothing is known of what is below.
            if weight.is_nan() {
                return None;
            }
            above.descend(weight.max(0.0));
        }
        None
    }

    /// The tilted distribution of the sum of all losses, on `first·h, (first+1)·h, …`.
    fn sum(&self, fft: &Fft, window: &Window, tilted: &[Tilted]) -> (Vec<f64>, i64) {
        let size = fft.size() as i64;
        let mut spectrum = vec![(1.0, 0.0); fft.size() / 2 + 1];
        let mut offset = 0_i64;
        for (part, tilted) in self.parts.iter().zip(tilted) {
            let centre = (tilted.mean / self.h).round() as i64;
            let mut points = vec![0.0; fft.size()];
            for (index, mass) in (part.first..).zip(&tilted.masses) {
                // Modulo the size, a power of two.
                points[((index - centre) & (size - 1)) as usize] += mass;
            }
            raise(&mut spectrum, &fft.forward(&points), part.steps);
            offset += centre * part.steps as i64;
        }
        // The transform of real numbers is real at both ends.
        if let [first, .., last] = &mut spectrum[..] {
            (first.1, last.1) = (0.0, 0.0);
        }
        let wrapped = fft.inverse(&spectrum);
        // The window, with what the transform is longer in equal parts at both ends.
        let spare = (size as f64 - window.points(self.h)).max(0.0) / 2.0;
        let first = (window.bottom / self.h - spare).floor() as i64;
        let start = (first - offset).rem_euclid(size) as usize;
        let sum = wrapped[start..]
            .iter()
            .chain(&wrapped[..start])
            .copied()
            .collect();
        (sum, first)
    }
}

/// Multiplies each point of `spectrum` by that of `points` to the power of `steps`.
fn raise(spectrum: &mut [(f64, f64)], points: &[(f64, f64)], steps: f64) {
    for (product, point) in spectrum.iter_mut().zip(points) {
        let length = 0.5 * (point.0 * point.0 + point.1 * point.1).ln() * steps;
        if length < -80.0 {
            *product = (0.0, 0.0);
            continue;
        }
        let (sin, cos) = (point.1.atan2(point.0) * steps).sin_cos();
        let (re, im) = (length.exp() * cos, length.exp() * sin);
        *product = (
            product.0 * re - product.1 * im,
            product.0 * im + product.1 * re,
        );
    }
}

/// A stretch of losses.
struct Window {
    mean: f64,
    bottom: f64,
    top: f64,
}

impl Window {
    fn points(&self, h: f64) -> f64 {
        ((self.top - self.bottom) / h).ceil()
    }
}

/// A grid's spacing h, as factors.
struct Step {
    /// e^{−h}.
    shrinks: f64,
    /// 1 − e^{−h}.
    share: f64,
}

impl Step {
    fn of(h: f64) -> Self {
        Self {
            shrinks: (-h).exp(),
            share: -(-h).exp_m1(),
        }
    }
}

/// What lies above a point of the grid: δ at its loss, and Σ P·e^{−(L − loss)} of what is not below it.
struct Above {
    delta: f64,
    weight: f64,
    step: Step,
}

impl Above {
    /// How far below this point ε is at which δ(ε) is `target`, if it is above the next one. Between two points δ is linear
    /// in e^ε.
    fn crossing(&self, target: f64) -> Option<f64> {
        let missing = target - self.delta;
        (missing <= self.step.share * self.weight).then(|| -(-missing / self.weight).ln_1p())
    }

    /// Goes down to the next point, which has `weight`.
    fn descend(&mut self, weight: f64) {
        self.delta += self.step.share * self.weight;
        self.weight = self.weight * self.step.shrinks + weight;
    }
}

#[cfg(test)]
#[path = "accountant_tests.rs"]
mod tests;
