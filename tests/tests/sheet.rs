//! The node's sheet, `docs/NODE.md`, run as it stands: its shell blocks against real engines, its manifests against
//! the field names of the published types.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use engine::SeccompSpec;
use seccomp_learn_tests::{
    cli,
    engines::{Containerd, Docker, Engine, Image, Podman, container, tiny},
    programs, require,
};
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

const SHEET: &str = include_str!("../../docs/NODE.md");

/// What serves until it is told to stop.
const SERVICE: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

/// The fenced blocks of this language with this word behind it, in order.
fn blocks(language: &str, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = SHEET.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let mut words = info.split(' ');
        if words.next() == Some(language) && words.any(|own| own == word) {
            found.push(text.join("\n") + "\n");
        }
    }
    found
}

/// A workstation or node on which the sheet is followed.
struct Host {
    folder: tempfile::TempDir,
    settings: String,
    environment: Vec<(&'static str, String)>,
}

impl Host {
    /// The commands of the sheet are the binary under test, with profiles below this folder, and what is given.
    fn new(root: &str, programs: &[(&str, String)]) -> Self {
        let folder = tempfile::Builder::new().prefix("sl-sheet").tempdir().unwrap();
        for name in ["bin", root] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let binary = cli::binary().display();
        let root = folder.path().join(root.split('/').next().unwrap());
        let own = format!(
            "#!/bin/sh\ncase \"$1\" in install|uninstall) verb=$1; shift; exec {binary} $verb --root {} \"$@\" ;; esac\nexec {binary} \"$@\"\n",
            root.display()
        );
        let host = Self { folder, settings: String::new(), environment: Vec::new() };
        for (name, text) in programs.iter().map(|(name, text)| (*name, text)).chain([("seccomp-learn", &own)])
        {
            let path = host.path("bin").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, script: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", &format!("{}\n{script}", self.settings)]);
        shell.env("PATH", format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap()));
        shell.envs(self.environment.iter().cloned()).current_dir(self.folder.path());
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.spawn().unwrap()
    }

    /// Runs it; what it says on standard output, if it ended with this code.
    #[track_caller]
    fn run(&self, script: &str, code: i32) -> String {
        finish(self.start(script), script, code)
    }
}

#[track_caller]
fn finish(child: Child, script: &str, code: i32) -> String {
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(output.status.code(), Some(code), "{script}\nstdout:\n{stdout}\nstderr:\n{stderr}");
    stdout
}

/// The image of the sheet: it serves, and ends when it is told to.
fn image() -> Image {
    let rootfs = tempfile::tempdir().unwrap();
    let at = |name: &str| rootfs.path().join(name);
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir(at(folder)).unwrap();
    }
    fs::copy(programs::which("busybox").unwrap(), at("bin/busybox")).unwrap();
    for applet in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", at("bin").join(applet)).unwrap();
    }
    fs::write(at("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    Image::pack(rootfs.path(), &["localhost/nim:2.1"], &["sh", "-c", SERVICE])
}

/// The sheet's blocks for this engine, one after the other in one shell, with a look at the containers in between.
fn follow(engine: &Engine, variable: &'static str) {
    let name = engine.name;
    // Without the variable, which is for the binary, and without this program in the way of the engine's own.
    let (path, program) = (std::env::var("PATH").unwrap(), engine.program.display());
    let own = format!("#!/bin/sh\nunset {variable}\nPATH='{path}' exec {program} \"$@\"\n");
    let kubectl = "#!/bin/sh\ntest \"$1 $2\" = 'apply -f' && test -s \"$3\"\n".to_owned();
    let mut host = Host::new("profiles", &[(name, own), ("kubectl", kubectl)]);
    host.environment.push((variable, format!("unix://{}", engine.socket.display())));
    let run = engine.run.join(" ");
    host.settings = format!(
        "ENGINE={name} IMAGE=localhost/nim:2.1 RUN='{run}' READY=true EXERCISE='sleep 1' HEALTH=true CANARY=3s\n\
         seccomp() {{ sed -n 's/^Seccomp:[^0-9]*//p' /proc/$({name} inspect --format '{{{{.State.Pid}}}}' $1)/status; }}"
    );
    let steps = blocks("sh", name);
    let confined = |container: &str, mode: u32| format!("test \"$(seccomp {container})\" = {mode}\n");
    // Settings are those of this test; every other block is there.
    let checks: Vec<String> = match name {
        "docker" => vec![
            "test -s nim/profile.json\n".to_owned(),
            confined("nim", 0),
            confined("nim-canary", 2) + &confined("nim", 0) + "test \"$(ls profiles | wc -l)\" = 1\n",
            confined("nim", 2),
            confined("nim", 0) + "test -z \"$(ls profiles)\"\n",
        ],
        _ => vec![
            "test -s nim/profile.json\n".to_owned(),
            confined("nim", 0) + &confined("nim-canary", 2) + "test \"$(ls profiles | wc -l)\" = 1\n",
            confined("nim", 2),
            confined("nim", 0) + "test -z \"$(ls profiles)\"\n",
        ],
    };
    assert_eq!(steps.len(), checks.len(), "the sheet's blocks for {name}");
    let script: String = steps.iter().zip(&checks).map(|(step, check)| format!("{step}{check}")).collect();
    // In use, it stays; what replaced a container by mistake would be found here too.
    let script = script.replacen(
        &format!("{name} rm --force nim\n"),
        &format!("if seccomp-learn uninstall nim --for {name}; then exit 99; fi\n{name} rm --force nim\n"),
        1,
    );
    host.run(&(script + &format!("{name} rm --force nim\n")), 0);
    for block in blocks("sh", "spo") {
        host.run(&block, 0);
        let object: Value = serde_json::from_slice(&fs::read(host.path("nim-spo.json")).unwrap()).unwrap();
        assert_eq!(object["kind"], "SeccompProfile");
    }
}

#[test]
fn the_sheet_on_docker() {
    require!("dockerd", "runc", "busybox");
    let docker = Docker::start(&[&image()]);
    follow(&docker.engine("runc"), "DOCKER_HOST");
}

#[test]
fn the_sheet_on_podman() {
    require!("podman", "runc", "busybox");
    let podman = Podman::start(&[&image()]);
    follow(&podman.engine("runc"), "CONTAINER_HOST");
}

/// A pod as kubelet has it, under the Localhost profile of this file.
fn pod(node: &Containerd, name: &str, profile: &Path) -> (String, String) {
    let cri = node.cri();
    let spec = node.pod(name, "runc");
    let pod = cri.run_pod(&spec).unwrap();
    let mut service = container(name, &["sh", "-c", SERVICE]);
    service.seccomp = SeccompSpec::Localhost(profile.to_owned());
    let id = cri.create(&pod, &service, &spec).unwrap();
    cri.start(&id).unwrap();
    (pod, id)
}

/// The file that a pod with this `securityContext` runs under.
fn localhost(host: &Host, said: &str) -> PathBuf {
    let document = &documents(said)[0];
    let profile = &document["securityContext"]["seccompProfile"];
    assert_eq!(profile["type"], "Localhost");
    let file = host.path("kubelet/seccomp").join(profile["localhostProfile"].as_str().unwrap());
    assert!(file.is_file(), "{}", file.display());
    file
}

#[test]
fn the_sheet_on_a_node() {
    require!("containerd", "runc", "busybox");
    let node = Containerd::start(&[tiny()]);
    let mut host = Host::new("kubelet/pods", &[]);
    let socket = format!("unix://{}", node.socket().display());
    host.environment = vec![
        ("CONTAINERD_ADDRESS", node.socket().display().to_string()),
        ("CONTAINER_RUNTIME_ENDPOINT", socket),
    ];
    host.settings = "CANARY=4s".to_owned();
    let only = |word: &str| {
        let [block] = blocks("sh", word).try_into().unwrap_or_else(|_| panic!("one block for {word}"));
        block
    };
    let end = |pod: &str| {
        node.cri().stop_pod(pod).unwrap();
        node.cri().remove_pod(pod).unwrap();
    };

    let observe = localhost(&host, &host.run(&only("kubelet-observe"), 0));
    fs::create_dir(host.path("nim")).unwrap();
    let script = only("kubelet-record");
    let recording = host.start(&script);
    thread::sleep(Duration::from_secs(2));
    let (recorded, _) = pod(&node, "nim", &observe);
    thread::sleep(Duration::from_secs(2));
    end(&recorded);
    finish(recording, &script, 0);

    let learned = localhost(&host, &host.run(&only("kubelet"), 0));
    assert_ne!(learned, observe);
    let (running, id) = pod(&node, "nim", &learned);
    let pid = node.cri().inspect(&id).unwrap().pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    host.run(&only("kubelet-watch"), 0);
    host.run(&only("kubelet-uninstall"), 1);
    assert!(learned.is_file(), "it is in use");
    end(&running);
    host.run(&only("kubelet-uninstall"), 0);
    assert!(!learned.exists() && observe.is_file());
}

fn documents(text: &str) -> Vec<Value> {
    fn value(yaml: &Yaml) -> Value {
        match yaml {
            Yaml::String(text) => json!(text),
            Yaml::Integer(number) => json!(number),
            Yaml::Boolean(yes) => json!(yes),
            Yaml::Array(list) => list.iter().map(value).collect(),
            Yaml::Hash(fields) => {
                let fields =
                    fields.iter().map(|(key, field)| (key.as_str().unwrap().to_owned(), value(field)));
                Value::Object(fields.collect())
            }
            other => panic!("{other:?}"),
        }
    }
    YamlLoader::load_from_str(text).unwrap().iter().map(value).collect()
}

/// Every field is one of the type's; `any` stands for a map of the user's.
#[track_caller]
fn fields(value: &Value, of: &Value, path: &str) {
    match (value, of) {
        (_, Value::String(any)) if any == "any" => {}
        (Value::Array(list), of) => list.iter().for_each(|one| fields(one, of, path)),
        (Value::Object(own), Value::Object(known)) => {
            for (key, field) in own {
                let of = known.get(key).unwrap_or_else(|| panic!("{path} has no field `{key}`"));
                fields(field, of, &format!("{path}.{key}"));
            }
        }
        (_, Value::Null) => {}
        _ => panic!("{path}: {value} is no {of}"),
    }
}

/// `seccomp-learn/NAME-DIGITS.json`, as `install` names them.
fn is_installed(profile: &str) -> bool {
    let name = profile.strip_prefix("seccomp-learn/").and_then(|name| name.strip_suffix(".json"));
    let parts = name.and_then(|name| name.rsplit_once('-'));
    parts.is_some_and(|(name, digits)| {
        name.parse::<synth::format::ProfileName>().is_ok()
            && digits.len() == 12
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[test]
fn the_manifests_have_the_fields_of_their_types() {
    let types: Value = serde_json::from_str(include_str!("../data/kubernetes-fields.json")).unwrap();
    let mut kinds = Vec::new();
    for document in blocks("yaml", "kubernetes").iter().flat_map(|block| documents(block)) {
        let kind = document["kind"].as_str().unwrap().to_owned();
        let known = &types[&kind];
        assert_eq!(document["apiVersion"], known["apiVersion"], "{kind}");
        let metadata = json!({ "name": null, "namespace": null });
        let whole = json!({ "apiVersion": null, "kind": null, "metadata": metadata, "spec": known["spec"] });
        fields(&document, &whole, &kind);
        if kind == "MutatingAdmissionPolicy" {
            let expression =
                document["spec"]["mutations"][0]["applyConfiguration"]["expression"].as_str().unwrap();
            let count = |byte: char| expression.matches(byte).count();
            assert!(count('{') == count('}') && count('{') == 4, "{expression}");
            let profile = expression.split('"').find(|word| word.ends_with(".json")).unwrap();
            assert!(is_installed(profile), "{profile}");
            // Each object is of the type that its place in a pod has.
            for path in ["spec", "spec.securityContext", "spec.securityContext.seccompProfile"] {
                assert!(expression.contains(&format!("Object.{path}{{")), "{path}: {expression}");
            }
        }
        kinds.push(kind);
    }
    assert_eq!(kinds, ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ProfileBinding"]);
    let [values] = blocks("yaml", "helm").try_into().unwrap();
    let [values] = documents(&values).try_into().unwrap();
    fields(&values, &json!({ "podSecurityContext": types["PodSecurityContext"] }), "values");
    let profile = values["podSecurityContext"]["seccompProfile"]["localhostProfile"].as_str().unwrap();
    assert!(is_installed(profile), "{profile}");
}

#[test]
fn every_block_of_the_sheet_is_looked_at() {
    let known = [
        "sh settings",
        "sh docker podman",
        "sh docker",
        "sh podman",
        "sh spo",
        "sh kubelet",
        "sh kubelet-observe",
        "sh kubelet-record",
        "sh kubelet-watch",
        "sh kubelet-uninstall",
        "yaml helm",
        "yaml kubernetes",
    ];
    let mut fences =
        SHEET.lines().filter_map(|line| line.strip_prefix("```")).filter(|info| !info.is_empty());
    assert!(fences.clone().count() >= known.len());
    assert!(fences.all(|info| known.contains(&info)), "a block that no test runs");
    // What the sheet sets, the tests set.
    let [settings] = blocks("sh", "settings").try_into().unwrap();
    let names: Vec<&str> =
        settings.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, ["ENGINE", "IMAGE", "RUN", "READY", "EXERCISE", "HEALTH", "CANARY"]);
}
