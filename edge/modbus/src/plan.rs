//! The planner: which registers and bits to read in how few requests. Pure.
//!
//! A value is never split over two requests, a request never asks for more than the device allows, and registers that
//! nobody wants are read along only where the gap is small enough to be cheaper than another request.
use serde::Deserialize;

/// The kinds of registers and bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Read by function code 4.
    #[default]
    Input,
    /// Read by function code 3.
    Holding,
    /// Bits, read by function code 1.
    Coil,
    /// Bits, read by function code 2.
    Discrete,
}

impl Space {
    /// Whether it is of bits.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

/// The registers or bits of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which registers.
    pub space: Space,
    /// The first one.
    pub address: u16,
    /// How many, at least 1.
    pub count: u16,
}

/// What a device allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Registers in one request, 1 to 125.
    pub max_read: u16,
    /// Coils or discrete inputs in one request, 1 to 2000.
    pub max_read_bits: u16,
    /// Unwanted registers or bits between two wanted ones that are still read in one request.
    pub max_gap: u16,
}

impl Limits {
    /// Registers in one request at most (MODBUS Application Protocol 1.1b3 §6.3).
    pub const PROTOCOL_MAX: u16 = 125;
    /// Coils or discrete inputs in one request at most (§6.1, §6.2).
    pub const PROTOCOL_MAX_BITS: u16 = 2_000;

    /// How many of a space one request may ask for.
    fn most(self, space: Space) -> u16 {
        if space.is_bits() {
            self.max_read_bits.clamp(1, Self::PROTOCOL_MAX_BITS)
        } else {
            self.max_read.clamp(1, Self::PROTOCOL_MAX)
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_read: Self::PROTOCOL_MAX,
            max_read_bits: Self::PROTOCOL_MAX_BITS,
            max_gap: 0,
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which registers.
    pub space: Space,
    /// The first one.
    pub address: u16,
    /// How many.
    pub count: u16,
}

/// Where a value stands in the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which request's answer.
    pub read: usize,
    /// The first register in it.
    pub offset: usize,
    /// How many registers; 0 for one that is not read.
    pub count: usize,
}

/// The requests, in the order of addresses, and the place of each span, in the order of the spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The requests.
    pub reads: Vec<Read>,
    /// One for each span.
    pub places: Vec<Place>,
}

/// A span that no request can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("register {address} and the {count} from it do not fit into one request")]
pub struct PlanError {
    /// The first register.
    pub address: u16,
    /// How many.
    pub count: u16,
}

/// Plans the requests for spans.
///
/// # Errors
/// [`PlanError`] for an empty span, one larger than the limit, or one beyond the last register.
pub fn plan(spans: &[Span], limits: Limits) -> Result<Plan, PlanError> {
    let mut order: Vec<(usize, Span)> = spans.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, span)| *span);
    let mut reads: Vec<Read> = Vec::new();
    let mut places = Vec::with_capacity(spans.len());
    for (at, span) in order {
        let max = limits.most(span.space);
        if span.count == 0
            || span.count > max
            || u32::from(span.address) + u32::from(span.count) > 1 << 16
        {
            return Err(PlanError {
                address: span.address,
                count: span.count,
            });
        }
        let merged = reads
            .last()
            .and_then(|last| merge(*last, span, max, limits.max_gap));
        let first = if let (Some(count), Some(last)) = (merged, reads.last_mut()) {
            last.count = count;
            last.address
        } else {
            reads.push(Read {
                space: span.space,
                address: span.address,
                count: span.count,
            });
            span.address
        };
        let place = Place {
            read: reads.len() - 1,
            offset: usize::from(span.address - first),
            count: usize::from(span.count),
        };
        places.push((at, place));
    }
    places.sort_by_key(|(at, _)| *at);
    let places = places.into_iter().map(|(_, place)| place).collect();
    Ok(Plan { reads, places })
}

impl Plan {
    /// The spans that stand in the answer to a read, in the order of their registers.
    fn spans_of(&self, read: usize) -> Vec<usize> {
        let places = self.places.iter().enumerate();
        let mut of: Vec<usize> = places
            .filter(|(_, place)| place.read == read && place.count > 0)
            .map(|(span, _)| span)
            .collect();
        of.sort_by_key(|span| self.places.get(*span).map(|place| place.offset));
        of
    }

    /// A device refuses a read: asks for one half of its spans after the other instead. A read of one span is left out,
    /// and that span is returned. Later reads move by one.
    pub(super) fn split(&mut self, read: usize) -> Option<usize> {
        let refused = self.reads.get(read).copied()?;
        let spans = self.spans_of(read);
        let (first, second) = spans.split_at(spans.len() / 2);
        if first.is_empty() {
            self.reads.remove(read);
            self.shift(read, -1);
            let alone = second.first().copied();
            if let Some(place) = alone.and_then(|span| self.places.get_mut(span)) {
                place.count = 0;
            }
            return alone;
        }
        self.shift(read, 1);
        let parts = [(read, first), (read + 1, second)];
        let halves = parts.map(|(number, spans)| self.narrow(refused, number, spans));
        self.reads.splice(read..=read, halves);
        None
    }

    /// Moves the places in reads after this one.
    fn shift(&mut self, after: usize, by: isize) {
        for place in self.places.iter_mut().filter(|place| place.read > after) {
            place.read = place.read.saturating_add_signed(by);
        }
    }

    /// The read of these spans of a larger one, whose number it gets.
    fn narrow(&mut self, whole: Read, number: usize, spans: &[usize]) -> Read {
        let ends = |places: &[Place]| {
            let of = spans.iter().filter_map(|span| places.get(*span));
            let start = of.clone().map(|place| place.offset).min().unwrap_or(0);
            let end = of.map(|place| place.offset + place.count).max();
            (start, end.unwrap_or(start))
        };
        let (start, end) = ends(&self.places);
        for span in spans {
            if let Some(place) = self.places.get_mut(*span) {
                (place.read, place.offset) = (number, place.offset - start);
            }
        }
        // Both are within a read, whose registers are numbered by 16 bits.
        Read {
            space: whole.space,
            address: whole.address.saturating_add(start as u16),
            count: (end - start) as u16,
        }
    }
}

/// The length of a request that holds the span too; none when it must not.
fn merge(read: Read, span: Span, max: u16, max_gap: u16) -> Option<u16> {
    let read_end = u32::from(read.address) + u32::from(read.count);
    let gap = u32::from(span.address).saturating_sub(read_end);
    let end = read_end.max(u32::from(span.address) + u32::from(span.count));
    let count = end - u32::from(read.address);
    let fits = read.space == span.space && gap <= u32::from(max_gap) && count <= u32::from(max);
    fits.then(|| u16::try_from(count).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input(address: u16, count: u16) -> Span {
        Span {
            space: Space::Input,
            address,
            count,
        }
    }

    #[test]
    fn neighbours_are_merged_and_far_ones_are_not() {
        let limits = Limits {
            max_read: 10,
            max_gap: 2,
            ..Limits::default()
        };
        let reads = |spans: &[Span]| {
            let plan = plan(spans, limits).unwrap();
            plan.reads
                .iter()
                .map(|read| (read.address, read.count))
                .collect::<Vec<_>>()
        };
        assert_eq!(reads(&[input(3, 2), input(1, 2)]), [(1, 4)]);
        assert_eq!(reads(&[input(1, 1), input(4, 1)]), [(1, 4)]);
        assert_eq!(reads(&[input(1, 1), input(5, 1)]), [(1, 1), (5, 1)]);
        assert_eq!(reads(&[input(0, 9), input(9, 2)]), [(0, 9), (9, 2)]);
        assert_eq!(reads(&[input(0, 4), input(1, 2)]), [(0, 4)]);
        let holding = Span {
            space: Space::Holding,
            ..input(1, 1)
        };
        assert_eq!(reads(&[input(1, 1), holding]), [(1, 1), (1, 1)]);
        assert_eq!(reads(&[]), []);
    }

    #[test]
    fn a_span_that_no_request_can_hold_is_refused() {
        for (address, count) in [(0, 0), (0, 11), (65_535, 2)] {
            let limits = Limits {
                max_read: 10,
                max_gap: 2,
                ..Limits::default()
            };
            assert_eq!(
                plan(&[input(address, count)], limits),
                Err(PlanError { address, count })
            );
        }
        assert!(plan(&[input(65_535, 1)], Limits::default()).is_ok());
    }

    #[test]
    fn bits_have_a_limit_of_their_own_and_are_not_merged_with_registers() {
        let bit = |space, address| Span {
            space,
            address,
            count: 1,
        };
        let limits = Limits {
            max_read: 2,
            max_gap: 500,
            ..Limits::default()
        };
        let spans = [
            bit(Space::Coil, 0),
            bit(Space::Coil, 400),
            bit(Space::Discrete, 1),
            bit(Space::Input, 2),
        ];
        let plan = plan(&spans, limits).unwrap();
        let reads: Vec<_> = plan
            .reads
            .iter()
            .map(|read| (read.space, read.address, read.count))
            .collect();
        assert_eq!(
            reads,
            [
                (Space::Input, 2, 1),
                (Space::Coil, 0, 401),
                (Space::Discrete, 1, 1)
            ]
        );
    }

    proptest! {
        /// Whatever set of spans a device refuses, splitting finds exactly those and goes on reading the others.
        #[test]
        fn splitting_refused_reads_leaves_out_what_is_refused_and_nothing_else(
            spans in prop::collection::vec((0_u16..60, 1_u16..4, any::<bool>()), 1..30),
            max_gap in 0_u16..5,
        ) {
            let wanted: Vec<Span> = spans.iter().map(|(address, count, _)| input(*address, *count)).collect();
            let refused: std::collections::BTreeSet<u16> = spans
                .iter()
                .filter(|(_, _, refused)| *refused)
                .map(|(address, ..)| *address)
                .collect();
            let hit = |address: u16, count: u16| (address..address + count).any(|register| refused.contains(&register));
            let mut plan = plan(&wanted, Limits { max_gap, ..Limits::default() }).unwrap();
            let (mut read, mut left_out) = (0, Vec::new());
            while let Some(asked) = plan.reads.get(read).copied() {
                if hit(asked.address, asked.count) {
                    left_out.extend(plan.split(read));
                } else {
                    read += 1;
                }
            }
            for (index, span) in wanted.iter().enumerate() {
                let place = plan.places[index];
                prop_assert_eq!(left_out.contains(&index), place.count == 0);
                prop_assert_eq!(hit(span.address, span.count), place.count == 0);
                if place.count > 0 {
                    let read = plan.reads[place.read];
                    prop_assert_eq!(usize::from(read.address) + place.offset, usize::from(span.address));
                    prop_assert_eq!(place.count, usize::from(span.count));
                    prop_assert!(place.offset + place.count <= usize::from(read.count));
                }
            }
        }

        #[test]
        fn every_span_is_covered_whole_and_every_limit_is_kept(
            spans in prop::collection::vec((any::<bool>(), 0_u16..2_000, 1_u16..5), 0..60),
            max_read in 4_u16..=125,
            max_gap in 0_u16..50,
        ) {
            let spans: Vec<Span> = spans
                .into_iter()
                .map(|(holding, address, count)| Span { space: if holding { Space::Holding } else { Space::Input }, address, count })
                .collect();
            let plan = plan(&spans, Limits { max_read, max_gap, ..Limits::default() }).unwrap();
            prop_assert_eq!(plan.places.len(), spans.len());
            for (span, place) in spans.iter().zip(&plan.places) {
                let read = plan.reads[place.read];
                prop_assert_eq!(read.space, span.space);
                prop_assert_eq!(usize::from(read.address) + place.offset, usize::from(span.address));
                prop_assert!(place.offset + place.count <= usize::from(read.count));
            }
            for (index, read) in plan.reads.iter().enumerate() {
                prop_assert!((1..=max_read).contains(&read.count));
                let used = plan.places.iter().filter(|place| place.read == index);
                let mut wanted = vec![false; usize::from(read.count)];
                used.for_each(|place| wanted[place.offset..place.offset + place.count].fill(true));
                prop_assert!(wanted.first() == Some(&true) && wanted.last() == Some(&true));
                let gap = wanted.split(|wanted| *wanted).map(<[bool]>::len).max().unwrap_or(0);
                prop_assert!(gap <= usize::from(max_gap));
            }
        }
    }
}
