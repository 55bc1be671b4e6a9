//! The discrete Fourier transform of real numbers, of a power-of-two length (Cooley and Tukey 1965): by one of complex
//! numbers that is half as long.
use std::f64::consts::PI;

/// A transform of one length, with its table of roots of unity.
pub struct Fft {
    size: usize,
    /// cos and sin of 2πk/size, k < size/2.
    roots: Vec<(f64, f64)>,
}

impl Fft {
    /// A transform of at least `size` numbers: of the next power of two.
    pub fn at_least(size: usize) -> Self {
        let size = size.max(4).next_power_of_two();
        let step = 2.0 * PI / size as f64;
        let root = |k: usize| {
            let (sin, cos) = (step * k as f64).sin_cos();
            (cos, sin)
        };
        Self {
            size,
            roots: (0..size / 2).map(root).collect(),
        }
    }

    /// How many numbers it has.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Σₖ xₖ·exp(−2πijk/size) of [`Fft::size`] numbers, for j from 0 to size/2: the others are the conjugates of these.
    pub fn forward(&self, numbers: &[f64]) -> Vec<(f64, f64)> {
        debug_assert_eq!(numbers.len(), self.size);
        // Of numbers in pairs, each taken for a complex one, the transforms of those at even and at odd places are told
        // apart by their symmetry.
        let pairs = numbers.as_chunks::<2>().0.iter();
        let mut points: Vec<_> = pairs.map(|[even, odd]| (*even, *odd)).collect();
        self.complex(&mut points);
        let half = points.len();
        let at = |k: usize| points[k % half];
        let one = |k: usize| {
            let (a, b) = (at(k), at(half - k));
            let even = (0.5 * (a.0 + b.0), 0.5 * (a.1 - b.1));
            let odd = (0.5 * (a.1 + b.1), 0.5 * (b.0 - a.0));
            let (cos, sin) = self.root(k);
            (
                even.0 + odd.0 * cos + odd.1 * sin,
                even.1 + odd.1 * cos - odd.0 * sin,
            )
        };
        (0..=half).map(one).collect()
    }

    /// The numbers whose transform it is, as [`Fft::forward`] has it.
    pub fn inverse(&self, spectrum: &[(f64, f64)]) -> Vec<f64> {
        let half = self.size / 2;
        debug_assert_eq!(spectrum.len(), half + 1);
        let one = |k: usize| {
            let (a, mut b) = (spectrum[k], spectrum[half - k]);
            b.1 = -b.1;
            let even = (a.0 + b.0, a.1 + b.1);
            let turned = (a.0 - b.0, a.1 - b.1);
            let (cos, sin) = self.root(k);
            let odd = (
                turned.0 * cos - turned.1 * sin,
                turned.1 * cos + turned.0 * sin,
            );
            // The inverse is the forward transform of the conjugate, conjugated.
            (even.0 - odd.1, -(even.1 + odd.0))
        };
        let mut points: Vec<_> = (0..half).map(one).collect();
        self.complex(&mut points);
        let scale = 1.0 / self.size as f64;
        let pair = |point: (f64, f64)| [point.0 * scale, -point.1 * scale];
        points.into_iter().flat_map(pair).collect()
    }

    /// cos and sin of 2πk/size, k ≤ size/2.
    fn root(&self, k: usize) -> (f64, f64) {
        self.roots.get(k).copied().unwrap_or((-1.0, 0.0))
    }

    /// Σₖ xₖ·exp(−4πijk/size) of size/2 points, in place.
    fn complex(&self, points: &mut [(f64, f64)]) {
        reverse_bits(points);
        let mut half = 1;
        while half < points.len() {
            let stride = self.size / (2 * half);
            for block in points.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                let roots = self.roots.iter().step_by(stride);
                for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(roots) {
                    // (cos, −sin) is the root of the forward transform.
                    let t = (b.0 * cos + b.1 * sin, b.1 * cos - b.0 * sin);
                    *b = (a.0 - t.0, a.1 - t.1);
                    *a = (a.0 + t.0, a.1 + t.1);
                }
            }
            half *= 2;
        }
    }
}

fn reverse_bits(points: &mut [(f64, f64)]) {
    let shift = usize::BITS - points.len().trailing_zeros();
    for index in 0..points.len() {
        let other = index.reverse_bits() >> shift;
        if index < other {
            points.swap(index, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_that_it_says_and_the_inverse_undoes_it() {
        for (least, size) in [(1, 4), (13, 16)] {
            let fft = Fft::at_least(least);
            assert_eq!(fft.size(), size);
            let x: Vec<f64> = (0..size).map(|k| (k * k % 7) as f64 - 2.5).collect();
            let found = fft.forward(&x);
            assert_eq!(found.len(), size / 2 + 1);
            for (j, point) in found.iter().enumerate() {
                let mut expected = (0.0, 0.0);
                for (k, v) in x.iter().enumerate() {
                    let angle = -2.0 * PI * (j * k) as f64 / size as f64;
                    expected = (expected.0 + v * angle.cos(), expected.1 + v * angle.sin());
                }
                let apart = (point.0 - expected.0, point.1 - expected.1);
                assert!(apart.0.abs() < 1e-12 && apart.1.abs() < 1e-12, "{j}");
            }
            for (a, b) in fft.inverse(&found).iter().zip(&x) {
                assert!((a - b).abs() < 1e-13);
            }
        }
    }
}
