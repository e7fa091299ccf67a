//! How much is logged.
//!
//! Pure.

/// In the order of what is logged. A line is written when its level is at most the one that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    /// Runs that failed.
    Error,
    /// Also those that have something to complain about.
    Warn,
    /// Also those that changed something.
    #[default]
    Info,
    /// All of them, with every step.
    Debug,
}

impl Level {
    /// In order.
    pub const ALL: [Self; 5] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug];
    /// What to say to somebody who said something else.
    pub const WORDS: &str = "off, error, warn, info or debug";

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// The first word that is a level, and what is to be said about those before it. The words stand behind the places where
/// they were said, those that count more first; an empty one says nothing.
pub(super) fn first(words: &[(&str, Option<&str>)]) -> (Option<Level>, Vec<String>) {
    let mut refused = Vec::new();
    for (place, word) in words {
        let Some(word) = word.map(str::trim).filter(|word| !word.is_empty()) else { continue };
        if let Some(level) = Level::parse(word) {
            return (Some(level), refused);
        }
        let shown: String = word.chars().take(32).collect();
        refused.push(format!("{place} says {shown:?}, which is no level: say {}", Level::WORDS));
    }
    (None, refused)
}

#[cfg(test)]
mod tests {
    use super::Level::{Debug, Error, Info, Off, Warn};
    use super::*;

    #[test]
    fn the_first_word_that_is_a_level_counts() {
        let first = |file, environment, key| {
            let (level, refused) = first(&[("file", file), ("environment", environment), ("key", key)]);
            (level.unwrap_or_default(), refused.len())
        };
        for (file, environment, key, level, refused) in [
            (None, None, None, Info, 0),
            (None, None, Some("warn"), Warn, 0),
            (None, Some("error"), Some("warn"), Error, 0),
            (Some("debug\n"), Some("error"), Some("warn"), Debug, 0),
            (Some("loud"), Some("off"), Some("warn"), Off, 1),
            (Some("loud"), Some("quiet"), Some("Warn"), Warn, 2),
            (Some(""), Some(" "), Some("debug"), Debug, 0),
            (Some("loud"), Some("quiet"), Some("verbose"), Info, 3),
        ] {
            assert_eq!(first(file, environment, key), (level, refused), "{file:?} {environment:?} {key:?}");
        }
    }

    #[test]
    fn every_level_is_a_word_and_the_refusal_lists_them() {
        for level in Level::ALL {
            assert_eq!(Level::parse(level.as_str()), Some(level));
            assert_eq!(Level::ALL[level as usize], level);
            assert!(Level::WORDS.contains(level.as_str()));
        }
        let (_, refused) = first(&[("logLevel", Some("verbose"))]);
        assert_eq!(
            refused,
            ["logLevel says \"verbose\", which is no level: say off, error, warn, info or debug"]
        );
    }
}
