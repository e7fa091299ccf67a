//! Whether `install` finds a containerd as people have it configured: what we read of its files is what it says of itself, it
//! loads our network, and pods start.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smarter_cni::host::root::Root;
use smarter_cni::host::runtimes::{self, Kind};

use super::daemon::CONFIG;
use super::{Containerd, Format, Release, on_each};
use crate::cri::Pod;
use crate::deployment::{as_a_node, stripped};
use crate::image;
use crate::lab::{self, Node, Place};
use crate::sandbox::run;

on_each!(
    one_file_of_version_2,
    files_that_import_each_other,
    a_drop_in_of_another_program,
    the_file_of_its_package,
    drop_ins_without_a_file,
    a_file_that_only_its_command_line_names,
    files_that_were_changed_since_it_was_started;
    v2: one_file_of_version_3, drop_ins_of_version_3
);

const ETC: &str = "/etc/containerd";
/// Where Debian has plugins.
const DEBIAN: &str = "/usr/lib/cni";
/// As the NVIDIA toolkit writes it: a section of the CRI plugin without a word about CNI.
const NVIDIA: &str = include_str!("../../fixtures/runtimes/drop-ins/nvidia.toml");

/// A machine on which one containerd after the other is configured.
struct Machine {
    release: Release,
    program: PathBuf,
    images: PathBuf,
}

/// With a directory of its own, or where it has everything by default.
#[derive(Clone, Copy)]
enum Kept {
    Apart,
    ByDefault,
}

impl Kept {
    fn dir(self) -> PathBuf {
        match self {
            Self::Apart => Containerd::directory(),
            Self::ByDefault => PathBuf::from("/run/containerd"),
        }
    }
}

impl Machine {
    fn new(release: Release) -> Self {
        as_a_node();
        // What is installed here goes, and what a test installs does not stay.
        for private in [DEBIAN, "/var/lib/containerd"] {
            fs::create_dir_all(private).expect("a directory");
            Node.run(&format!("mount -t tmpfs tmpfs {private}"));
        }
        let images = Path::new("/mnt/image");
        fs::create_dir(images).expect("a directory");
        Self { release, program: stripped(&lab::binary()), images: image::archive(images) }
    }

    /// Configured with these files below /etc/containerd it is found, takes our network and loses it again.
    fn takes_us(&self, kept: Kept, files: &[(&str, &str)]) {
        let mut containerd = self.configured(kept, files);
        self.installed(&containerd);
        self.uninstalled();
        containerd.kill();
    }

    /// The same with a pod.
    fn runs_pods(&self, files: &[(&str, &str)]) {
        let mut containerd = self.configured(Kept::Apart, files);
        self.installed(&containerd);
        containerd.import(&self.images);
        let pod = containerd.run_pod(&Pod::new("one"));
        assert_eq!(pod.addresses, ["10.38.0.2"], "{files:?}");
        pod.network.run("ping -c 1 -W 2 10.38.0.1");
        assert_eq!(pod.network.addresses("lo"), ["127.0.0.1/8", "::1/128"], "loopback is found, too");
        containerd.remove_pod(&pod);
        self.uninstalled();
        containerd.kill();
    }

    fn configured(&self, kept: Kept, files: &[(&str, &str)]) -> Containerd {
        let _ = fs::remove_dir_all(ETC);
        let dir = kept.dir();
        fs::create_dir_all(&dir).expect("a directory");
        for (name, text) in files {
            let path = Path::new(ETC).join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(path, text).expect("a file of containerd's");
        }
        let containerd = Containerd::spawned(self.release, &dir, CONFIG.into());
        containerd.answers();
        containerd
    }

    /// What was found is what it says, and it has what was installed.
    fn installed(&self, containerd: &Containerd) {
        let found = runtimes::find(&Root::at("/"));
        let runtime = found.runtimes.iter().find(|runtime| runtime.kind == Kind::Containerd);
        let runtime = runtime.unwrap_or_else(|| panic!("{found:#?}"));
        assert_eq!(runtime.socket, containerd.socket());
        assert_eq!(found.problems, []);
        let said = containerd.says().cni.expect("containerd speaks of networks");
        let read: Vec<_> = runtime.may_look_in().collect();
        // Debian builds today's containerd with its own directory in front of everybody's.
        let by_debian = [PathBuf::from(DEBIAN), "/opt/cni/bin".into()];
        let built_in = said.plugin_dirs == by_debian && self.release != Release::V1_6;
        let bin_dirs = if built_in { &by_debian[1..] } else { &said.plugin_dirs[..] };
        assert!(read.contains(&(said.conf_dir.as_path(), bin_dirs)), "{said:#?}\n{runtime:#?}");

        self.loads();
        let mut doctor = Node.command(&format!("{} doctor --json --only runtime", self.program.display()));
        let doctor = doctor.output().expect("doctor runs");
        let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("findings");
        let findings = doctor["findings"].as_array().expect("findings");
        let sick: Vec<_> = findings.iter().filter(|row| row["status"] == "problem").collect();
        assert_eq!((findings.is_empty(), sick), (false, Vec::<&Value>::new()));
    }

    /// It has what was installed.
    fn loads(&self) {
        let install = run(&self.program.display().to_string(), &["install", "--subnet", "10.38.0.0/16"]);
        assert!(install.contains("runtime  containerd: has loaded the network smartnet"), "{install}");
    }

    fn uninstalled(&self) {
        let uninstall = run(&self.program.display().to_string(), &["uninstall"]);
        assert!(uninstall.contains("smarter-cni is gone from this node"), "{uninstall}");
        let left: Vec<_> = ["/opt", DEBIAN, "/etc"]
            .iter()
            .flat_map(|directory| walk(Path::new(directory)))
            .filter(|path| path.to_string_lossy().contains("smarter"))
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.flat_map(|entry| [walk(&entry.path()), vec![entry.path()]].concat()).collect()
}

/// A containerd that is kept apart, with this said of CNI.
fn main_file(format: Format, cni: &str) -> String {
    let cni = if cni.is_empty() { String::new() } else { format!("{}{cni}", format.cni()) };
    format!("{}{cni}", format.bare(&Kept::Apart.dir()))
}

/// The same with files that it imports.
fn importing(format: Format, cni: &str, imports: &str) -> String {
    let version = format.version();
    let with = main_file(format, cni).replace(version, &format!("{version}imports = [{imports}]\n"));
    assert!(with.contains(imports));
    with
}

const ELSEWHERE: &str = "conf_dir = \"/etc/elsewhere/net.d\"\n";

fn one_file_of_version_2(release: Release) {
    let machine = Machine::new(release);
    let bin_dir = Format::Two.bin_dir(Path::new(DEBIAN));
    machine.takes_us(Kept::Apart, &[("config.toml", &main_file(Format::Two, ""))]);
    machine.takes_us(Kept::Apart, &[("config.toml", &main_file(Format::Two, &bin_dir))]);
    machine.runs_pods(&[("config.toml", &main_file(Format::Two, &format!("{bin_dir}{ELSEWHERE}")))]);
}

fn one_file_of_version_3(release: Release) {
    release.must_be_2();
    let machine = Machine::new(release);
    machine.runs_pods(&[("config.toml", &main_file(Format::Three, ""))]);
    let one = format!("bin_dir = \"/opt/srv/bin\"\n{ELSEWHERE}");
    machine.takes_us(Kept::Apart, &[("config.toml", &main_file(Format::Three, &one))]);
    let several = "bin_dirs = [\"/opt/srv/first\", \"/opt/srv/second\"]\n";
    machine.takes_us(Kept::Apart, &[("config.toml", &main_file(Format::Three, several))]);
}

/// The section of a plugin is replaced as a whole by containerd 1 and merged by containerd 2, the last file wins, and a file may
/// import others. A pattern is absolute: 1.6 looks for others in its working directory.
fn files_that_import_each_other(release: Release) {
    let machine = Machine::new(release);
    let bin_dir = Format::Two.bin_dir(Path::new(DEBIAN));
    let main = importing(Format::Two, &bin_dir, "\"/etc/containerd/more/*.toml\"");
    let section = |rest: &str| format!("{}{}{rest}", Format::Two.version(), Format::Two.pods());
    let conf_dir = format!("{}{ELSEWHERE}", Format::Two.cni());
    let first = section("");
    let second = format!("imports = [\"../last.toml\"]\n{}", section(&conf_dir));
    let last = section(&format!("{conf_dir}bin_dir = \"/opt/srv/bin\"\n"));
    for last in [Format::Two.version(), &last] {
        let files = [
            ("config.toml", main.as_str()),
            ("more/10-a.toml", &first),
            ("more/20-b.toml", &second),
            ("last.toml", last),
        ];
        machine.takes_us(Kept::Apart, &files);
    }
}

/// Debian's own directory in the main file, and then another program's section: containerd 1 forgets the directory, containerd
/// 2 keeps it.
fn a_drop_in_of_another_program(release: Release) {
    let machine = Machine::new(release);
    let cni = format!("{}conf_dir = \"/etc/cni/net.d\"\n", Format::Two.bin_dir(Path::new(DEBIAN)));
    let main = importing(Format::Two, &cni, "\"/etc/containerd/conf.d/*.toml\"");
    // Without runc in it such a section leaves containerd 1 without any runtime, and it serves no pods at all.
    if release.is_2() {
        machine.takes_us(Kept::Apart, &[("config.toml", &main), ("conf.d/99-nvidia.toml", NVIDIA)]);
    }
    // With all that pods need on this machine.
    let section = format!("{}{}", Format::Two.version(), Format::Two.pods());
    machine.runs_pods(&[("config.toml", &main), ("conf.d/99-pods.toml", &section)]);
}

fn drop_ins_of_version_3(release: Release) {
    release.must_be_2();
    let machine = Machine::new(release);
    let main = importing(Format::Three, ELSEWHERE, "\"/etc/containerd/conf.d/*.toml\"");
    let several =
        format!("version = 3\n{}bin_dirs = [\"/opt/srv/first\", \"/opt/srv/second\"]\n", Format::Three.cni());
    machine.takes_us(Kept::Apart, &[("config.toml", &main), ("conf.d/99-nvidia.toml", NVIDIA)]);
    machine.runs_pods(&[
        ("config.toml", &main),
        ("conf.d/10-cni.toml", &several),
        ("conf.d/99-nvidia.toml", NVIDIA),
    ]);
}

fn the_file_of_its_package(release: Release) {
    let machine = Machine::new(release);
    machine.takes_us(Kept::ByDefault, &[("config.toml", &release.packaged())]);
}

/// Up to 2.1 containerd looks at none of them, and from 2.2 on at all.
fn drop_ins_without_a_file(release: Release) {
    let machine = Machine::new(release);
    machine.takes_us(Kept::ByDefault, &[]);
    let cni = format!("version = 2\n{}{ELSEWHERE}", Format::Two.cni());
    machine.takes_us(Kept::ByDefault, &[("conf.d/10-cni.toml", &cni)]);
}

/// Nothing on the disk says where this one looks; it does itself.
fn a_file_that_only_its_command_line_names(release: Release) {
    let machine = Machine::new(release);
    let dir = Kept::ByDefault.dir();
    fs::create_dir_all(&dir).expect("a directory");
    let own = dir.join("own.toml");
    let format = release.format();
    let cni = format!("{}{}{ELSEWHERE}", format.cni(), format.bin_dir(Path::new("/opt/srv/bin")));
    fs::write(&own, format!("{}{cni}", format.bare(&dir))).expect("a configuration");
    let mut containerd = Containerd::spawned(release, &dir, own);
    containerd.answers();
    machine.loads();
    assert!(Path::new("/opt/srv/bin/smarter-bridge").exists());
    assert!(Path::new("/etc/elsewhere/net.d/0-smarter-bridge.conflist").exists());
    machine.uninstalled();
    containerd.kill();
}

/// It looks where it did when it was started, and somewhere else when it is started again.
fn files_that_were_changed_since_it_was_started(release: Release) {
    let machine = Machine::new(release);
    let mut containerd = machine
        .configured(Kept::ByDefault, &[("config.toml", &release.format().bare(&Kept::ByDefault.dir()))]);
    let cni = format!("{}{ELSEWHERE}", release.format().cni());
    let new = format!("{}{cni}", release.format().bare(&Kept::ByDefault.dir()));
    fs::write(CONFIG, new).expect("its configuration");
    machine.loads();
    containerd.kill();
    containerd.start_again();
    machine.loads();
    machine.uninstalled();
    containerd.kill();
}
