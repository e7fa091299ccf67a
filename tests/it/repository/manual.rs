//! What packagers take from `share/` is what the program's options make.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../../examples/manual.rs"]
#[expect(dead_code, reason = "an example has a main function")]
mod generator;

fn below(dir: &Path, from: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("share").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            below(&path, from, files);
        } else {
            let name = path.strip_prefix(from).expect("below it").to_owned();
            files.insert(name, fs::read(&path).expect("a file"));
        }
    }
}

#[test]
fn share_is_what_the_options_make() {
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("share");
    let mut there = BTreeMap::new();
    below(&share, &share, &mut there);
    let made = generator::files().expect("pages");
    let again = "make them again: cargo run --example manual -- share";
    assert_eq!(there.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "{again}");
    let differ: Vec<_> = made.iter().filter(|(path, text)| there.get(*path) != Some(*text)).collect();
    let names: Vec<_> = differ.iter().map(|(path, _)| path.display().to_string()).collect();
    assert!(names.is_empty(), "share/{}: {again}", names.join(", share/"));
}

/// Whoever adds a command or an option finds it here without doing anything for it.
#[test]
fn every_command_has_a_page_with_every_option_that_is_shown() {
    let made = generator::files().expect("pages");
    let commands = smarter_cni::command_line();
    assert!(commands.get_subcommands().count() > 5);
    for command in commands.get_subcommands() {
        let page = &made[Path::new(&format!("man/man8/smarter-cni-{}.8", command.get_name()))];
        let page = String::from_utf8_lossy(page).replace("\\-", "-");
        for option in command.get_arguments() {
            let long = option.get_long().expect("an option has a name");
            let shown = page.contains(&format!("--{long}\\f"));
            assert_eq!(shown, !option.is_hide_set(), "{} --{long}", command.get_name());
        }
    }
}

/// What bash offers behind these words.
fn offered(words: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/share/bash-completion/completions/smarter-cni");
    // As readline does it: the function that is registered for the program, with program, word and word before.
    let ask = r#"source "$1" && shift
        function=$(complete -p smarter-cni | sed -n 's/.*-F \([^ ]*\).*/\1/p')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash").args(["-c", ask, "bash", script]).args(words).output().expect("bash");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn bash_offers_every_command_and_option_that_is_shown() {
    let whole = smarter_cni::command_line();
    let commands: Vec<_> = whole.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let offers = offered(&["/opt/cni/bin/smarter-cni", ""]);
    assert!(commands.iter().all(|name| offers.lines().any(|offer| offer == name)), "{offers}");
    for command in whole.get_subcommands() {
        let shown = command.get_arguments().filter(|option| !option.is_hide_set());
        let mut wanted: Vec<_> =
            shown.map(|option| format!("--{}", option.get_long().expect("a name"))).collect();
        wanted.push("--help".to_owned());
        wanted.sort();
        let offers = offered(&["smarter-cni", command.get_name(), "--"]);
        let mut offers: Vec<_> = offers.lines().collect();
        offers.sort_unstable();
        assert_eq!(offers, wanted, "{}", command.get_name());
    }
}
