//! Calls and conditions as people write them.

use proptest::prelude::*;

use super::*;
use crate::{condition::parse_conditions, profile::Condition, profile::Operator};

#[track_caller]
fn check(abi: Abi, name: &str, args: [u64; 6], context: &Context<'_>, expected: &str) {
    assert_eq!(call(abi, name, &args, context), expected);
}

#[test]
fn calls_are_written_as_people_write_them() {
    const MINUS_1: u64 = u64::MAX;
    let plain = Context::default();
    for (name, args, expected) in [
        ("socket", [10, 0x80001, 0, 7, 7, 7], "socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP)"),
        ("socket", [1, 1, 0, 0, 0, 0], "socket(AF_UNIX, SOCK_STREAM, 0)"),
        ("kill", [123, 15, 0, 0, 0, 0], "kill(123, SIGTERM)"),
        ("kill", [MINUS_1, 0, 0, 0, 0, 0], "kill(-1, 0)"),
        ("getpid", [1, 2, 3, 4, 5, 6], "getpid()"),
        ("mmap", [0, 4096, 5, 2, 3, 0], "mmap(NULL, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3, 0)"),
        (
            "mmap",
            [0x7f12_3456_7000, 8192, 3, 0x32, 0xffff_ffff, 0],
            "mmap(0x7f…, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        ),
        (
            "openat",
            [0xffff_ff9c, 0x55aa_0000_1000, 0x80000, 0, 0, 0],
            "openat(AT_FDCWD, 0x55…, O_RDONLY|O_CLOEXEC)",
        ),
        ("openat", [3, 0x1000, 0x41, 0o644, 0, 0], "openat(3, 0x1000, O_WRONLY|O_CREAT, 0644)"),
        ("fcntl", [3, 1, 99, 0, 0, 0], "fcntl(3, F_GETFD)"),
        ("fcntl", [3, 2, 1, 0, 0, 0], "fcntl(3, F_SETFD, FD_CLOEXEC)"),
        ("fcntl", [3, 4, 0x802, 0, 0, 0], "fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK)"),
        ("prctl", [4, 0, 0, 0, 0, 0], "prctl(PR_SET_DUMPABLE)"),
        ("prctl", [1, 9, 0, 0, 0, 0], "prctl(PR_SET_PDEATHSIG, SIGKILL)"),
        ("ioctl", [1, 0x5413, 0x7ffc_0000_0000, 0, 0, 0], "ioctl(1, TIOCGWINSZ, 0x7f…)"),
        (
            "ioctl",
            [1, 0xdead_beef_0000_5412, 0, 0, 0, 0],
            "ioctl(1, TIOCSTI /* upper half 0xdeadbeef */, NULL)",
        ),
        ("setsockopt", [3, 6, 31, 0x10, 4, 0], "setsockopt(3, SOL_TCP, TCP_ULP, 0x10, 4)"),
        ("setsockopt", [3, 400, 31, 0x10, 4, 0], "setsockopt(3, 400, 31, 0x10, 4)"),
        ("chown", [0x10, 0xffff_ffff, 0, 0, 0, 0], "chown(0x10, -1, 0)"),
        ("nanosleep", [0x10, 0, 0, 0, 0, 0], "nanosleep(0x10, NULL)"),
        ("syscall_1000", [1, 0, 0, 0, 0, 0], "syscall_1000(0x1, 0x0, 0x0, 0x0, 0x0, 0x0)"),
    ] {
        check(Abi::X86_64, name, args, &plain, expected);
    }
    check(Abi::I386, "mmap", [0x8000, 1, 2, 3, 4, 5], &plain, "mmap(0x8000)");
    check(Abi::I386, "socketcall", [1, 0x8000, 0, 0, 0, 0], &plain, "socketcall(SYS_SOCKET, 0x8000)");
    check(Abi::Arm, "fcntl64", [3, 12, 0x10, 0, 0, 0], &plain, "fcntl64(3, F_GETLK64, 16)");
}

#[test]
fn what_is_known_besides_the_arguments_is_written() {
    let uvm = Context { file: Some("/dev/nvidia-uvm"), detail: Detail::Named, ..Context::default() };
    check(
        Abi::X86_64,
        "ioctl",
        [3, 0x3000_0001, 0x10, 0, 0, 0],
        &uvm,
        "ioctl(/dev/nvidia-uvm, UVM_INITIALIZE)",
    );
    let named = Context { detail: Detail::Named, ..Context::default() };
    check(Abi::X86_64, "mmap", [1, 2, 5, 2, 3, 4], &named, "mmap(PROT_READ|PROT_EXEC, MAP_PRIVATE)");
    check(Abi::X86_64, "ioctl", [3, 0xc030_462b, 0x10, 0, 0, 0], &named, "ioctl(NV_ESC_RM_ALLOC)");
    check(Abi::X86_64, "read", [3, 2, 3, 0, 0, 0], &named, "read()");
    let full = Context { detail: Detail::Full, ..Context::default() };
    check(Abi::X86_64, "close", [3, 0, 0, 0, 0, 0], &full, "close(3)");
    check(Abi::X86_64, "brk", [0x55aa_1234_5000, 0, 0, 0, 0, 0], &full, "brk(0x55aa12345000)");
    let fields = [StructField { index: 0, offset: 0, value: 0x4100 }];
    let context = Context { fields: &fields, ..Context::default() };
    check(
        Abi::X86_64,
        "clone3",
        [0x7ffc_0000_0000, 88, 0, 0, 0, 0],
        &context,
        "clone3({flags=CLONE_VM|CLONE_VFORK}, 88)",
    );
}

#[test]
fn an_argument_alone_has_a_name_where_it_needs_no_other() {
    let name = |syscall, index, value| argument(Abi::X86_64, syscall, index, value);
    assert_eq!(name("socket", 0, 38).as_deref(), Some("AF_ALG"));
    assert_eq!(name("ioctl", 1, 0x5412).as_deref(), Some("TIOCSTI"));
    assert_eq!(name("clone", 0, 0xf_0000_0011).as_deref(), Some("SIGCHLD"));
    assert_eq!(name("setsockopt", 2, 31), None);
    assert_eq!(name("read", 2, 31), None);
    assert_eq!(name("socket", 9, 31), None);
}

#[test]
fn conditions_are_written_as_people_say_them() {
    for (syscall, text, expected) in [
        ("clone", "arg0 & 0x7e020000 == 0", "no CLONE_NEW* in flags"),
        ("clone", "arg0 & 0x10000000 == 0", "no CLONE_NEWUSER in flags"),
        ("clone", "arg0 & 0x50000000 == 0", "no CLONE_NEWUSER, no CLONE_NEWNET in flags"),
        ("clone", "arg0 & 0x10100 == 0x10100", "CLONE_VM and CLONE_THREAD in flags"),
        ("clone", "arg0 & 0xff == 17", "SIGCHLD in flags"),
        ("mmap", "arg2 & 6 == 4", "prot & (PROT_WRITE|PROT_EXEC) == PROT_EXEC"),
        ("mmap", "arg2 & 4 == 0", "no PROT_EXEC in prot"),
        ("socket", "arg0 == 2, arg2 == 6", "domain == AF_INET, protocol == IPPROTO_TCP"),
        (
            "socket",
            "arg0 & 0xffffffff == 16, arg2 & 0xffffffff == 9",
            "domain == AF_NETLINK, protocol == NETLINK_AUDIT",
        ),
        ("socket", "arg1 & 0xfff7f7ff == 1", "type == SOCK_STREAM with any of SOCK_NONBLOCK|SOCK_CLOEXEC"),
        ("socket", "arg0 & 0xfffffffffffffffc == 4", "domain from AF_IPX to AF_BRIDGE"),
        ("socket", "arg0 & 0xfffffffc == 44", "domain from AF_XDP to 47"),
        ("socket", "arg0 & 0xfffffff7 == 2", "domain in {AF_INET, AF_INET6}"),
        (
            "socket",
            "arg1 & 0xfff7f7fc == 0",
            "type in {0, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW} with any of SOCK_NONBLOCK|SOCK_CLOEXEC",
        ),
        ("mmap", "arg2 & 0xfffffffe == 2", "prot == PROT_WRITE with any of PROT_READ"),
        ("mmap", "arg2 & 0xfffffffa == 0", "prot == PROT_NONE with any of PROT_READ|PROT_EXEC"),
        ("pipe2", "arg1 & 0xfff7f7ff == 0", "flags within O_NONBLOCK|O_CLOEXEC"),
        ("clone", "arg0 & 0xfffefeff == 0x11", "flags == SIGCHLD with any of CLONE_VM|CLONE_THREAD"),
        ("ioctl", "arg1 & 0xfffffffd == 0x5401", "request in {TCGETS, TCSETSW}"),
        ("ioctl", "arg1 & 0xfff7ffff == 0xc020462b", "request == NV_ESC_RM_ALLOC"),
        ("ioctl", "arg1 & 0xffffffef == 0x8901", "request in {FIOSETOWN, SIOCSIFLINK}"),
        ("ioctl", "arg1 & 0xffffffef == 0xdead0000", "request & 0xffffffef == 0xdead0000"),
        ("socket", "arg0 != 40", "domain != AF_VSOCK"),
        ("socket", "arg0 > 40", "domain > 0x28 (AF_VSOCK)"),
        ("socket", "arg0 == 0x100000001", "domain == 0x100000001"),
        ("socket", "arg0 & 0xffffffff00000000 == 0", "any domain"),
        (
            "socket",
            "arg0 & 0xfffffff7 == 2, arg2 & 0xffffffff == 17",
            "domain in {AF_INET, AF_INET6}, protocol == IPPROTO_UDP",
        ),
        (
            "setsockopt",
            "arg1 & 0xfffffffe == 0, arg2 & 0xffffffff == 2",
            "level == SOL_IP, optname == IP_TTL or level == SOL_SOCKET, optname == SO_REUSEADDR",
        ),
        ("setsockopt", "arg1 == 1, arg2 == 2", "level == SOL_SOCKET, optname == SO_REUSEADDR"),
        ("ioctl", "arg1 & 0xffffffff == 0x5401", "request == TCGETS"),
        ("ioctl", "arg1 & 0xc000ffff == 0xc00046c8", "request == NV_ESC_CARD_INFO of any size"),
        ("ioctl", "arg1 & 0xff00 == 0x5400", "request & 0xff00 == 0x5400"),
        ("read", "arg2 == 8", "arg2 == 0x8"),
        ("prctl", "arg1 == 9", "arg2 == 9"),
        ("prctl", "arg1 & 0xff == 9", "arg2 & 0xff == 0x9"),
        ("personality", "arg0 == 0x20008", "persona == PER_LINUX32|UNAME26"),
    ] {
        let parsed = parse_conditions(text).unwrap();
        assert_eq!(conditions(Abi::X86_64, syscall, &parsed), expected, "{syscall} {text}");
    }
    assert_eq!(conditions(Abi::X86_64, "read", &[]), "always");
}

#[test]
fn alternatives_that_differ_in_one_value_are_one() {
    let list = |syscall, when: &[&str]| {
        let when: Vec<String> = when.iter().map(|text| (*text).to_owned()).collect();
        (alternatives_list(Abi::X86_64, syscall, &when), alternatives(Abi::X86_64, syscall, &when))
    };
    let requests =
        ["0x5401", "0x5413", "0xc030462b", "0x5421"].map(|own| format!("arg1 & 0xffffffff == {own}"));
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let one = "request in {TCGETS, TIOCGWINSZ, NV_ESC_RM_ALLOC, FIONBIO}";
    assert_eq!(list("ioctl", &requests), (vec![one.to_owned()], one.to_owned()));
    let sockets = [
        "arg0 & 0xffffffff == 1, arg1 & 0xfff7f7ff == 1, arg2 & 0xffffffff == 0",
        "arg0 & 0xffffffff == 2, arg1 & 0xfff7f7ff == 1, arg2 & 0xffffffff == 0",
        "arg0 & 0xffffffff == 2, arg1 & 0xfff7f7ff == 2, arg2 & 0xffffffff == 0",
        "nonsense",
    ];
    let (sockets, sentence) = list("socket", &sockets);
    let flags = "with any of SOCK_NONBLOCK|SOCK_CLOEXEC";
    assert_eq!(sockets[0], format!("domain == AF_UNIX, type == SOCK_STREAM {flags}, protocol == 0"));
    assert_eq!(
        sockets[1],
        format!("domain == AF_INET, type in {{SOCK_STREAM, SOCK_DGRAM}} {flags}, protocol == IPPROTO_IP")
    );
    assert_eq!(sockets[2], "nonsense");
    assert!(sentence.contains(" or "));
    assert_eq!(list("read", &["always"]).1, "always");
}

const OPERATORS: [Operator; 7] =
    [Operator::Eq, Operator::Ne, Operator::Lt, Operator::Le, Operator::Gt, Operator::Ge, Operator::MaskedEq];

/// Numbers of all sizes.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..70,
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        (0_u32..64).prop_map(|bit| 1 << bit)
    ]
}

proptest! {
    #[test]
    fn any_call_decodes(
        abi in proptest::sample::select(&Abi::ALL[..]),
        number in 0_u32..1100,
        args in proptest::array::uniform6(any_number()),
        file in proptest::option::of("(/dev/(nvidia[a-z0-9-]{0,8}|pts/1|tty)|socket:|\\PC{0,9})"),
        detail in proptest::sample::select(&[Detail::Named, Detail::Short, Detail::Full][..]),
        field in proptest::option::of((0_u32..7, 0_u32..20, any_number())),
    ) {
        let name = abi.name(number).to_string();
        let fields: Vec<_> =
            field.map(|(index, offset, value)| StructField { index, offset, value }).into_iter().collect();
        let context = Context { file: file.as_deref(), fields: &fields, detail };
        let text = call(abi, &name, &args, &context);
        prop_assert!(text.starts_with(&name) && text.ends_with(')'));
        let start = format!("{name}(");
        prop_assert!(text.starts_with(&start));
    }

    /// No two values of an argument are written alike, if the kernel can tell them apart.
    #[test]
    fn different_values_are_written_differently(
        which in 0..arguments::arguments().len(),
        one in any_number(),
        other in any_number(),
    ) {
        let argument = &arguments::arguments()[which];
        for set in argument.sets(Abi::X86_64) {
            let (one, other) = (one & argument.mask, other & argument.mask);
            prop_assert_eq!(one == other, set.show(one) == set.show(other), "{} {:#x} {:#x}", argument.name, one, other);
        }
    }

    #[test]
    fn any_condition_decodes(
        abi in proptest::sample::select(&Abi::ALL[..]),
        number in 0_u32..500,
        index in 0_u32..8,
        value in any_number(),
        value_two in any_number(),
        op in proptest::sample::select(&OPERATORS[..]),
    ) {
        let condition = Condition { index, value, value_two, op };
        prop_assert!(!conditions(abi, &abi.name(number).to_string(), &[condition, condition]).is_empty());
    }
}
