//! What CRI-O's configuration says of CNI: `crio.conf` and the files of `crio.conf.d`, one after the other.
//!
//! Reads no file.
//!
//! Pure.

use std::path::PathBuf;

use super::document;

/// What the files so far say. A later file changes only what it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effective {
    pub network_dir: Option<PathBuf>,
    plugin_dirs: Option<Vec<PathBuf>>,
    /// The older key; CRI-O looks there last.
    plugin_dir: Option<PathBuf>,
    /// CRI-O takes the network of this name and no other.
    pub default_network: Option<String>,
    pub listen: Option<PathBuf>,
}

impl Effective {
    /// Adds a file. An error means that CRI-O would not start with it; nothing is changed then.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let file = document::read(text, |root| {
            let mut file = Self::default();
            if let Some(network) = root.table(&["crio", "network"]) {
                file.network_dir = network.path("network_dir")?;
                file.plugin_dirs = network.paths("plugin_dirs")?;
                file.plugin_dir = network.path("plugin_dir")?;
                file.default_network = network.text("cni_default_network")?;
            }
            if let Some(api) = root.table(&["crio", "api"]) {
                file.listen = api.path("listen")?;
            }
            Ok(file)
        })?;
        let before = std::mem::take(self);
        *self = Self {
            network_dir: file.network_dir.or(before.network_dir),
            plugin_dirs: file.plugin_dirs.or(before.plugin_dirs),
            plugin_dir: file.plugin_dir.or(before.plugin_dir),
            default_network: file.default_network.or(before.default_network),
            listen: file.listen.or(before.listen),
        };
        Ok(())
    }

    /// In its order; `defaults` are those of the program.
    pub(super) fn plugin_dirs(&self, defaults: Vec<PathBuf>) -> Vec<PathBuf> {
        let mut dirs = self.plugin_dirs.clone().unwrap_or(defaults);
        dirs.extend(self.plugin_dir.clone());
        dirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> String {
        super::super::tests::fixture(name)
    }

    #[test]
    fn the_template_of_the_program_says_its_defaults() {
        let mut effective = Effective::default();
        effective.add(&fixture("crio-1.24/crio.conf")).unwrap();
        let expected = Effective {
            network_dir: Some("/etc/cni/net.d".into()),
            plugin_dirs: Some(vec!["/opt/cni/bin".into()]),
            listen: Some("/var/run/crio/crio.sock".into()),
            ..Effective::default()
        };
        assert_eq!(effective, expected);
    }

    #[test]
    fn later_files_change_only_what_they_name() {
        let mut effective = Effective::default();
        for file in ["crio-fedora/crio.conf", "crio-fedora/crio.conf.d/10-crun.conf"] {
            effective.add(&fixture(file)).unwrap();
        }
        let defaults = || vec![PathBuf::from("/nowhere")];
        assert_eq!(
            effective.plugin_dirs(defaults()),
            [PathBuf::from("/opt/cni/bin"), "/usr/libexec/cni".into()]
        );
        effective
            .add("[crio.network]\ncni_default_network = \"smartnet\"\nplugin_dirs = [\"/a\"]\n")
            .unwrap();
        assert_eq!(effective.plugin_dirs(defaults()), [PathBuf::from("/a")]);
        assert_eq!(effective.default_network.as_deref(), Some("smartnet"));
    }

    #[test]
    fn the_older_key_adds_a_directory() {
        let mut effective = Effective::default();
        effective.add("[crio.network]\nplugin_dir = \"/usr/lib/cni\"\n").unwrap();
        let dirs = effective.plugin_dirs(vec!["/opt/cni/bin".into()]);
        assert_eq!(dirs, [PathBuf::from("/opt/cni/bin"), "/usr/lib/cni".into()]);
    }

    #[test]
    fn a_file_that_is_wrong_changes_nothing() {
        let mut effective = Effective::default();
        effective.add("[crio.network]\nnetwork_dir = \"/a\"\n").unwrap();
        let before = effective.clone();
        assert!(effective.add("[crio.network]\nnetwork_dir = 5\n").unwrap_err().contains("not a string"));
        assert!(effective.add("[crio").unwrap_err().starts_with("line 1"));
        assert_eq!(effective, before);
    }
}
