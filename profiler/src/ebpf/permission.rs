//! Whether this kernel and this process can load the BPF programs, said before the kernel says only "invalid
//! argument" or "not permitted".

use std::fs;

use super::EbpfError;

// `include/uapi/linux/capability.h`
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The oldest kernel that the recorder is made for.
const OLDEST: (u32, u32) = (5, 14);

/// Checks the kernel's version, capabilities and lockdown.
pub(super) fn check() -> Result<(), EbpfError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_some_and(|version| version < OLDEST) {
        return Err(EbpfError::TooOld(release.trim().to_owned()));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(capabilities) = effective(&status) {
        check_capabilities(capabilities)?;
    }
    // The file is there only where securityfs is mounted and the kernel has lockdown.
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Err(EbpfError::Lockdown("confidentiality".to_owned()));
    }
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|digit: char| !digit.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn check_capabilities(capabilities: u64) -> Result<(), EbpfError> {
    let has = |capability: u32| capabilities >> capability & 1 == 1;
    if has(CAP_SYS_ADMIN) {
        return Ok(());
    }
    match (has(CAP_BPF), has(CAP_PERFMON)) {
        (true, true) => Ok(()),
        (true, false) => Err(EbpfError::Capability("CAP_PERFMON is".to_owned())),
        (false, true) => Err(EbpfError::Capability("CAP_BPF is".to_owned())),
        (false, false) => Err(EbpfError::Capability("CAP_BPF and CAP_PERFMON are".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("5.14.0-427.el9.x86_64\n"), Some((5, 14)));
        assert!(version("5.4.0-150-generic").unwrap() < OLDEST);
        assert!(version("6.1.0").unwrap() > OLDEST);
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn the_missing_capability_is_named() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert!(check_capabilities(1 << CAP_SYS_ADMIN).is_ok());
        assert!(check_capabilities(1 << CAP_BPF | 1 << CAP_PERFMON).is_ok());
        let message = |capabilities| check_capabilities(capabilities).unwrap_err().to_string();
        assert!(message(1 << CAP_BPF).starts_with("CAP_PERFMON is needed"));
        assert!(message(1 << CAP_PERFMON).starts_with("CAP_BPF is needed"));
        assert!(message(0).starts_with("CAP_BPF and CAP_PERFMON are needed"));
    }
}
