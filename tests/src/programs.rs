//! Ten programs that nobody here wrote, each with a workload, and what drives it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

/// A program with its workload.
pub struct Program {
    pub name: &'static str,
    /// Executables without which it cannot run.
    pub needs: &'static [&'static str],
    /// Makes its files in a fresh folder and says how it is run.
    pub prepare: fn(&Path) -> Workload,
}

/// How a program is run. A service has a command that drives it and then stops it.
pub struct Workload {
    pub command: Vec<String>,
    pub ready: Option<String>,
    pub exercise: Option<String>,
    /// Where a service listens, on 127.0.0.1.
    pub port: Option<u16>,
}

impl Workload {
    pub fn command(words: &[&str]) -> Self {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        Self { command, ready: None, exercise: None, port: None }
    }

    /// The arguments for `record`, `test` or `learn`: options, `--`, the command.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (option, value) in [("--ready", &self.ready), ("--exercise", &self.exercise)] {
            arguments.extend(value.iter().flat_map(|value| [option.to_owned(), value.clone()]));
        }
        arguments.push("--".to_owned());
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    /// Drives a service that something else runs in this cgroup: its head, the first process there, gets SIGTERM at
    /// the end.
    pub fn drive(&self, cgroup: &Path) -> Option<Child> {
        let (ready, exercise) = (self.ready.as_ref()?, self.exercise.as_ref()?);
        let stop = format!("kill -TERM $(head -n 1 {}/cgroup.procs)", cgroup.display());
        let line = format!("for i in $(seq 100); do {ready} && break; sleep 0.1; done; {exercise}; {stop}");
        let mut shell = Command::new("/bin/sh");
        Some(shell.args(["-c", &line]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// Where an executable is.
pub fn which(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).exists().then(|| name.into());
    }
    std::env::split_paths("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
}

fn full(name: &str) -> String {
    which(name).unwrap_or_else(|| panic!("needs `{name}`")).to_string_lossy().into_owned()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One of the ten, if everything that it needs is here; else the test that asked for it is skipped.
pub fn program(name: &str) -> Option<&'static Program> {
    let program = PROGRAMS.iter().find(|program| program.name == name).unwrap();
    match program.needs.iter().find(|needed| which(needed).is_none()) {
        None => Some(program),
        Some(missing) => {
            crate::skip(&format!("{name} needs `{missing}`"));
            None
        }
    }
}

/// Whether this machine has an IPv6 loopback address.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

fn script(folder: &Path, text: &str) -> Workload {
    let path = folder.join("run.sh");
    fs::write(&path, text).unwrap();
    Workload::command(&["/bin/sh", path.to_str().unwrap()])
}

/// The ten, in the order in which they are tested.
pub const PROGRAMS: [Program; 10] = [
    Program { name: "coreutils", needs: &["sort", "sha256sum"], prepare: coreutils },
    Program { name: "python3", needs: &["/usr/bin/python3"], prepare: python },
    Program { name: "redis", needs: &["redis-server", "redis-benchmark"], prepare: redis },
    Program { name: "nginx", needs: &["nginx", "wrk", "curl"], prepare: nginx },
    Program { name: "git", needs: &["git"], prepare: git },
    Program { name: "sqlite3", needs: &["sqlite3"], prepare: sqlite },
    Program { name: "openssl", needs: &["openssl"], prepare: openssl },
    Program { name: "tar-zstd", needs: &["tar", "zstd"], prepare: tar },
    Program { name: "ripgrep", needs: &["rg"], prepare: ripgrep },
    Program { name: "busybox-i386", needs: &["apt-get", "dpkg"], prepare: busybox },
];

fn coreutils(folder: &Path) -> Workload {
    let text = format!(
        "set -e\ncd {}\nseq 1 20000 | shuf --random-source=/bin/sh > numbers\nsort -n numbers | uniq | tail -n 3\n\
         cp numbers copy\nsha256sum numbers copy\nmkdir -p a/b\nln -sf ../copy a/link\nmv copy a/b/\nls -lR . > listing\n\
         du -s . > size\ndd if=/dev/zero of=zeros bs=4k count=64 status=none\nstat zeros > /dev/null\nchmod 600 zeros\n\
         touch -d 2020-01-01 zeros\ntac numbers | head -n 2\nwc -l numbers\nid -u\ndate -u > /dev/null\nrm -r a\n",
        folder.display()
    );
    script(folder, &text)
}

fn python(folder: &Path) -> Workload {
    let path = folder.join("work.py");
    let text = "import concurrent.futures, hashlib, json, os, socket, subprocess, tempfile, threading\n\
        def work(n):\n    with tempfile.NamedTemporaryFile() as f:\n        f.write(os.urandom(65536)); f.flush()\n\
        \x20       return hashlib.sha256(open(f.name, 'rb').read()).hexdigest()\n\
        with concurrent.futures.ThreadPoolExecutor(6) as pool:\n    print(len(set(pool.map(work, range(24)))))\n\
        for i in range(4):\n    subprocess.run(['/bin/echo', str(i)], check=True, capture_output=True)\n\
        a, b = socket.socketpair(); a.sendall(b'x'); b.recv(1)\n\
        e = threading.Event(); t = threading.Thread(target=e.wait); t.start(); e.set(); t.join()\n\
        print(json.dumps({'cpus': os.cpu_count(), 'pid': os.getpid()}))\n";
    fs::write(&path, text).unwrap();
    Workload::command(&["/usr/bin/python3", path.to_str().unwrap()])
}

fn redis(folder: &Path) -> Workload {
    let port = free_port();
    let (server, cli) = (full("redis-server"), full("redis-cli"));
    let mut workload = Workload::command(&[
        &server,
        "--port",
        &port.to_string(),
        "--dir",
        folder.to_str().unwrap(),
        "--save",
        "",
        "--bind",
        "127.0.0.1",
    ]);
    workload.ready = Some(format!("{cli} -p {port} ping | grep -q PONG"));
    workload.port = Some(port);
    workload.exercise = Some(format!(
        "{} -p {port} -q -n 2000 -c 20 && {cli} -p {port} bgsave && sleep 0.7 && {cli} -p {port} lastsave",
        full("redis-benchmark")
    ));
    workload
}

fn nginx(folder: &Path) -> Workload {
    let port = free_port();
    let root = folder.join("html");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("index.html"), "<p>hello</p>".repeat(500)).unwrap();
    fs::write(root.join("large"), "0123456789abcdef".repeat(1 << 19)).unwrap();
    let ipv6 = if has_ipv6() { format!("listen [::1]:{port};") } else { String::new() };
    let configuration = format!(
        "daemon off;\nworker_processes 2;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n\
         access_log {dir}/access.log;\nsendfile on;\ngzip on;\nclient_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;\n\
         fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         server {{ listen 127.0.0.1:{port}; {ipv6} root {dir}/html; }}\n}}\n",
        dir = folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut permissions = fs::metadata(folder).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(folder, permissions).unwrap();
    let mut workload = Workload::command(&[&full("nginx"), "-c", file.to_str().unwrap()]);
    let url = format!("http://127.0.0.1:{port}/index.html");
    workload.ready =
        Some(format!("{} -sfo /dev/null {url} && test -s {}/nginx.pid", full("curl"), folder.display()));
    workload.port = Some(port);
    workload.exercise = Some(format!(
        "{wrk} -t1 -c8 -d1 {url} && kill -HUP $(cat {dir}/nginx.pid) && sleep 0.5 && {wrk} -t1 -c8 -d1 {url}",
        wrk = full("wrk"),
        dir = folder.display()
    ));
    workload
}

fn git(folder: &Path) -> Workload {
    let run = |arguments: &[&str]| {
        let mut git = Command::new("/usr/bin/git");
        git.args(["-C", folder.to_str().unwrap(), "-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(arguments);
        assert!(git.output().unwrap().status.success(), "git {arguments:?}");
    };
    run(&["init", "-q", "origin"]);
    for number in 0..20 {
        fs::write(folder.join("origin").join(format!("f{number}")), "line\n".repeat(number * 50 + 1))
            .unwrap();
    }
    run(&["-C", "origin", "add", "."]);
    run(&["-C", "origin", "commit", "-qm", "all"]);
    let text = format!(
        "set -e\ncd {}\nexport HOME=$PWD GIT_CONFIG_NOSYSTEM=1\nrm -rf copy\n/usr/bin/git clone -q --no-local origin copy\n\
         /usr/bin/git -C copy log --oneline\n",
        folder.display()
    );
    script(folder, &text)
}

fn sqlite(folder: &Path) -> Workload {
    let text = format!(
        "set -e\ncd {}\nrm -f db*\nsqlite3 db 'pragma journal_mode=wal; create table t(a,b); with recursive c(x) as (select 1 \
         union all select x+1 from c where x<5000) insert into t select x, hex(randomblob(50)) from c; create index i on \
         t(b); select count(*) from t; vacuum;'\n",
        folder.display()
    );
    script(folder, &text)
}

fn openssl(_: &Path) -> Workload {
    Workload::command(&[
        &full("openssl"),
        "speed",
        "-seconds",
        "1",
        "-bytes",
        "1024",
        "-multi",
        "2",
        "sha256",
    ])
}

fn tar(folder: &Path) -> Workload {
    let text = format!(
        "set -e\ncd {}\nrm -rf out tree\nmkdir out tree\nfor i in 1 2 3 4 5 6 7 8; do seq 1 ${{i}}0000 > tree/f$i; done\n\
         ln -s f1 tree/link\ntar --zstd -cf a.tar.zst tree\ntar --zstd -xf a.tar.zst -C out\nzstd -q -T2 -f tree/f8 -o f8.zst\n\
         zstd -q -d -f f8.zst -o f8\ncmp f8 out/tree/f8\n",
        folder.display()
    );
    script(folder, &text)
}

fn ripgrep(folder: &Path) -> Workload {
    // Not where a log of its own calls grows while it searches.
    let folder = folder.join("haystack");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..30 {
        fs::write(folder.join(format!("f{number}")), format!("needle {number}\n").repeat(2000)).unwrap();
    }
    Workload::command(&[&full("rg"), "--threads", "3", "-c", "needle 7", folder.to_str().unwrap()])
}

/// Debian's static busybox for i386, unpacked beside the build: the system's own package lists stay as they are.
static BUSYBOX: LazyLock<PathBuf> = LazyLock::new(|| {
    let store = crate::cache().join("busybox-i386");
    let program = store.join("root/bin/busybox");
    if !program.exists() {
        let lists = store.join("lists");
        fs::create_dir_all(lists.join("partial")).unwrap();
        let apt = |arguments: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.args([
                "-qq",
                "-oAPT::Architecture=i386",
                "-oAPT::Architectures=i386",
                "-oAPT::Sandbox::User=root",
            ]);
            apt.arg(format!("-oDir::State::Lists={}", lists.display())).args(arguments).current_dir(&store);
            let output = apt.output().unwrap();
            output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        // One list of several may be in the middle of an update; the package tells whether it mattered.
        let update = apt(&["update"]);
        apt(&["download", "busybox-static"]).unwrap_or_else(|error| panic!("{error}\n{update:?}"));
        let package = fs::read_dir(&store)
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .find(|p| p.extension() == Some("deb".as_ref()));
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(package.unwrap()).arg(store.join("root"));
        assert!(unpack.status().unwrap().success());
        fs::remove_dir_all(&lists).unwrap();
    }
    program
});

fn busybox(folder: &Path) -> Workload {
    let busybox = BUSYBOX.to_str().unwrap();
    let text = format!(
        "cd {dir}\n{busybox} mkdir -p d\n{busybox} seq 1 500 > d/n\n{busybox} sort -r d/n | {busybox} head -n 3\n\
         {busybox} gzip -kf d/n\n{busybox} ls -l d\n{busybox} md5sum d/n\n{busybox} find d -type f\n{busybox} rm -r d\n",
        dir = folder.display()
    );
    let path = folder.join("run.sh");
    fs::write(&path, text).unwrap();
    Workload::command(&[busybox, "sh", path.to_str().unwrap()])
}
