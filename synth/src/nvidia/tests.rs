//! The table against itself and against the encoding of request numbers.

use std::collections::BTreeMap;

use super::*;

/// include/uapi/asm-generic/ioctl.h: `_IOWR(kind, number, size)` and `_IOW`.
const fn encode(directions: u32, kind: u32, number: u32, size: u32) -> u32 {
    directions << 30 | size << 16 | kind << 8 | number
}

#[test]
fn every_number_is_encoded_from_its_size() {
    let mut sized = 0;
    for request in requests() {
        for form in &request.forms {
            let (kind, number) = (form.value >> 8 & 0xff, form.value & 0xff);
            match form.size {
                Some(size) => {
                    let directions = if request.devices.contains(&Device::Storage) { 1 } else { 3 };
                    assert_eq!(form.value, encode(directions, kind, number, size), "{}", request.name);
                    sized += 1;
                }
                None => {
                    let plain = form.value <= 0x7ff || matches!(form.value, 0x3000_0001 | 0x3000_0002);
                    assert!(plain || form.mask != u32::MAX, "{}", request.name);
                }
            }
            assert_eq!(form.value & !form.mask, 0, "{}", request.name);
            let frontend =
                request.devices.iter().all(|device| matches!(device, Device::Control | Device::Gpu));
            assert!(!frontend || kind == u32::from(b'F'), "{}", request.name);
            for branch in form.first.iter().chain(&form.last) {
                assert!(is_branch(*branch), "{} {branch}", request.name);
            }
        }
        assert!(!request.devices.is_empty() && !request.classes.is_empty() && !request.forms.is_empty());
    }
    assert!(sized > 40, "{sized}");
}

#[test]
fn a_number_is_one_request_on_each_device() {
    let mut seen: BTreeMap<(Device, u32), &str> = BTreeMap::new();
    for request in requests() {
        for device in &request.devices {
            for form in &request.forms {
                for value in form.value..=form.through.unwrap_or(form.value) {
                    let other = seen.insert((*device, value), &request.name);
                    assert_eq!(other, None, "{} {value:#x}", request.name);
                }
            }
        }
    }
    assert!(branches().iter().zip(branches().iter().skip(1)).all(|(one, next)| one.number < next.number));
}

#[test]
fn what_changed_between_branches_is_what_the_release_tags_show() {
    let forms = |name: &str, branch| {
        let request = requests().iter().find(|request| request.name == name).unwrap();
        request.forms_on(branch).map(|form| form.value).collect::<Vec<_>>()
    };
    for (name, before, old, after, new) in [
        ("NV_ESC_RM_ALLOC", 525, vec![0xc020_462b, 0xc028_462b], 535, vec![0xc020_462b, 0xc030_462b]),
        ("NV_ESC_NUMA_INFO", 525, vec![0xc228_46d7], 535, vec![0xc230_46d7]),
        ("NV_ESC_RM_UNMAP_MEMORY_DMA", 545, vec![0xc028_4658], 550, vec![0xc030_4658]),
        ("NV_ESC_WAIT_OPEN_COMPLETE", 545, vec![], 550, vec![0xc008_46da]),
        ("NV_ESC_EXPORT_TO_DMABUF_FD", 565, vec![0xca28_46d9], 570, vec![0xca30_46d9]),
        ("NV_ESC_RM_MAP_MEMORY_DMA", 575, vec![0xc038_4657], 580, vec![0xc040_4657]),
        ("UVM_MM_INITIALIZE", 525, vec![], 535, vec![75]),
        ("UVM_ALLOC_DEVICE_P2P", 560, vec![], 565, vec![78]),
        ("UVM_DISCARD", 575, vec![], 580, vec![80]),
        ("UVM_ENABLE_SYSTEM_WIDE_ATOMICS", 590, vec![54], 595, vec![]),
    ] {
        assert_eq!(forms(name, before), old, "{name} {before}");
        assert_eq!(forms(name, after), new, "{name} {after}");
    }
    let names = |branch| added_by(branch).iter().map(|request| request.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names(535), ["UVM_MM_INITIALIZE"]);
    assert_eq!(names(550), ["NV_ESC_WAIT_OPEN_COMPLETE"]);
    assert_eq!(names(515), Vec::<&str>::new());
    assert_eq!(names(610), Vec::<&str>::new());
}

#[test]
fn from_one_branchs_form_the_others_follow() {
    let request = request(Some(Device::Control), 0xc038_4657).unwrap();
    assert_eq!(request.name, "NV_ESC_RM_MAP_MEMORY_DMA");
    assert_eq!(request.other_forms(0xc038_4657).map(|form| form.value).collect::<Vec<_>>(), [0xc040_4657]);
    // Whatever the older branch's compute set is, the newer one's is a form of the same requests or was added.
    for (old, new) in branches().iter().zip(branches().iter().skip(1)) {
        let old: BTreeSet<&str> =
            compute_set(old.number).unwrap().iter().map(|(request, _)| request.name.as_str()).collect();
        let added: BTreeSet<&str> =
            added_by(new.number).iter().map(|request| request.name.as_str()).collect();
        for (request, _) in compute_set(new.number).unwrap() {
            assert!(old.contains(&*request.name) || added.contains(&*request.name), "{}", request.name);
        }
    }
    assert!(compute_set(600).is_none());
    assert!(compute_set(570).unwrap().len() > 40);
}

#[test]
fn the_indirect_request_is_never_in_a_set() {
    assert!(is_never(0xc010_46d3));
    assert!(!is_never(0xc020_462a));
    for branch in branches() {
        for (request, form) in compute_set(branch.number).unwrap() {
            assert!(!form.matches(0xc010_46d3), "{}", request.name);
        }
    }
    let never = request(None, 0xc010_46d3).unwrap();
    assert!(never.note.as_deref().is_some_and(|note| note.contains("seccomp")));
}

#[test]
fn a_device_goes_by_its_path_and_a_number_by_its_device() {
    for (path, device) in [
        ("/dev/nvidiactl", Some(Device::Control)),
        ("/dev/nvidia0", Some(Device::Gpu)),
        ("/dev/nvidia17", Some(Device::Gpu)),
        ("/dev/nvidia", None),
        ("/dev/nvidia-uvm", Some(Device::Uvm)),
        ("/dev/nvidia-caps/nvidia-cap2", Some(Device::Capability)),
        ("/dev/dri/renderD128", Some(Device::Dri)),
        ("/dev/null", None),
        ("nvidiactl", None),
    ] {
        assert_eq!(Device::from_path(path), device, "{path}");
    }
    let name = |device, number| request(device, number).map(|request| request.name.as_str());
    assert_eq!(name(Some(Device::Uvm), 1), Some("UVM_RESERVE_VA"));
    assert_eq!(name(None, 1), None);
    assert_eq!(name(Some(Device::Uvm), 250), Some("UVM_TEST_*"));
    assert_eq!(name(None, 0x3000_0001), Some("UVM_INITIALIZE"));
    // Both of the frontend's devices take all of its requests.
    assert_eq!(name(Some(Device::Gpu), 0xc020_462a), Some("NV_ESC_RM_CONTROL"));
    assert_eq!(name(Some(Device::Control), 0xd200_46c8), Some("NV_ESC_CARD_INFO"));
    assert_eq!(name(Some(Device::Uvm), 0xc020_462a), None);
    assert_eq!(name(Some(Device::Dri), 0xc010_6443), Some("DRM_NVIDIA_GET_DEV_INFO"));
}
