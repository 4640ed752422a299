//! Which names are syscalls: those of the ABIs that traces know, and a checked-in list of the others that
//! engines' profiles name (calls of other architectures, and names that exist on none).

use std::{collections::BTreeSet, sync::LazyLock};

use trace::Abi;

/// Names outside the tables of [`Abi`]; each line of the file says where they come from.
const FOREIGN: &str = include_str!("../../profiles/knowledge/foreign-names.txt");

static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let own =
        Abi::ALL.into_iter().flat_map(|abi| abi.numbers().map(move |number| abi.name(number).to_string()));
    let lines = FOREIGN.lines().map(|line| line.split('#').next().unwrap_or_default());
    own.chain(lines.flat_map(str::split_whitespace).map(str::to_owned)).collect()
});

/// Whether some architecture has, or had, a call of this name.
#[must_use]
pub fn is_syscall(name: &str) -> bool {
    KNOWN.contains(name)
}
