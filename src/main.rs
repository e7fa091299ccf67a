//! The edge of the program: argv, environment and standard input go in, standard output and an exit code come out. Wires
//! the rooms together and decides nothing.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use smarter_cni::applet::{self, Applet, Choice};
use smarter_cni::cni::error::Error;
use smarter_cni::state::record;
use smarter_cni::text::{printable, printable_with};
use smarter_cni::{Outcome, dns, doctor, install, log, plugins, reconcile, selftest, status};

/// Gets memory from the kernel in pieces of 64 KiB, and keeps it.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Wrong words on the command line, as `clap` has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    match applet::select(&argv) {
        Choice::Run(Applet::Plugin(plugin), rest) => run_plugin(plugin, rest),
        Choice::Run(Applet::Doctor, rest) => {
            name_panics();
            log::start_quietly(Path::new(record::ROOT), log_level().as_deref());
            let screen = screen();
            let outcome = doctor::run(rest, screen, &mut io::stdout());
            tell(outcome, if screen.colour { &doctor::report::COLOURS } else { &[] })
        }
        Choice::Run(applet, rest) => {
            name_panics();
            start_log();
            tell(command(applet, rest), &[])
        }
        Choice::Help => say(Outcome::printed(applet::help())),
        Choice::Version => say(Outcome::printed(smarter_cni::version_line())),
        Choice::Unknown(word) => unknown(word),
    }
}

/// Those that need no more than their words. Plugins and the doctor are answered otherwise.
fn command(applet: Applet, rest: &[OsString]) -> Outcome {
    match applet {
        Applet::Reconcile => reconcile::run(rest),
        Applet::Dns => dns::run(rest, &std::env::vars_os().collect::<Vec<_>>()),
        Applet::Selftest => selftest::run(rest),
        Applet::Install => install::install(rest, &environment()),
        Applet::Uninstall => install::uninstall(rest, &environment()),
        Applet::Status => status::run(rest, &std::env::vars_os().collect::<Vec<_>>(), &mut io::stdout()),
        Applet::Plugin(_) | Applet::Doctor => Outcome::default(),
    }
}

fn environment() -> install::Environment {
    install::Environment::new(std::env::vars_os())
}

/// A plugin gets no arguments from a runtime. From a person, `--help` and `--version` get an answer.
fn run_plugin(plugin: applet::Plugin, rest: &[OsString]) -> ExitCode {
    match rest.first().and_then(|word| word.to_str()) {
        Some("--help" | "-h") => return say(Outcome::printed(plugins::help(plugin))),
        Some("--version" | "-V") => return say(Outcome::printed(smarter_cni::version_line())),
        _ => {}
    }
    let environment: Vec<_> = std::env::vars_os().collect();
    start_log();
    answer_panics(plugins::entry(plugin, &environment));
    let mut outcome = plugins::run(plugin, environment, io::stdin().lock());
    let is_add = outcome.entry.as_ref().is_some_and(|entry| entry.verb == "ADD");
    if is_add && outcome.status == 0 && was_closed(&io::stdout()) {
        let words = "standard output is closed: nobody would learn what the pod got".to_owned();
        let _ = writeln!(io::stderr(), "smarter-cni: {words}");
        outcome.fail(words);
    }
    say(outcome)
}

/// Whether a standard stream was closed when we were started: the standard library puts /dev/null there then, open for both
/// directions. Who does not want to know writes to one that is open for writing alone, as shells and runtimes do.
fn was_closed(stream: &impl std::os::fd::AsFd) -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
    let is_null = fstat(stream).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    });
    is_null && fcntl_getfl(stream).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
}

/// As far as the terminal and its owner's environment say.
fn screen() -> doctor::report::Screen {
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    // A terminal that was never told its size says 0; one that is too narrow for ids is taken as it is in the books.
    let width = width.filter(|width| *width >= 40).unwrap_or(smarter_cni::text::WIDTH);
    doctor::report::Screen { colour: wants_colours(), utf8: knows_utf8(), width }
}

/// What the locale says of a terminal (locale(7)); a file is read by whoever, and has UTF-8.
#[expect(clippy::disallowed_methods, reason = "the environment is read here, at the edge")]
fn knows_utf8() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| set(name)).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Somebody looks, and has not said that they want none (no-color.org).
#[expect(clippy::disallowed_methods, reason = "the environment is read here, at the edge")]
fn wants_colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !plain && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn unknown(word: Option<&OsStr>) -> ExitCode {
    let mut text = match word {
        None => format!("{}\nsmarter-cni: no command given\n", applet::help()),
        Some(word) => {
            let word = word.to_string_lossy();
            format!("smarter-cni: there is no command \"{}\"\n", printable(&word))
        }
    };
    match (word.and_then(applet::suggestion), word) {
        (Some(name), _) => text = format!("{text}Did you mean `smarter-cni {name}`?\n"),
        (None, Some(_)) => text.push_str("`smarter-cni --help` lists the commands\n"),
        (None, None) => {}
    }
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(USAGE)
}

/// As [`say`], to a person: with nothing that a terminal would obey but what was asked for.
fn tell(mut outcome: Outcome, own: &[&str]) -> ExitCode {
    outcome.stdout = printable_with(&outcome.stdout, own);
    outcome.stderr = printable(&outcome.stderr).into_owned();
    say(outcome)
}

/// The answer first, then what nobody waits for.
fn say(mut outcome: Outcome) -> ExitCode {
    let _answer = tracing::info_span!("answer").entered();
    let _ = io::stderr().write_all(outcome.stderr.as_bytes());
    if let Err(error) = print(outcome.stdout.as_bytes()) {
        let words = format!("could not write the answer to standard output: {error}");
        let _ = writeln!(io::stderr(), "smarter-cni: {words}");
        outcome.fail(words);
    }
    if let Some(completion) = &outcome.completion {
        completion.complete();
    }
    if let Some(entry) = &outcome.entry {
        log::write(entry);
    }
    ExitCode::from(outcome.status)
}

/// In one piece. `Stdout` writes the lines that end first, and then the last one.
fn print(mut text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // What a command has said already.
    stdout.flush()?;
    while !text.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(&stdout, text))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => text = &text[written..],
        }
    }
    Ok(())
}

/// A runtime reads standard output also when this program has a bug: one error object, code 999, instead of nothing.
#[expect(clippy::disallowed_methods, reason = "a panic has no way back to main")]
fn answer_panics(entry: log::Entry) {
    std::panic::set_hook(Box::new(move |panic| {
        let error = Error::internal(format!("bug in smarter-cni: {panic}"))
            .with_details("please report it with this message; the next DEL of the pod cleans up");
        let _ = io::stdout().write_all(error.reply("").as_bytes());
        let _ = writeln!(io::stderr(), "{panic}");
        log::write(&plugins::failed(entry.clone(), &error));
        std::process::exit(1);
    }));
}

/// A person reads what happened and where to go with it, instead of a program that was ended. Whatever was to be said is not
/// known: as of a command that could not run.
#[expect(clippy::disallowed_methods, reason = "a panic has no way back to main")]
fn name_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.to_string();
        let words = printable(&words);
        let _ = writeln!(
            io::stderr(),
            "smarter-cni: bug in smarter-cni: {words}\nplease report it with this message; what it was doing is not done"
        );
        std::process::exit(i32::from(USAGE));
    }));
}

/// Warnings to standard error; SMARTER_CNI_LOG=info|debug shows more: every step, as the command a person would type. What
/// happens goes to the log, too.
fn start_log() {
    log::start(Path::new(record::ROOT), log_level().as_deref());
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here, at the edge")]
fn log_level() -> Option<String> {
    std::env::var("SMARTER_CNI_LOG").ok()
}
