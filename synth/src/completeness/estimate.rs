//! The formulae, from the number of runs and of the runs that each thing was seen in. Sources: A. Chao, Biometrics 43
//! (1987) 783 and A. Chao, L. Jost, Ecology 93 (2012) 2533 as `iNEXT` and `SpadeR` have them; R. K. Colwell, C. X.
//! Mao, J. Chang, Ecology 85 (2004) 2717 for the curve; I. J. Good, Biometrika 40 (1953) 237 for the next run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// The quantile of the normal distribution for a 95 % interval.
const NORMAL_95: f64 = 1.959_964;

/// At most this many points are in a curve.
const MOST_POINTS: u64 = 100;

/// What the runs say about one kind of thing.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// How many different ones were seen (`S_obs`).
    pub observed: u64,
    /// How many were seen in exactly one run (Q1).
    pub once: u64,
    /// How many were seen in exactly two runs (Q2).
    pub twice: u64,
    /// In how many runs each was seen, added up (U).
    pub incidences: u64,
    /// How many new ones the next run is expected to show (Good and Turing: Q1/m); none with fewer than two runs.
    pub next_run: Option<f64>,
    /// The share of what happens in a run that has been seen before (Chao and Jost 2012), 0 to 1, and 1 only where each
    /// was seen in more than one run; none with fewer than two runs.
    pub coverage: Option<f64>,
    /// How many there are at least, seen or not (Chao2); none with fewer than two runs, and where one was seen in one
    /// run and none in two, from which nothing can be told.
    pub richness: Option<Richness>,
    /// How many different ones so many runs are expected to show, up to those that were recorded.
    pub curve: Vec<CurvePoint>,
}

/// How many there are at least, seen or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Richness {
    /// The estimate.
    pub estimate: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end of the 95 % interval; the estimate itself where everything was seen in more than one run.
    pub high: f64,
}

/// A point of the saturation curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CurvePoint {
    /// After so many runs, in whatever order.
    pub runs: u64,
    /// So many different ones are expected to have been seen.
    pub expected: f64,
}

impl Estimate {
    /// From the number of runs and, for each thing, in how many of them it was seen.
    #[must_use]
    pub fn of(runs: u64, seen_in: &[u64]) -> Self {
        let mut frequencies: BTreeMap<u64, u64> = BTreeMap::new();
        for &count in seen_in.iter().filter(|count| **count > 0) {
            *frequencies.entry(count.min(runs)).or_default() += 1;
        }
        let of = |count: u64| frequencies.get(&count).copied().unwrap_or_default();
        let counts = Counts {
            runs: real(runs),
            observed: real(frequencies.values().sum()),
            once: real(of(1)),
            twice: real(of(2)),
            incidences: real(frequencies.iter().map(|(count, things)| count.saturating_mul(*things)).sum()),
        };
        let known = runs > 1 && counts.observed > 0.0;
        Self {
            observed: frequencies.values().sum(),
            once: of(1),
            twice: of(2),
            incidences: frequencies.iter().map(|(count, things)| count.saturating_mul(*things)).sum(),
            next_run: known.then(|| rounded(counts.once / counts.runs)),
            coverage: known.then(|| rounded(counts.coverage())),
            richness: if known { counts.richness() } else { None },
            curve: curve(runs, &frequencies),
        }
    }

    /// On what that rests, where it says something about other runs; in full among the assumptions.
    #[must_use]
    pub const fn provided(&self) -> &'static str {
        if self.next_run.is_some() {
            ", provided that runs are alike and independent of each other"
        } else {
            ""
        }
    }

    /// In one line for a person; `what` is the plural of what is counted.
    #[must_use]
    pub fn sentence(&self, what: &str) -> String {
        let seen = format!("{} {what} seen", self.observed);
        let (Some(next), Some(coverage)) = (self.next_run, self.coverage) else {
            return format!("{seen} in one run, which says nothing about the next");
        };
        let once = match self.once {
            0 => "each in more than one run".to_owned(),
            once => format!("{once} of them in one run only"),
        };
        let all = match self.richness {
            None => {
                "how many there are in all cannot be told, with one of them seen in one run and none in two"
                    .to_owned()
            }
            Some(_) if self.once == 0 => {
                let runs = self.curve.last().map_or(0, |point| point.runs);
                format!("no more in all, as far as {runs} runs can tell")
            }
            Some(Richness { estimate, low, high }) => {
                format!("at least {estimate:.0} in all (95 %: {low:.0} to {high:.0})")
            }
        };
        format!(
            "{seen}, {once}; {next:.2} new ones expected in the next run; estimated sample coverage {:.2} %; {all}",
            // Never rounded up to all of it.
            (coverage * 10_000.0).floor() / 100.0
        )
    }
}

/// The counts as the formulae take them.
struct Counts {
    runs: f64,
    observed: f64,
    once: f64,
    twice: f64,
    incidences: f64,
}

impl Counts {
    /// (m − 1)/m.
    fn shrink(&self) -> f64 {
        (self.runs - 1.0) / self.runs
    }

    /// 1 − Q1/U · (m−1)Q1 / ((m−1)Q1 + 2Q2), and with Q1 − 1 for Q1 and 1 for Q2 in the fraction where Q2 is 0. Where Q1
    /// is 1 that fraction would be 0, and all be covered although something was just seen for the first time: then it is
    /// Good's 1 − Q1/U.
    fn coverage(&self) -> f64 {
        /// The greatest share that is not all of it, to six places.
        const NOT_ALL: f64 = 0.999_999;
        let single = self.once / self.incidences;
        let share = match (self.once, self.twice) {
            (0.0, _) => return 1.0,
            (1.0, 0.0) => single,
            (once, twice) => {
                let (once, twice) = if twice > 0.0 { (once, twice) } else { (once - 1.0, 1.0) };
                let weight = (self.runs - 1.0) * once;
                single * weight / (weight + 2.0 * twice)
            }
        };
        (1.0 - share).min(NOT_ALL)
    }

    /// None where the estimate of how many are unseen is 0 although one was just seen for the first time.
    fn richness(&self) -> Option<Richness> {
        let Self { once, twice, .. } = *self;
        let shrink = self.shrink();
        let unseen = if twice > 0.0 {
            shrink * once * once / (2.0 * twice)
        } else {
            shrink * once * (once - 1.0) / 2.0
        };
        let estimate = self.observed + unseen;
        if unseen <= 0.0 {
            let all =
                Richness { estimate: rounded(estimate), low: rounded(estimate), high: rounded(estimate) };
            return (once == 0.0).then_some(all);
        }
        let variance = if twice > 0.0 {
            let ratio = once / twice;
            let square = shrink * shrink;
            twice * (shrink / 2.0 * ratio.powi(2) + square * ratio.powi(3) + square / 4.0 * ratio.powi(4))
        } else {
            let square = shrink * shrink;
            shrink * once * (once - 1.0) / 2.0 + square * once * (2.0 * once - 1.0).powi(2) / 4.0
                - square * once.powi(4) / (4.0 * estimate)
        };
        let spread = (NORMAL_95 * (1.0 + variance / (unseen * unseen)).ln().sqrt()).exp();
        Some(Richness {
            estimate: rounded(estimate),
            low: rounded(self.observed + unseen / spread),
            high: rounded(self.observed + unseen * spread),
        })
    }
}

/// S(k) = S_obs − Σ Q_j · C(m − j, k)/C(m, k), exact; the quotient of binomials goes from one k to the next.
fn curve(runs: u64, frequencies: &BTreeMap<u64, u64>) -> Vec<CurvePoint> {
    let observed = real(frequencies.values().sum());
    let step = runs.div_ceil(MOST_POINTS).max(1);
    // Of each frequency: how many things, and the chance that k runs show none of a thing.
    let mut unseen: Vec<(u64, f64, f64)> =
        frequencies.iter().map(|(count, things)| (*count, real(*things), 1.0)).collect();
    let mut curve = Vec::new();
    for after in 1..=runs {
        let mut missing = 0.0;
        for (count, things, chance) in &mut unseen {
            let left = runs.saturating_sub(after - 1);
            *chance *= real(left.saturating_sub(*count)) / real(left);
            missing += *things * *chance;
        }
        if after == 1 || after == runs || after % step == 0 {
            curve.push(CurvePoint { runs: after, expected: rounded(observed - missing) });
        }
    }
    curve
}

/// A count; those of runs and syscalls are far below what this holds exactly.
fn real(count: u64) -> f64 {
    count as f64
}

/// To six places: what is written down is then the same wherever the mathematical functions differ in the last bit.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From frequency counts: (in how many runs, how many things).
    fn estimate(runs: u64, frequencies: &[(u64, u64)]) -> Estimate {
        let seen: Vec<u64> = frequencies
            .iter()
            .flat_map(|(count, things)| std::iter::repeat_n(*count, usize::try_from(*things).unwrap()))
            .collect();
        Estimate::of(runs, &seen)
    }

    #[track_caller]
    fn near(value: f64, published: f64, places: i32) {
        assert!((value - published).abs() <= 0.500_001 * 10f64.powi(-places), "{value} is not {published}");
    }

    /// Ants of Costa Rica by elevation, 1 m² plots (Longino and Colwell 2011), as the output of `iNEXT` 3.0 has them:
    /// plots, incidences, species, Q1, Q2, coverage, asymptotic richness.
    #[test]
    fn the_ants_of_inext() {
        for (plots, incidences, species, once, twice, coverage, richness) in [
            (599, 5976, 227, 49, 23, 0.991_813_4, 279.108_514),
            (230, 2943, 241, 71, 34, 0.975_975_4, 314.810_038),
            (150, 1730, 122, 28, 16, 0.983_938_2, 146.336_667),
            (200, 1170, 56, 13, 4, 0.988_923_1, 77.019_375),
            (200, 271, 14, 1, 2, 0.996_382_7, 14.248_750),
        ] {
            // What is more frequent counts by its sum alone.
            let rest = species - once - twice;
            let mut left = incidences - once - 2 * twice;
            let mut frequencies = vec![(1, once), (2, twice)];
            for more in (1..=rest).rev() {
                frequencies.push((left / more, 1));
                left -= left / more;
            }
            let made = estimate(plots, &frequencies);
            assert_eq!(
                (made.observed, made.once, made.twice, made.incidences),
                (species, once, twice, incidences)
            );
            near(made.coverage.unwrap(), coverage, 6);
            near(made.richness.unwrap().estimate, richness, 5);
            near(made.curve[0].expected, incidences as f64 / plots as f64, 6);
            near(made.curve.last().unwrap().expected, species as f64, 9);
        }
    }

    /// The curve at half of the plots, for the elevation with the shortest list: its frequencies are 1, 2, 2, 3, 4, 8, 8
    /// and seven larger ones that are 243 together, of which hardly any is missed in 100 of 200 plots.
    #[test]
    fn the_curve_of_inext() {
        let rarest = [(1, 1), (2, 2), (3, 1), (4, 1), (8, 2), (13, 1), (15, 1), (43, 5)];
        let made = estimate(200, &rarest);
        assert_eq!(made.incidences, 271);
        let half = made.curve.iter().find(|point| point.runs == 100).unwrap();
        near(half.expected, 12.811_923, 4);
        // Birds heard in five seasons' visits: Q = 33, 36, 12, 7, 7; `iNEXT` interpolates 78.200 for three visits.
        let visits = estimate(5, &[(1, 33), (2, 36), (3, 12), (4, 7), (5, 7)]);
        near(visits.curve[2].expected, 78.2, 3);
        near(visits.coverage.unwrap(), 0.8953, 4);
    }

    /// Outputs of `SpadeR`'s `ChaoSpecies`: units, species, incidences, Q1, Q2, coverage, Chao2 with its 95 % interval.
    #[test]
    fn the_intervals_of_spader() {
        for (units, species, incidences, once, twice, coverage, (richness, low, high)) in [
            (16, 18, 29, 13, 4, 0.569, (37.805, 23.129, 94.469)),
            (16, 20, 57, 12, 3, 0.796, (42.5, 25.35, 114.63)),
            (16, 15, 30, 9, 4, 0.717, (24.492, 17.113, 57.648)),
            (16, 10, 38, 5, 2, 0.875, (15.859, 10.908, 47.791)),
            (16, 14, 50, 5, 3, 0.907, (17.906, 14.627, 38.332)),
            // Nothing in exactly two units.
            (40, 10, 35, 6, 0, 0.83, (24.625, 13.217, 76.49)),
            (16, 18, 43, 12, 0, 0.724, (79.875, 38.719, 202.78)),
        ] {
            let rest = species - once - twice;
            let mut left = incidences - once - 2 * twice;
            let mut frequencies = vec![(1, once), (2, twice)];
            for more in (1..=rest).rev() {
                frequencies.push((left / more, 1));
                left -= left / more;
            }
            let made = estimate(units, &frequencies);
            assert_eq!((made.observed, made.incidences), (species, incidences));
            near(made.coverage.unwrap(), coverage, 3);
            let own = made.richness.unwrap();
            near(own.estimate, richness, 3);
            near(own.low, low, 3);
            near(own.high, high, 3);
        }
    }

    #[test]
    fn one_run_says_nothing_and_what_is_always_there_is_complete() {
        let one = Estimate::of(1, &[1, 1, 1]);
        assert_eq!((one.next_run, one.coverage, one.richness), (None, None, None));
        assert_eq!(one.curve, [CurvePoint { runs: 1, expected: 3.0 }]);
        assert!(one.sentence("syscalls").contains("says nothing"));
        let all = Estimate::of(4, &[4; 7]);
        assert_eq!((all.next_run, all.coverage), (Some(0.0), Some(1.0)));
        assert_eq!(all.richness, Some(Richness { estimate: 7.0, low: 7.0, high: 7.0 }));
        assert!(all.curve.iter().all(|point| point.expected == 7.0));
        let none = Estimate::of(3, &[]);
        assert_eq!((none.observed, none.coverage), (0, None));
        assert_eq!(Estimate::of(0, &[]).curve, []);
    }

    /// One that was seen in one run, and none in two: the formulae would say that all was seen.
    #[test]
    fn a_single_new_one_is_never_all_there_is() {
        let one = estimate(4, &[(1, 1), (4, 72)]);
        assert_eq!((one.observed, one.once, one.twice, one.richness), (73, 1, 0, None));
        near(one.coverage.unwrap(), 1.0 - 1.0 / 289.0, 6);
        let sentence = one.sentence("syscalls");
        assert!(sentence.contains("cannot be told") && !sentence.contains("95 %:"), "{sentence}");
        // However many are known well.
        for frequencies in [[(1, 1), (2, 100_000), (9, 900_000)], [(1, 1), (8, 1), (9, 9_000_000)]] {
            let many = estimate(10, &frequencies);
            assert!(many.coverage.unwrap() < 1.0, "{many:?}");
        }
        // With two such, or with one that was seen twice, there is an interval.
        for frequencies in [[(1, 2), (4, 72)], [(1, 1), (2, 1)]] {
            let own = estimate(4, &frequencies).richness.unwrap();
            assert!(own.low < own.estimate && own.estimate < own.high, "{own:?}");
        }
    }

    #[test]
    fn a_long_curve_has_its_ends_and_few_points_between() {
        let made = Estimate::of(10_000, &[1, 2, 9_999, 10_000]);
        assert!(made.curve.len() <= 102, "{}", made.curve.len());
        assert_eq!(made.curve[0].runs, 1);
        let last = made.curve.last().unwrap();
        assert_eq!((last.runs, last.expected), (10_000, 4.0));
        assert!(made.curve.is_sorted_by(|one, next| one.expected <= next.expected));
    }
}
