//! Masks secrets in the arguments of commands before they become evidence that travels.

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words whose presence in the name of an option or variable says that its value is a secret.
const WORDS: [&str; 12] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "api-key",
    "apikey",
    "access-key",
    "private-key",
    "credential",
    "auth",
    "cookie",
];

/// Beginnings of values that are secrets whatever their option is called.
const PREFIXES: [&str; 10] =
    ["nvapi-", "hf_", "sk-", "ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "AKIA", "Bearer "];

/// The arguments with every value masked that is a secret by the name of its option (`--token X`, `--token=X`,
/// `API_KEY=X`), by its form (`hf_…`, `nvapi-…`), or that stands in a URL (`user:password@`, `?token=…`).
#[must_use]
pub fn mask_arguments(arguments: &[String]) -> Vec<String> {
    let mut masked = Vec::with_capacity(arguments.len());
    let mut value_of_secret = false;
    for argument in arguments {
        let is_option = argument.starts_with('-');
        if value_of_secret && !is_option {
            masked.push(MASK.to_owned());
            value_of_secret = false;
            continue;
        }
        masked.push(mask_one(argument));
        value_of_secret = is_option && !argument.contains('=') && names_a_secret(argument);
    }
    masked
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    WORDS.iter().any(|word| name.contains(word))
}

fn mask_one(argument: &str) -> String {
    if PREFIXES.iter().any(|prefix| argument.starts_with(prefix) && argument.len() > prefix.len() + 4) {
        return MASK.to_owned();
    }
    // Words of a shell line, assignments and query parameters are judged one by one.
    let mut result = String::with_capacity(argument.len());
    let mut previous = "";
    for piece in argument.split_inclusive([' ', '&', '?', '\n', ';', ',', '"', '\'']) {
        let (word, separator) =
            piece.split_at(piece.trim_end_matches([' ', '&', '?', '\n', ';', ',', '"', '\'']).len());
        let bearer = previous.eq_ignore_ascii_case("bearer") || previous.eq_ignore_ascii_case("basic");
        let after_option = previous.starts_with('-') && !previous.contains('=') && names_a_secret(previous);
        if word.is_empty() {
        } else if bearer || (after_option && !word.starts_with('-')) {
            result.push_str(MASK);
        } else {
            result.push_str(&mask_word(word));
        }
        result.push_str(separator);
        if !word.is_empty() {
            previous = word;
        }
    }
    result
}

fn mask_word(word: &str) -> String {
    if PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len() + 4) {
        return MASK.to_owned();
    }
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
    {
        let value = if names_a_secret(name) { MASK.to_owned() } else { mask_word(value) };
        return format!("{name}={value}");
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if let Some((_, host)) = authority.rsplit_once('@') {
            return format!("{scheme}://{MASK}@{host}{path}");
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_is_kept() {
        let check = |given: &[&str], expected: &[&str]| {
            let given: Vec<String> = given.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(mask_arguments(&given), expected);
        };
        check(&["serve", "--port", "80"], &["serve", "--port", "80"]);
        check(&["x", "--api-key", "abc", "y"], &["x", "--api-key", "***", "y"]);
        check(&["x", "--hf_token=abc"], &["x", "--hf_token=***"]);
        check(&["x", "--token", "--verbose"], &["x", "--token", "--verbose"]);
        check(&["env", "NGC_API_KEY=abc", "PATH=/bin"], &["env", "NGC_API_KEY=***", "PATH=/bin"]);
        check(&["curl", "https://me:pw@host/p?token=1&b=2"], &["curl", "https://***@host/p?token=***&b=2"]);
        check(
            &["sh", "-c", "curl -H 'Authorization: Bearer abc' u"],
            &["sh", "-c", "curl -H 'Authorization: Bearer ***' u"],
        );
        check(&["sh", "-c", "run --password hunter2 && ls"], &["sh", "-c", "run --password *** && ls"]);
        check(&["x", "hf_abcdefgh"], &["x", "***"]);
        check(&["sh", "-c", "HF=hf_abcdefgh run"], &["sh", "-c", "HF=*** run"]);
    }
}
