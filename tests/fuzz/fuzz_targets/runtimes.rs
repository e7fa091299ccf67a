//! Configurations of container runtimes: containerd, CRI-O, k3s, rke2, microk8s.
//!
//! Input: two texts, which are read as two files that belong together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smarter_cni::host::runtimes::fuzz;
use smarter_cni_fuzz::{bounded, pieces, text};

fuzz_target!(|input: &[u8]| {
    let [first, second] = pieces(input);
    bounded(input, || {
        let (text, other) = (text(first), text(second));
        fuzz::containerd(&text, &other);
        fuzz::crio(&text, &other);
        fuzz::options(&text, &other);
        if first.len() <= 256 && second.len() <= 256 {
            fuzz::pattern(first, second);
        }
    });
});
