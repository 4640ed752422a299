//! The fuzzer's way into `profile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    seccomp_learn_fuzz::profile(data);
});
