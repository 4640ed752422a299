//! NVIDIA's device requests by driver branch: `profiles/knowledge/nvidia.toml`, read once.
//!
//! A request number holds the size of its struct, so the same request has another number on another branch. From
//! one form of a request [`Request::other_forms`] gives those of the other branches, [`compute_set`] what a compute
//! container needs on one branch, [`is_never`] what must not be allowed by derivation.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use serde::Deserialize;
use trace::{File, FileKind};

use crate::arguments::number;

/// A device of NVIDIA's drivers, as far as requests differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// `/dev/nvidiactl`.
    #[serde(rename = "nvidiactl")]
    Control,
    /// `/dev/nvidia0` and following.
    #[serde(rename = "nvidiaN")]
    Gpu,
    /// `/dev/nvidia-uvm`.
    #[serde(rename = "nvidia-uvm")]
    Uvm,
    /// `/dev/nvidia-uvm-tools`.
    #[serde(rename = "nvidia-uvm-tools")]
    UvmTools,
    /// `/dev/nvidia-modeset`.
    #[serde(rename = "nvidia-modeset")]
    Modeset,
    /// `/dev/nvidia-caps/nvidia-cap1` and following: opened only.
    #[serde(rename = "nvidia-cap")]
    Capability,
    /// `/dev/nvidia-caps-imex-channels/channel0` and following: opened only.
    #[serde(rename = "nvidia-imex-channel")]
    ImexChannel,
    /// `/dev/dri/renderD128` and following, and the cards, with NVIDIA's driver.
    #[serde(rename = "dri")]
    Dri,
    /// `/dev/nvidia-nvswitchctl`.
    #[serde(rename = "nvidia-nvswitchctl")]
    NvSwitchControl,
    /// `/dev/nvidia-nvswitch0` and following.
    #[serde(rename = "nvidia-nvswitchN")]
    NvSwitch,
    /// `/dev/nvidia-nvlink`.
    #[serde(rename = "nvidia-nvlink")]
    NvLink,
    /// `/dev/gdrdrv`.
    #[serde(rename = "gdrdrv")]
    GdrCopy,
    /// `/dev/nvidia-fs0` and following.
    #[serde(rename = "nvidia-fs")]
    Storage,
}

/// What a request is for; the table says where the division comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestClass {
    /// A container that computes needs it.
    Compute,
    /// For drawing.
    Graphics,
    /// For video encoding and decoding.
    Video,
    /// For peers that reach the GPU's memory.
    Rdma,
    /// For the host's own tools.
    Management,
    /// For tests and debuggers.
    Debug,
    /// The driver has it; compute does without.
    Other,
    /// A number that no driver in the table answers.
    Unrouted,
    /// Not to be allowed by derivation.
    Never,
}

/// A request with all its forms.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name in NVIDIA's headers.
    pub name: String,
    /// The devices that have it.
    pub devices: BTreeSet<Device>,
    /// What it is for.
    pub classes: BTreeSet<RequestClass>,
    /// Its numbers.
    pub forms: Vec<Form>,
    /// What a reader should know.
    pub note: Option<String>,
}

/// A number of a request, or several under one mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// What the low 32 bits are, under the mask.
    pub value: u32,
    /// Which of them count: all, but for arrays whose size the client chooses.
    #[serde(default = "all_bits")]
    pub mask: u32,
    /// The last of a range that begins at `value`.
    pub through: Option<u32>,
    /// The size of the struct, where the number holds it.
    pub size: Option<u32>,
    /// The first branch that has this form; none if all in the table had it.
    pub first: Option<u32>,
    /// The last branch that has it; none if it is there still.
    pub last: Option<u32>,
}

const fn all_bits() -> u32 {
    u32::MAX
}

/// A driver branch that the table was made from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// The major number: 570.
    pub number: u32,
    /// The release tags that were read, separated by white space.
    pub tags: String,
}

/// A call that a branch's libcuda makes and earlier ones did not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedCall {
    /// The syscall.
    pub name: String,
    /// The first branch that makes it.
    pub first: u32,
    /// What happens without.
    pub why: String,
    /// Where that was seen.
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    #[expect(dead_code, reason = "for the reader of the table")]
    #[serde(rename = "source")]
    sources: Vec<Source>,
    branch: Vec<Branch>,
    #[expect(dead_code, reason = "for the reader of the table")]
    device: Vec<RawDevice>,
    syscall: Vec<AddedCall>,
    request: Vec<RawRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the reader of the table")]
struct Source {
    name: String,
    licence: String,
    what: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the reader of the table")]
struct RawDevice {
    name: Device,
    paths: String,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    name: String,
    devices: String,
    class: String,
    form: Vec<Form>,
    note: Option<String>,
}

struct Table {
    branches: Vec<Branch>,
    calls: Vec<AddedCall>,
    requests: Vec<Request>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is compiled in, and tests read it")]
    read(include_str!("../../profiles/knowledge/nvidia.toml")).expect("a shipped table reads")
});

fn read(text: &str) -> Result<Table, toml::de::Error> {
    let raw: RawTable = toml::from_str(text)?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let request = |raw: RawRequest| {
        Ok(Request {
            name: raw.name,
            devices: words(&raw.devices).into_iter().map(named).collect::<Result<_, _>>()?,
            classes: words(&raw.class).into_iter().map(named).collect::<Result<_, _>>()?,
            forms: raw.form,
            note: raw.note,
        })
    };
    Ok(Table {
        branches: raw.branch,
        calls: raw.syscall,
        requests: raw.request.into_iter().map(request).collect::<Result<_, toml::de::Error>>()?,
    })
}

/// One of several words in a string.
fn named<T: serde::de::DeserializeOwned>(word: String) -> Result<T, toml::de::Error> {
    T::deserialize(serde::de::value::StringDeserializer::<toml::de::Error>::new(word))
}

/// The branches that the table was made from, ascending. Of another branch it says nothing.
#[must_use]
pub fn branches() -> &'static [Branch] {
    &TABLE.branches
}

/// Whether the table was made from this branch.
#[must_use]
pub fn is_branch(number: u32) -> bool {
    branches().iter().any(|branch| branch.number == number)
}

/// Every request.
#[must_use]
pub fn requests() -> &'static [Request] {
    &TABLE.requests
}

/// The calls that branches added.
#[must_use]
pub fn added_calls() -> &'static [AddedCall] {
    &TABLE.calls
}

/// The device that a descriptor was of; none for other files.
#[must_use]
pub fn device(file: &File) -> Option<Device> {
    let by_path = file.path.as_deref().and_then(Device::from_path);
    by_path.or_else(|| {
        Device::from_number(file.device.as_deref()?).filter(|_| file.kind == FileKind::CharacterDevice)
    })
}

/// The request that a number is: of a device, or, where the device is not known, the one request of that number
/// that no other file's can be mistaken for. The frontend's two devices know each other's requests.
#[must_use]
pub fn request(device: Option<Device>, number: u32) -> Option<&'static Request> {
    let Some(device) = device else {
        let mut found = requests_of(number).filter(|request| request.is_distinct(number));
        return found.next().filter(|_| found.next().is_none());
    };
    let of = |device: Device| {
        requests().iter().find(|request| request.devices.contains(&device) && request.has(number))
    };
    of(device).or_else(|| of(device.other_of_frontend()?))
}

/// Every request that a number is on some device, where it is no plain small number of more than one driver.
pub fn requests_of(number: u32) -> impl Iterator<Item = &'static Request> {
    requests().iter().filter(move |request| request.has(number) && !request.is_vague())
}

/// What a compute container may need on a branch; `None` if the table was not made from it.
#[must_use]
pub fn compute_set(branch: u32) -> Option<Vec<(&'static Request, Form)>> {
    if !is_branch(branch) {
        return None;
    }
    let compute = requests().iter().filter(|request| request.classes.contains(&RequestClass::Compute));
    Some(compute.flat_map(|request| request.forms_on(branch).map(move |form| (request, form))).collect())
}

/// The compute requests that a branch has and the one before it in the table has not, under any number.
#[must_use]
pub fn added_by(branch: u32) -> Vec<&'static Request> {
    let before = branches().iter().map(|own| own.number).filter(|own| *own < branch).max();
    let Some(before) = before.filter(|_| is_branch(branch)) else { return Vec::new() };
    let compute = requests().iter().filter(|request| request.classes.contains(&RequestClass::Compute));
    compute
        .filter(|request| {
            request.forms_on(branch).next().is_some() && request.forms_on(before).next().is_none()
        })
        .collect()
}

/// Whether a number must not be allowed by derivation: what it carries out is in memory that seccomp cannot read.
#[must_use]
pub fn is_never(number: u32) -> bool {
    requests().iter().any(|request| request.classes.contains(&RequestClass::Never) && request.has(number))
}

impl Request {
    /// Whether one of its forms is this number.
    #[must_use]
    pub fn has(&self, number: u32) -> bool {
        self.forms.iter().any(|form| form.matches(number))
    }

    /// Its forms on a branch.
    pub fn forms_on(&self, branch: u32) -> impl Iterator<Item = Form> {
        self.forms.iter().copied().filter(move |form| form.is_on(branch))
    }

    /// Its forms but the one that is this number: what the same request is on other branches, or with another
    /// struct.
    pub fn other_forms(&self, number: u32) -> impl Iterator<Item = Form> {
        self.forms.iter().copied().filter(move |form| !form.matches(number))
    }

    /// Whether the table has its number only, not its size or type, so that many numbers of other files are it.
    fn is_vague(&self) -> bool {
        self.forms.iter().all(|form| form.mask.count_ones() <= 16)
    }

    /// Whether the number is unlike those that other drivers use: a direction and a size, or UVM's high ones.
    fn is_distinct(&self, number: u32) -> bool {
        number > 0xffff && !self.is_vague()
    }
}

impl Form {
    /// Whether a number is of this form.
    #[must_use]
    pub fn matches(&self, number: u32) -> bool {
        match self.through {
            Some(last) => (self.value..=last).contains(&number),
            None => number & self.mask == self.value,
        }
    }

    /// Whether a branch has it.
    #[must_use]
    pub fn is_on(&self, branch: u32) -> bool {
        self.first.is_none_or(|first| first <= branch) && self.last.is_none_or(|last| branch <= last)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&number(u64::from(self.value)))?;
        if let Some(last) = self.through {
            write!(f, " to {last}")?;
        }
        if self.mask != u32::MAX {
            write!(f, " under {:#x}", self.mask)?;
        }
        Ok(())
    }
}

impl Device {
    /// The device at a path; none for other files. A DRM node is taken for NVIDIA's.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix("/dev/")?;
        let numbered = |start: &str| {
            name.strip_prefix(start)
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|digit| digit.is_ascii_digit()))
        };
        Some(match name {
            "nvidiactl" => Self::Control,
            "nvidia-uvm" => Self::Uvm,
            "nvidia-uvm-tools" => Self::UvmTools,
            "nvidia-modeset" => Self::Modeset,
            "nvidia-nvswitchctl" => Self::NvSwitchControl,
            "nvidia-nvlink" => Self::NvLink,
            "gdrdrv" => Self::GdrCopy,
            _ if numbered("nvidia") => Self::Gpu,
            _ if numbered("nvidia-nvswitch") => Self::NvSwitch,
            _ if numbered("nvidia-fs") => Self::Storage,
            _ if numbered("nvidia-caps/nvidia-cap") => Self::Capability,
            _ if numbered("nvidia-caps-imex-channels/channel") => Self::ImexChannel,
            _ if numbered("dri/renderD") || numbered("dri/card") => Self::Dri,
            _ => return None,
        })
    }

    /// The device with this major and minor number, `195:255`; none where the major number is given out when the
    /// module is loaded (nvidia-uvm), and for other files. kernel-open/common/inc/nv-chardev-numbers.h.
    #[must_use]
    pub fn from_number(device: &str) -> Option<Self> {
        let minor = device.strip_prefix("195:")?.parse().ok()?;
        match minor {
            0_u32..=247 => Some(Self::Gpu),
            254 => Some(Self::Modeset),
            255 => Some(Self::Control),
            _ => None,
        }
    }

    /// Where it is; of several the first.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Control => "/dev/nvidiactl",
            Self::Gpu => "/dev/nvidia0",
            Self::Uvm => "/dev/nvidia-uvm",
            Self::UvmTools => "/dev/nvidia-uvm-tools",
            Self::Modeset => "/dev/nvidia-modeset",
            Self::Capability => "/dev/nvidia-caps/nvidia-cap1",
            Self::ImexChannel => "/dev/nvidia-caps-imex-channels/channel0",
            Self::Dri => "/dev/dri/renderD128",
            Self::NvSwitchControl => "/dev/nvidia-nvswitchctl",
            Self::NvSwitch => "/dev/nvidia-nvswitch0",
            Self::NvLink => "/dev/nvidia-nvlink",
            Self::GdrCopy => "/dev/gdrdrv",
            Self::Storage => "/dev/nvidia-fs0",
        }
    }

    /// The frontend has one table of requests for both of its devices.
    const fn other_of_frontend(self) -> Option<Self> {
        match self {
            Self::Control => Some(Self::Gpu),
            Self::Gpu => Some(Self::Control),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
