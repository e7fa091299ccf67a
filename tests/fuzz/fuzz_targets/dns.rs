//! Messages of the DNS: what any pod may send to the name server, and what upstream servers answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smarter_cni::dns::fuzz;
use smarter_cni_fuzz::bounded;

fuzz_target!(|input: &[u8]| {
    bounded(input, || {
        fuzz::question(input);
        fuzz::answer(input);
        fuzz::upstream(input);
    });
});
