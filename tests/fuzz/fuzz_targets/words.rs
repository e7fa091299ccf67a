//! Small texts from outside: names, addresses, arguments, marks, comments, resolv.conf.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smarter_cni::cni::address::{parse_cidr, parse_ip};
use smarter_cni::cni::args::Args;
use smarter_cni::spec::Owner;
use smarter_cni::doctor::evidence::dropins::TextFile;
use smarter_cni::doctor::evidence::{pattern, sysctls};
use smarter_cni::net::{IfName, Mac};
use smarter_cni::plugins::host_local;
use smarter_cni_fuzz::{bounded, pieces, text};

fuzz_target!(|input: &[u8]| {
    let [first, second] = pieces(input);
    bounded(input, || {
        let (word, other) = (text(first), text(second));
        if let Ok(name) = word.parse::<IfName>() {
            assert_eq!(name.to_string(), word);
        }
        if let Ok(mac) = word.parse::<Mac>() {
            assert_eq!(mac.to_string().parse(), Ok(mac));
        }
        let _ = parse_ip(&word);
        let _ = parse_cidr(&word);
        let _ = Args::parse(&word, &["IP", "MAC"]);
        let _ = Args::parse_lenient(&word);
        let _ = host_local::parse_resolv_conf(&word);

        if word.len() <= 256 && other.len() <= 256 {
            let _ = pattern::matches(&word, &other);
        }
        let _ = sysctls::parse(&[TextFile { path: "/etc/sysctl.conf".into(), text: word.clone() }]);

        let owner = Owner { container: word.clone(), pod: Some(other) };
        let comment = owner.comment();
        assert!(comment.len() <= 127, "{} bytes: {comment}", comment.len());
        // A container's ID has no space.
        assert!(word.contains(' ') || Owner::is_named_by(&word, &comment), "{word:?} in {comment:?}");
        let _ = Owner::words(&comment);
    });
});
