//! Cox's proportional hazards (Cox 1972): the logarithm of the hazard ratio is linear, without a bias.
//!
//! The loss is the partial likelihood of those who had the event, each among those who were still at risk then (Breslow
//! 1974 for equal times), within one site: sites are strata. It is no sum over records, so single records cannot be
//! clipped, and the plan refuses to hide them.

/// A linear logarithm of the hazard ratio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cox {
    inputs: usize,
}

/// A subject of a batch: its inputs, when it had the event or was last seen, and whether it had it.
pub(crate) type Subject<'a> = (&'a [f32], f64, bool);

impl Cox {
    pub(super) const fn new(inputs: usize) -> Self {
        Self { inputs }
    }

    pub(super) const fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn risk(&self, parameters: &[f32], record: &[f32]) -> f64 {
        let product = |(weight, value): (&f32, &f32)| f64::from(*weight) * f64::from(*value);
        parameters.iter().zip(record).map(product).sum()
    }

    /// Adds the gradient of the negative logarithm of the partial likelihood of a batch to `sum`; returns that logarithm
    /// and the number of events, by which both are to be divided.
    pub(crate) fn add_gradient(
        &self,
        parameters: &[f32],
        batch: &[Subject<'_>],
        sum: &mut [f64],
    ) -> (f64, u32) {
        // The latest first, so that those at risk are all who were seen already.
        let mut order: Vec<_> = batch
            .iter()
            .map(|(row, time, event)| (*time, *event, *row, self.risk(parameters, row)))
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let largest = order.iter().map(|subject| subject.3).fold(0.0, f64::max);
        let (mut total, mut weighted) = (0.0_f64, vec![0.0; self.inputs]);
        let (mut loss, mut events) = (0.0, 0);
        for same_time in order.chunk_by(|a, b| a.0 == b.0) {
            for (_, _, row, risk) in same_time {
                let hazard = (risk - largest).exp();
                total += hazard;
                for (weighted, value) in weighted.iter_mut().zip(*row) {
                    *weighted += hazard * f64::from(*value);
                }
            }
            for (_, _, row, risk) in same_time.iter().filter(|subject| subject.1) {
                events += 1;
                loss += total.ln() + largest - risk;
                for ((sum, weighted), value) in sum.iter_mut().zip(&weighted).zip(*row) {
                    *sum += weighted / total - f64::from(*value);
                }
            }
        }
        (loss, events)
    }
}
