use super::{dual, faults};
use crate::doctor::node::{sh, write};

/// Another interface that leads somewhere, with that address.
fn second_uplink(address: &str) {
    sh(&format!(
        "ip link add up1 type veth peer name world1 netns world
         ip addr add {address} dev up1
         ip link set up1 up
         ip -n world link set world1 up"
    ));
}

/// A manager that runs, with what it reads.
fn manager(trace: &str, file: &str, text: &str) {
    write(trace, "1\n");
    if !file.is_empty() {
        write(file, text);
    }
}

faults! {
    forwarding_is_off [behind: &[("forwarding-reset", "file /etc/sysctl.d/99-hardening.conf")]]: [("forwarding", "sysctl net.ipv4.ip_forward")] => 1, |_| {
        write("/etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n");
        sh("sysctl -q -w net.ipv4.ip_forward=0");
    };
    forwarding_of_ipv6_is_off [kind: dual()]: [("forwarding", "sysctl net.ipv6.conf.all.forwarding")] => 1, |_| {
        sh("sysctl -q -w net.ipv6.conf.all.forwarding=0");
    };
    forwarding_is_off_for_the_bridge: [("forwarding-bridge", "bridge smartnet0")] => 1, |_| {
        sh("sysctl -q -w net.ipv4.conf.smartnet0.forwarding=0");
    };
    a_file_will_switch_forwarding_off: [("forwarding-reset", "file /etc/sysctl.d/99-hardening.conf")] => 0, |_| {
        write("/etc/sysctl.d/10-router.conf", "net.ipv4.ip_forward = 1\n");
        write("/etc/sysctl.d/99-hardening.conf", "net/ipv4/ip_forward=0\n");
    };
    a_second_uplink_filters_strictly: [("rp-filter", "interface up1")] => 0, |_| {
        second_uplink("198.51.100.1/24");
        sh("ip route add default via 198.51.100.2 metric 700; sysctl -q -w net.ipv4.conf.up1.rp_filter=1");
        // The guard has to learn of a new uplink.
        sh(&format!("{} reconcile", crate::lab::binary().display()));
    };
    the_policy_of_forward_drops: [("forward-drop", "chain ip filter FORWARD")] => 1, |_| {
        sh("iptables-nft -P FORWARD DROP");
    };
    docker_drops_in_front_of_its_chains: [("forward-drop", "chain ip filter FORWARD")] => 1, |_| {
        sh("iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER");
    };
    a_firewall_rejects_what_is_forwarded: [("forward-drop", "chain inet firewalld filter_FORWARD")] => 1, |_| {
        sh("nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
            ct state established,related accept
            reject with icmpx admin-prohibited
        }; }'");
    };
    both_kinds_of_iptables_have_rules: [("iptables-mixed", "table filter")] => 0, |_| {
        sh("iptables-legacy -A INPUT -i up0 -p tcp --dport 23 -j DROP; iptables-nft -A INPUT -i up0 -p tcp --dport 21 -j DROP");
    };
    there_is_no_default_route: [("uplink-missing", "default route")] => 0, |_| {
        sh("ip route del default; ip -6 route del default");
    };
    two_uplinks_are_in_one_network: [("uplink-twice", "interface up1")] => 0, |_| second_uplink("192.0.2.9/24");
    ipv6_is_off_on_the_bridge [kind: dual()]: [("ipv6-disabled", "bridge smartnet0")] => 1, |_| {
        sh("sysctl -q -w net.ipv6.conf.smartnet0.disable_ipv6=1");
    };
    the_uplink_will_lose_its_router [kind: dual()]: [("ipv6-router", "interface up0")] => 0, |_| {
        sh("sysctl -q -w net.ipv6.conf.up0.accept_ra=1
            ip -6 route del default; ip -6 route add default via 2001:db8::2 dev up0 proto ra");
    };
    the_disk_is_full: [
        ("disk-full", "directory /run/cni/networks"), ("disk-full", "directory /run/smarter-cni"),
    ] => 1, |_| {
        sh("used=$(df --output=used -k /run | tail -1); mount -o remount,size=$((used + 100))k /run");
    };
    the_disk_has_no_inodes: [
        ("disk-full", "directory /run/cni/networks"), ("disk-full", "directory /run/smarter-cni"),
    ] => 1, |_| {
        sh("used=$(df --output=iused /run | tail -1); mount -o remount,nr_inodes=$((used + 20)) /run");
    };
    the_disk_is_read_only: [
        ("disk-read-only", "directory /run/cni/networks"), ("disk-read-only", "directory /run/smarter-cni"),
    ] => 1, |_| sh("mount -o remount,ro /run");
    plugins_may_not_be_executed: [("disk-noexec", "directory /opt/cni/bin")] => 1, |_| sh("mount -o remount,noexec /opt");
    networkmanager_takes_pods: [("manager-networkmanager", "interface veth*")] => 0, |_| {
        manager("/run/NetworkManager/system-connections/x", "/etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\n");
        // The package's own rule for udev leaves veths alone.
        write("/etc/udev/rules.d/99-veth.rules", "ENV{ID_NET_DRIVER}==\"veth\", ENV{NM_UNMANAGED}=\"0\"\n");
    };
    dhcpcd_takes_pods: [("manager-dhcpcd", "interface veth*")] => 0, |_| {
        manager("/run/dhcpcd/pid", "/etc/dhcpcd.conf", "hostname\npersistent\n");
    };
    dhcpcd_takes_the_bridge: [("manager-dhcpcd", "interface smartnet0")] => 0, |_| {
        manager("/run/dhcpcd/pid", "/etc/dhcpcd.conf", "denyinterfaces veth*\n");
    };
    connman_takes_pods: [("manager-connman", "interface veth*")] => 0, |_| {
        manager("/run/connman/x", "/etc/connman/main.conf", "[General]\nAllowHostnameUpdates=false\n");
    };
    networkd_takes_pods: [("manager-networkd", "interface veth*")] => 0, |_| {
        manager("/run/systemd/netif/state", "/etc/systemd/network/50-dhcp.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n");
    };
}
