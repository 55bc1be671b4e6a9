//! What must be true, kept by a model that shares no code with the product: it knows what was acknowledged, which
//! disks were put back to when, and nothing of sequences, parcels or receipts.
use super::observe::Observed;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A facility still has a sample that never reached its region, or a region lost what it had.
    Lost,
    /// Nobody has an acknowledged sample any more, and nobody was told.
    LostUnsaid,
    /// A sample is in the region more than once.
    Twice,
    /// Samples of one device and priority are in another order than they were measured in.
    Order,
    /// Something is where it may not be.
    Residency,
    /// Something was written by another than its owner.
    Owner,
    /// A region has what nobody measured.
    Invented,
    /// An honest sample was refused for good.
    Refused,
    /// Something waits, though every node runs and every link is up.
    Stuck,
    /// What is measured after all is mended does not arrive.
    NewDataStuck,
    /// A node does not start on its own disk.
    NoStart,
}

/// A promise that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub fault: Fault,
    /// How.
    pub how: String,
}

impl Found {
    /// A fault and how it shows.
    pub fn new(fault: Fault, how: impl Into<String>) -> Self {
        Self {
            fault,
            how: how.into(),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.how)
    }
}

/// A sample that was measured.
#[derive(Clone, Debug)]
struct Measured {
    facility: usize,
    device: usize,
    acknowledged: bool,
    /// Restores that had happened anywhere when it was acknowledged.
    restores: u32,
    refused: bool,
    /// Whether it was lost with a disk, and neither end could know of it afterwards.
    unheard: bool,
    /// Whether its region did not take it when it first came: what is shipped again comes behind what is newer.
    kept_back: bool,
}

/// What a facility holds, by sample.
#[derive(Clone, Debug, Default)]
struct Holding {
    /// It surely has these.
    surely: BTreeSet<usize>,
    /// It may have deleted these, since its region had taken them.
    perhaps: BTreeSet<usize>,
}

/// See the head of this file.
#[derive(Default)]
pub struct Model {
    measured: Vec<Measured>,
    /// By facility.
    holding: Vec<Holding>,
    copies: Vec<Vec<Holding>>,
    /// By facility: samples that its region had when the facility was put back, and has kept since.
    above: Vec<BTreeSet<usize>>,
    /// Facilities whose own disk, or whose region's, was put back.
    put_back: BTreeSet<usize>,
    restores: u32,
}

impl Model {
    /// Of so many facilities.
    #[must_use]
    pub fn new(facilities: usize) -> Self {
        Self {
            holding: vec![Holding::default(); facilities],
            copies: vec![Vec::new(); facilities],
            above: vec![BTreeSet::new(); facilities],
            ..Self::default()
        }
    }

    /// A device measures: the number of the sample, and a value that no other sample has.
    pub fn measure(&mut self, facility: usize, device: usize) -> (usize, String) {
        let number = self.measured.len();
        self.measured.push(Measured {
            facility,
            device,
            acknowledged: false,
            restores: 0,
            refused: false,
            unheard: false,
            kept_back: false,
        });
        (number, format!("{}.{:05}", 60 + number % 60, number + 1))
    }

    fn number(value: &str) -> Option<usize> {
        value
            .split_once('.')?
            .1
            .parse::<usize>()
            .ok()?
            .checked_sub(1)
    }

    /// A facility said that it has a sample.
    pub fn acknowledged(&mut self, number: usize) {
        let sample = &mut self.measured[number];
        if !sample.acknowledged {
            sample.acknowledged = true;
            sample.restores = self.restores;
        }
        self.holding[sample.facility].surely.insert(number);
    }

    /// A region did not take values when they first came: they are shipped again, behind what is newer.
    pub fn kept_back<'a>(&mut self, values: impl Iterator<Item = &'a String>) {
        for number in values.filter_map(|value| Self::number(value)) {
            if let Some(sample) = self.measured.get_mut(number) {
                sample.kept_back = true;
            }
        }
    }

    /// A facility said that it will never take a sample.
    pub fn refused(&mut self, number: usize) {
        self.measured[number].refused = true;
    }

    /// So much time has passed that what the region has taken may be deleted.
    pub fn aged(&mut self) {
        for holding in &mut self.holding {
            let surely = std::mem::take(&mut holding.surely);
            holding.perhaps.extend(surely);
        }
    }

    /// A copy was made of a facility's disk.
    pub fn copied(&mut self, facility: usize) {
        let holding = self.holding[facility].clone();
        self.copies[facility].push(holding);
    }

    /// A facility was put back to a copy, numbered from the newest; its region has `there`.
    pub fn facility_put_back(&mut self, facility: usize, back: usize, there: &[Observed]) {
        let copies = &self.copies[facility];
        if let Some(at) = copies.len().checked_sub(back + 1) {
            self.holding[facility] = copies[at].clone();
        }
        let there = Self::numbers(there);
        let own = there.iter().filter(|number| self.is_of(**number, facility));
        let own: Vec<_> = own.copied().collect();
        self.above[facility].extend(own);
        self.put_back(facility, &there);
    }

    /// A region was put back; it has `there` now.
    pub fn region_put_back(&mut self, facilities: &[usize], there: &[Observed]) {
        let there = Self::numbers(there);
        for facility in facilities {
            self.above[*facility].retain(|number| there.contains(number));
            self.put_back(*facility, &there);
        }
    }

    /// What neither end has now, and neither can know of, is lost without anybody's fault: the same copy of both ends
    /// is what they would be if it had never been.
    fn put_back(&mut self, facility: usize, there: &BTreeSet<usize>) {
        let holding = &self.holding[facility];
        for (number, sample) in self.measured.iter_mut().enumerate() {
            let known = holding.surely.contains(&number)
                || holding.perhaps.contains(&number)
                || there.contains(&number);
            sample.unheard |= sample.facility == facility && !known;
        }
        self.put_back.insert(facility);
        self.restores += 1;
    }

    fn numbers(there: &[Observed]) -> BTreeSet<usize> {
        let numbers = there.iter().filter_map(|one| Self::number(&one.value));
        numbers.collect()
    }

    fn is_of(&self, number: usize, facility: usize) -> bool {
        let sample = self.measured.get(number);
        sample.is_some_and(|sample| sample.facility == facility)
    }

    /// Compares a region with what must be true of its facilities. `told`: facilities for which a gap was declared.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn judge(
        &self,
        facilities: &[usize],
        there: &[Observed],
        told: &BTreeSet<usize>,
    ) -> Result<(), Found> {
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        for one in there {
            let number = Self::number(&one.value).filter(|number| *number < self.measured.len());
            let Some(number) = number else {
                return Err(Found::new(Fault::Invented, &one.value));
            };
            if !facilities.contains(&self.measured[number].facility) {
                return Err(Found::new(Fault::Residency, self.name(number)));
            }
            *times.entry(number).or_default() += 1;
        }
        if let Some((number, times)) = times.iter().find(|(_, times)| **times > 1) {
            let how = format!("{} is there {times} times", self.name(*number));
            return Err(Found::new(Fault::Twice, how));
        }
        for number in 0..self.measured.len() {
            let sample = &self.measured[number];
            if facilities.contains(&sample.facility) && !times.contains_key(&number) {
                self.judge_missing(number, told)?;
            }
        }
        self.judge_order(there)
    }

    fn judge_missing(&self, number: usize, told: &BTreeSet<usize>) -> Result<(), Found> {
        let sample = &self.measured[number];
        let facility = sample.facility;
        if sample.refused {
            return Err(Found::new(Fault::Refused, self.name(number)));
        }
        if !sample.acknowledged {
            return Ok(());
        }
        let still = self.holding[facility].surely.contains(&number)
            || self.above[facility].contains(&number)
            || !self.put_back.contains(&facility);
        if still {
            return Err(Found::new(Fault::Lost, self.name(number)));
        }
        if told.contains(&facility) || sample.unheard {
            return Ok(());
        }
        Err(Found::new(Fault::LostUnsaid, self.name(number)))
    }

    /// What was acknowledged after the last restore is there in the order in which it was measured; what came before
    /// may have been shipped again behind it.
    fn judge_order(&self, there: &[Observed]) -> Result<(), Found> {
        let mut last: BTreeMap<(usize, usize, u32), usize> = BTreeMap::new();
        for one in there {
            let (Some(number), Some(priority)) = (Self::number(&one.value), one.priority) else {
                continue;
            };
            let sample = &self.measured[number];
            if sample.restores < self.restores || sample.kept_back {
                continue;
            }
            let key = (sample.facility, sample.device, priority);
            if let Some(before) = last.insert(key, number)
                && before > number
            {
                let how = format!("{} after {}", self.name(number), self.name(before));
                return Err(Found::new(Fault::Order, how));
            }
        }
        Ok(())
    }

    fn name(&self, number: usize) -> String {
        let sample = &self.measured[number];
        let (facility, device) = (sample.facility, sample.device);
        format!("sample {number} of device {device} of facility {facility}")
    }
}
