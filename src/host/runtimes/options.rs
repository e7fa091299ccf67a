//! Options of k3s and rke2 that decide where everything else is, from their own configuration and from their unit; and
//! options of any program on a command line.
//!
//! The configuration is YAML that mirrors the command line: one option per line at the outer level. Only single words are
//! read, lists and nested values are passed over. Reads no file.
//!
//! Pure.

use std::path::PathBuf;

use super::document::absolute;

/// What was said; `None` and `false` are the program's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub data_dir: Option<PathBuf>,
    /// The runtime of somebody else.
    pub endpoint: Option<PathBuf>,
    pub docker: bool,
    pub flannel_backend: Option<String>,
}

impl Options {
    /// Adds what a configuration file says. Later files win (k3s documentation, "Configuration with a file").
    pub(super) fn add_file(&mut self, yaml: &str) {
        for line in yaml.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            // A key that starts further right belongs to another one.
            if !key.starts_with(|c: char| c.is_whitespace() || c == '#' || c == '-') {
                self.set(key.trim().trim_matches(['"', '\'']), &scalar(value));
            }
        }
    }

    /// Adds the command line of a systemd unit, which wins over files.
    pub(super) fn add_unit(&mut self, unit: &str) {
        let unit = unit.replace("\\\n", " ");
        for command in unit.lines().filter_map(|line| line.trim().strip_prefix("ExecStart=")) {
            let words: Vec<&str> = words(command);
            for key in ["data-dir", "container-runtime-endpoint", "flannel-backend"] {
                if let Some(value) = option(&words, key) {
                    self.set(key, value);
                }
            }
            if words.contains(&"--docker") {
                self.docker = true;
            }
            if let Some(value) = short_option(&words, "-d") {
                self.set("data-dir", value);
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "data-dir" => self.data_dir = absolute(key, value).ok().or(self.data_dir.take()),
            "container-runtime-endpoint" => {
                self.endpoint = absolute(key, value).ok().or(self.endpoint.take());
            }
            "flannel-backend" => self.flannel_backend = Some(value.to_owned()),
            "docker" => self.docker = value == "true",
            _ => {}
        }
    }
}

/// The value without its quotes or a comment behind it.
fn scalar(value: &str) -> String {
    let value = value.trim();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default().to_owned(),
        _ => value.split(" #").next().unwrap_or_default().trim().to_owned(),
    }
}

/// The words of a command line; one that is quoted as a whole loses its quotes.
pub(super) fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect()
}

/// The last `--key value` or `--key=value`.
pub(super) fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let value = |(place, word): (usize, &&'a str)| {
        let rest = word.strip_prefix("--")?.strip_prefix(key)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.trim_matches(['"', '\''])),
            None if rest.is_empty() => words.get(place + 1).copied(),
            None => None,
        }
    };
    words.iter().enumerate().rev().find_map(value)
}

fn short_option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let place = words.iter().rposition(|word| *word == key)?;
    words.get(place + 1).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_is_read_line_by_line() {
        let mut options = Options::default();
        options.add_file(
            "# data-dir: /commented\nwrite-kubeconfig-mode: \"0644\"\ndata-dir: \"/data/k3s\"   # the big disk\n\
             node-label:\n  - \"docker: true\"\n  data-dir: /nested\n'flannel-backend': none\ndisable: [traefik]\n",
        );
        let expected = Options {
            data_dir: Some("/data/k3s".into()),
            flannel_backend: Some("none".into()),
            ..Options::default()
        };
        assert_eq!(options, expected);
        options.add_file("data-dir: /mnt/k3s # moved\ndocker: true\ncontainer-runtime-endpoint: unix:///run/crio/crio.sock\n");
        assert_eq!(options.data_dir, Some("/mnt/k3s".into()));
        assert_eq!(options.endpoint, Some("/run/crio/crio.sock".into()));
        assert!(options.docker);
    }

    #[test]
    fn the_unit_wins() {
        let mut options = Options { data_dir: Some("/from/file".into()), ..Options::default() };
        // As k3s' installation script writes it.
        options.add_unit(
            "[Service]\nType=notify\nEnvironmentFile=-/etc/systemd/system/k3s.service.env\n\
             ExecStartPre=-/sbin/modprobe overlay\nExecStart=/usr/local/bin/k3s \\\n    server \\\n\
             \t'--data-dir=/data/k3s' \\\n\t'--flannel-backend' \\\n\t'none' \\\n\t'--docker' \\\n\n",
        );
        let expected = Options {
            data_dir: Some("/data/k3s".into()),
            flannel_backend: Some("none".into()),
            docker: true,
            endpoint: None,
        };
        assert_eq!(options, expected);
        options.add_unit("ExecStart=/usr/bin/k3s agent -d /other --container-runtime-endpoint /run/c.sock\n");
        assert_eq!((options.data_dir, options.endpoint), (Some("/other".into()), Some("/run/c.sock".into())));
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut options = Options::default();
        options.add_file(
            "data-dir: relative/path\ncontainer-runtime-endpoint: npipe:////x\n: \n---\ntext\n\"\n",
        );
        options.add_unit("ExecStart=/usr/bin/k3s --data-dir\nExecStart=\n");
        assert_eq!(options, Options::default());
    }

    #[test]
    fn of_several_options_the_last_counts() {
        let line =
            words("--config ${X}/a.toml --address=/run/one.sock --address \"/run/two.sock\" --address-of=x");
        assert_eq!(option(&line, "address"), Some("/run/two.sock"));
        assert_eq!(option(&line, "config"), Some("${X}/a.toml"));
        assert_eq!(option(&line, "none"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(data-dir|docker|ExecStart=|--data-dir|-d|[:='\"# /\n\\\\é]|.){0,24}") {
            let mut options = Options::default();
            options.add_file(&text);
            options.add_unit(&text);
            prop_assert!(options.data_dir.is_none_or(|dir| dir.is_absolute()));
        }
    }
}
