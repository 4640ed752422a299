//! Parts whose calls have arguments that are known: by the register, by the struct, by the descriptor.

use std::{
    env, fs,
    io::Write as _,
    os::{
        fd::{AsRawFd as _, IntoRawFd as _},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    ptr, thread,
};

use crate::workload::{fork, gate, reap};

/// A call by its number, with six registers as they are.
fn raw(number: libc::c_long, arguments: [u64; 6]) -> libc::c_long {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: what is called here keeps nothing of what it is given, and writes to nothing else.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// What stands above the half of a register that the kernel reads.
pub(crate) const UPPER: u64 = 0xabcd << 32;
/// A request with its highest bit set, as musl passes it: sign-extended.
pub(crate) const SIGNED: u64 = 0xffff_ffff_c030_4627;
/// A request that no file answers with more than an error.
pub(crate) const REQUEST: u64 = 0x4004_4600;

/// Registers and structs.
pub(crate) fn registers() {
    gate();
    for _ in 0..3 {
        raw(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]);
    }
    for _ in 0..2 {
        raw(libc::SYS_personality, [0xffff_ffff | UPPER, 0, 0, 0, 0, 0]);
    }
    // 64 bits, of which some are masked away.
    raw(libc::SYS_mremap, [1, 0, 0, 0x30 | 1 << 60, 0, 0]);
    raw(libc::SYS_mremap, [2, 0, 0, 0x30 | 1 << 61, 0, 0]);
    // `struct clone_args`: the kernel refuses the sizes.
    let flags: [u64; 2] = [0x1_0000_0200, 7];
    for size in [0, 1, 2] {
        raw(libc::SYS_clone3, [flags.as_ptr().addr() as u64, size, 0, 0, 0, 0]);
    }
    for address in [8, u64::MAX - 4] {
        raw(libc::SYS_clone3, [address, 64, 0, 0, 0, 0]);
    }
    // `struct io_uring_params`: flags after two words. There is no ring with 0 entries.
    let parameters: [u32; 30] = std::array::from_fn(|index| index as u32 + 100);
    raw(libc::SYS_io_uring_setup, [0, parameters.as_ptr().addr() as u64, 0, 0, 0, 0]);
    // `struct perf_event_attr`: no such type, and no such flags.
    let attributes: [u32; 32] = [0x7fff_fff1; 32];
    raw(libc::SYS_perf_event_open, [attributes.as_ptr().addr() as u64, 0, 0, u64::MAX, 1 << 40 | 5, 0]);
    #[cfg(target_arch = "x86_64")]
    for value in [u32::MAX, u32::MAX] {
        // SAFETY: i386's personality; rbx is put back.
        unsafe {
            std::arch::asm!(
                "push rbx", "mov ebx, {value:e}", "int 0x80", "pop rbx",
                value = in(reg) value,
                inlateout("rax") 136i64 => _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
    }
}

/// The same request on descriptors of every kind, twice each.
pub(crate) fn descriptors() {
    let directory = env::temp_dir();
    let file = directory.join(format!("seccomp-learn-descriptors-{}", std::process::id()));
    fs::File::create(&file).unwrap().write_all(&[0; 4096]).unwrap();
    let open = |path: &str| fs::File::open(path).unwrap().into_raw_fd();
    let regular = open(file.to_str().unwrap());
    let (null, zero) = (open("/dev/null"), open("/dev/zero"));
    let mut descriptors = vec![null, zero, regular, open(directory.to_str().unwrap())];
    // SAFETY: each makes descriptors, and the arrays have room for two.
    unsafe {
        let mut ends = [0; 2];
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        descriptors.extend(ends);
        descriptors.push(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
        descriptors.push(libc::epoll_create1(0));
        descriptors.push(libc::eventfd(0, 0));
        descriptors.push(libc::memfd_create(c"own".as_ptr(), 0));
        descriptors.push(i32::try_from(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)).unwrap());
        let terminal = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        assert!(terminal >= 0 && libc::grantpt(terminal) == 0 && libc::unlockpt(terminal) == 0);
        let path = std::ffi::CStr::from_ptr(libc::ptsname(terminal));
        descriptors.push(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NOCTTY));
    }
    assert!(descriptors.iter().all(|descriptor| *descriptor >= 0));
    descriptors.extend([-1, 900]);
    gate();
    for descriptor in &descriptors {
        for _ in 0..2 {
            // Only the low half of the register is the descriptor.
            let register = u64::from(descriptor.cast_unsigned()) | UPPER;
            raw(libc::SYS_ioctl, [register, REQUEST, 0, 0, 0, 0]);
        }
    }
    raw(libc::SYS_ioctl, [u64::from(null.cast_unsigned()), SIGNED, 0, 0, 0, 0]);
    let map = |flags: i32, descriptor: i32| {
        // SAFETY: a new mapping, wherever there is room.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, flags, descriptor, 0) };
        assert_ne!(mapped, libc::MAP_FAILED);
    };
    map(libc::MAP_PRIVATE, regular);
    map(libc::MAP_PRIVATE, zero);
    map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, zero);
    fs::remove_file(file).unwrap();
}

/// How many processes, threads of each, and calls of each thread [`together`] makes, and of how many kinds.
pub(crate) const TOGETHER: (u64, u64, u64, u64) = (4, 8, 30_000, 6);

/// Many threads make the same calls at once.
pub(crate) fn together() {
    let (processes, threads, calls, kinds) = TOGETHER;
    gate();
    let calls = move || {
        for index in 0..calls {
            raw(libc::SYS_getppid, [index % kinds, 0, 0, 0, 0, 0]);
        }
    };
    let process = || {
        let threads: Vec<_> = (0..threads).map(|_| thread::spawn(calls)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    };
    let children: Vec<_> = (1..processes).map(|_| fork(process)).collect();
    process();
    children.into_iter().for_each(|child| assert_eq!(reap(child), 0));
}

/// How many distinct requests [`wide`] makes, and how many distinct values of everything else.
pub(crate) const WIDE: (u64, u64) = (1_000_000, 100_000);

/// More distinct arguments than anybody keeps.
pub(crate) fn wide() {
    gate();
    for request in 0..WIDE.0 {
        raw(libc::SYS_ioctl, [u64::MAX, request, 0, 0, 0, 0]);
    }
    for value in 0..WIDE.1 {
        raw(libc::SYS_fcntl, [u64::MAX, value + 1000, 0, 0, 0, 0]);
        raw(libc::SYS_getppid, [value, 0, 0, 0, 0, 0]);
    }
}

/// How many paths beyond the bound [`opens`] opens.
pub(crate) const PATHS: u32 = profiler_ebpf::MAX_OPENED;

/// Opens what the GPU driver opens, and other files, by every call there is for it.
pub(crate) fn opens() {
    let own = PathBuf::from(env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into()));
    let own = own.join(format!("seccomp-learn-opens-{}", std::process::id()));
    let cache = own.join(".nv/ComputeCache/4");
    fs::create_dir_all(&cache).unwrap();
    let library = own.join("libcuda.so.570.86.15");
    for path in [&library, &own.join("libc.so"), &cache.join("index")] {
        fs::write(path, "").unwrap();
    }
    let text = |path: PathBuf| std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // A path that nobody has touched, in a page that is not there.
    let paths = own.join("paths");
    fs::write(&paths, text(own.join("libnvidia-ml.so.1")).as_bytes_with_nul()).unwrap();
    let paths = fs::File::open(&paths).unwrap();
    gate();
    let open = |path: &std::ffi::CStr, flags: i32| {
        // SAFETY: the path is a string. The calls are told apart by their numbers.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            {
                libc::syscall(libc::SYS_open, path.as_ptr(), flags, 0);
                libc::syscall(libc::SYS_open, path.as_ptr(), flags, 0);
            }
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0);
            let how = [u64::from(flags.cast_unsigned()), 0, 0];
            libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), how.as_ptr(), size_of_val(&how));
        }
    };
    open(&text(library), libc::O_RDONLY);
    open(&text(own.join("libc.so")), libc::O_RDONLY);
    open(&text(cache.join("index")), libc::O_RDONLY);
    open(c"/dev/nvidia-of-no-one", libc::O_RDWR);
    open(c"libnvcuvid.so.1", libc::O_RDONLY);
    let long = format!("/dev/shm/{}", "x".repeat(200));
    open(&std::ffi::CString::new(long).unwrap(), libc::O_RDONLY);
    // SAFETY: a new mapping of a file, which the kernel reads the path from.
    unsafe {
        let page =
            libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, paths.as_raw_fd(), 0);
        assert_ne!(page, libc::MAP_FAILED);
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, page, libc::O_RDONLY, 0);
    }
    if env::var_os("SECCOMP_LEARN_TEST_PART").is_some_and(|part| part == "many-opens") {
        for index in 0..PATHS {
            let path = std::ffi::CString::new(format!("/dev/shm/none/{index}")).unwrap();
            // SAFETY: the path is a string.
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), 0, 0) };
        }
    }
    fs::remove_dir_all(own).unwrap();
}

/// Calls that a filter of its own refuses, by the thousand values.
pub(crate) fn refused() {
    gate();
    crate::workload::refuse_getppid();
    for value in 0..300 {
        raw(libc::SYS_getppid, [value | UPPER, 0, 0, 0, 0, 0]);
    }
}
