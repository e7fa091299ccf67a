//! Could the kernel of this node execute a file? Answers from the first bytes and the length, without executing it.
//!
//! A power cut leaves files that exist and are empty, or end too early; nobody repairs them as long as only their
//! existence is looked at. Refuses to say whether a program does what its name promises. elf(5).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// A complete program for this machine, or a script.
    Sound,
    /// What is wrong, for a person: `is empty`, `is cut short: …`.
    Broken(String),
}

const HEADER: usize = 64;
const EI_CLASS: usize = 4;
const EI_DATA: usize = 5;
const LITTLE_ENDIAN: u8 = 1;
const PT_LOAD: u32 = 1;
const MOST_HEADERS: usize = 64 * 1024;

/// What this program was built for: word size in bits, `e_machine` (elf.h), and its name.
const HERE: (u8, u16, &str) = if cfg!(target_arch = "x86_64") {
    (64, 62, "x86-64")
} else if cfg!(target_arch = "aarch64") {
    (64, 183, "arm64")
} else if cfg!(target_arch = "arm") {
    (32, 40, "arm")
} else {
    (0, 0, "this machine")
};

/// Reads the headers only.
pub fn judge(file: &File) -> io::Result<Soundness> {
    let metadata = file.metadata()?;
    let broken = |why: &str| Ok(Soundness::Broken(why.to_owned()));
    if !metadata.is_file() {
        return broken("is not a file");
    }
    if metadata.len() == 0 {
        return broken("is empty");
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return broken("is not executable");
    }
    let mut start = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut start)?;
    if start.starts_with(b"#!") {
        return Ok(Soundness::Sound);
    }
    let header = match Header::parse(&start) {
        Ok(header) => header,
        Err(why) => return Ok(Soundness::Broken(why)),
    };
    let Some(length) = header.table_length() else {
        return broken("has program headers that no kernel takes");
    };
    let mut table = vec![0; length];
    if file.read_exact_at(&mut table, header.table).is_err() {
        return broken("is cut short: its program headers are missing");
    }
    match header.end(&table) {
        Some(end) if end > metadata.len() => {
            Ok(Soundness::Broken(format!("is cut short: it has {} bytes of at least {end}", metadata.len())))
        }
        Some(_) => Ok(Soundness::Sound),
        None => broken("has nothing to load"),
    }
}

/// As much of `Elf32_Ehdr` and `Elf64_Ehdr` as counts here.
struct Header {
    wide: bool,
    /// Where the program headers are, their size and number.
    table: u64,
    entry: u16,
    entries: u16,
}

impl Header {
    fn parse(start: &[u8]) -> Result<Self, String> {
        if !start.starts_with(b"\x7fELF") || start.len() < 52 {
            return Err("is no program".to_owned());
        }
        let wide = start[EI_CLASS] == 2;
        if start[EI_DATA] != LITTLE_ENDIAN || (wide && start.len() < HEADER) {
            return Err("is no program for this machine".to_owned());
        }
        let machine = u16_at(start, 18);
        let (bits, here, name) = HERE;
        // A 64-bit x86 runs 32-bit programs, a 64-bit Arm may.
        let compatible = matches!((here, machine), (62, 3) | (183, 40));
        if here != 0 && !(machine == here && wide == (bits == 64)) && !compatible {
            return Err(format!("is a program for another machine (ELF machine {machine}; this is {name})"));
        }
        Ok(if wide {
            Self { wide, table: u64_at(start, 32), entry: u16_at(start, 54), entries: u16_at(start, 56) }
        } else {
            Self {
                wide,
                table: u64::from(u32_at(start, 28)),
                entry: u16_at(start, 42),
                entries: u16_at(start, 44),
            }
        })
    }

    /// Of all program headers. `None` when the kernel would not even read them: it takes one size of header, and 64 KiB of
    /// them (load_elf_phdrs, fs/binfmt_elf.c).
    fn table_length(&self) -> Option<usize> {
        let size = if self.wide { 56 } else { 32 };
        let length = size * usize::from(self.entries);
        (usize::from(self.entry) == size && (1..=MOST_HEADERS).contains(&length)).then_some(length)
    }

    /// How long the file must be for everything that is loaded.
    fn end(&self, table: &[u8]) -> Option<u64> {
        let segments =
            table.chunks_exact(usize::from(self.entry)).filter(|segment| u32_at(segment, 0) == PT_LOAD);
        let end = |segment: &[u8]| {
            let (offset, size) = if self.wide {
                (u64_at(segment, 8), u64_at(segment, 32))
            } else {
                (u64::from(u32_at(segment, 4)), u64::from(u32_at(segment, 16)))
            };
            offset.saturating_add(size)
        };
        segments.map(end).max()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::path::Path;

    use super::*;

    fn judged(directory: &Path, bytes: &[u8], mode: u32) -> Soundness {
        let path = directory.join("program");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        judge(&File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_program_is_sound_as_long_as_all_of_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(judged(directory.path(), &own, 0o755), Soundness::Sound);
        assert_eq!(judged(directory.path(), b"#!/bin/sh\n", 0o755), Soundness::Sound);
        for (length, why) in [
            (0, "is empty"),
            (20, "is no program"),
            (100, "program headers are missing"),
            (5000, "is cut short"),
        ] {
            let Soundness::Broken(reason) = judged(directory.path(), &own[..length], 0o755) else {
                panic!("{length} bytes are no program");
            };
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn other_reasons_why_a_file_cannot_be_executed() {
        let directory = tempfile::tempdir().unwrap();
        let own = fs::read("/proc/self/exe").unwrap();
        let broken = |why: &str| Soundness::Broken(why.to_owned());
        assert_eq!(judged(directory.path(), &own, 0o644), broken("is not executable"));
        assert_eq!(judged(directory.path(), b"hello, world", 0o755), broken("is no program"));
        let mut other = own[..5000].to_vec();
        other[18] = 8;
        let Soundness::Broken(reason) = judged(directory.path(), &other, 0o755) else { panic!("MIPS") };
        assert!(reason.starts_with("is a program for another machine (ELF machine 8;"), "{reason}");
        assert_eq!(judge(&File::open(directory.path()).unwrap()).unwrap(), broken("is not a file"));
    }

    #[test]
    fn no_header_makes_it_take_more_memory_than_the_kernel_would() {
        let directory = tempfile::tempdir().unwrap();
        let own = fs::read("/proc/self/exe").unwrap()[..5000].to_vec();
        let sizes = if own[EI_CLASS] == 2 { 54 } else { 42 };
        for (size, count) in
            [(0xffff, 0xffff), (0, 0xffff), (56, 0), (32, 0), (57, 1), (56, 2000), (32, 2049)]
        {
            let mut hostile = own.clone();
            hostile[sizes..sizes + 2].copy_from_slice(&u16::to_le_bytes(size));
            hostile[sizes + 2..sizes + 4].copy_from_slice(&u16::to_le_bytes(count));
            let found = judged(directory.path(), &hostile, 0o755);
            let broken = Soundness::Broken("has program headers that no kernel takes".to_owned());
            assert_eq!(found, broken, "{count} of {size} bytes");
        }
    }
}
