//! What a trace says of a container beyond its workload's calls: which one it was, what its runtime called
//! before the workload's program started, and what exec sessions in it called.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Row, strict};

/// What the container runtime itself called on the tasks that become the workload or an exec session, up to
/// their exec, apart by the moment the filter is loaded: what comes before it no profile judges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeCalls {
    /// By what the two are told apart.
    pub filter: FilterMoment,
    /// Calls before the filter, ordered by ABI and number.
    pub setup: Vec<Row>,
    /// Calls between the filter and the exec, ordered by ABI and number: a profile must allow these.
    pub start: Vec<Row>,
}

/// How the moment was told at which a container's filter is loaded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum FilterMoment {
    /// A filter was loaded; calls under it are the start.
    #[serde(rename = "loaded")]
    Loaded,
    /// No filter was loaded; the start begins at a call that the runtime makes before it would load one, so
    /// there are a few too many calls in it.
    #[serde(rename = "would be")]
    WouldBe,
    /// Of several runs: loaded in some, not loaded in others.
    #[serde(rename = "both")]
    Both,
    /// Neither was seen.
    #[default]
    #[serde(rename = "not seen")]
    NotSeen,
}

impl FilterMoment {
    /// What two runs together say.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::NotSeen, known) | (known, Self::NotSeen) => known,
            (one, another) if one == another => one,
            _ => Self::Both,
        }
    }

    /// Whether the calls after the filter were seen, if together with a few before one that would have been loaded.
    #[must_use]
    pub const fn was_loaded(self) -> bool {
        matches!(self, Self::Loaded | Self::Both)
    }

    /// The words as they are written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::WouldBe => "would be",
            Self::Both => "both",
            Self::NotSeen => "not seen",
        }
    }
}

/// What sessions called that were started in the container beside its workload: `docker exec`, exec probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecCalls {
    /// How many sessions there were; at least one.
    pub sessions: u64,
    /// Their calls, ordered by ABI and number.
    pub syscalls: Vec<Row>,
}

/// A container, as its engine described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The engine with its version: `docker 20.10.24`.
    pub engine: String,
    /// The engine's identifier for it.
    pub id: String,
    /// Its name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image's name as it was given; its digest is the target's `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "strict::map")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: BTreeMap<String, String>,
    /// What it is to its pod.
    pub kind: ContainerKind,
    /// The pod it belongs to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// How often it had been restarted: 0 for the first instance.
    pub restart: u32,
    /// The seccomp profile it ran under, as the engine says it: `unconfined`, `observe`, `default`,
    /// `localhost/x.json`, `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<String>,
    /// Whether it ran with no_new_privs, where the engine says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// The user it was started as, as the engine says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When the recorder was attached.
    pub attached: Attached,
}

impl Container {
    /// Whether the engine put it under the profile that only makes the runtime load a filter: it refuses
    /// nothing, so that the recording is as good as an unconfined one.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.seccomp.as_deref() == Some(Self::OBSERVE)
    }

    /// What [`Container::seccomp`] says of a container under the observe profile.
    pub const OBSERVE: &str = "observe";
}

/// What a container is to its pod.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ContainerKind {
    /// An ordinary container, also one without a pod.
    #[default]
    Container,
    /// It runs to its end before the pod's containers start.
    Init,
    /// It was added to a running pod, for a look inside.
    Ephemeral,
    /// An init container that keeps running beside the others.
    Sidecar,
}

impl ContainerKind {
    /// The word as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Init => "init",
            Self::Ephemeral => "ephemeral",
            Self::Sidecar => "sidecar",
        }
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identifier in the cluster.
    pub uid: String,
}

/// When the recorder was attached to a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// How long before the first exec of the workload, in milliseconds; null if after it.
    pub before_first_exec_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::FilterMoment::{self, *};

    #[test]
    fn joining_moments_is_a_law_abiding_union() {
        let all = [Loaded, WouldBe, Both, NotSeen];
        for a in all {
            assert_eq!(a.join(a), a);
            assert_eq!(serde_json::to_string(&a).unwrap(), format!("\"{}\"", a.as_str()));
            for b in all {
                assert_eq!(a.join(b), b.join(a));
                assert!(all.iter().all(|c| a.join(b).join(*c) == a.join(b.join(*c))));
            }
        }
        assert_eq!(FilterMoment::default().join(WouldBe), WouldBe);
        assert_eq!(Loaded.join(WouldBe), Both);
    }
}
