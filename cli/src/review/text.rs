//! Words and figures of a review.

/// A text as a sentence: with a capital in front and a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// A share that is an upper bound, rounded up to a figure that a person takes in: `64 %`, `0.4 %`, `0.04 %`.
pub(super) fn at_most(share: f64) -> String {
    let percent = share * 100.0;
    // A hair below, so that what is a round figure already stays one.
    let up = |own: f64| (own - 1e-9).ceil();
    if percent <= 0.0 {
        return "0 %".to_owned();
    }
    if percent >= 1.0 {
        return format!("{:.0} %", up(percent));
    }
    let digits = (1..).find(|digits| percent * 10_f64.powi(*digits) >= 1.0 - 1e-9).unwrap_or(1);
    let figure = up(percent * 10_f64.powi(digits)) / 10_f64.powi(digits);
    // 0.96 % is at most 1 %.
    if figure >= 1.0 {
        "1 %".to_owned()
    } else {
        format!("{figure:.*} %", usize::try_from(digits).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_begin_and_end_as_such() {
        assert_eq!(sentence("refuse `bpf`"), "Refuse `bpf`.");
        assert_eq!(sentence("`bpf` passes."), "`bpf` passes.");
    }

    #[test]
    fn an_upper_bound_is_never_rounded_down() {
        for (share, shown) in [
            (0.6316, "64 %"),
            (1.0, "100 %"),
            (0.05, "5 %"),
            (0.011, "2 %"),
            (0.01, "1 %"),
            (0.009_6, "1 %"),
            (0.003_36, "0.4 %"),
            (0.003, "0.3 %"),
            (0.000_332_8, "0.04 %"),
            (0.000_001, "0.0001 %"),
            (0.0, "0 %"),
        ] {
            assert_eq!(at_most(share), shown);
        }
        for clean in [1_u32, 10, 59, 299, 890, 9_000, 100_000, 2_000_000] {
            let bound = 1.0 - 0.05_f64.powf(1.0 / f64::from(clean));
            let shown: f64 = at_most(bound).trim_end_matches(" %").parse().unwrap();
            assert!(
                shown >= bound * 100.0 && shown > 0.0 && shown <= (bound * 200.0).max(1.0),
                "{clean}: {shown}"
            );
        }
    }
}
