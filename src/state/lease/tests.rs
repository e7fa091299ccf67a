use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn boot(digit: char) -> BootId {
    BootId::parse(&digit.to_string().repeat(36)).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn holder(container: &str) -> Holder {
    Holder::new(container, &"eth0".parse().unwrap())
}

fn nobody(_: IpAddr, _: &Holder) -> bool {
    false
}

struct Node {
    root: TempDir,
    store: Store,
}

fn node() -> Node {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(&root.path().join("a/b"), "net").unwrap();
    Node { root, store }
}

impl Node {
    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("a/b/net").join(name)
    }
}

#[test]
fn files_are_what_host_local_writes() {
    let mut node = node();
    let locked = node.store.lock().unwrap();
    assert!(locked.reserve(ip("10.1.2.3"), &holder("cid-a")).unwrap());
    assert!(locked.reserve(ip("2001:0db8:1:0:0:0:0:2"), &holder("cid-a")).unwrap());
    locked.set_last_reserved(0, ip("10.1.2.3"));
    drop(locked);
    assert_eq!(fs::read(node.file("10.1.2.3")).unwrap(), b"cid-a\r\neth0");
    assert_eq!(fs::read(node.file("2001:db8:1::2")).unwrap(), b"cid-a\r\neth0");
    assert_eq!(fs::read(node.file("last_reserved_ip.0")).unwrap(), b"10.1.2.3");
    let mode = |name: &str| fs::metadata(node.file(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode(""), mode("lock"), mode("10.1.2.3"), mode("last_reserved_ip.0")),
        (0o755, 0o750, 0o600, 0o600)
    );
    assert_eq!(fs::read(node.file("lock")).unwrap(), b"");
}

#[test]
fn content_is_read_with_leniency_and_damage_is_seen() {
    assert_eq!(Lease::parse(b" cid-a\r\neth0\n"), Lease::Held(holder("cid-a")));
    let legacy = Holder { container: "cid-a".into(), if_name: None };
    assert_eq!(Lease::parse(b"cid-a\n"), Lease::Held(legacy.clone()));
    assert!(legacy.covers(&holder("cid-a")) && !holder("cid-a").covers(&legacy));
    assert!(
        !legacy.covers(&holder("cid-b"))
            && !holder("cid-a").covers(&Holder::new("cid-a", &"net1".parse().unwrap()))
    );
    for damage in [&b""[..], b" \r\n", b"\0\0\0\0\0", b"\xff\xfe", b"cid a\r\neth0", b"cid\r\na/b"] {
        assert_eq!(Lease::parse(damage), Lease::Damaged, "{damage:?}");
    }
}

#[test]
fn an_address_is_reserved_once() {
    let mut node = node();
    let locked = node.store.lock().unwrap();
    assert!(locked.reserve(ip("10.0.0.1"), &holder("a")).unwrap());
    assert!(!locked.reserve(ip("10.0.0.1"), &holder("b")).unwrap());
    assert!(!locked.reserve(ip("10.0.0.1"), &holder("a")).unwrap());
    locked.release(ip("10.0.0.1")).unwrap();
    locked.release(ip("10.0.0.1")).unwrap();
    assert!(locked.reserve(ip("10.0.0.1"), &holder("b")).unwrap());
    assert_eq!(locked.leases().unwrap(), [(ip("10.0.0.1"), Lease::Held(holder("b")))]);
}

#[test]
fn damaged_files_links_and_leftovers_are_in_nobodys_way() {
    let mut node = node();
    let target = node.root.path().join("target");
    fs::write(&target, "cid-x\r\neth0").unwrap();
    fs::write(node.file("10.0.0.1"), "").unwrap();
    fs::write(node.file("10.0.0.2"), [0; 11]).unwrap();
    symlink(&target, node.file("10.0.0.3")).unwrap();
    fs::create_dir(node.file("10.0.0.4")).unwrap();
    let (pipe, socket) = (rustix::fs::FileType::Fifo, rustix::fs::FileType::Socket);
    for (name, kind) in [("10.0.0.5", pipe), ("10.0.0.6", socket)] {
        rustix::fs::mknodat(rustix::fs::CWD, node.file(name), kind, rustix::fs::Mode::RWXU, 0).unwrap();
    }
    File::create(node.file("10.0.0.7")).unwrap().set_len(1 << 40).unwrap();
    symlink(&target, node.file(".boot_id")).unwrap();
    fs::write(node.file(TEMPORARY), "half").unwrap();
    let locked = node.store.lock().unwrap();
    for last in [1, 2, 3, 5, 6, 7] {
        assert!(locked.reserve(IpAddr::from([10, 0, 0, last]), &holder("a")).unwrap(), "{last}");
    }
    assert!(!locked.reserve(ip("10.0.0.4"), &holder("a")).unwrap());
    assert_eq!(locked.leases().unwrap().len(), 6);
    assert_eq!(locked.enter(&boot('a'), |_, _| true).unwrap(), Entered::OtherBoot(0));
    drop(locked);
    assert_eq!(fs::read(&target).unwrap(), b"cid-x\r\neth0");
    assert!(!node.file("10.0.0.3").is_symlink() && !node.file(TEMPORARY).exists());
}

#[test]
fn last_reserved_is_read_with_leniency() {
    let mut node = node();
    let files = [("0", "10.0.0.7\n"), ("1", ""), ("2", "10.0.0"), ("3", "fd00::1")];
    for (set, content) in files {
        fs::write(node.file(&format!("{LAST_RESERVED}{set}")), content).unwrap();
    }
    fs::create_dir(node.file("last_reserved_ip.5")).unwrap();
    let locked = node.store.lock().unwrap();
    let read: Vec<_> = (0..6).map(|set| locked.last_reserved(set)).collect();
    assert_eq!(read, [Some(ip("10.0.0.7")), None, None, Some(ip("fd00::1")), None, None]);
    locked.set_last_reserved(5, ip("10.0.0.1"));
}

#[test]
fn leases_of_another_boot_are_void() {
    let mut node = node();
    let locked = node.store.lock().unwrap();
    assert_eq!(locked.enter(&boot('a'), nobody).unwrap(), Entered::Unmarked);
    for last in 1..=5 {
        assert!(locked.reserve(IpAddr::from([10, 0, 0, last]), &holder("a")).unwrap());
    }
    locked.set_last_reserved(0, ip("10.0.0.5"));
    assert_eq!(locked.enter(&boot('a'), nobody).unwrap(), Entered::SameBoot);
    drop(locked);
    fs::write(node.file("10.0.0.6"), "").unwrap();
    let locked = node.store.lock().unwrap();
    // The Go plugin, which knows no mark, made the lease of .2 after the reboot.
    let survives = |address, _: &Holder| address == ip("10.0.0.2");
    assert_eq!(locked.enter(&boot('b'), survives).unwrap(), Entered::OtherBoot(5));
    assert_eq!(locked.survey().unwrap().addresses, [ip("10.0.0.2")]);
    assert_eq!(locked.last_reserved(0), Some(ip("10.0.0.5")));
}

#[test]
fn leases_without_mark_are_kept_and_a_damaged_mark_is_another_boots() {
    let mut node = node();
    fs::write(node.file("10.0.0.1"), "go\r\neth0").unwrap();
    let locked = node.store.lock().unwrap();
    assert_eq!(locked.enter(&boot('a'), nobody).unwrap(), Entered::Unmarked);
    assert_eq!(locked.survey().unwrap().addresses.len(), 1);
    for damage in ["", "\0\0\0\0", "aaaa"] {
        fs::write(locked.path().join(".boot_id"), damage).unwrap();
        assert!(matches!(locked.enter(&boot('a'), nobody).unwrap(), Entered::OtherBoot(_)));
    }
    assert_eq!(locked.survey().unwrap().addresses.len(), 0);
}

#[test]
fn the_seal_breaks_when_somebody_else_touches_the_leases() {
    let mut node = node();
    let sealed = |node: &mut Node| {
        let locked = node.store.lock().unwrap();
        let survey = locked.survey().unwrap();
        locked.is_sealed(&survey).unwrap()
    };
    node.store.lock().unwrap().enter(&boot('a'), nobody).unwrap();
    assert!(sealed(&mut node));
    for last in 1..=3 {
        assert!(node.store.lock().unwrap().reserve(IpAddr::from([10, 0, 0, last]), &holder("a")).unwrap());
    }
    node.store.lock().unwrap().release(ip("10.0.0.2")).unwrap();
    assert!(sealed(&mut node));

    fs::write(node.file("10.0.0.9"), "go\r\neth0").unwrap();
    assert!(!sealed(&mut node));
    node.store.lock().unwrap().release(ip("10.0.0.1")).unwrap();
    assert!(!sealed(&mut node));
    fs::remove_file(node.file("10.0.0.9")).unwrap();
    assert!(sealed(&mut node));
    fs::remove_file(node.file("10.0.0.3")).unwrap();
    assert!(!sealed(&mut node));
    let locked = node.store.lock().unwrap();
    let survey = locked.survey().unwrap();
    locked.seal(&survey);
    drop(locked);
    assert!(sealed(&mut node));
    node.store.lock().unwrap().enter(&boot('b'), nobody).unwrap();
    assert!(sealed(&mut node));
}

#[test]
fn lost_leases_are_made_again() {
    let mut node = node();
    let locked = node.store.lock().unwrap();
    assert!(locked.reserve(ip("10.0.0.1"), &holder("a")).unwrap());
    let carried = [
        Carried { holder: holder("a"), addresses: vec![ip("10.0.0.1"), ip("fd00::1")] },
        Carried { holder: holder("b"), addresses: vec![ip("10.0.0.2"), ip("10.0.0.1")] },
    ];
    assert_eq!(locked.rebuild(&carried).unwrap(), 2);
    assert_eq!(locked.rebuild(&carried).unwrap(), 0);
    let lease = |address| locked.lease(ip(address)).unwrap();
    assert_eq!(lease("10.0.0.1"), Some(Lease::Held(holder("a"))));
    assert_eq!(lease("10.0.0.2"), Some(Lease::Held(holder("b"))));
    assert_eq!(lease("fd00::1"), Some(Lease::Held(holder("a"))));
}

#[test]
fn looking_makes_nothing() {
    let root = tempfile::tempdir().unwrap();
    assert!(Store::existing(root.path(), "net").unwrap().is_none());
    assert!(Store::glance(root.path(), "net").unwrap().is_none());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    for bad in ["", ".", "..", "a/b", "../x"] {
        assert!(Store::open(root.path(), bad).is_err(), "{bad:?}");
    }
    fs::create_dir(root.path().join("net")).unwrap();
    let glance = Store::glance(root.path(), "net").unwrap().unwrap();
    glance.writable().unwrap();
    assert!(glance.addresses().unwrap().is_empty());
    assert_eq!(fs::read_dir(root.path().join("net")).unwrap().count(), 0);
}

#[test]
fn the_lock_keeps_others_out() {
    let node = node();
    let data_dir = node.root.path().join("a/b");
    let reserved: BTreeSet<IpAddr> = std::thread::scope(|scope| {
        let work = |thread: u8| {
            let data_dir = &data_dir;
            move || {
                let mut mine = Vec::new();
                for _ in 0..25 {
                    let mut store = Store::open(data_dir, "net").unwrap();
                    let locked = store.lock().unwrap();
                    let next = u8::try_from(locked.survey().unwrap().addresses.len()).unwrap();
                    let address = IpAddr::from([10, 0, 0, next]);
                    assert!(locked.reserve(address, &holder(&format!("t{thread}"))).unwrap());
                    mine.push(address);
                }
                mine
            }
        };
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(reserved.len(), 200);
}
