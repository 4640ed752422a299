//! An OCI image in one tar file with a single layer that holds a single file.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>; the `manifest.json` beside the
//! layout is what engines older than OCI archives read (`docker load` before 25).

use anyhow::Context as _;
use serde_json::{Value, json};

use super::digest;

/// The image archive for a binary; the same binary gives the same bytes.
pub(super) fn archive(binary: &[u8], version: &str) -> anyhow::Result<Vec<u8>> {
    let layer = tar(&[("seccomp-learn", binary, 0o755)])?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": ["/seccomp-learn"], "Cmd": ["--help"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
        "history": [{ "created_by": "cargo xtask dist" }],
    });
    let config = bytes(&config)?;
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let name = format!("seccomp-learn:{version}");
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    if let Some(fields) = entry.as_object_mut() {
        let names = json!({
            "io.containerd.image.name": format!("docker.io/library/{name}"),
            "org.opencontainers.image.ref.name": version,
        });
        fields.insert("annotations".to_owned(), names);
    }
    let index = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;
    let older = bytes(&json!([{ "Config": blob(&config), "RepoTags": [name], "Layers": [blob(&layer)] }]))?;
    tar(&[
        (&blob(&config), &config, 0o644),
        (&blob(&layer), &layer, 0o644),
        (&blob(&manifest), &manifest, 0o644),
        ("index.json", &index, 0o644),
        ("manifest.json", &older, 0o644),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644),
    ])
}

fn descriptor(media: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media, "digest": format!("sha256:{}", digest(content)), "size": content.len() })
}

fn blob(content: &[u8]) -> String {
    format!("blobs/sha256/{}", digest(content))
}

fn bytes(value: &Value) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(value).context("could not write JSON")
}

/// A tar file of plain files that belong to root and carry no time.
fn tar(files: &[(&str, &[u8], u32)]) -> anyhow::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, path, *content)
            .with_context(|| format!("could not pack `{path}`"))?;
    }
    builder.into_inner().context("could not finish the archive")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        files
    }

    #[test]
    fn every_descriptor_leads_to_its_blob_and_the_layer_holds_one_file() {
        let files = unpack(&archive(b"binary", "1.2.3").unwrap());
        let follow = |descriptor: &Value| {
            let sum = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let content = &files[&format!("blobs/sha256/{sum}")];
            assert_eq!(digest(content), sum);
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifest: Value = serde_json::from_slice(&follow(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&follow(&manifest["config"])).unwrap();
        let layer = follow(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&layer)));
        assert_eq!(unpack(&layer), BTreeMap::from([("seccomp-learn".to_owned(), b"binary".to_vec())]));
    }

    #[test]
    fn the_same_binary_gives_the_same_archive() {
        assert_eq!(archive(b"x", "1").unwrap(), archive(b"x", "1").unwrap());
    }
}
