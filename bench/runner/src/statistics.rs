//! Medians, spreads, and ratios of what was measured in the same round. Knows no servers and no units.

use std::collections::BTreeMap;

/// A median and what lay around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// The spread of these figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, least, most, count: sorted.len() })
    }
}

/// Figures by their round: the number of the run, and the round in it.
pub type Rounds = BTreeMap<(usize, usize), f64>;

/// Each figure over that of the same round; rounds that only one of the two has are left out, since machines drift
/// from one round to the next by more than what is looked for.
pub fn paired(figures: &Rounds, base: &Rounds) -> Option<Spread> {
    let ratios = figures.iter().filter_map(|(round, figure)| Some(figure / base.get(round)?));
    Spread::of(ratios.filter(|ratio| ratio.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(figures: &[f64], expected: Option<(f64, f64, f64)>) {
        let spread = Spread::of(figures.iter().copied());
        assert_eq!(spread.map(|spread| (spread.median, spread.least, spread.most)), expected, "{figures:?}");
    }

    #[test]
    fn a_median_is_the_middle_one_or_the_mean_of_two() {
        check(&[], None);
        check(&[3.0], Some((3.0, 3.0, 3.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
        check(&[4.0, 1.0, 2.0, 9.0], Some((3.0, 1.0, 9.0)));
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let server = Rounds::from([((0, 0), 10.0), ((0, 1), 30.0), ((1, 0), 99.0)]);
        let limit = Rounds::from([((0, 0), 5.0), ((0, 1), 10.0), ((1, 1), 1.0)]);
        let spread = paired(&server, &limit).expect("two rounds are common");
        assert_eq!((spread.median, spread.least, spread.most, spread.count), (2.5, 2.0, 3.0, 2));
    }

    #[test]
    fn without_a_common_round_there_is_no_ratio() {
        assert_eq!(paired(&Rounds::from([((0, 0), 1.0)]), &Rounds::from([((1, 0), 1.0)])), None);
        assert_eq!(paired(&Rounds::from([((0, 0), 1.0)]), &Rounds::from([((0, 0), 0.0)])), None);
    }
}
