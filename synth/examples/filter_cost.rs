//! What filters cost a workload on this host: nanoseconds for each call of its own mix, with no filter, Docker's
//! default and the workload's profile, each looked up as a list and as a tree. `cargo xtask bench filter` runs it.
//!
//! Every filter is loaded, as it is, in a process of its own; calls are made there with the recorded scalars, and with
//! pointers and descriptors that no call accepts, so that the kernel is out of each as fast as it can be. The rounds
//! take the processes in turn.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_precision_loss,
    reason = "a program of the bench, no part of the library"
)]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use seccomp_learn_synth::{
    CompileOptions, Container, Cost, CostLookup, CostOf, Instruction, Lookup, Profile, compile, cost,
    decode::registers, reference,
};
use trace::{Abi, Trace};

/// What is measured: calls that return at once from what no call accepts. The others block, end or split the process.
const MEASURED: &str = "access brk clock_gettime close connect epoll_ctl epoll_pwait epoll_wait faccessat faccessat2 \
    fcntl fstat futex getdents64 getpeername getpid getppid getrandom getrusage getsockname getsockopt gettid \
    getuid ioctl lseek lstat madvise mmap mprotect munmap newfstatat openat ppoll pread64 prlimit64 pwrite64 read \
    readlink readlinkat readv recvfrom recvmsg rt_sigaction rt_sigprocmask sched_getaffinity sched_yield \
    sendmsg sendto set_robust_list setsockopt shutdown sigaltstack stat statx sysinfo tgkill uname write writev";

/// How many sets of registers are measured, of those that are recorded most often.
const CALLS: usize = 24;
const ROUNDS: usize = 7;
/// How long one set of registers is measured in one round.
const SPELL: Duration = Duration::from_millis(8);

/// Registers with which a call was made.
struct Call {
    number: u32,
    args: [u64; 6],
    calls: u64,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [only] if only == "worker" => worker(),
        [] => panic!("give workload folders"),
        folders => folders.iter().for_each(|folder| bench(Path::new(folder))),
    }
}

fn bench(folder: &Path) {
    let profile = Profile::read(&fs::read(folder.join("profile.json")).unwrap()).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(folder.join("traces")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let traces: Vec<Trace> =
        files.iter().map(|file| Trace::read(fs::File::open(file).unwrap()).unwrap()).collect();
    let trace = trace::merge(traces).unwrap();
    let native = Abi::native_of(env::consts::ARCH).expect("a machine that filters are for");
    let (calls, share) = mix(&trace, native);
    let costs = cost(&profile, native, Some(&trace), CompileOptions::default()).unwrap();
    let docker = reference("docker").unwrap().resolve(&Container::new(native, (6, 18)));
    let mut workers = vec![("no filter".to_owned(), None, Worker::start(&[]))];
    for (profile, of, name) in
        [(&docker, CostOf::Docker, "Docker's default"), (&profile, CostOf::Profile, "its profile")]
    {
        for (how, lookup, word) in
            [(Lookup::Linear, CostLookup::Linear, "list"), (Lookup::Tree, CostLookup::Tree, "tree")]
        {
            let program = compile(profile, native, CompileOptions::default().with_lookup(how)).unwrap();
            workers.push((
                format!("{name}, {word}"),
                Some((of, lookup)),
                Worker::start(&program.instructions),
            ));
        }
    }
    let mut times = vec![vec![Vec::new(); calls.len()]; workers.len()];
    for _ in 0..ROUNDS {
        for (at, call) in calls.iter().enumerate() {
            for ((_, _, worker), times) in workers.iter_mut().zip(&mut times) {
                times[at].push(worker.measure(call));
            }
        }
    }
    print(folder, &workers, &calls, times, share, &costs);
}

/// The registers that are recorded most often and can be measured, and their share of all calls.
fn mix(trace: &Trace, native: Abi) -> (Vec<Call>, f64) {
    let mut calls = Vec::new();
    let mut all = 0;
    for row in &trace.syscalls {
        all += row.calls;
        if row.abi != native || !MEASURED.split_whitespace().any(|name| name == row.name) {
            continue;
        }
        let mut rest = row.calls;
        for (arguments, values) in
            row.arguments.iter().flat_map(|own| own.values.iter().map(move |one| (own, one)))
        {
            let mut args = registers(&arguments.kept, values);
            let kept = |index: usize| {
                arguments.kept.iter().any(|own| own.offset.is_none() && own.index as usize == index)
            };
            (0..6).filter(|index| !kept(*index)).for_each(|index| args[index] = u64::MAX);
            rest -= values.calls;
            calls.push(Call { number: row.number, args, calls: values.calls });
        }
        if rest > 0 {
            calls.push(Call { number: row.number, args: [u64::MAX; 6], calls: rest });
        }
    }
    calls.sort_by_key(|call| std::cmp::Reverse(call.calls));
    calls.truncate(CALLS);
    let measured: u64 = calls.iter().map(|call| call.calls).sum();
    (calls, measured as f64 / all as f64)
}

type Named = (String, Option<(CostOf, CostLookup)>, Worker);

fn print(
    folder: &Path,
    workers: &[Named],
    calls: &[Call],
    times: Vec<Vec<Vec<f64>>>,
    share: f64,
    costs: &Cost,
) {
    let measured: u64 = calls.iter().map(|call| call.calls).sum();
    let medians: Vec<Vec<f64>> = times.into_iter().map(|of| of.into_iter().map(median).collect()).collect();
    let mean = |of: &[f64]| {
        of.iter().zip(calls).map(|(ns, call)| ns * call.calls as f64).sum::<f64>() / measured as f64
    };
    let bare = mean(&medians[0]);
    println!(
        "{}: nanoseconds over the {:.1} % of its {} calls that are measured ({} sets of registers), instructions and \
         the share that the kernel's bitmap answers over all of them",
        folder.display(),
        share * 100.0,
        costs.calls,
        calls.len()
    );
    println!(
        "{:<26} {:>8} {:>8} {:>7} {:>18} {:>15}",
        "filter", "ns/call", "added", "ratio", "instructions (all)", "by bitmap (all)"
    );
    for ((name, which, _), of) in workers.iter().zip(&medians) {
        let figures = costs.filters.iter().find(|own| Some((own.filter, own.lookup)) == *which);
        let (instructions, bitmap) = figures.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |own| (format!("{:.2}", own.mean), format!("{:.1} %", own.by_bitmap * 100.0)),
        );
        let own = mean(of);
        println!(
            "{name:<26} {own:>8.1} {:>8.1} {:>7.3} {instructions:>18} {bitmap:>15}",
            own - bare,
            own / bare
        );
    }
    println!();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A process with a filter.
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(program: &[Instruction]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        let mut child = command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let words = program.iter().map(|own| format!("{} {} {} {}", own.code, own.jt, own.jf, own.k));
        writeln!(input, "{}", words.collect::<Vec<_>>().join(" ")).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input: Some(input), output }
    }

    fn measure(&mut self, call: &Call) -> f64 {
        let args = call.args.map(|arg| arg.to_string()).join(" ");
        writeln!(self.input.as_mut().unwrap(), "{} {args}", call.number).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().parse().expect("a worker that lives")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Loads the filter of the first line; for each further line, measures the call that it names.
fn worker() {
    let mut lines = std::io::stdin().lock().lines();
    let numbers =
        |line: &str| line.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<u64>>();
    let first = numbers(&lines.next().unwrap().unwrap());
    let filter: Vec<libc::sock_filter> = first
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&[code, jt, jf, k]| libc::sock_filter {
            code: code as u16,
            jt: jt as u8,
            jf: jf as u8,
            k: k as u32,
        })
        .collect();
    if !filter.is_empty() {
        load(&filter);
    }
    for line in lines {
        let [number, args @ ..] = numbers(&line.unwrap()).try_into().unwrap_or([0; 7]);
        println!("{}", measure(number, args));
    }
}

fn load(filter: &[libc::sock_filter]) {
    let program =
        libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_ptr().cast_mut() };
    // SAFETY: prctl with these arguments only sets a flag of this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its instructions live until the call returns; the kernel copies them and writes nothing.
    let loaded =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    assert_eq!(loaded, 0, "{}", std::io::Error::last_os_error());
}

/// The middle of rows of calls, in nanoseconds for one: what else the machine does meanwhile hits only some of them.
fn measure(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> f64 {
    const ROW: u32 = 100;
    let begin = Instant::now();
    let mut rows = Vec::new();
    while begin.elapsed() < SPELL {
        let row = Instant::now();
        for _ in 0..ROW {
            // SAFETY: the parent names only calls of `MEASURED`; what is no recorded scalar is all ones, which no call
            // takes for an address or a descriptor.
            unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) };
        }
        rows.push(row.elapsed().as_secs_f64() * 1e9 / f64::from(ROW));
    }
    median(rows)
}
