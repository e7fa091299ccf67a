//! Rule sets as `iptables -S` prints them, and what is typed into them.

use super::super::legacy;
use super::*;

fn traffic() -> Traffic {
    Traffic::of(&"smartnet0".parse().unwrap(), &[Family::V4], &["10.77.0.1/24".parse().unwrap()])
}

fn commands(listing: &str) -> Vec<String> {
    let change = legacy::parse(Family::V4, listing).change(&traffic()).unwrap();
    let short = |words: &Vec<String>| {
        let text = legacy::typed("", words);
        text.trim()
            .replace(" -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT", "")
            .replace(" -m conntrack", "")
    };
    legacy::commands(&"smartnet0".parse().unwrap(), &change).iter().map(short).collect()
}

fn all(place: &str, numbers: [&str; 3]) -> Vec<String> {
    let accepts =
        ["-i smartnet0", "-o smartnet0 --ctstate RELATED,ESTABLISHED", "-o smartnet0 --ctstate DNAT"];
    accepts.iter().zip(numbers).map(|(accept, number)| format!("{place}{number} {accept}")).collect()
}

fn inserted(chain: &str, first: usize) -> Vec<String> {
    let numbers = [first, first + 1, first + 2].map(|number| format!(" {number}"));
    all(&format!("-I {chain}"), numbers.each_ref().map(String::as_str))
}

fn appended(chain: &str) -> Vec<String> {
    all(&format!("-A {chain}"), ["", "", ""])
}

fn trouble(listing: &str) -> Option<Obstacle> {
    legacy::parse(Family::V4, listing).trouble(&traffic(), true).unwrap().map(|trouble| trouble.obstacle)
}

const OURS: &str = "-A FORWARD -i smartnet0 -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate DNAT -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
";

#[test]
fn nothing_is_done_where_nothing_drops() {
    assert!(commands("-P FORWARD ACCEPT\n").is_empty());
    assert!(commands("-P FORWARD ACCEPT\n-A FORWARD -s 203.0.113.9/32 -j DROP\n").is_empty());
    assert!(commands("-P FORWARD DROP\n-A FORWARD -j ACCEPT\n").is_empty());
    let invalid = "-P FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    assert!(commands(invalid).is_empty());
}

#[test]
fn behind_everybodys_bans_where_the_policy_drops() {
    let listing = "-P FORWARD DROP\n-N f2b\n-A FORWARD -j f2b\n-A FORWARD -d 10.77.0.9/32 -j DROP\n\
                   -A f2b -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable\n-A f2b -j RETURN\n";
    assert_eq!(commands(listing), appended("FORWARD"));
}

#[test]
fn right_in_front_of_a_rule_that_drops_everything_wherever_it_stands() {
    let listing = "-P FORWARD ACCEPT\n-A FORWARD -s 203.0.113.9/32 -j DROP\n-A FORWARD -j DROP\n-A FORWARD -i lo -j ACCEPT\n";
    assert_eq!(commands(listing), inserted("FORWARD", 2));
    // What refuses every new connection refuses the pods' too, but not the answers.
    let new = "-P FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate NEW -j DROP\n";
    let expected = inserted("FORWARD", 1);
    assert_eq!(commands(new), [expected[0].clone(), expected[2].replace("FORWARD 3", "FORWARD 2")]);
}

#[test]
fn through_jumps_and_gotos_that_everybody_takes() {
    for way in ["-j", "-g"] {
        let listing = format!(
            "-P FORWARD ACCEPT\n-N wall\n-A FORWARD {way} wall\n-A wall -s 203.0.113.9/32 -j DROP\n-A wall -j REJECT\n"
        );
        assert_eq!(commands(&listing), inserted("wall", 2), "{way}");
    }
    let deeper =
        "-P FORWARD ACCEPT\n-N a\n-N b\n-A FORWARD -j a\n-A a -g b\n-A b -i eth0 -j ACCEPT\n-A b -j DROP\n";
    assert_eq!(commands(deeper), inserted("b", 2));
    // A goto does not come back: behind it in FORWARD nothing would be reached.
    let policy = "-P FORWARD DROP\n-N a\n-A FORWARD -g a\n-A a -s 203.0.113.9/32 -j DROP\n";
    assert_eq!(commands(policy), appended("a"));
    let returns = "-P FORWARD DROP\n-A FORWARD -s 203.0.113.9/32 -j DROP\n-A FORWARD -j RETURN\n";
    assert_eq!(commands(returns), inserted("FORWARD", 2));
}

#[test]
fn not_into_chains_that_others_reach_too() {
    // The ban of eth0 ends in the same chain; what pods send to the node itself would pass, too.
    let listing = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-N end\n-A INPUT -p tcp -j end\n-A FORWARD -s 203.0.113.9/32 -j end\n\
                   -A FORWARD -j end\n-A end -j LOG\n-A end -j DROP\n";
    assert_eq!(commands(listing), inserted("FORWARD", 2));
    // Whoever leads there with other interfaces does not count.
    let zones = "-P FORWARD ACCEPT\n-N end\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT\n\
                 -A FORWARD -i eth0 -g end\n-A FORWARD -g end\n-A end -s 203.0.113.9/32 -j DROP\n-A end -j REJECT\n";
    assert_eq!(commands(zones), ["-I end 2 -i smartnet0"]);
    let stuck = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-N end\n-A INPUT -p tcp -j end\n-A FORWARD -j end\n\
                 -A end -d 203.0.113.9/32 -j DROP\n-A end -j DROP\n";
    let into = inserted("FORWARD", 0);
    assert_eq!(commands(stuck), into[1..], "the ban is about what pods send, not about what is sent to them");
    assert_eq!(trouble(stuck), Some(Obstacle::Shared));
}

#[test]
fn what_somebody_means_stays_refused() {
    for rule in [
        "-i smartnet0 -j DROP",
        "-s 10.77.0.0/24 -j REJECT",
        "-s 10.0.0.0/8 -j DROP",
        "! -i lan0 -j DROP",
        "-o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -j DROP",
    ] {
        let listing = format!("-P FORWARD ACCEPT\n-A FORWARD {rule}\n");
        assert!(commands(&listing).is_empty(), "{rule}");
        assert_eq!(trouble(&listing), Some(Obstacle::Meant), "{rule}");
    }
    // Some pods, some ports, one way out: a part of the packets.
    for rule in [
        "-s 10.77.0.5/32 -j DROP",
        "-i smartnet0 -p tcp -m tcp --dport 25 -j DROP",
        "-d 192.0.2.0/24 -j DROP",
    ] {
        assert_eq!(trouble(&format!("-P FORWARD ACCEPT\n-A FORWARD {rule}\n")), None, "{rule}");
        assert_eq!(commands(&format!("-P FORWARD DROP\n-A FORWARD {rule}\n")), appended("FORWARD"), "{rule}");
    }
}

#[test]
fn a_kill_switch_is_no_trouble_for_pods_without_host_ports() {
    let listing = "-P FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -i lan0 ! -o wg0 -j DROP\n-A FORWARD -i eth0 -j DROP\n-A FORWARD -o smartnet0 -j DROP\n";
    assert!(commands(listing).is_empty());
    assert_eq!(trouble(listing), Some(Obstacle::Meant));
    assert_eq!(legacy::parse(Family::V4, listing).trouble(&traffic(), false), Ok(None));
}

#[test]
fn what_cannot_be_decided_is_said() {
    for rule in [
        "-i smartnet0 ! -o wg0 -j DROP",
        "-m mark ! --mark 0x1 -j DROP",
        "-m bpf --object-pinned /sys/fs/bpf/policy -j DROP",
    ] {
        let listing = format!("-P FORWARD ACCEPT\n-A FORWARD {rule}\n");
        assert_eq!(trouble(&listing), Some(Obstacle::Unknown), "{rule}");
        assert!(commands(&listing).is_empty(), "{rule}");
        // An owner who closes a way out keeps it closed where the policy drops, too.
        assert_eq!(commands(&listing.replace("ACCEPT", "DROP")), appended("FORWARD"), "{rule}");
    }
    let accepted =
        "-P FORWARD ACCEPT\n-A FORWARD -i smartnet0 -j ACCEPT\n-A FORWARD -m mark ! --mark 0x1 -j DROP\n";
    assert_ne!(trouble(accepted), Some(Obstacle::LacksAccept));
}

#[test]
fn accepts_that_stand_well_stay() {
    assert!(commands(&format!("-P FORWARD DROP\n-A FORWARD -s 203.0.113.9/32 -j DROP\n{OURS}")).is_empty());
    assert!(commands(&format!("-P FORWARD DROP\n{OURS}-A FORWARD -i docker0 -j ACCEPT\n")).is_empty());
    assert_eq!(trouble(&format!("-P FORWARD DROP\n{OURS}")), None);
    // An accept for one port is none for pods.
    let narrow = "-P FORWARD DROP\n-A FORWARD -i smartnet0 -p tcp -m tcp --dport 443 -j ACCEPT\n";
    assert_eq!(trouble(narrow), Some(Obstacle::LacksAccept));
}

#[test]
fn accepts_in_front_of_a_ban_move_behind_it() {
    let removed = ["-D FORWARD -i smartnet0"];
    let listing = format!("-P FORWARD DROP\n{OURS}-A FORWARD -i smartnet0 -d 203.0.113.9/32 -j DROP\n");
    let moved = commands(&listing);
    assert_eq!(
        moved,
        [removed[0].to_owned(), appended("FORWARD")[0].clone()],
        "the ban is about one way only"
    );
    // And go where nothing needs them any more.
    assert_eq!(commands(&listing.replace("-P FORWARD DROP", "-P FORWARD ACCEPT")), removed);
    // Behind what drops everything they help nobody.
    let late = commands(&format!("-P FORWARD ACCEPT\n-A FORWARD -j DROP\n{OURS}"));
    assert_eq!(late[3..], inserted("FORWARD", 1));
    assert_eq!(late[..3].iter().filter(|line| line.starts_with("-D FORWARD")).count(), 3);
}

#[test]
fn docker_keeps_its_own() {
    let docker = "-P FORWARD DROP\n-N DOCKER\n-N DOCKER-FORWARD\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
                  -A FORWARD -j DOCKER-FORWARD\n-A DOCKER-USER -s 203.0.113.9/32 -j DROP\n-A DOCKER-FORWARD -i docker0 -j ACCEPT\n\
                  -A DOCKER ! -i docker0 -o docker0 -j DROP\n-A DOCKER-FORWARD -o docker0 -j DOCKER\n";
    assert_eq!(commands(docker), appended("FORWARD"));
}
