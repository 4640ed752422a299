//! What must hold for everything that is read, whatever it is: one function for each parser, which panics where a law
//! is broken, and says whether the parser took the input. The fuzzer calls them with what it makes up, and
//! `tests/tests/fuzz.rs`, on stable, with the seeds and changes of them.

mod files;
mod filter;
mod recorded;

pub use files::{conditions, evidence, held_out, profile, runtime_table, workload};
pub use filter::filter;
pub use recorded::{synthesis, trace};

/// What is called with bytes, and says whether they were taken.
pub type Target = fn(&[u8]) -> bool;

/// Every target by its name, the parsers of files first.
pub const TARGETS: [(&str, Target); 9] = [
    ("trace", trace),
    ("profile", profile),
    ("evidence", evidence),
    ("workload", workload),
    ("runtime_table", runtime_table),
    ("held_out", held_out),
    ("conditions", conditions),
    ("synthesis", synthesis),
    ("filter", filter),
];
