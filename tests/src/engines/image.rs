//! Images, made on the spot: no registry can be assumed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::json;

use super::good;

/// The name of the small image: a busybox, and whatever of the tests' own programs it was given.
pub const TINY: &str = "localhost/seccomp-learn-tiny:test";
/// A program of the small image whose first instruction is a call that nothing else makes, `getpriority`, and which
/// then ends.
pub const MARKER: &str = "/bin/marker";
/// What starts in a pod's sandbox: the same image.
pub(super) const PAUSE: &str = "localhost/pause:test";

/// The small image, made once.
pub fn tiny() -> &'static Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(make_tiny);
    &IMAGE
}

/// An image as a file that every engine can load: the format of `docker save`.
pub struct Image {
    folder: PathBuf,
    /// Whether the file goes away with this.
    temporary: bool,
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Image {
    /// Packs a root filesystem, under each of these names.
    pub fn pack(rootfs: &Path, names: &[&str], command: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("image").tempdir_in(crate::cache()).unwrap().keep();
        let image = Self { folder, temporary: true };
        let folder = image.folder.as_path();
        let layer = folder.join("layer.tar");
        good(
            Command::new("tar")
                .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C"])
                .arg(rootfs)
                .arg("-cf")
                .arg(&layer)
                .arg("."),
        );
        let digest = good(Command::new("sha256sum").arg(&layer));
        let digest = String::from_utf8(digest.stdout).unwrap();
        let digest = digest.split(' ').next().unwrap();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Cmd": command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let manifest = json!([{ "Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"] }]);
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        good(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(folder.join("image.tar")).args([
            "manifest.json",
            "config.json",
            "layer.tar",
        ]));
        fs::remove_file(&layer).unwrap();
        image
    }

    pub fn archive(&self) -> PathBuf {
        self.folder.join("image.tar")
    }
}

/// The smallest ELF file: a header, one segment, and the instructions.
fn marker() -> Vec<u8> {
    let (machine, code): (u16, Vec<u8>) = if cfg!(target_arch = "aarch64") {
        // mov x8, #141 (getpriority); svc #0; mov x8, #94 (exit_group); mov x0, #0; svc #0
        let words: [u32; 5] = [0xd280_11a8, 0xd400_0001, 0xd280_0bc8, 0xd280_0000, 0xd400_0001];
        (183, words.iter().flat_map(|word| word.to_le_bytes()).collect())
    } else {
        // mov eax, 140 (getpriority); syscall; mov eax, 231 (exit_group); xor edi, edi; syscall
        (62, vec![0xb8, 140, 0, 0, 0, 0x0f, 0x05, 0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05])
    };
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let short = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let word = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let long = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    // An executable; entry, program headers, no sections.
    short(&mut file, &[2, machine]);
    word(&mut file, &[1]);
    long(&mut file, &[BASE + HEADERS, 64, 0]);
    word(&mut file, &[0]);
    short(&mut file, &[64, 56, 1, 64, 0, 0]);
    // One segment, readable and executable: the whole file.
    word(&mut file, &[1, 5]);
    long(&mut file, &[0, BASE, BASE, size, size, 0x1000]);
    file.extend(code);
    file
}

fn make_tiny() -> Image {
    // It stays for the next run: what a static holds is never dropped.
    let kept = crate::cache().join("tiny-image-2");
    if kept.join("image.tar").exists() {
        return Image { folder: kept, temporary: false };
    }
    let rootfs = tempfile::tempdir().unwrap();
    let at = |name: &str| rootfs.path().join(name);
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let busybox = crate::programs::which("busybox").expect("needs `busybox`");
    fs::copy(busybox, at("bin/busybox")).unwrap();
    let list = good(Command::new(at("bin/busybox")).arg("--list"));
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", at("bin").join(applet)).unwrap();
    }
    fs::write(at("bin/marker"), marker()).unwrap();
    fs::set_permissions(at("bin/marker"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n").unwrap();
    fs::write(at("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    let image = Image::pack(rootfs.path(), &[TINY, PAUSE], &["sleep", "100000"]);
    // Another test file may have made it meanwhile; one is as good as the other.
    if fs::rename(&image.folder, &kept).is_err() {
        return image;
    }
    Image { folder: kept, temporary: false }
}
