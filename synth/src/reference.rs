//! The container engines' own default profiles, as data of this project: `profiles/reference/`.
//!
//! They are written down once, with what each rule depends on (a capability of the container, the machine, the
//! kernel), and resolved into a plain profile for one container on one machine.

use std::{collections::BTreeSet, sync::LazyLock};

use serde::Deserialize;
use trace::{Abi, Errno};

use crate::{
    condition::parse_conditions,
    profile::{Action, Architecture, Condition, Entry, Profile},
};

const FILES: [&str; 3] = [
    include_str!("../../profiles/reference/docker.toml"),
    include_str!("../../profiles/reference/podman.toml"),
    include_str!("../../profiles/reference/containerd.toml"),
];

/// The ceiling that is an engine's default profile, and that engine.
pub(crate) const RUNTIME_DEFAULT: &str = "runtime-default";
const ENGINE: &str = "docker";

#[expect(clippy::expect_used, reason = "the files are part of the program, and a test reads each")]
static REFERENCES: LazyLock<Vec<Reference>> = LazyLock::new(|| {
    FILES.iter().map(|text| Reference::read(text).expect("a shipped reference profile reads")).collect()
});

/// The default profile of an engine: `docker`, `podman`, `containerd`, or `runtime-default`, which is the one
/// of Docker (containerd's allows the same calls, and more families of sockets).
#[must_use]
pub fn reference(name: &str) -> Option<&'static Reference> {
    let name = if name == RUNTIME_DEFAULT { ENGINE } else { name };
    REFERENCES.iter().find(|reference| reference.name == name)
}

/// The ceiling `runtime-default` on a machine with this kernel. A release that cannot be read counts as old, which
/// allows less.
pub(crate) fn runtime_default(native: Abi, kernel: &str) -> Option<Profile> {
    let container = Container::new(native, version(kernel).unwrap_or_default());
    Some(reference(RUNTIME_DEFAULT)?.resolve(&container))
}

/// All default profiles.
#[must_use]
pub fn references() -> &'static [Reference] {
    &REFERENCES
}

/// An engine's default profile, and where the facts come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// How it is called on the command line.
    pub name: String,
    /// The repository that was read.
    pub source: String,
    /// The file in it.
    pub path: String,
    /// The commit that was read; empty if it was a package.
    pub commit: String,
    /// The version, as far as the source names one.
    pub version: String,
    /// The date of that version.
    pub date: String,
    /// The source's licence.
    pub licence: String,
    /// What a reader should know besides.
    pub note: String,
    default: Answer,
    machine: Vec<Machine>,
    rule: Vec<Rule>,
}

/// The name of an errno, or `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Answer(Option<Errno>);

impl TryFrom<String> for Answer {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "allow" => Ok(Self(None)),
            _ => name.parse().map(|errno| Self(Some(errno))).map_err(|_| format!("unknown action `{name}`")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    abi: AbiName,
    also: Vec<AbiName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
struct AbiName(Abi);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    why: String,
    names: String,
    /// Alternatives; each is conditions that must all hold. None: no condition.
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    action: Option<Answer>,
    /// Only on machines of these ABIs.
    #[serde(default)]
    abi: Vec<AbiName>,
    /// Only for containers with this capability in their bounding set.
    capability: Option<String>,
    /// Only for containers without it.
    unless_capability: Option<String>,
    /// Only from this kernel on, `major.minor`.
    kernel: Option<String>,
}

/// What a default profile is resolved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The machine's own ABI.
    pub native: Abi,
    /// The capabilities in the container's bounding set.
    pub capabilities: Capabilities,
    /// The kernel, major and minor.
    pub kernel: (u32, u32),
}

impl Container {
    /// A container with Docker's default capabilities on this machine.
    #[must_use]
    pub const fn new(native: Abi, kernel: (u32, u32)) -> Self {
        Self { native, capabilities: Capabilities::DockerDefault, kernel }
    }
}

/// A set of capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// None: `--cap-drop ALL`.
    None,
    /// The fourteen that Docker and containerd give.
    DockerDefault,
    /// These, by name: `CAP_…`.
    Named(BTreeSet<String>),
}

/// moby `oci/caps/defaults.go`, containerd `pkg/oci/spec.go`.
const DOCKER_DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

impl Capabilities {
    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, capability: &str) -> bool {
        match self {
            Self::None => false,
            Self::DockerDefault => DOCKER_DEFAULT.contains(&capability),
            Self::Named(names) => names.contains(capability),
        }
    }
}

impl Reference {
    fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The version with its source, as one line: `moby/profiles 02e898b137ae (default branch)`.
    #[must_use]
    pub fn provenance(&self) -> String {
        let source = self.source.trim_start_matches("https://github.com/");
        let commit = self.commit.get(..12).map(|commit| format!(" {commit}")).unwrap_or_default();
        format!("{source}{commit} ({}, {})", self.version, self.date)
    }

    /// The plain profile that this engine gives a container.
    #[must_use]
    pub fn resolve(&self, container: &Container) -> Profile {
        let machine = self.machine.iter().find(|machine| machine.abi.0 == container.native);
        let architectures = machine.into_iter().flat_map(|machine| {
            std::iter::once(machine.abi.0).chain(machine.also.iter().map(|abi| abi.0)).map(Architecture::from)
        });
        let (default_action, default_errno_ret) = answer(self.default);
        Profile {
            default_action,
            default_errno_ret,
            architectures: architectures.collect(),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls: self
                .rule
                .iter()
                .filter(|rule| rule.applies(container))
                .flat_map(Rule::entries)
                .collect(),
        }
    }
}

fn answer(answer: Answer) -> (Action, Option<u16>) {
    match answer.0 {
        None => (Action::Allow, None),
        Some(errno) => (Action::Errno, Some(errno.number())),
    }
}

impl Rule {
    fn applies(&self, container: &Container) -> bool {
        let has = |capability: &String| container.capabilities.contains(capability);
        let new_enough = |kernel: &String| version(kernel).is_some_and(|least| container.kernel >= least);
        (self.abi.is_empty() || self.abi.contains(&AbiName(container.native)))
            && self.capability.as_ref().is_none_or(has)
            && !self.unless_capability.as_ref().is_some_and(has)
            && self.kernel.as_ref().is_none_or(new_enough)
    }

    fn entries(&self) -> Vec<Entry> {
        let (action, errno_ret) = answer(self.action.unwrap_or(Answer(None)));
        let names: Vec<String> = self.names.split_whitespace().map(str::to_owned).collect();
        let entry = |args: Vec<Condition>| Entry { names: names.clone(), action, errno_ret, args };
        if self.any.is_empty() {
            return vec![entry(Vec::new())];
        }
        self.any.iter().filter_map(|text| parse_conditions(text).ok()).map(entry).collect()
    }
}

/// Major and minor of a kernel release such as `6.18.44-generic`.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    fn resolved(name: &str, capabilities: Capabilities) -> Profile {
        let container = Container { native: Abi::X86_64, capabilities, kernel: (6, 18) };
        reference(name).unwrap().resolve(&container)
    }

    #[test]
    fn every_shipped_rule_reads_and_says_why() {
        assert_eq!(references().len(), FILES.len());
        for Reference { name, rule, .. } in references() {
            for rule in rule {
                assert!(!rule.why.is_empty() && !rule.names.trim().is_empty(), "{name}: {rule:?}");
                let names: Vec<&str> = rule.names.split_whitespace().collect();
                assert!(names.is_sorted(), "{name}: {names:?}");
                for name in names {
                    assert!(names::is_syscall(name), "{name}");
                }
                for text in &rule.any {
                    parse_conditions(text).unwrap();
                }
                assert!(rule.kernel.as_deref().is_none_or(|kernel| version(kernel).is_some()), "{name}");
                for capability in rule.capability.iter().chain(&rule.unless_capability) {
                    assert!(capability.starts_with("CAP_"), "{capability}");
                }
            }
        }
    }

    #[test]
    fn capabilities_machine_and_kernel_decide() {
        let docker = resolved("docker", Capabilities::DockerDefault);
        assert_eq!(docker, resolved("runtime-default", Capabilities::DockerDefault));
        assert!(docker.allowed().contains("chroot") && !docker.allowed().contains("mount"));
        assert!(docker.answers_enosys("clone3"));
        assert!(docker.allowed().contains("ptrace") && docker.allowed().contains("arch_prctl"));
        assert!(!resolved("docker", Capabilities::None).allowed().contains("chroot"));
        let admin = Capabilities::Named(BTreeSet::from(["CAP_SYS_ADMIN".to_owned()]));
        assert!(resolved("docker", admin.clone()).allowed().contains("mount"));
        assert!(!resolved("docker", admin).answers_enosys("clone3"));
        let old = Container { native: Abi::Aarch64, capabilities: Capabilities::None, kernel: (4, 7) };
        let docker = reference("docker").unwrap().resolve(&old);
        assert!(!docker.allowed().contains("ptrace") && !docker.allowed().contains("arch_prctl"));
        assert_eq!(docker.architectures, [Abi::Aarch64.into(), Abi::Arm.into()]);
    }

    #[test]
    fn a_resolved_profile_is_plain_oci_json() {
        for reference in references() {
            for native in [Abi::X86_64, Abi::Aarch64] {
                for capabilities in [Capabilities::None, Capabilities::DockerDefault] {
                    let profile = reference.resolve(&Container { native, capabilities, kernel: (6, 18) });
                    assert_eq!(Profile::read(profile.to_json().as_bytes()).unwrap(), profile);
                }
            }
        }
    }

    #[test]
    fn releases_are_read_as_uname_writes_them() {
        assert_eq!(version("6.18.44"), Some((6, 18)));
        assert_eq!(version("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("six"), None);
    }
}
