//! The fuzzer's way into `held_out`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    seccomp_learn_fuzz::held_out(data);
});
