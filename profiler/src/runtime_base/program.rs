//! The programs that run in the measured containers: machine code with an ELF header around it, so that neither a
//! compiler nor a C library is needed, and what they call themselves is known to the last call.

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// It ends at once, well.
    Exit,
    /// It waits two minutes and ends: long enough to run others beside it, and nothing stays if we are killed.
    Wait,
}

/// `poll(NULL, 0, 120000); exit_group(0)`; the second program begins at the byte after the first call.
const X86_64: ([u8; 18], usize) = (
    [
        0xba, 0xc0, 0xd4, 0x01, 0x00, // mov edx, 120000
        0x6a, 0x07, 0x58, // push 7 (poll); pop rax
        0x0f, 0x05, // syscall, rdi and rsi being 0 at the start
        0x6a, 0x7f, 0x58, // push 127; pop rax
        0x04, 0x68, // add al, 104: 231 (exit_group)
        0x0f, 0x05, // syscall, rdi still being 0
        0xf4, // hlt
    ],
    10,
);

/// `ppoll(NULL, 0, &{120, 0}, NULL, 0); exit_group(0)`, the time after the code.
const AARCH64: [u32; 14] = [
    0xd280_0000, // mov x0, #0
    0xd280_0001, // mov x1, #0
    0x1000_0142, // adr x2, the time, 40 bytes on
    0xd280_0003, // mov x3, #0
    0xd280_0004, // mov x4, #0
    0xd280_0928, // mov x8, #73 (ppoll)
    0xd400_0001, // svc #0
    0xd280_0000, // mov x0, #0
    0xd280_0bc8, // mov x8, #94 (exit_group)
    0xd400_0001, // svc #0
    0xd420_0000, // brk #0
    0xd503_201f, // nop
    120,         // the seconds, low half
    0,
];
const AARCH64_EXIT: usize = 28;

/// Where the file is mapped: `ELF_ET_DYN_BASE` does not apply to a fixed address, and page 0 may not be used.
const BASE: u64 = 0x40_0000;
/// Sizes of `Elf64_Ehdr` and `Elf64_Phdr`: elf(5).
const HEADERS: u64 = 64 + 56;

impl Program {
    /// Its name in the container.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Wait => "wait",
        }
    }

    /// The ELF file for a machine as `uname -m` calls it; none for one that is not supported.
    pub(super) fn elf(self, machine: &str) -> Option<Vec<u8>> {
        let (elf_machine, code, exit): (u16, Vec<u8>, usize) = match machine {
            "x86_64" => (62, X86_64.0.to_vec(), X86_64.1),
            "aarch64" => {
                // The nanoseconds stand behind the seconds.
                let words = AARCH64.into_iter().chain([0, 0]);
                (183, words.flat_map(u32::to_le_bytes).collect(), AARCH64_EXIT)
            }
            _ => return None,
        };
        let start = if self == Self::Exit { exit } else { 0 };
        let size = HEADERS + code.len() as u64;
        let mut file = Vec::new();
        // ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE.
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let half = |file: &mut Vec<u8>, values: &[u16]| {
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        };
        let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
        let long = |file: &mut Vec<u8>, values: &[u64]| {
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        };
        half(&mut file, &[2, elf_machine]); // ET_EXEC
        word(&mut file, 1);
        long(&mut file, &[BASE + HEADERS + start as u64, 64, 0]);
        word(&mut file, 0);
        half(&mut file, &[64, 56, 1, 64, 0, 0]);
        word(&mut file, 1); // PT_LOAD
        word(&mut file, 5); // readable and executable
        long(&mut file, &[0, BASE, BASE, size, size, 0x1000]);
        file.extend_from_slice(&code);
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        process::{Command, Stdio},
        time::Duration,
    };

    use super::Program;

    #[test]
    fn both_programs_run_here_and_have_whole_headers_elsewhere() {
        for machine in ["x86_64", "aarch64"] {
            for program in [Program::Exit, Program::Wait] {
                let file = program.elf(machine).unwrap();
                assert!(file.starts_with(b"\x7fELF") && file.len() > 120, "{machine}");
                let entry = u64::from_le_bytes(file[24..32].try_into().unwrap());
                assert!(entry >= 0x40_0000 + 120 && entry < 0x40_0000 + file.len() as u64);
            }
        }
        assert!(Program::Exit.elf("riscv64").is_none());

        let folder = tempfile::tempdir().unwrap();
        let make = |program: Program| {
            let path = folder.path().join(program.name());
            std::fs::write(&path, program.elf(std::env::consts::ARCH).unwrap()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        assert!(Command::new(make(Program::Exit)).status().unwrap().success());
        let mut waits = Command::new(make(Program::Wait)).stdin(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(waits.try_wait().unwrap().is_none(), "it ended at once");
        waits.kill().unwrap();
        waits.wait().unwrap();
    }
}
