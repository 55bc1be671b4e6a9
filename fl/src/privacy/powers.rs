//! Exponentials along a grid: of one for each block of points and a table that is the same for all blocks.
//!
//! e^{s·(i + j)} is e^{s·i}·e^{s·j}. A block spans a factor of e at most, so that a product has an error of a few units in
//! its last place, as an exponential of its own has, and nothing cancels.

/// The most points of a block.
const LONGEST: usize = 64;

/// A function of s·j for the points of a block, j = 0, 1, …
pub struct Powers {
    table: [f64; LONGEST],
    /// Points of a block, a power of two.
    block: usize,
}

impl Powers {
    /// Of a grid along which the exponent changes by `step` from point to point.
    pub fn of(step: f64, function: impl Fn(f64) -> f64) -> Self {
        let points = (1.0 / step.abs()) as usize;
        let block = 1 << points.clamp(1, LONGEST).ilog2();
        let mut table = [0.0; LONGEST];
        for (j, value) in table.iter_mut().take(block).enumerate() {
            *value = function(step * j as f64);
        }
        Self { table, block }
    }

    /// The blocks of `values`, the first of which is at the index `first`: of each the index of its first point, its values
    /// and, as long or longer, what the table has for them.
    pub fn blocks<'a>(
        &'a self,
        first: i64,
        values: &'a [f64],
    ) -> impl Iterator<Item = (i64, &'a [f64], &'a [f64])> {
        (first..)
            .step_by(self.block)
            .zip(values.chunks(self.block))
            .map(|(index, values)| (index, values, &self.table[..self.block]))
    }

    /// Multiplies each of `values` by what `of` has for the first point of its block, and by what the table has for it.
    pub fn scale(&self, first: i64, values: &mut [f64], of: impl Fn(i64) -> f64) {
        let blocks = (first..)
            .step_by(self.block)
            .zip(values.chunks_mut(self.block));
        for (index, values) in blocks {
            let whole = of(index);
            for (value, power) in values.iter_mut().zip(&self.table) {
                *value *= whole * power;
            }
        }
    }
}

/// The sum of `values`, and that of each times its factor.
pub fn sums(values: &[f64], factors: &[f64]) -> (f64, f64) {
    // Four sums beside each other: each addition of one would wait for the last one.
    let (mut plain, mut times) = ([0.0; 4], [0.0; 4]);
    let (fours, rest) = values.as_chunks::<4>();
    let (factors, behind) = factors.split_at(fours.len() * 4);
    for (values, factors) in fours.iter().zip(factors.as_chunks::<4>().0) {
        for lane in 0..4 {
            plain[lane] += values[lane];
            times[lane] += values[lane] * factors[lane];
        }
    }
    let (mut sum, mut product) = (plain.iter().sum::<f64>(), times.iter().sum::<f64>());
    for (value, factor) in rest.iter().zip(behind) {
        sum += value;
        product += value * factor;
    }
    (sum, product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_blocks_is_each_points_own_exponential() {
        for step in [1e-9, 0.003, -0.02, 0.7, -5.0, 40.0] {
            let powers = Powers::of(step, f64::exp);
            let mut values = vec![1.0; 150];
            powers.scale(-70, &mut values, |index| (step * index as f64).exp());
            for (index, value) in (-70..).zip(values) {
                let wanted = (step * f64::from(index)).exp();
                if wanted.is_finite() && wanted > 1e-300 {
                    assert!((value / wanted - 1.0).abs() < 1e-13, "{step} {index}");
                }
            }
        }
    }

    #[test]
    fn sums_are_of_all_values_of_blocks_that_are_not_whole_too() {
        let values: Vec<f64> = (1..=150).map(f64::from).collect();
        let powers = Powers::of(0.01, |_| 2.0);
        let (mut plain, mut twice, mut indices) = (0.0, 0.0, Vec::new());
        for (index, values, table) in powers.blocks(-3, &values) {
            let (sum, product) = sums(values, table);
            plain += sum;
            twice += product;
            indices.push(index);
        }
        assert_eq!((plain, twice), (11_325.0, 22_650.0));
        assert_eq!(indices, [-3, 61, 125]);
    }
}
