//! What the system's log hears: `/dev/log` where somebody listens, else the kernel's log, when something failed.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::mount::{mount_bind, mount_bind_recursive};
use serde_json::json;

use super::{LEVEL, bridge, call, with};
use crate::lab::{Netns, Plugin, our_plugins};
use crate::sandbox::sandboxed;

/// A `/dev` of the sandbox's own, with what programs need; `kmsg` is a file.
fn private_devices() {
    let own = Path::new("/run/dev");
    fs::create_dir(own).unwrap();
    for device in ["null", "zero", "random", "urandom"] {
        fs::write(own.join(device), "").unwrap();
        mount_bind(Path::new("/dev").join(device), own.join(device)).unwrap();
    }
    fs::write(own.join("kmsg"), "").unwrap();
    mount_bind_recursive(own, "/dev").unwrap();
}

/// What was heard since the last time, without the process numbers.
fn heard(listener: &UnixDatagram) -> Vec<String> {
    listener.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    let mut heard = Vec::new();
    loop {
        match listener.recv(&mut bytes) {
            Ok(length) => heard.push(anonymous(std::str::from_utf8(&bytes[..length]).unwrap())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return heard,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Neither with the process number nor with the duration.
fn anonymous(message: &str) -> String {
    let (before, rest) = message.split_once('[').unwrap();
    let (pid, after) = rest.split_once("]: ").unwrap();
    assert!(pid.parse::<u32>().is_ok(), "{message}");
    let after = after.split_once(" in ").map_or(after, |(words, _)| words);
    format!("{before}: {after}")
}

#[test]
fn who_listens_at_dev_log_hears_of_changes_and_failures() {
    sandboxed(|| {
        private_devices();
        let listener = UnixDatagram::bind("/dev/log").unwrap();
        let pod = Netns::new("pod1");
        let refused = || call("bridge", "ADD", &pod, &bridge()).env("CNI_NETNS", "/run/netns/gone").run();
        let failure = "<27>smarter-cni: bridge ADD net shop/web-0 eth0 failed with code 999: failed to open netns \
                       \"/run/netns/gone\": failed to Statfs \"/run/netns/gone\": no such file or directory; \
                       the pod's namespace is gone; create the pod anew";
        call("bridge", "ADD", &pod, &bridge()).succeed();
        assert_eq!(heard(&listener), ["<30>smarter-cni: bridge ADD net shop/web-0 eth0 10.1.2.2/24: ok"]);
        refused();
        assert_eq!(heard(&listener), [failure]);

        let status =
            |config: &serde_json::Value| Plugin::new(our_plugins(), "bridge").command("STATUS").json(config);
        for _ in 0..3 {
            status(&bridge()).succeed();
            status(&with(bridge(), "drain", json!(true))).run();
        }
        let of_status = heard(&listener);
        assert_eq!(of_status.len(), 1, "{of_status:?}");
        assert!(
            of_status[0].starts_with("<27>smarter-cni: bridge STATUS net failed with code 50: "),
            "{of_status:?}"
        );

        for (level, expected) in [("warn", vec![failure]), ("error", vec![failure]), ("off", Vec::new())] {
            fs::write(LEVEL, level).unwrap();
            call("bridge", "DEL", &pod, &bridge()).succeed();
            refused();
            assert_eq!(heard(&listener), expected, "{level}");
        }
        assert_eq!(fs::read_to_string("/dev/kmsg").unwrap(), "", "there is a better place");
    });
}

#[test]
fn without_a_listener_the_kernels_log_hears_of_failures_only() {
    sandboxed(|| {
        private_devices();
        let pod = Netns::new("pod1");
        call("bridge", "ADD", &pod, &bridge()).succeed();
        call("bridge", "DEL", &pod, &bridge()).succeed();
        assert_eq!(fs::read_to_string("/dev/kmsg").unwrap(), "");
        call("bridge", "ADD", &pod, &bridge()).env("CNI_NETNS", "/run/netns/gone").run();
        let said = anonymous(&fs::read_to_string("/dev/kmsg").unwrap());
        assert!(
            said.starts_with("<27>smarter-cni: bridge ADD net shop/web-0 eth0 failed with code 999: "),
            "{said}"
        );
        assert!(!said.contains('\n'), "{said}");
    });
}

#[test]
fn a_listener_that_does_not_listen_delays_nobody() {
    sandboxed(|| {
        private_devices();
        let _listener = UnixDatagram::bind("/dev/log").unwrap();
        let speaker = UnixDatagram::unbound().unwrap();
        speaker.set_nonblocking(true).unwrap();
        while speaker.send_to(b"x", "/dev/log").is_ok() {}
        let pod = Netns::new("pod1");
        call("bridge", "ADD", &pod, &bridge()).succeed();
        call("bridge", "DEL", &pod, &bridge()).succeed();
    });
}
