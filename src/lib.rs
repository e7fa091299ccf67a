//! The pod network of an IoT edge node in one binary.
//!
//! ```text
//!  edge        main
//!  roles       reconcile   status   install   doctor   selftest   dns
//!              plugins
//!  decisions   datapath
//!  languages   cni   kernel   state   host   none of the four knows another
//!  nouns       net   spec   text   file   applet   conflist   log
//! ```
//!
//! Arrows point down and may skip a floor; among the roles, install and doctor also know who stands to the left of them, and
//! status and doctor know dns.
//! Within each room what decides is apart from what acts: a file that is pure says so at the end of its first lines, as all of
//! `spec`, the plugins' `config` and `want`, the installer's decisions and the checks of the doctor do. In the datapath only the
//! others speak to the kernel. A test reads the arrows off the source, and holds each file to what it says.
//!
//! # The walk of one ADD
//!
//! 1. [`applet::select`] reads the name: a runtime executed `smarter-bridge`.
//! 2. [`cni::request::read`] makes a `Request` of environment and standard input, or an error with its CNI code.
//! 3. `plugins::bridge::config` makes a `Config` that cannot be wrong.
//! 4. [`state::record`] and [`state::lease`] remember what is about to be done: the attachment record first, then the
//!    lease. Killed from here on, any later verb finishes or undoes it.
//! 5. `plugins::bridge::want` says what is promised: an [`spec::Attachment`]. The record keeps it as it is.
//! 6. [`datapath::observe`] asks the kernel what there is: a [`datapath::plan::Have`].
//! 7. [`datapath::plan::plan`] lists the difference as [`datapath::step::Step`]s, without touching anything.
//! 8. [`datapath::apply`] tells the kernel, step by step. On failure links and rules, lease and record are taken back.
//! 9. `plugins::bridge` returns a `cni::result::AddResult`, which [`cni::wire::render`] writes in the caller's version.
//! 10. `main` prints it and then has the record completed: an attachment is final once the runtime knows of it.
//! 11. [`log`] writes one line about it, with what each stage took. Nothing waits for that.
//!
//! Everybody else takes the want from the record: CHECK demands that step 7 finds nothing of the attachment's own,
//! [`reconcile`] walks on from step 6 with every record there is, and the doctor explains what it would do. DEL applies
//! [`datapath::removal`].

pub mod applet;
pub mod cni;
pub mod conflist;
pub mod datapath;
pub mod dns;
pub mod doctor;
pub mod file;
pub mod host;
pub mod install;
pub mod kernel;
pub mod log;
pub mod net;
pub mod plugins;
pub mod reconcile;
pub mod selftest;
pub mod spec;
pub mod state;
pub mod status;
pub mod text;

/// What a role has to say: one text for standard output, one for standard error, one exit code.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub status: u8,
    /// To be done once the answer is out.
    pub completion: Option<plugins::Completion>,
    /// For the log, once that is done.
    pub entry: Option<log::Entry>,
}

impl Outcome {
    /// Success with an answer.
    pub fn printed(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), ..Self::default() }
    }

    #[must_use]
    pub fn and_then_complete(self, completion: plugins::Completion) -> Self {
        Self { completion: Some(completion), ..self }
    }

    #[must_use]
    pub fn logged(self, entry: Option<log::Entry>) -> Self {
        Self { entry, ..self }
    }

    /// Success with words for people only.
    pub fn noted(stderr: impl Into<String>) -> Self {
        Self { stderr: stderr.into(), ..Self::default() }
    }

    /// The answer did not arrive: what it would have made final is not.
    pub fn fail(&mut self, words: String) {
        (self.status, self.completion) = (1, None);
        if let Some(entry) = &mut self.entry {
            entry.failure = Some(log::Failure { msg: words, ..log::Failure::default() });
        }
    }

    /// Failure with an answer.
    pub fn failed(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), status: 1, ..Self::default() }
    }
}

/// The answer to `--version`, in one piece: `doctor` reads it off other builds.
const VERSION_LINE: &str = concat!("smarter-cni ", env!("CARGO_PKG_VERSION"), "\n");

/// The answer to `--version`.
pub fn version_line() -> String {
    VERSION_LINE.to_owned()
}

/// The command line as one tree, for man pages and completions. The program builds only what it was called for, and as a
/// plugin nothing of it; so this costs no byte of it.
pub fn command_line() -> clap::Command {
    let about = applet::ABOUT.trim_end_matches('.');
    let whole = clap::Command::new("smarter-cni").about(about).version(env!("CARGO_PKG_VERSION"));
    let commands = applet::APPLETS.iter().filter_map(|(name, applet, _)| {
        let command = match applet {
            applet::Applet::Plugin(_) => return None,
            applet::Applet::Dns => dns::command(),
            applet::Applet::Install => install::install_command(),
            applet::Applet::Uninstall => install::uninstall_command(),
            applet::Applet::Doctor => doctor::command(),
            applet::Applet::Reconcile => reconcile::command(),
            applet::Applet::Selftest => selftest::command(),
            applet::Applet::Status => status::command(),
        };
        // Alone a command calls itself by two words, the program's and its own.
        Some(command.name(*name).bin_name(format!("smarter-cni {name}")))
    });
    let whole = whole.subcommand_required(true).disable_help_subcommand(true).subcommands(commands);
    whole.subcommand_value_name("COMMAND").subcommand_help_heading("COMMANDS")
}
