//! Man pages and completions, made of the options that the program itself parses: `cargo run --example manual -- share`.
//!
//! Writes below the directory as `/usr/share` has them. Nothing of it is in the program: a plugin is read from an SD card at
//! every pod start. What is in `share/` of the repository was made by this, and a test makes it again.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use smarter_cni::applet::{APPLETS, Applet};

/// Administrators' commands and daemons, man(1).
const SECTION: &str = "8";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const DOCUMENTATION: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/tree/main/docs");

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("use: manual DIRECTORY")?;
    for (path, text) in files()? {
        let path = Path::new(&directory).join(path);
        fs::create_dir_all(path.parent().ok_or("a file is in a directory")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// Every file, by its path below `share`.
pub(crate) fn files() -> Result<BTreeMap<PathBuf, Vec<u8>>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    let mut whole = smarter_cni::command_line();
    whole.build();
    let commands: Vec<_> = whole.get_subcommands().cloned().collect();
    for command in [whole.clone()].into_iter().chain(commands) {
        let title = command.get_bin_name().unwrap_or("smarter-cni").replace(' ', "-");
        let page = page(command, &title)?;
        files.insert(PathBuf::from(format!("man/man{SECTION}/{title}.{SECTION}")), page);
    }
    files.insert(PathBuf::from("bash-completion/completions/smarter-cni"), bash()?.into_bytes());
    files.insert(PathBuf::from("zsh/site-functions/_smarter-cni"), completions(Shell::Zsh, "smarter-cni"));
    let fish = completions(Shell::Fish, "smarter-cni");
    files.insert(PathBuf::from("fish/vendor_completions.d/smarter-cni.fish"), fish);
    Ok(files)
}

fn completions(shell: Shell, program: &str) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shown(&smarter_cni::command_line()), program, &mut text);
    text
}

/// clap_complete 4.6.12 makes two different names of one with a `-`, and completes nothing then. So the functions are named
/// after one without, and what they complete is the program.
fn bash() -> Result<String, Box<dyn Error>> {
    let text = String::from_utf8(completions(Shell::Bash, "smarter_cni"))?;
    let lines = text.lines().map(|line| match line.trim_start().strip_prefix("complete ") {
        Some(_) => line.replace(" smarter_cni", " smarter-cni"),
        None => line.to_owned(),
    });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// Without the options that the program has for itself: completions offer hidden ones, too.
fn shown(command: &Command) -> Command {
    let options = command.get_arguments().filter(|option| !option.is_hide_set()).cloned();
    // clap keeps only names that live as long as the program; this one ends soon.
    let name: &'static str = command.get_name().to_owned().leak();
    let shown = Command::new(name).disable_help_subcommand(true).args(options);
    let shown = shown.about(command.get_about().cloned().unwrap_or_default());
    let shown = if command.get_version().is_some() { shown.version(VERSION) } else { shown };
    shown.subcommands(command.get_subcommands().map(self::shown))
}

/// One page. Not `Man::render`: that calls what stands behind the options "extra".
fn page(command: Command, title: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let is_whole = command.has_subcommands();
    let notes = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.display_name(title)).section(SECTION);
    let mut page = Vec::new();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::default();
    if is_whole {
        man.render_subcommands_section(&mut page)?;
        plugins(&mut rest);
        environment_and_files(&mut rest);
    }
    if let Some(notes) = notes {
        rest.control("SH", ["NOTES"]);
        paragraphs(&mut rest, &notes);
    }
    rest.control("SH", ["SEE ALSO"]);
    if !is_whole {
        rest.text([bold("smarter-cni"), roman(format!("({SECTION}),"))]);
    }
    rest.text([roman(DOCUMENTATION)]);
    rest.to_writer(&mut page)?;
    // Each part begins with the same definitions; once is enough.
    let definitions = Roff::new().render();
    let text = String::from_utf8(page)?.replace(&definitions, "");
    // Not `render_title`, which writes nothing for the date that there is none of; the rest would move up.
    let title =
        format!(".TH {title} {SECTION} \"\" \"smarter-cni {VERSION}\" \"Pod network of an edge node\"\n");
    Ok((definitions + &title + &text).into_bytes())
}

fn paragraphs(roff: &mut Roff, text: &str) {
    for (at, paragraph) in text.split("\n\n").enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph)]);
    }
}

fn described(roff: &mut Roff, term: Vec<Inline>, text: &str) {
    roff.control("TP", []);
    roff.text(term);
    roff.text([roman(text)]);
}

fn plugins(roff: &mut Roff) {
    roff.control("SH", ["PLUGINS"]);
    roff.text([roman(
        "Called by one of these names, through a link, the program is a CNI plugin: it takes its orders from the environment \
         and standard input, and answers on standard output.",
    )]);
    for (name, applet, about) in APPLETS {
        if let Applet::Plugin(_) = applet {
            described(roff, vec![bold(*name)], about);
        }
    }
}

fn environment_and_files(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, text) in [
        ("SMARTER_CNI_LOG", "error, warn, info or debug: what is said on standard error, and logged"),
        ("NO_COLOR", "Not empty: no colours"),
    ] {
        described(roff, vec![bold(name)], text);
    }
    roff.control("SH", ["FILES"]);
    for (path, text) in [
        ("/run/smarter-cni/log", "What was done and what failed, one JSON object per line"),
        ("/run/smarter-cni/log-level", "One word: the level of the log from the next call on"),
        ("/run/smarter-cni/attachments", "What each attached pod was promised"),
        (smarter_cni::install::RECORD, "What was installed where, for the uninstallation"),
    ] {
        described(roff, vec![bold(path)], text);
    }
}
