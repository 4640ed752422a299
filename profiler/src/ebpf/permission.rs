//! Whether this process may load BPF programs, said before the kernel says only "not permitted".

use std::fs;

use super::EbpfError;

// `include/uapi/linux/capability.h`
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Checks capabilities and lockdown.
pub(super) fn check() -> Result<(), EbpfError> {
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
