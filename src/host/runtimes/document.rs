//! A TOML document as far as somebody else's configuration needs it: tables by path, strings, lists of strings, numbers.
//!
//! Says in one line where the text is wrong. Knows no key of any program, reads no file.
//!
//! Pure.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

/// One table of a document; the document itself is the outermost.
#[derive(Debug)]
pub(super) struct Table<'a>(&'a DeTable<'a>);

/// Parses `text` and hands its outermost table to `read`.
pub(super) fn read<T>(text: &str, read: impl FnOnce(Table<'_>) -> Result<T, String>) -> Result<T, String> {
    match DeTable::parse(text) {
        Ok(document) => read(Table(document.get_ref())),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
            Err(format!("line {line} is no TOML: {}", error.message()))
        }
    }
}

impl<'a> Table<'a> {
    /// The table below this one, at the end of `path`. `None` where there is none, also where something else has the name.
    pub(super) fn table(&self, path: &[&str]) -> Option<Table<'a>> {
        path.iter().try_fold(Table(self.0), |table, key| table.value(key)?.as_table().map(Table))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, String> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        let word = |item: &toml::Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
        self.typed(key, "a list of strings", |value| value.as_array()?.iter().map(word).collect())
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u32>, String> {
        let parse =
            |value: &DeValue<'_>| value.as_integer().filter(|n| n.radix() == 10)?.as_str().parse().ok();
        self.typed(key, "a number", parse)
    }

    /// An empty one is none: programs write out settings that nobody made.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, String> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        text.map(|text| absolute(key, &text)).transpose()
    }

    pub(super) fn paths(&self, key: &str) -> Result<Option<Vec<PathBuf>>, String> {
        let all = |texts: Vec<String>| texts.iter().map(|text| absolute(key, text)).collect();
        self.texts(key)?.map(all).transpose()
    }

    fn value(&self, key: &str) -> Option<&'a DeValue<'a>> {
        self.0.get(key).map(toml::Spanned::get_ref)
    }

    fn typed<T>(
        &self,
        key: &str,
        kind: &str,
        take: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        take(value).map(Some).ok_or_else(|| format!("{key} is not {kind}"))
    }
}

/// Trailing slashes and `.` are dropped, so that the same directory reads the same everywhere.
pub(super) fn absolute(key: &str, text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') && !path.contains('\0') {
        Ok(PathBuf::from(path).components().collect())
    } else {
        Err(format!("{key} {text:?} is not an absolute path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_path_and_have_the_right_type() {
        let text = "a = 'x'\nn = 7\n[t.'dotted.name']\nlist = ['/a/', \"/b\"]\n";
        read(text, |root| {
            assert_eq!(root.text("a"), Ok(Some("x".into())));
            assert_eq!(root.text("b"), Ok(None));
            assert_eq!(root.text("n"), Err("n is not a string".into()));
            assert_eq!(root.number("n"), Ok(Some(7)));
            assert_eq!(root.number("a"), Err("a is not a number".into()));
            let table = root.table(&["t", "dotted.name"]).unwrap();
            assert_eq!(table.paths("list"), Ok(Some(vec!["/a".into(), "/b".into()])));
            assert_eq!(table.texts("list").unwrap().unwrap(), ["/a/", "/b"]);
            assert!(root.table(&["t", "none"]).is_none() && root.table(&["a"]).is_none());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let error = read("a = 1\n[broken\nb = 2\n", |_| Ok(())).unwrap_err();
        assert!(error.starts_with("line 2 is no TOML: ") && !error.contains('\n'), "{error}");
        assert_eq!(
            absolute("bin_dir", "cni/bin").unwrap_err(),
            "bin_dir \"cni/bin\" is not an absolute path"
        );
        assert_eq!(absolute("listen", "unix:///run/x.sock").unwrap(), PathBuf::from("/run/x.sock"));
    }
}
