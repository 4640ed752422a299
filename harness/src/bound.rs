//! How little some clean starts prove.

/// How sure the bound is.
const CONFIDENCE: f64 = 0.95;

/// The upper bound, at 95 % confidence, for the share of starts that meet a denial, after `denied` of `starts` did:
/// Clopper and Pearson's exact one. Without a denied start it is 1 − 0.05^(1/starts). None without a start.
#[must_use]
pub fn upper_bound(starts: u32, denied: u32) -> Option<f64> {
    if starts == 0 || denied > starts {
        return None;
    }
    if denied == starts {
        return Some(1.0);
    }
    if denied == 0 {
        return Some(1.0 - (1.0 - CONFIDENCE).powf(1.0 / f64::from(starts)));
    }
    // The chance of so few denied starts falls as the share grows; the bound is where it reaches 5 %.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let share = f64::midpoint(low, high);
        if at_most(starts, denied, share) > 1.0 - CONFIDENCE { low = share } else { high = share }
    }
    Some(high)
}

/// The chance of at most `most` successes in `tries`, each with this probability between 0 and 1.
fn at_most(tries: u32, most: u32, probability: f64) -> f64 {
    let (succeed, fail) = (probability.ln(), (1.0 - probability).ln());
    let mut binomial = 0.0;
    let mut sum = 0.0;
    for successes in 0..=most {
        if successes > 0 {
            binomial += f64::from(tries - successes + 1).ln() - f64::from(successes).ln();
        }
        sum += (binomial + f64::from(successes) * succeed + f64::from(tries - successes) * fail).exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_published_tables() {
        // The rule of three, and one-sided 95 % Clopper-Pearson bounds: R, `qbeta(0.95, k + 1, n - k)`.
        for (starts, denied, bound) in [
            (1, 0, 0.95),
            (3, 0, 0.6316),
            (20, 0, 0.1391),
            (300, 0, 0.009936),
            (10, 1, 0.3942),
            (20, 2, 0.2826),
            (100, 5, 0.1023),
            (7, 7, 1.0),
        ] {
            let got = upper_bound(starts, denied).unwrap();
            assert!((got - bound).abs() < 5e-5, "{starts} {denied}: {got}");
        }
        assert_eq!(upper_bound(0, 0), None);
        assert_eq!(upper_bound(1, 2), None);
    }
}
