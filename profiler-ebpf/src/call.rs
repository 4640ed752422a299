//! A syscall as the kernel side knows it: a number in one of the three tables that a kernel has.

/// Numbers below this one have a row in the per-CPU table. No kernel table reaches it (467 is Linux 6.16's last).
pub const TABLE_NUMBERS: u32 = 512;

/// Rows of the per-CPU table: the native and the 32-bit ABI.
pub const ROWS: u32 = 2 * TABLE_NUMBERS;

/// One syscall of one ABI.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The number, without x32's marker bit.
    pub number: u32,
    /// [`Call::NONE`], [`Call::NATIVE`], [`Call::COMPAT`], [`Call::X32`] or [`Call::UNCOUNTED`].
    pub abi: u32,
}

const _: () = assert!(size_of::<Call>() == 8 && align_of::<Call>() == 4);

impl Call {
    /// No call: the task is not in one. 0, so that fresh task storage says so.
    pub const NONE: u32 = 0;
    /// The 64-bit ABI of the machine.
    pub const NATIVE: u32 = 1;
    /// The 32-bit ABI of the machine (i386, arm).
    pub const COMPAT: u32 = 2;
    /// x32, on x86 only.
    pub const X32: u32 = 3;
    /// A call that could not be given a row, was counted as lost, and whose end must not be counted either.
    pub const UNCOUNTED: u32 = 4;

    /// The index in the per-CPU table; none for what is kept in the hash beside it.
    #[inline(always)]
    #[must_use]
    pub const fn row(self) -> Option<u32> {
        if self.number >= TABLE_NUMBERS {
            return None;
        }
        match self.abi {
            Self::NATIVE => Some(self.number),
            Self::COMPAT => Some(TABLE_NUMBERS + self.number),
            _ => None,
        }
    }

    /// The call whose [`Call::row`] this is; none from [`ROWS`] on.
    #[must_use]
    pub const fn of_row(row: u32) -> Option<Self> {
        if row < TABLE_NUMBERS {
            Some(Self { number: row, abi: Self::NATIVE })
        } else if row < ROWS {
            Some(Self { number: row - TABLE_NUMBERS, abi: Self::COMPAT })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_calls_are_the_same_thing() {
        for row in 0..ROWS {
            assert_eq!(Call::of_row(row).and_then(Call::row), Some(row));
        }
        assert_eq!(Call::of_row(ROWS), None);
        assert_eq!(Call { number: TABLE_NUMBERS, abi: Call::NATIVE }.row(), None);
        assert_eq!(Call { number: 0, abi: Call::X32 }.row(), None);
        assert_eq!(Call { number: 0, abi: Call::NONE }.row(), None);
    }
}
