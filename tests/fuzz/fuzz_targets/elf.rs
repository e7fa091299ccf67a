//! Could the kernel execute a file? Of whatever stands under a plugin's name.
#![no_main]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use smarter_cni::host::elf;
use smarter_cni_fuzz::bounded;

fuzz_target!(|input: &[u8]| {
    let file = memfd_create("plugin", MemfdFlags::CLOEXEC).expect("a file in memory");
    fchmod(&file, Mode::RWXU).expect("executable");
    let mut file = File::from(file);
    file.write_all(input).expect("room");
    file.seek(SeekFrom::Start(0)).expect("a file");
    bounded(input, || elf::judge(&file).expect("it can be read"));
});
