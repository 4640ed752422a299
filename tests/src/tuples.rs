//! Argument tuples: those of a trace beside those that strace saw in the registers of the same calls.

use std::collections::BTreeMap;

use trace::{Abi, Kept, Row, Trace};

use crate::strace::{Call, number};

/// How often a tuple was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Calls that were entered for certain.
    pub least: u64,
    /// With those of tasks that died in them: strace stops a task before the kernel's own entry work, where a fatal
    /// signal turns it away.
    pub most: u64,
}

/// Masked arguments, in the order in which a trace keeps them, and how often they were seen. Calls whose struct could
/// not be read are under `None`.
pub type Tuples = BTreeMap<Option<Vec<u64>>, Times>;

/// What strace saw of one call.
pub fn strace(calls: &[Call], abi: Abi, name: &str, kept: &[Kept]) -> Tuples {
    let mut tuples = Tuples::new();
    for call in calls.iter().filter(|call| call.abi == abi && call.name == name) {
        let times = tuples.entry(tuple(&call.arguments, kept)).or_default();
        times.most += 1;
        times.least += u64::from(call.finished);
    }
    tuples
}

/// What the trace says of one call, whatever the descriptors were.
pub fn recorded(row: &Row) -> BTreeMap<Option<Vec<u64>>, u64> {
    let arguments = row.arguments.as_ref().unwrap_or_else(|| panic!("`{}` has no arguments", row.name));
    let mut tuples = BTreeMap::new();
    if arguments.unread > 0 {
        tuples.insert(None, arguments.unread);
    }
    for values in &arguments.values {
        *tuples.entry(Some(values.arguments.clone())).or_default() += values.calls;
    }
    tuples
}

/// The kept arguments of a call as strace writes it: the registers in hex, a struct decoded.
fn tuple(text: &str, kept: &[Kept]) -> Option<Vec<u64>> {
    // "{type=0, …}, 0, -1, -1, 0x8" has one argument before the brace and four behind it.
    let (fields, behind) = match text.split_once('{') {
        Some((before, rest)) => {
            let (fields, behind) = rest.rsplit_once('}')?;
            (Some(fields), (before.matches(',').count(), behind.trim_start_matches(", ")))
        }
        None => (None, (0, text)),
    };
    kept.iter()
        .map(|kept| {
            let value = if kept.offset.is_some() {
                let field =
                    fields?.split(", ").find_map(|field| field.strip_prefix(&format!("{}=", kept.name)))?;
                number(field)?
            } else {
                let skipped = if fields.is_some() { behind.0 + 1 } else { 0 };
                number(behind.1.split(", ").nth(kept.index as usize - skipped)?)?
            };
            Some(value & kept.mask)
        })
        .collect()
}

/// How the tuples of a trace differ from what strace saw, one line a difference. Every call that has a place in the
/// argument table must have its arguments in the trace.
pub fn differences(trace: &Trace, calls: &[Call]) -> Vec<String> {
    let mut found = Vec::new();
    for row in trace.syscalls.iter().filter(|row| row.calls > 0) {
        let captured = synth::arguments::captured(row.abi).any(|call| call.syscall == row.name);
        let Some(arguments) = &row.arguments else {
            if captured {
                found.push(format!("{} {}: no arguments", row.abi, row.name));
            }
            continue;
        };
        if arguments.wide {
            found.push(format!("{} {}: wide", row.abi, row.name));
        }
        let seen = strace(calls, row.abi, &row.name, &arguments.kept);
        let recorded = recorded(row);
        for tuple in seen.keys().chain(recorded.keys().filter(|tuple| !seen.contains_key(*tuple))) {
            let times = seen.get(tuple).copied().unwrap_or_default();
            let calls = recorded.get(tuple).copied().unwrap_or_default();
            if calls < times.least || calls > times.most {
                let tuple = tuple
                    .as_ref()
                    .map_or("unread".to_owned(), |tuple| format!("{tuple:#x?}").replace('\n', ""));
                found.push(format!("{} {} {tuple}: recorded {calls}, strace {times:?}", row.abi, row.name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_fields_are_read() {
        let kept = |index, offset, name: &str, mask| Kept { index, name: name.to_owned(), mask, offset };
        let ioctl = [kept(1, None, "request", 0xffff_ffff)];
        assert_eq!(tuple("0xffffffffffffffff, 0xffffffff80045430, 0", &ioctl), Some(vec![0x8004_5430]));
        let clone3 = [kept(0, Some(0), "flags", u64::MAX)];
        assert_eq!(
            tuple("{flags=0x3d0f00, child_tid=0x7f, exit_signal=0}, 88", &clone3),
            Some(vec![0x3d_0f00])
        );
        assert_eq!(tuple("NULL, 88", &clone3), None);
        let setup = [kept(1, Some(8), "flags", 0xffff_ffff)];
        assert_eq!(tuple("1, {flags=0x2, sq_thread_cpu=0}", &setup), Some(vec![2]));
        let perf = [kept(0, Some(0), "type", 0xffff_ffff), kept(4, None, "flags", u64::MAX)];
        assert_eq!(tuple("{type=0x1, size=0x88, config=0}, 0, -1, -1, 0x8", &perf), Some(vec![1, 8]));
    }
}
