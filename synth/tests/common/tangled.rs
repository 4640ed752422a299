//! Conditions with more ways to meet them than anyone can follow: each tests some bits of two arguments, and hardly two
//! of them the same ones.

/// So many alternatives, as text.
pub(crate) fn tangled(number: u32) -> Vec<String> {
    let mut state = 0x2545_f491_u32;
    let mut random = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut some_bits = || {
        let (a, b) = (random(), random());
        let mask = a & b & random() | 1 << (random() % 32);
        (mask, random() & mask)
    };
    (0..number)
        .map(|_| {
            let ((mask, value), (other, its)) = (some_bits(), some_bits());
            format!("arg0 & {mask:#x} == {value:#x}, arg1 & {other:#x} == {its:#x}")
        })
        .collect()
}
