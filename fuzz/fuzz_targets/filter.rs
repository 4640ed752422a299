//! The fuzzer's way into `filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    seccomp_learn_fuzz::filter(data);
});
