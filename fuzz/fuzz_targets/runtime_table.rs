//! The fuzzer's way into `runtime_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    seccomp_learn_fuzz::runtime_table(data);
});
