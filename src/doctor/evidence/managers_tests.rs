//! Trees of configuration as they are found on nodes, and the verdict about each.

use super::*;

fn manager(kind: Kind, files: &[(&str, &str)]) -> Manager {
    Manager { kind, files: files.iter().map(|(path, text)| TextFile::new(path, text)).collect() }
}

fn grabbed(kind: Kind, files: &[(&str, &str)]) -> Option<String> {
    manager(kind, files).grabs(&["smartnet0".to_owned()]).map(|grab| grab.interface)
}

#[test]
fn networkmanager_leaves_what_it_is_told_to_leave() {
    let main = "/etc/NetworkManager/NetworkManager.conf";
    let grabs = |text| grabbed(Kind::NetworkManager, &[(main, text)]).is_some();
    assert!(grabs("[main]\nplugins=keyfile\n"));
    for text in [
        "[keyfile]\nunmanaged-devices=interface-name:veth*;interface-name:docker0",
        "[keyfile]\nunmanaged-devices=driver:veth",
        "[keyfile]\nunmanaged-devices=type:veth",
        "[keyfile]\nunmanaged-devices=*,except:type:wifi",
        "[keyfile]\nunmanaged-devices=mac:00:11:22:33:44:55\nunmanaged-devices+=interface-name:veth*",
        "[device-cni]\nmatch-device=interface-name:veth*\nmanaged=0",
    ] {
        assert!(!grabs(text), "{text}");
    }
    for text in [
        "[keyfile]\nunmanaged-devices=interface-name:=veth*",
        "[keyfile]\nunmanaged-devices=interface-name:eth0",
        "[keyfile]\nunmanaged-devices=*,except:interface-name:veth*",
        "[device]\nmatch-device=interface-name:veth*\nmanaged=1\n[keyfile]\nunmanaged-devices=interface-name:veth*",
        "[ifupdown]\nunmanaged-devices=interface-name:veth*",
    ] {
        assert!(grabs(text), "{text}");
    }
}

#[test]
fn networkmanagers_own_rules_of_udev_count_until_another_one_comes() {
    let shipped = (
        "/usr/lib/udev/rules.d/85-nm-unmanaged.rules",
        "# veth\nENV{ID_NET_DRIVER}==\"veth\", ENV{INTERFACE}!=\"eth[0-9]*\", ENV{NM_UNMANAGED}=\"1\"\n",
    );
    let test = ("/etc/udev/rules.d/88-veths.rules", "ENV{ID_NET_DRIVER}==\"veth\", ENV{NM_UNMANAGED}=\"0\"");
    let other = (
        "/etc/udev/rules.d/88-x.rules",
        "ENV{ID_NET_DRIVER}==\"veth\", ENV{INTERFACE}==\"test*\", ENV{NM_UNMANAGED}=\"0\"",
    );
    assert_eq!(grabbed(Kind::NetworkManager, &[shipped]), None);
    assert_eq!(grabbed(Kind::NetworkManager, &[shipped, test]).as_deref(), Some("veth*"));
    assert_eq!(grabbed(Kind::NetworkManager, &[shipped, other]), None);
}

#[test]
fn dhcpcd_takes_what_is_not_denied() {
    let grabs = |text| grabbed(Kind::Dhcpcd, &[("/etc/dhcpcd.conf", text)]);
    assert_eq!(grabs("hostname\npersistent\n").as_deref(), Some("veth*"));
    assert_eq!(grabs("denyinterfaces veth* smartnet0"), None);
    assert_eq!(grabs("denyinterfaces veth*").as_deref(), Some("smartnet0"));
    assert_eq!(grabs("denyinterfaces veth*\ndenyinterfaces smart*,x"), None);
    assert_eq!(grabs("allowinterfaces eth0 wlan0"), None);
    assert_eq!(grabs("allowinterfaces *\n").as_deref(), Some("veth*"));
    assert_eq!(grabbed(Kind::Dhcpcd, &[]).as_deref(), Some("veth*"), "no file at all");
}

#[test]
fn connman_takes_what_its_list_does_not_begin_with() {
    let grabs = |text| grabbed(Kind::Connman, &[("/etc/connman/main.conf", text)]).is_some();
    assert!(grabs("[General]\nAllowHostnameUpdates=false"));
    assert!(grabs("[General]\nNetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-"));
    assert!(!grabs("[General]\nNetworkInterfaceBlacklist=vmnet, veth"));
    assert!(!grabs("[General]\nNetworkInterfaceBlacklist=ve"));
}

#[test]
fn networkd_takes_what_its_first_matching_file_takes() {
    let grabs = |files: &[(&str, &str)]| grabbed(Kind::Networkd, files);
    let all = ("/etc/systemd/network/50-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes");
    let ours = (
        "/etc/systemd/network/00-smarter-cni.network",
        "[Match]\nName=veth* smartnet0\n\n[Link]\nUnmanaged=yes",
    );
    assert_eq!(grabs(&[all]).as_deref(), Some("veth*"));
    assert_eq!(grabs(&[ours, all]), None);
    assert_eq!(grabs(&[all, ours]).as_deref(), Some("veth*"), "the first by name");
    for (text, expected) in [
        ("[Match]\nType=ether\n[Network]\nDHCP=yes", Some("veth*")),
        ("[Match]\nType=ether\nKind=!*\n[Network]\nDHCP=yes", None),
        ("[Match]\nName=en* eth*\n[Network]\nDHCP=yes", None),
        ("[Match]\nName=en* veth*\n[Network]\nDHCP=yes", Some("veth*")),
        ("[Match]\nName=!lo\n", Some("veth*")),
        ("[Match]\nKind=bridge\n[Network]\nDHCP=yes", Some("smartnet0")),
        ("[Match]\nDriver=veth\n", Some("veth*")),
        ("[Match]\nMACAddress=00:11:22:33:44:55\n", None),
        ("[Match]\nKind=veth\nName=ve-*\n[Network]\nDHCP=yes", None),
        ("[Match]\nVirtualization=container\nName=*\n", None),
        ("[Network]\nDHCP=yes", None),
    ] {
        assert_eq!(grabs(&[("/etc/systemd/network/x.network", text)]).as_deref(), expected, "{text}");
    }
}

#[test]
fn the_remedy_satisfies_the_manager() {
    let bridges = ["smartnet0".to_owned()];
    for (kind, path) in [
        (Kind::NetworkManager, "/etc/NetworkManager/conf.d/90-smarter-cni.conf"),
        (Kind::Dhcpcd, "/etc/dhcpcd.conf"),
        (Kind::Connman, "/etc/connman/main.conf"),
        (Kind::Networkd, "/etc/systemd/network/00-smarter-cni.network"),
    ] {
        let remedy = manager(kind, &[]).remedy(&bridges);
        let (words, content) = remedy.split_once('\n').unwrap();
        assert!(words.contains(path), "{words}");
        let written = (path, content);
        let catching = ("/etc/systemd/network/50-all.network", "[Match]\nName=*\n");
        let files = if kind == Kind::Networkd { vec![written, catching] } else { vec![written] };
        assert_eq!(grabbed(kind, &files), None, "{kind:?}");
    }
}

#[test]
fn only_managers_that_run_are_read() {
    let tree = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let root = Root::at(tree.path());
    write("etc/dhcpcd.conf", "hostname\n");
    assert_eq!(load(&root).unwrap(), []);
    write("run/dhcpcd/pid", "1\n");
    write("run/systemd/netif/state", "OPER_STATE=routable\n");
    write("usr/lib/systemd/network/80-container-ve.network", "[Match]\nKind=veth\nName=ve-*\n");
    let kinds: Vec<_> =
        load(&root).unwrap().iter().map(|manager| (manager.kind, manager.files.len())).collect();
    assert_eq!(kinds, [(Kind::Dhcpcd, 1), (Kind::Networkd, 1)]);
}
