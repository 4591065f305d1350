//! Order statistics of passes and of paired passes. Pure.
//!
//! Nothing here assumes a distribution: timings on a shared machine are skewed and have outliers, so
//! the centre is the median and the confidence interval comes from the sign test.

use serde::{Deserialize, Serialize};

/// Centre and range of a column's passes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Summary {
    /// Summary of `values`, or `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Self { median: median_of_sorted(&sorted), min, max })
    }
}

/// Median of what pairs of passes say (a ratio or a difference), with a confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Median over the pairs.
    pub median: f64,
    /// Lower end of the 95 % confidence interval of the median.
    pub low: f64,
    /// Upper end of the 95 % confidence interval of the median.
    pub high: f64,
}

impl Estimate {
    /// Ratio of a thing to itself.
    pub const ONE: Self = Self { median: 1.0, low: 1.0, high: 1.0 };

    /// Median and interval of `values`, one per pair, or `None` when there are none.
    ///
    /// The interval runs between two order statistics, as in the sign test: it holds the true median with
    /// at least 95 % probability whatever the distribution. With fewer than 6 pairs no such interval
    /// exists; then it is the whole range.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let rank = sign_test_rank(sorted.len());
        let low = *sorted.get(rank.checked_sub(1)?)?;
        let high = *sorted.get(sorted.len().checked_sub(rank)?)?;
        Some(Self { median: median_of_sorted(&sorted), low, high })
    }
}

/// How often the first of a pair is faster than the second: second time divided by first time, for every
/// round in which both have a pass. Both slices are indexed by round.
pub fn pair_ratios(times: &[Option<f64>], reference: &[Option<f64>]) -> Vec<f64> {
    times.iter().zip(reference).filter_map(|(time, other)| Some((*other)? / (*time)?)).collect()
}

/// By how much the first of a pair exceeds the second, for every round in which both have a pass. Both
/// slices are indexed by round.
pub fn pair_differences(times: &[Option<f64>], reference: &[Option<f64>]) -> Vec<f64> {
    times.iter().zip(reference).filter_map(|(time, other)| Some((*time)? - (*other)?)).collect()
}

/// How far the middle four fifths of `values` are apart, relative to their median; 0 without values.
pub fn spread(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let (Some(low), Some(high)) = (percentile(&sorted, 10), percentile(&sorted, 90)) else { return 0.0 };
    (high - low) / median_of_sorted(&sorted)
}

/// The value that `percent` percent of a sorted slice do not exceed, or `None` when it is empty.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Rank (from 1) of the order statistic that starts the 95 % confidence interval of the median of
/// `count` values: the largest `k` with `P(Binomial(count, 1/2) < k) <= 2.5 %`, at least 1.
/// 0 when `count` is 0.
fn sign_test_rank(count: usize) -> usize {
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut below = 0.0;
    let mut rank = 0;
    // `probability` is P(exactly `rank` of `count`), `below` is P(fewer than `rank`).
    while rank < count && below + probability <= 0.025 {
        below += probability;
        probability *= as_f64(count - rank) / as_f64(rank + 1);
        rank += 1;
    }
    rank.max(usize::from(count > 0))
}

/// `values` from the smallest to the largest.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Median of a sorted slice that is not empty.
fn median_of_sorted(sorted: &[f64]) -> f64 {
    let upper = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[upper - 1], sorted[upper])
    } else {
        sorted[upper]
    }
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Summary, pair_differences, pair_ratios, sign_test_rank, spread};

    #[test]
    fn summary() {
        struct Case {
            name: &'static str,
            values: &'static [f64],
            expected: Option<(f64, f64, f64)>,
        }
        let cases = [
            Case { name: "nothing", values: &[], expected: None },
            Case { name: "one", values: &[4.0], expected: Some((4.0, 4.0, 4.0)) },
            Case { name: "odd count", values: &[9.0, 1.0, 5.0], expected: Some((5.0, 1.0, 9.0)) },
            Case { name: "even count", values: &[4.0, 1.0, 2.0, 100.0], expected: Some((3.0, 1.0, 100.0)) },
        ];
        for Case { name, values, expected } in cases {
            let summary = Summary::of(values).map(|s| (s.median, s.min, s.max));
            assert_eq!(summary, expected, "{name}");
        }
    }

    /// Ranks from the tables of the sign test (two-sided, 5 %).
    #[test]
    fn rank_of_the_sign_test() {
        let cases = [
            (0, 0),
            (1, 1),
            (5, 1),
            (6, 1),
            (8, 1),
            (9, 2),
            (11, 2),
            (12, 3),
            (15, 4),
            (20, 6),
            (25, 8),
            (30, 10),
            (40, 14),
            (50, 18),
            (100, 40),
        ];
        for (count, rank) in cases {
            assert_eq!(sign_test_rank(count), rank, "{count} pairs");
        }
    }

    #[test]
    fn ratio_interval() {
        struct Case {
            name: &'static str,
            ratios: Vec<f64>,
            expected: Option<(f64, f64, f64)>,
        }
        let cases = [
            Case { name: "no pairs", ratios: vec![], expected: None },
            Case {
                name: "too few pairs: the range",
                ratios: vec![2.0, 1.0, 3.0],
                expected: Some((2.0, 1.0, 3.0)),
            },
            Case {
                name: "nine pairs: second from both ends",
                ratios: (1..=9).rev().map(f64::from).collect(),
                expected: Some((5.0, 2.0, 8.0)),
            },
            Case {
                name: "one outlier does not move the interval's end",
                ratios: (1..=8).map(f64::from).chain([1000.0]).collect(),
                expected: Some((5.0, 2.0, 8.0)),
            },
        ];
        for Case { name, ratios, expected } in cases {
            let ratio = Estimate::of(&ratios).map(|r| (r.median, r.low, r.high));
            assert_eq!(ratio, expected, "{name}");
        }
    }

    #[test]
    fn pairs_need_both_passes() {
        let times = [Some(100.0), None, Some(200.0), Some(50.0)];
        let reference = [Some(200.0), Some(10.0), None, Some(100.0)];
        assert_eq!(pair_ratios(&times, &reference), [2.0, 2.0]);
        assert_eq!(pair_differences(&times, &reference), [-100.0, -50.0]);
    }

    #[test]
    fn spread_of_the_middle() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((spread(&values) - 80.0 / 50.5).abs() < 1e-9);
        assert!(spread(&[5.0, 5.0, 5.0]).abs() < 1e-9);
        assert!(spread(&[]).abs() < 1e-9);
    }
}
