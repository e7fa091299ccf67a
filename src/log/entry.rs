//! What a run has to say for itself, before it is measured.
//!
//! Pure.

use std::path::PathBuf;

use super::level::Level;

/// One run of a plugin or a command. What is empty was not said.
///
/// Has no place for a configuration or for CNI_ARGS, because both may hold secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// A plugin's standard name; empty for a command.
    pub plugin: &'static str,
    /// CNI_COMMAND, or the command.
    pub verb: String,
    pub network: String,
    pub container: String,
    pub interface: String,
    /// `namespace/name`.
    pub pod: String,
    /// That the pod has now.
    pub addresses: Vec<String>,
    /// What a command did, one step each.
    pub changes: Vec<String>,
    pub failure: Option<Failure>,
    /// Where the log is kept, for a command that works in another file tree; nothing goes to the system's log then.
    pub directory: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Of the protocol. Commands have none.
    pub code: Option<u32>,
    pub msg: String,
    /// The next move.
    pub details: String,
}

impl Entry {
    /// One run of a command; `None` when it neither changed anything nor failed, which is not worth a line.
    pub fn of_command(verb: &str, changes: Vec<String>, errors: &[String]) -> Option<Self> {
        let failure = (!errors.is_empty()).then(|| Failure { msg: errors.join("; "), ..Failure::default() });
        let is_idle = changes.is_empty() && failure.is_none();
        (!is_idle).then(|| Self { verb: verb.to_owned(), changes, failure, ..Self::default() })
    }

    /// Whether nothing was to be changed, or nothing was. Whoever looks, looks often.
    pub(super) fn is_look(&self) -> bool {
        self.changes.is_empty() && !matches!(self.verb.as_str(), "ADD" | "DEL" | "GC")
    }

    /// An ADD that fails may be the first that this node hears of us, and makes the directory that records would make.
    pub(super) fn is_first_of_node(&self) -> bool {
        self.verb == "ADD"
    }

    pub(super) fn severity(&self, complains: bool) -> Level {
        if self.failure.is_some() {
            Level::Error
        } else if self.is_look() {
            Level::Debug
        } else if complains {
            Level::Warn
        } else {
            Level::Info
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_at_which_level() {
        let failure = Some(Failure::default());
        let entry = |verb: &str, failure: &Option<Failure>| Entry {
            verb: verb.into(),
            failure: failure.clone(),
            ..Entry::default()
        };
        for (verb, complains, level) in [
            ("ADD", false, Level::Info),
            ("DEL", true, Level::Warn),
            ("GC", false, Level::Info),
            ("STATUS", false, Level::Debug),
            ("STATUS", true, Level::Debug),
            ("CHECK", true, Level::Debug),
            ("VERSION", false, Level::Debug),
        ] {
            assert_eq!(entry(verb, &None).severity(complains), level, "{verb}");
            assert_eq!(entry(verb, &failure).severity(complains), Level::Error, "{verb}");
        }
    }

    #[test]
    fn a_command_that_did_nothing_has_nothing_to_say() {
        assert_eq!(Entry::of_command("reconcile", Vec::new(), &[]), None);
        let done = Entry::of_command("reconcile", vec!["a".into()], &[]).unwrap();
        assert_eq!((done.severity(false), done.is_look()), (Level::Info, false));
        let failed = Entry::of_command("install", Vec::new(), &["b".into(), "c".into()]).unwrap();
        assert_eq!((failed.severity(false), failed.is_look()), (Level::Error, true));
        assert_eq!(failed.failure.unwrap().msg, "b; c");
    }
}
