//! The discrete Fourier transform of a power-of-two length, in place (Cooley and Tukey 1965).
use std::f64::consts::PI;

/// A transform of one length, with its table of roots of unity.
pub struct Fft {
    size: usize,
    /// cos and sin of 2πk/size, k < size/2.
    roots: Vec<(f64, f64)>,
}

impl Fft {
    /// A transform of at least `size` points: of the next power of two.
    pub fn at_least(size: usize) -> Self {
        let size = size.max(2).next_power_of_two();
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

    /// How many points it has.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Σₖ xₖ·exp(−2πijk/size), in place. Both slices have [`Fft::size`] points.
    pub fn forward(&self, points: &mut [(f64, f64)]) {
        debug_assert_eq!(points.len(), self.size);
        reverse_bits(points);
        let mut half = 1;
        while half < self.size {
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

    /// The real parts of the inverse transform.
    pub fn inverse_real(&self, mut points: Vec<(f64, f64)>) -> Vec<f64> {
        // The inverse is the forward transform of the conjugate, conjugated; of it only the real part is wanted.
        points.iter_mut().for_each(|point| point.1 = -point.1);
        self.forward(&mut points);
        let scale = 1.0 / self.size as f64;
        points.into_iter().map(|point| point.0 * scale).collect()
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
        let fft = Fft::at_least(13);
        assert_eq!(fft.size(), 16);
        let x: Vec<f64> = (0..16).map(|k| f64::from(k * k % 7) - 2.5).collect();
        let mut found: Vec<_> = x.iter().map(|v| (*v, 0.0)).collect();
        fft.forward(&mut found);
        for (j, point) in found.iter().enumerate() {
            let mut expected = (0.0, 0.0);
            for (k, v) in x.iter().enumerate() {
                let angle = -2.0 * PI * (j * k) as f64 / 16.0;
                expected = (expected.0 + v * angle.cos(), expected.1 + v * angle.sin());
            }
            assert!((point.0 - expected.0).abs() < 1e-12 && (point.1 - expected.1).abs() < 1e-12);
        }
        for (a, b) in fft.inverse_real(found).iter().zip(&x) {
            assert!((a - b).abs() < 1e-13);
        }
    }
}
