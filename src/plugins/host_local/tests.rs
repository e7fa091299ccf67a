use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::config::tests::request;
use super::*;
use crate::cni::{Code, ContainerId, Request, Verb};
use crate::state::boot::{BootId, boottime};
use crate::state::holders::GRACE;
use crate::state::{Holder, Store};

/// A node with one network, pods whose namespaces are plain files, and a kernel that says what the test wants.
struct Node {
    root: TempDir,
    records: Records,
    carried: Vec<Carried>,
    carries: RefCell<Option<bool>>,
    later: Duration,
    ipam: String,
    more: String,
}

impl Evidence for Node {
    fn carried(&self, _: &str) -> Vec<Carried> {
        self.carried.clone()
    }

    fn carries(&self, _: IpAddr) -> Option<bool> {
        *self.carries.borrow()
    }
}

fn boot(digit: char) -> BootId {
    BootId::parse(&digit.to_string().repeat(36)).unwrap()
}

fn node(ranges: &str) -> Node {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("netns")).unwrap();
    fs::create_dir(root.path().join("results")).unwrap();
    Node {
        records: Records::at(&root.path().join("run"), boot('a')),
        root,
        carried: Vec::new(),
        carries: RefCell::new(None),
        later: Duration::ZERO,
        ipam: ranges.to_owned(),
        more: String::new(),
    }
}

impl Node {
    fn netns(&self, pod: &str) -> PathBuf {
        self.root.path().join("netns").join(pod)
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("leases/net")
    }

    fn request(&self, verb: Verb, pod: &str, args: &str) -> Request {
        let dir = self.root.path().join("leases");
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"net"{},"ipam":{{"dataDir":"{}",{}}}}}"#,
            self.more,
            dir.display(),
            self.ipam
        );
        let mut request = request(verb, &text, args);
        if let Some(target) = &mut request.target {
            target.container = ContainerId::parse(pod).unwrap();
            target.netns = Some(self.netns(pod).display().to_string());
        }
        request
    }

    fn world<'a>(&'a self, results: &'a Path) -> Ipam<'a> {
        Ipam {
            records: &self.records,
            libcni_results: results,
            now: boottime() + self.later,
            evidence: self,
            caller: Caller::Runtime,
        }
    }

    fn with<T>(&self, verb: Verb, pod: &str, args: &str, call: impl Fn(&Request, &Ipam<'_>) -> T) -> T {
        let results = self.root.path().join("results");
        call(&self.request(verb, pod, args), &self.world(&results))
    }

    /// Starts a pod. Its addresses, or what went wrong.
    fn add_with(&self, pod: &str, args: &str) -> Result<Vec<String>, String> {
        if !self.netns(pod).exists() {
            fs::write(self.netns(pod), "").unwrap();
        }
        let shown = |leased: Leased| leased.result.ips.iter().map(|ip| ip.address.to_string()).collect();
        self.with(Verb::Add, pod, args, add).map(shown).map_err(|error| error.msg)
    }

    fn add(&self, pod: &str) -> Result<Vec<String>, String> {
        self.add_with(pod, &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={pod}"))
    }

    fn del(&self, pod: &str) {
        self.with(Verb::Del, pod, "", del).unwrap();
    }

    fn check(&self, pod: &str) -> Result<(), String> {
        self.with(Verb::Check, pod, "", check).map_err(|error| error.msg)
    }

    fn status(&self) -> Result<(), (Code, String)> {
        self.with(Verb::Status, "", "", |request, _| status(request)).map_err(|error| (error.code, error.msg))
    }

    /// The pod ends and nobody says so.
    fn vanish(&self, pod: &str) {
        // Renamed and not removed, so that the inode is not given to the next file.
        fs::rename(self.netns(pod), self.netns(&format!("{pod}-gone"))).unwrap();
    }

    fn leases(&self) -> Vec<String> {
        let Some(mut store) = Store::existing(&self.root.path().join("leases"), "net").unwrap() else {
            return Vec::new();
        };
        let leases = store.lock().unwrap().leases().unwrap();
        leases.into_iter().map(|(address, _)| address.to_string()).collect()
    }
}

const SMALL: &str = r#""subnet":"10.1.2.0/29""#;

#[test]
fn a_pod_gets_an_address_of_each_set() {
    let mut node = node(
        r#""ranges":[[{"subnet":"10.1.2.0/24"}],[{"subnet":"2001:db8:1::/64","gateway":"2001:db8:1::9"}]],
           "routes":[{"dst":"0.0.0.0/0"}]"#,
    );
    let resolv = node.root.path().join("resolv.conf");
    fs::write(&resolv, "nameserver 192.0.2.3\n").unwrap();
    node.ipam = format!(r#"{},"resolvConf":"{}""#, node.ipam, resolv.display());
    fs::write(node.netns("a"), "").unwrap();
    let result = node.with(Verb::Add, "a", "", add).unwrap().result;
    let ips: Vec<_> =
        result.ips.iter().map(|ip| (ip.address.to_string(), ip.gateway.unwrap().to_string())).collect();
    let pair = |one: &str, two: &str| (one.to_owned(), two.to_owned());
    assert_eq!(ips, [pair("10.1.2.2/24", "10.1.2.1"), pair("2001:db8:1::1/64", "2001:db8:1::9")]);
    assert_eq!(result.routes.len(), 1);
    assert_eq!(result.dns.nameservers, ["192.0.2.3"]);
    assert!(result.interfaces.is_empty());
    assert_eq!(fs::read(node.dir().join("10.1.2.2")).unwrap(), b"a\r\neth0");
    assert_eq!(fs::read(node.dir().join("last_reserved_ip.1")).unwrap(), b"2001:db8:1::1");
    node.check("a").unwrap();
    let record = node.records.of_container("a").unwrap().remove(0);
    assert!(record.complete);
    assert_eq!(record.addresses().len(), 2);
    node.del("a");
    assert!(node.leases().is_empty() && node.records.all().unwrap().is_empty());
    assert_eq!(node.check("a").unwrap_err(), "host-local: Failed to find address added by container a");
    node.del("a");
}

#[test]
fn an_address_comes_back_as_late_as_possible() {
    let node = node(SMALL);
    for host in [2, 3, 4, 5, 6, 2, 3] {
        assert_eq!(node.add("a").unwrap(), [format!("10.1.2.{host}/29")]);
        node.del("a");
    }
}

#[test]
fn a_missing_resolv_conf_leaves_nothing_behind() {
    let node = node(r#""subnet":"10.1.2.0/29","resolvConf":"/nope""#);
    assert_eq!(node.add("a").unwrap_err(), "open /nope: no such file or directory");
    assert!(!node.dir().exists());
}

#[test]
fn a_second_add_is_refused_and_changes_nothing() {
    let node = node(SMALL);
    node.add("a").unwrap();
    let refusal = "failed to allocate for range 0: 10.1.2.2 has been allocated to a, duplicate allocation is not allowed";
    assert_eq!(node.add("a").unwrap_err(), refusal);
    assert_eq!(node.leases(), ["10.1.2.2"]);
    assert!(node.records.of_container("a").unwrap()[0].complete);
    node.check("a").unwrap();
}

#[test]
fn leases_of_the_go_plugin_are_honoured() {
    let node = node(SMALL);
    node.add("ours").unwrap();
    fs::write(node.dir().join("10.1.2.4"), "go\r\neth0").unwrap();
    fs::write(node.dir().join("10.1.2.5"), "old\n").unwrap();
    assert!(node.add("go").unwrap_err().contains("10.1.2.4 has been allocated to go, duplicate"));
    assert!(node.add("old").unwrap_err().contains("10.1.2.5 has been allocated to old, duplicate"));
    node.check("go").unwrap();
    node.check("old").unwrap();
    assert_eq!(node.add("b").unwrap(), ["10.1.2.3/29"]);
    assert_eq!(node.add("c").unwrap(), ["10.1.2.6/29"]);
    node.del("go");
    node.del("old");
    assert_eq!(node.leases(), ["10.1.2.2", "10.1.2.3", "10.1.2.6"]);
}

#[test]
fn requested_addresses_are_given_or_refused() {
    let node = node(SMALL);
    assert_eq!(node.add_with("a", "IP=10.1.2.5").unwrap(), ["10.1.2.5/29"]);
    let why = |args: &str| node.add_with("b", args).unwrap_err();
    assert_eq!(
        why("IP=10.1.2.5"),
        "failed to allocate for range 0: requested IP address 10.1.2.5 is not available in range set 10.1.2.1-10.1.2.6"
    );
    assert_eq!(
        why("IP=10.1.2.1"),
        "failed to allocate for range 0: requested ip 10.1.2.1 is subnet's gateway"
    );
    assert_eq!(why("IP=10.9.9.9"), "failed to allocate all requested IPs: 10.9.9.9");
    assert_eq!(node.leases(), ["10.1.2.5"]);
    assert_eq!(node.records.all().unwrap().len(), 1);

    // A container may ask for more.
    assert_eq!(node.add_with("a", "IP=10.1.2.3").unwrap(), ["10.1.2.3/29"]);
    assert!(node.add_with("a", "IP=10.1.2.3").is_err());
    assert_eq!(node.leases(), ["10.1.2.3", "10.1.2.5"]);
    node.del("a");
    assert!(node.leases().is_empty());
}

#[test]
fn of_several_requested_addresses_the_first_is_used() {
    let mut node = node(SMALL);
    node.more = r#","runtimeConfig":{"ips":["10.1.2.4","10.1.2.3","10.1.2.6"]}"#.to_owned();
    assert_eq!(node.add("a").unwrap_err(), "failed to allocate all requested IPs: 10.1.2.3 10.1.2.6");
    assert!(node.leases().is_empty());
}

#[test]
fn a_failed_add_gives_back_only_what_it_took() {
    let mut node = node(SMALL);
    node.add("a").unwrap();
    node.ipam = r#""ranges":[[{"subnet":"10.3.0.0/24"}],[{"subnet":"10.1.2.0/29"}]]"#.to_owned();
    assert!(
        node.add("a").unwrap_err().starts_with("failed to allocate for range 1: 10.1.2.2 has been allocated")
    );
    node.more = r#","runtimeConfig":{"ips":["10.3.0.7","10.1.2.2"]}"#.to_owned();
    assert!(
        node.add("a")
            .unwrap_err()
            .starts_with("failed to allocate for range 1: requested IP address 10.1.2.2")
    );
    assert_eq!(node.leases(), ["10.1.2.2"]);
    assert!(node.records.of_container("a").unwrap()[0].complete);
}

#[test]
fn an_add_that_was_killed_is_carried_on() {
    let node = node(SMALL);
    node.add("a").unwrap();
    let mut record = node.records.of_container("a").unwrap().remove(0);
    record.complete = false;
    record.want = None;
    node.records.write(&record).unwrap();
    assert_eq!(node.add("a").unwrap(), ["10.1.2.2/29"]);
    assert_eq!(node.leases(), ["10.1.2.2"]);
    // Killed before the lease was made.
    node.records.write(&record).unwrap();
    fs::remove_file(node.dir().join("10.1.2.2")).unwrap();
    assert_eq!(node.add("a").unwrap(), ["10.1.2.3/29"]);
    // Killed while it was asking for an address.
    node.records.write(&record).unwrap();
    assert_eq!(node.add_with("a", "IP=10.1.2.3").unwrap(), ["10.1.2.3/29"]);
    assert_eq!(node.leases(), ["10.1.2.3"]);
    assert!(node.add("a").unwrap_err().contains("duplicate"));
}

#[test]
fn a_pod_whose_namespace_is_gone_gets_a_new_lease() {
    let node = node(SMALL);
    node.add("a").unwrap();
    node.vanish("a");
    assert_eq!(node.add("a").unwrap(), ["10.1.2.3/29"]);
    assert_eq!(node.leases(), ["10.1.2.3"]);
    node.del("a");
    assert!(node.leases().is_empty());
}

#[test]
fn exhaustion_says_who_has_the_addresses() {
    let node = node(SMALL);
    for pod in ["a", "b", "c", "d", "e"] {
        node.add(pod).unwrap();
    }
    let error = node.add("f").unwrap_err();
    assert!(
        error.starts_with(
            "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.6: 5 addresses, \
             5 leased, 0 of them reclaimable now; held by ns/a, ns/b, ns/c, ns/d, ns/e; stop pods"
        ),
        "{error}"
    );
    node.status().unwrap();
    assert_eq!(node.records.all().unwrap().len(), 5);
}

#[test]
fn an_exhausted_range_takes_back_what_the_dead_hold() {
    let mut node = node(SMALL);
    for pod in ["a", "b", "c", "d", "e"] {
        node.add(pod).unwrap();
    }
    node.vanish("b");
    assert!(node.add("f").is_err(), "in the grace time");
    node.later = GRACE * 2;
    node.carries.replace(Some(true));
    assert!(node.add("f").is_err(), "some process is still in the namespace");
    node.carries.replace(Some(false));
    assert_eq!(node.add("f").unwrap(), ["10.1.2.3/29"]);
    assert!(node.add("g").is_err());
    // The late DEL of the dead one takes nothing from the living.
    node.del("b");
    node.check("f").unwrap();
}

#[test]
fn a_requested_address_is_taken_back_from_the_dead() {
    let mut node = node(SMALL);
    node.add("a").unwrap();
    node.vanish("a");
    node.later = GRACE * 2;
    assert_eq!(node.add_with("b", "IP=10.1.2.2").unwrap(), ["10.1.2.2/29"]);
}

#[test]
fn leases_nobody_remembers_are_taken_only_with_proof() {
    let mut node = node(SMALL);
    fs::create_dir_all(node.dir()).unwrap();
    for host in 2..=6 {
        fs::write(node.dir().join(format!("10.1.2.{host}")), format!("go{host}\r\neth0")).unwrap();
    }
    assert!(node.add("a").is_err(), "nobody knows");
    let cache = |pod: &str, netns: &str| {
        fs::write(
            node.root.path().join(format!("results/net-{pod}-eth0")),
            format!(r#"{{"kind":"cniCacheV1","netns":"{netns}"}}"#),
        )
        .unwrap();
    };
    cache("go2", "/proc/self/ns/net");
    cache("go3", "/no/such/netns");
    assert_eq!(node.add("a").unwrap(), ["10.1.2.3/29"]);
    // No namespace carries any of them: seen twice with the grace time in between.
    node.carries.replace(Some(false));
    let error = node.add("b").unwrap_err();
    assert!(error.ends_with("3 seem abandoned, try again in 5 seconds"), "{error}");
    assert_eq!(node.leases().len(), 5);
    node.later = GRACE * 2;
    assert_eq!(node.add("b").unwrap(), ["10.1.2.4/29"]);
    assert_eq!(node.leases(), ["10.1.2.2", "10.1.2.3", "10.1.2.4"]);
}

#[test]
fn after_a_reboot_every_address_is_free() {
    let mut node = node(SMALL);
    for pod in ["a", "b", "c", "d", "e"] {
        node.add(pod).unwrap();
    }
    node.records = Records::at(&node.root.path().join("run"), boot('b'));
    for pod in ["f", "g", "h", "i", "a"] {
        node.add(pod).unwrap();
    }
    assert_eq!(node.leases().len(), 5);
    assert_eq!(node.records.all().unwrap().len(), 5);
}

#[test]
fn empty_files_are_free_addresses() {
    let node = node(SMALL);
    fs::create_dir_all(node.dir()).unwrap();
    for host in 2..=6 {
        fs::write(node.dir().join(format!("10.1.2.{host}")), "").unwrap();
    }
    for pod in ["a", "b", "c", "d", "e"] {
        node.add(pod).unwrap();
    }
    assert!(node.add("f").is_err());
}

#[test]
fn lost_leases_are_rebuilt_before_anything_is_handed_out() {
    let mut node = node(SMALL);
    for pod in ["a", "b", "c"] {
        node.add(pod).unwrap();
        let address: IpAddr = node.leases().last().unwrap().parse().unwrap();
        let holder = Holder::new(pod, &"eth0".parse().unwrap());
        node.carried.push(Carried { holder, addresses: vec![address] });
    }
    fs::remove_dir_all(node.dir()).unwrap();
    assert_eq!(node.add("d").unwrap(), ["10.1.2.5/29"]);
    assert_eq!(node.leases(), ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5"]);
    for host in [2, 4] {
        fs::remove_file(node.dir().join(format!("10.1.2.{host}"))).unwrap();
    }
    assert_eq!(node.add("e").unwrap(), ["10.1.2.6/29"]);
    assert_eq!(node.leases().len(), 5);
    node.check("a").unwrap();
}

#[test]
fn gc_frees_what_the_runtime_does_not_know() {
    let mut node = node(SMALL);
    for pod in ["a", "b", "c"] {
        node.add(pod).unwrap();
    }
    fs::write(node.dir().join("10.1.2.6"), "old").unwrap();
    let missing = node.with(Verb::Gc, "", "", gc).unwrap_err();
    assert_eq!(missing.code, Code::InvalidNetworkConfig);
    assert_eq!(node.leases().len(), 4);
    node.more = r#","cni.dev/valid-attachments":[{"containerID":"b","ifname":"eth0"},{"containerID":"c","ifname":"x"}]"#
        .to_owned();
    node.with(Verb::Gc, "", "", gc).unwrap();
    assert_eq!(node.leases(), ["10.1.2.3"]);
    assert_eq!(node.records.all().unwrap().len(), 1);
    for none in ["[]", "null"] {
        node.add("d").unwrap();
        node.more = format!(r#","cni.dev/valid-attachments":{none}"#);
        node.with(Verb::Gc, "", "", gc).unwrap();
        assert!(node.leases().is_empty(), "{none}");
    }
}

#[test]
fn gc_leaves_an_add_alone_that_runs_beside_it() {
    let mut node = node(SMALL);
    node.add("a").unwrap();
    let mut record = node.records.of_container("a").unwrap().remove(0);
    record.complete = false;
    node.records.write(&record).unwrap();
    node.more = r#","cni.dev/valid-attachments":[]"#.to_owned();
    node.with(Verb::Gc, "", "", gc).unwrap();
    assert_eq!(node.leases(), ["10.1.2.2"]);
    node.later = GRACE * 2;
    node.with(Verb::Gc, "", "", gc).unwrap();
    assert!(node.leases().is_empty());
}

#[test]
fn del_works_with_a_wrong_configuration_and_an_older_data_dir() {
    let mut node = node(SMALL);
    node.add("a").unwrap();
    node.add("b").unwrap();
    node.ipam = r#""subnet":"nonsense","ranges":7"#.to_owned();
    node.del("a");
    assert_eq!(node.leases(), ["10.1.2.3"]);
    // The configuration no longer says where; the record does.
    node.ipam = r#""dataDir":"/no/such/dir""#.to_owned();
    node.del("b");
    assert!(node.leases().is_empty());
}

#[test]
fn inside_another_plugin_no_record_is_written() {
    let node = node(SMALL);
    let results = node.root.path().join("results");
    let call = |previous: Option<&Record>| {
        let world = Ipam { caller: Caller::Plugin { previous }, ..node.world(&results) };
        add(&node.request(Verb::Add, "a", ""), &world).map(|leased| leased.result.ips[0].address.to_string())
    };
    fs::write(node.netns("a"), "").unwrap();
    assert_eq!(call(None).unwrap(), "10.1.2.2/29");
    assert!(node.records.all().unwrap().is_empty());
    let request = node.request(Verb::Add, "a", "");
    let id = request.attachment_id().unwrap();
    let netns = request.target.unwrap().netns;
    let mut record = Record::begin(&node.records, "bridge", &id, netns.as_deref());
    node.records.write(&record).unwrap();
    assert_eq!(call(Some(&record)).unwrap(), "10.1.2.2/29");
    record.complete = true;
    assert!(call(Some(&record)).unwrap_err().msg.contains("duplicate"));
    let world = Ipam { caller: Caller::Plugin { previous: Some(&record) }, ..node.world(&results) };
    del(&node.request(Verb::Del, "a", ""), &world).unwrap();
    assert!(node.leases().is_empty());
}

#[test]
fn status_looks_and_makes_nothing() {
    let node = node(SMALL);
    node.status().unwrap();
    assert!(!node.dir().exists() && !node.root.path().join("leases").exists());
    fs::create_dir_all(node.dir()).unwrap();
    node.status().unwrap();
    assert_eq!(fs::read_dir(node.dir()).unwrap().count(), 0);
}

#[test]
fn fifty_pods_at_once_get_fifty_addresses() {
    let node = node(r#""subnet":"10.1.2.0/26""#);
    for pod in 0..50 {
        fs::write(node.netns(&format!("p{pod}")), "").unwrap();
    }
    let root = node.root.path();
    let (records, results) = (&node.records, root.join("results"));
    let requests: Vec<Request> = (0..50).map(|pod| node.request(Verb::Add, &format!("p{pod}"), "")).collect();
    let addresses: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .chunks(7)
            .map(|chunk| {
                let results = &results;
                scope.spawn(move || {
                    let world = Ipam {
                        records,
                        libcni_results: results,
                        now: boottime(),
                        evidence: &NoEvidence,
                        caller: Caller::Runtime,
                    };
                    let address = |request| add(request, &world).unwrap().result.ips[0].address.to_string();
                    chunk.iter().map(address).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 50);
    assert_eq!(node.leases().len(), 50);
}

#[test]
fn many_leases_do_not_slow_an_add() {
    // Under an emulator each lease takes a millisecond, and there is nothing to be seen that is not seen with a tenth of them.
    const LEASES: u32 = if cfg!(target_arch = "x86_64") { 65_000 } else { 6_500 };
    let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    let node = node(r#""subnet":"10.0.0.0/16""#);
    fs::write(node.netns("first"), "").unwrap();
    node.add("first").unwrap();
    {
        let mut store = Store::open(&node.root.path().join("leases"), "net").unwrap();
        let locked = store.lock().unwrap();
        for n in 3..LEASES + 3 {
            locked.reserve(address(n), &Holder::new(&format!("pod{n}"), &"eth0".parse().unwrap())).unwrap();
        }
        locked.set_last_reserved(0, "10.0.0.2".parse().unwrap());
    }
    let timed = |what: &str, work: &dyn Fn()| {
        let start = std::time::Instant::now();
        work();
        eprintln!("{what} beside {LEASES} leases: {:?}", start.elapsed());
    };
    let free = |n: u32| [format!("{}/16", address(LEASES + n))];
    timed("ADD behind all of them", &|| assert_eq!(node.add("late").unwrap(), free(3)));
    timed("ADD", &|| assert_eq!(node.add("next").unwrap(), free(4)));
    timed("STATUS", &|| node.status().unwrap());
    timed("CHECK", &|| node.check("next").unwrap());
    timed("DEL", &|| node.del("next"));
}
