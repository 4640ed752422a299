//! The forms in which a profile is handed on, and what it is called there.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use synth::{
    Profile,
    format::{
        ProfileName, docker_option, localhost_profile, podman_option, seccomp_profile, security_context,
    },
};

/// How a profile is written.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Form {
    /// How the profile is written
    #[arg(long, value_enum, default_value = "oci")]
    format: Format,

    /// What it is called in Kubernetes, before the first digits of its digest [default: as the folder or file]
    #[arg(long, value_name = "NAME")]
    name: Option<ProfileName>,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Plain OCI JSON, which every engine and runtime loads
    Oci,
    /// The object of the Security Profiles Operator (v1, since its 1.0.0), as JSON for kubectl
    Spo,
    /// As oci, and on standard output the securityContext of a pod, for the profile as `install` puts it
    Pod,
    /// As oci, and on standard output the option for `docker run`
    Docker,
    /// As oci, and on standard output the option for `podman run`
    Podman,
}

/// A profile in its form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// What goes to the output.
    pub(crate) profile: String,
    /// What goes to standard output beside it.
    pub(crate) line: Option<String>,
    /// What is still to be done.
    pub(crate) hint: Option<String>,
}

impl Form {
    /// Refuses what cannot be done with this output, before any work.
    pub(crate) fn check(&self, output: &Path) -> anyhow::Result<()> {
        if output.as_os_str() == "-" && !matches!(self.format, Format::Oci | Format::Spo) {
            bail!(
                "standard output is for the line that names the profile; give the profile a file with `-o`"
            );
        }
        Ok(())
    }

    /// The profile in its form; `from` is what it is called after.
    pub(crate) fn write(&self, profile: &Profile, from: &Path, output: &Path) -> anyhow::Result<Written> {
        let name = self.name.clone().unwrap_or_else(|| usual_name(from)).of(profile);
        let file = || Ok::<_, std::io::Error>(std::path::absolute(output)?.to_string_lossy().into_owned());
        let (line, hint) = match self.format {
            Format::Oci => (None, None),
            Format::Spo => {
                let object = seccomp_profile(profile, &name)?;
                let hint = format!(
                    "after `kubectl apply -f {}` its localhostProfile is operator/{name}.json",
                    output.display()
                );
                return Ok(Written { profile: object, line: None, hint: Some(hint) });
            }
            Format::Pod => (
                Some(security_context(&localhost_profile(&name))),
                Some(format!(
                    "put it on every node first: seccomp-learn install {} --name {}",
                    output.display(),
                    name.rsplit_once('-').map_or(name.as_str(), |(own, _)| own)
                )),
            ),
            Format::Docker => (Some(docker_option(&file().context("no current directory")?) + "\n"), None),
            Format::Podman => (Some(podman_option(&file().context("no current directory")?) + "\n"), None),
        };
        Ok(Written { profile: profile.to_json(), line, hint })
    }
}

/// What a profile is called after the folder or file it is in.
pub(crate) fn usual_name(path: &Path) -> ProfileName {
    let named: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let named = std::fs::canonicalize(&named).unwrap_or(named);
    let stem = if named.is_dir() { named.file_name() } else { named.file_stem() };
    let stem = match stem {
        // `learn` and `synth` call every profile so; its folder says more.
        Some(stem) if stem == "profile" && !named.is_dir() => named.parent().and_then(Path::file_name),
        stem => stem,
    };
    ProfileName::nearest(&stem.unwrap_or(OsStr::new("profile")).to_string_lossy())
}

#[cfg(test)]
mod tests {
    use trace::Abi;

    use super::*;

    fn form(format: Format) -> Form {
        Form { format, name: Some("nim".parse().unwrap()) }
    }

    #[test]
    fn each_form_names_the_profile_as_it_is_installed() {
        let profile = synth::observe_profile(Abi::X86_64);
        let name = "nim".parse::<ProfileName>().unwrap().of(&profile);
        let written =
            |format| form(format).write(&profile, Path::new("x"), Path::new("/out/profile.json")).unwrap();
        assert_eq!(written(Format::Oci), Written { profile: profile.to_json(), line: None, hint: None });
        assert!(written(Format::Spo).profile.contains(&format!("\"name\": \"{name}\"")));
        let pod = written(Format::Pod).line.unwrap();
        assert!(pod.ends_with(&format!("localhostProfile: seccomp-learn/{name}.json\n")), "{pod}");
        for format in [Format::Docker, Format::Podman] {
            assert_eq!(written(format).line.unwrap(), "--security-opt seccomp=/out/profile.json\n");
        }
        assert!(form(Format::Pod).check(Path::new("-")).is_err());
        assert!(form(Format::Spo).check(Path::new("-")).is_ok());
    }

    #[test]
    fn profiles_are_called_after_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let workload = folder.path().join("My NIM");
        std::fs::create_dir(&workload).unwrap();
        assert_eq!(usual_name(&workload).to_string(), "my-nim");
        assert_eq!(usual_name(&workload.join("profile.json")).to_string(), "my-nim");
        assert_eq!(usual_name(&workload.join("other.json")).to_string(), "other");
    }
}
