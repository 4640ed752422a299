//! The laws of everything that is read, on stable: the functions that `cargo xtask fuzz` gives to the fuzzer, over the
//! seeds and thousands of changes of them, always the same ones.

// The fuzz targets are a workspace of their own, since a fuzzer needs a nightly compiler; what they call does not.
#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public for the fuzzer's programs")]
mod targets;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// How often each target is called with a changed seed.
const CHANGES: usize = 400;

/// How many of these each target takes at least: a parser that refuses nearly all that it is given is tried by nothing.
const LEAST: [(&str, usize); 9] = [
    ("trace", 8),
    ("profile", 6),
    ("evidence", 25),
    ("workload", 100),
    ("runtime_table", 60),
    ("held_out", 20),
    ("conditions", 25),
    ("synthesis", 10),
    ("filter", 300),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The seeds of each target, from `fuzz/seeds.txt`.
fn seeds() -> BTreeMap<String, Vec<(PathBuf, Vec<u8>)>> {
    let mut seeds: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let list = fs::read_to_string(repository().join("fuzz/seeds.txt")).unwrap();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let (target, place) = line.split_once(char::is_whitespace).unwrap();
        let place = repository().join(place.trim());
        let mut files: Vec<PathBuf> = if place.is_dir() {
            fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![place]
        };
        files.sort();
        let read = files.into_iter().map(|file| (file.clone(), fs::read(&file).unwrap()));
        seeds.entry(target.to_owned()).or_default().extend(read);
    }
    seeds
}

/// SplitMix64: numbers that look random and are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What is put in the place of numbers and words.
const WORDS: [&str; 23] = [
    "0",
    "1",
    "7",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e400",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "null",
    "true",
    "[]",
    "{}",
    "[[[[[[[[",
    "\"0xffffffffffffffff\"",
    "<script>",
    "SCMP_CMP_MASKED_EQ",
    "x32",
    "syscall_4294967295",
    "\u{202e}",
];

/// A change, or up to four, half of them of a word or number: a byte, a word in the place of one, a part taken out,
/// doubled or brought from elsewhere.
fn changed(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    let more = numbers.below(2) * numbers.below(4);
    for _ in 0..=more {
        let at = numbers.below(data.len() + 1);
        let until = (at + numbers.below(40)).min(data.len());
        match numbers.below(8) {
            0 if at < data.len() => data[at] ^= 1 << numbers.below(8),
            1 => drop(data.drain(at..until)),
            2 => {
                let part = data[at..until].to_vec();
                data.splice(at..at, part);
            }
            3 => {
                let from = numbers.below(data.len() + 1);
                let to = (from + numbers.below(200)).min(data.len());
                let part = data[from..to].to_vec();
                data.splice(at..until, part);
            }
            _ => {
                // The word or number that begins here; a number in the place of a number can still be read.
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let start = data[at..].iter().position(is_word).map_or(at, |offset| at + offset);
                let end =
                    data[start..].iter().position(|byte| !is_word(byte)).map_or(data.len(), |n| start + n);
                let is_number = data[start..end].iter().all(u8::is_ascii_digit);
                let words = if is_number { &WORDS[..6] } else { &WORDS[..] };
                data.splice(start..end, words[numbers.below(words.len())].bytes());
            }
        }
    }
    data
}

#[test]
fn no_seed_and_no_change_of_one_breaks_a_law() {
    let seeds = seeds();
    let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    assert!(seeds.keys().all(|target| names.contains(&target.as_str())), "{:?}", seeds.keys());
    for (name, target) in targets::TARGETS {
        let mut numbers = Numbers(1);
        let own = &seeds[name];
        for (file, seed) in own {
            assert!(target(seed), "{}: not read by `{name}`", file.display());
        }
        let mut read = 0;
        // The large ones take their time; small ones say more for it.
        let small: Vec<&Vec<u8>> =
            own.iter().map(|(_, seed)| seed).filter(|seed| seed.len() < 12_000).collect();
        for _ in 0..CHANGES {
            let data = changed(small[numbers.below(small.len())], &mut numbers);
            // What breaks is in the message, to become a seed.
            let outcome = std::panic::catch_unwind(|| target(&data));
            let Ok(was_read) = outcome else {
                panic!("`{name}` broke a law with {:?}", String::from_utf8_lossy(&data));
            };
            read += usize::from(was_read);
        }
        println!("{name}: {} seeds, {read} of {CHANGES} changed ones were read", own.len());
        let (_, least) = LEAST.iter().find(|(own, _)| *own == name).unwrap();
        assert!(read >= *least, "`{name}` took {read} of the changed seeds, and not {least}");
    }
}

/// Every target is one that `cargo fuzz` finds, with seeds of its own.
#[test]
fn every_target_can_be_fuzzed() {
    let manifest = fs::read_to_string(repository().join("fuzz/Cargo.toml")).unwrap();
    let seeds = seeds();
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let program = fs::read_to_string(repository().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("seccomp_learn_fuzz::{name}(data)")), "{name}");
        assert!(!seeds[name].is_empty(), "{name}");
    }
}
