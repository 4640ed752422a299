//! What a trace says about the machine it was recorded on.

use std::fs;

use trace::GpuDriver;

/// The kernel's release and the machine's architecture, as `uname -r` and `uname -m` print them.
#[must_use]
pub fn kernel() -> (String, String) {
    nix::sys::utsname::uname().map_or_else(
        |_| ("unknown".to_owned(), std::env::consts::ARCH.to_owned()),
        |name| (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned()),
    )
}

/// The NVIDIA driver that is loaded, with its full version.
#[must_use]
pub fn gpu_driver() -> Option<GpuDriver> {
    let version = fs::read_to_string("/sys/module/nvidia/version").ok()?;
    Some(GpuDriver { vendor: "nvidia".to_owned(), version: version.trim().to_owned() })
}

/// Now, RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(now);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
