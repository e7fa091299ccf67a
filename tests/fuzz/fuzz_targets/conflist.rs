//! Configurations of networks as installer and doctor find them, whoever wrote them, and the installer's own record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smarter_cni::doctor::evidence::configuration;
use smarter_cni::install::fuzz;
use smarter_cni_fuzz::bounded;

fuzz_target!(|input: &[u8]| {
    bounded(input, || {
        for list in [true, false] {
            if let Ok(network) = configuration::parse(input, list) {
                assert!(!network.types.is_empty());
                let _ = network.is_ours();
            }
        }
        fuzz::configuration(input);
        fuzz::installation(input);
    });
});
