//! Where a configuration says something else today than when a pod came. Pure.
//!
//! That is never wrong: what the pod has is what was promised to it, and the configuration is the next pod's.

use std::fmt;

/// One key, and what it meant and means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// As it stands in the configuration.
    pub key: &'static str,
    pub was: String,
    pub is: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, was, is } = self;
        write!(f, "{key} is {is} now, and was {was} when the pod came: takes effect with the next ADD")
    }
}

/// What a key means for a want, in words.
pub(super) type Meaning<W> = (&'static str, fn(&W) -> String);

/// The keys among these that mean something else for `now` than for `then`.
pub(super) fn between<W>(keys: &[Meaning<W>], then: &W, now: &W) -> Vec<Difference> {
    let differs = |(key, meaning): &Meaning<W>| {
        let (was, is) = (meaning(then), meaning(now));
        (was != is).then_some(Difference { key, was, is })
    };
    keys.iter().filter_map(differs).collect()
}

/// For CHECK: it succeeds all the same.
pub(super) fn log(differences: &[Difference]) {
    for difference in differences {
        tracing::info!("{difference}");
    }
}

/// A list of a configuration.
pub(super) fn list<T: ToString>(values: &[T]) -> String {
    format!("[{}]", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}
