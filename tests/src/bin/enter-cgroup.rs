//! `enter-cgroup DIRECTORY CMD…`: moves itself into a cgroup and becomes the command. Nothing stands between the
//! write that moves it and the exec.

use std::{ffi::CString, fs::OpenOptions, io::Write, os::unix::ffi::OsStringExt, path::PathBuf};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap());
    let words: Vec<CString> = arguments.map(|word| CString::new(word.into_vec()).unwrap()).collect();
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let mut entrance = OpenOptions::new().write(true).open(directory.join("cgroup.procs")).unwrap();
    entrance.write_all(b"0").unwrap();
    // SAFETY: `pointers` ends with a null pointer and the strings it points to live as long as this process.
    unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
    panic!("cannot run {:?}: {}", words[0], std::io::Error::last_os_error());
}
