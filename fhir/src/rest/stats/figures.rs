//! Statistics of numbers (HL7 CodeSystem observation-statistics). Pure.

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// How many readings say a number.
    Count,
    /// How many readings there are.
    TotalCount,
    /// Their sum by how many they are.
    Average,
    /// The greatest.
    Maximum,
    /// The least.
    Minimum,
    /// Their sum.
    Sum,
    /// The mean of the squares of what each is away from the average.
    Variance,
    /// Its root.
    StdDev,
    /// The mean of the cubes of that, by the cube of the deviation.
    Skew,
    /// The mean of the fourth powers, by that of the deviation, less 3.
    Kurtosis,
    /// Below which lies that share of a hundred.
    Quantile(&'static str, u8),
    /// Half of what is between the upper and the lower quarter.
    QuartileDeviation,
}

/// All of them.
const ALL: [Statistic; 20] = [
    Statistic::Average,
    Statistic::Maximum,
    Statistic::Minimum,
    Statistic::Count,
    Statistic::TotalCount,
    Statistic::Quantile("median", 50),
    Statistic::StdDev,
    Statistic::Sum,
    Statistic::Variance,
    Statistic::Quantile("20-percent", 20),
    Statistic::Quantile("80-percent", 80),
    Statistic::Quantile("4-lower", 25),
    Statistic::Quantile("4-upper", 75),
    Statistic::QuartileDeviation,
    Statistic::Quantile("5-1", 20),
    Statistic::Quantile("5-2", 40),
    Statistic::Quantile("5-3", 60),
    Statistic::Quantile("5-4", 80),
    Statistic::Skew,
    Statistic::Kurtosis,
];

impl Statistic {
    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::TotalCount => "total-count",
            Self::Average => "average",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
            Self::Sum => "sum",
            Self::Variance => "variance",
            Self::StdDev => "std-dev",
            Self::Skew => "skew",
            Self::Kurtosis => "kurtosis",
            Self::Quantile(name, _) => name,
            Self::QuartileDeviation => "4-dev",
        }
    }

    /// The one of that code; `max`, `min` and the like are what people write for some.
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text {
            "max" => "maximum",
            "min" => "minimum",
            "avg" | "mean" => "average",
            other => other,
        };
        ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// The codes, for people.
    pub fn names() -> String {
        ALL.map(Self::as_str).join(", ")
    }

    /// The unit of it, of numbers of a unit: none of a number of things, nor of what has no dimension.
    pub fn unit(self, unit: &str) -> Option<String> {
        match self {
            Self::Count | Self::TotalCount | Self::Skew | Self::Kurtosis => None,
            // UCUM §2.4: an exponent follows the unit; terms are in parentheses.
            Self::Variance => Some(format!("({unit}).({unit})")),
            _ => Some(unit.to_owned()),
        }
    }
}

/// Numbers, in order, and what their statistics need.
pub struct Figures {
    sorted: Vec<f64>,
    total: usize,
}

impl Figures {
    /// Of numbers, among so many readings.
    pub fn of(mut numbers: Vec<f64>, total: usize) -> Self {
        numbers.retain(|number| number.is_finite());
        numbers.sort_by(f64::total_cmp);
        Self {
            sorted: numbers,
            total,
        }
    }

    /// A statistic, where there is one.
    pub fn get(&self, statistic: Statistic) -> Option<f64> {
        let figure = match statistic {
            Statistic::Count => Some(float(self.sorted.len())),
            Statistic::TotalCount => Some(float(self.total)),
            Statistic::Average => self.average(),
            Statistic::Maximum => self.sorted.last().copied(),
            Statistic::Minimum => self.sorted.first().copied(),
            // The sum of nothing is not below nothing.
            Statistic::Sum => Some(self.sorted.iter().sum::<f64>() + 0.0),
            Statistic::Variance => self.moment(2),
            Statistic::StdDev => self.moment(2).map(f64::sqrt),
            Statistic::Skew => self.by_deviation(3),
            Statistic::Kurtosis => self.by_deviation(4).map(|figure| figure - 3.0),
            Statistic::Quantile(_, percent) => self.quantile(f64::from(percent) / 100.0),
            Statistic::QuartileDeviation => {
                Some((self.quantile(0.75)? - self.quantile(0.25)?) / 2.0)
            }
        };
        figure.filter(|figure| figure.is_finite())
    }

    fn average(&self) -> Option<f64> {
        let sum: f64 = self.sorted.iter().sum();
        (!self.sorted.is_empty()).then(|| sum / float(self.sorted.len()))
    }

    /// The central moment of an order.
    fn moment(&self, order: i32) -> Option<f64> {
        let average = self.average()?;
        let powers = self
            .sorted
            .iter()
            .map(|number| (number - average).powi(order));
        Some(powers.sum::<f64>() / float(self.sorted.len()))
    }

    fn by_deviation(&self, order: i32) -> Option<f64> {
        let deviation = self.moment(2)?.sqrt();
        let moment = self.moment(order)?;
        (deviation > 0.0).then(|| moment / deviation.powi(order))
    }

    /// Between the numbers on either side, by how near they are.
    fn quantile(&self, share: f64) -> Option<f64> {
        let place = share * float(self.sorted.len().checked_sub(1)?);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most as many as there are"
        )]
        let below = place.floor() as usize;
        let (low, part) = (*self.sorted.get(below)?, place - place.floor());
        let high = self.sorted.get(below + 1).copied().unwrap_or(low);
        Some(low + (high - low) * part)
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles and variance are those of NumPy 2 (`numpy.quantile`, `numpy.var`).
    #[test]
    fn figures_are_those_that_were_worked_out_elsewhere() {
        let numbers = vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let figures = Figures::of(numbers, 10);
        for (name, expected) in [
            ("count", 8.0),
            ("total-count", 10.0),
            ("average", 5.0),
            ("max", 9.0),
            ("min", 2.0),
            ("sum", 40.0),
            ("variance", 4.0),
            ("std-dev", 2.0),
            ("median", 4.5),
            ("20-percent", 4.0),
            ("80-percent", 6.2),
            ("4-lower", 4.0),
            ("4-upper", 5.5),
            ("4-dev", 0.75),
            ("5-2", 4.0),
            ("5-3", 5.0),
            ("skew", 0.656_25),
            ("kurtosis", -0.218_75),
        ] {
            let statistic = Statistic::parse(name).unwrap();
            let found = figures.get(statistic).unwrap();
            assert!((found - expected).abs() < 1e-12, "{name}: {found}");
        }
        assert_eq!(Statistic::parse("regression"), None);
    }

    #[test]
    fn of_no_number_there_is_a_count_alone() {
        let none = Figures::of(Vec::new(), 3);
        for statistic in ALL {
            let expected = match statistic {
                Statistic::Count | Statistic::Sum => Some(0.0),
                Statistic::TotalCount => Some(3.0),
                _ => None,
            };
            assert_eq!(none.get(statistic), expected, "{statistic:?}");
        }
        let one = Figures::of(vec![7.5], 1);
        assert_eq!(one.get(Statistic::Variance), Some(0.0));
        assert_eq!(one.get(Statistic::Skew), None);
        assert_eq!(one.get(Statistic::QuartileDeviation), Some(0.0));
    }
}
