//! Other forms of a profile: the object of the Security Profiles Operator, a pod's security context, command lines.
//!
//! A profile in one of them names the file that `install` makes, and both take the name from here: a name, and the
//! first digits of the digest of the profile, so that one profile never takes another's place.

mod lines;
mod name;
mod spo;

pub use lines::{LOCALHOST_FOLDER, docker_option, localhost_profile, podman_option, security_context};
pub use name::{NameError, ProfileName};
pub use spo::{SpoError, SpoUnsayable, seccomp_profile};
