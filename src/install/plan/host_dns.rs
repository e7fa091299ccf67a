//! The file by which programs of the node come to the name server: written where it is asked for, kept, and taken back.
//!
//! Pure.

use std::path::PathBuf;

use super::{Planning, Step};
use crate::conflist::Network;
use crate::install::have::ResolverFile;
use crate::install::host_dns::{self, Reader, Resolver, Route, Standing};

impl Planning<'_> {
    /// `address_is_ours`: a resolver must not be sent to somebody else.
    pub(super) fn host_dns(&mut self, address_is_ours: bool) {
        let (want, have) = (self.want, self.have);
        let Network { dns, bridge, .. } = &want.network;
        let wanted =
            want.host_dns.as_ref().zip(*dns).zip(have.resolvers.as_ref()).filter(|_| address_is_ours);
        let wanted = wanted.map(|((domain, address), seen)| (Route { domain, address, bridge }, seen));
        let named = wanted.map(|(route, seen)| {
            let resolver = host_dns::resolver(seen);
            self.notes.extend(host_dns::advice(&resolver, seen, route));
            if let Resolver::Reads(reader) = resolver { Some(reader) } else { None }
        });
        for file in &have.resolver_files {
            let recorded = self.wrote(file.reader);
            // A resolver may be away for a moment, as while a package is exchanged: its file is then kept as it was.
            let is_wanted = match named {
                None => false,
                Some(Some(reader)) => reader == file.reader,
                Some(None) => recorded && can_be_written(file),
            };
            match wanted.filter(|_| is_wanted) {
                Some((route, _)) => self.tell(file, &file.reader.file(route), recorded),
                None => self.take_back(file, recorded),
            }
        }
    }

    fn wrote(&self, reader: Reader) -> bool {
        let earlier = self.have.installation.as_ref();
        earlier.is_some_and(|earlier| earlier.resolver_files.contains(reader.path()))
    }

    fn tell(&mut self, file: &ResolverFile, text: &str, recorded: bool) {
        let path = file.reader.path();
        match &file.standing {
            Standing::Ours(bytes) if bytes == text.as_bytes() => {}
            Standing::Foreign(what) => return self.foreign(file.reader, what, recorded),
            Standing::Empty if !recorded => {
                return self.foreign(file.reader, "somebody else's empty file", recorded);
            }
            Standing::Absent | Standing::Empty | Standing::Ours(_) => {
                self.installation.directories.extend(file.missing.iter().cloned());
                self.steps.push(Step::WriteResolver(path.to_owned(), text.as_bytes().to_vec()));
                self.notes.push(format!(
                    "{} counts when the resolver has read it, at its next start or by: {}",
                    path.display(),
                    file.reader.reload()
                ));
            }
        }
        self.installation.resolver_files.insert(path.to_owned());
    }

    /// Refused to whoever asks for the first time; later the rest of the installation must not wait for it.
    fn foreign(&mut self, reader: Reader, what: &str, recorded: bool) {
        let path = reader.path();
        let words = format!("{} is {what}, and stays: move it away, or say --host-dns off", path.display());
        if recorded {
            self.installation.resolver_files.insert(path.to_owned());
            self.collisions.push(words);
        } else {
            self.refusals.push(words);
        }
    }

    fn take_back(&mut self, file: &ResolverFile, recorded: bool) {
        let path: PathBuf = file.reader.path().into();
        if file.is_ours(recorded) {
            self.notes.push(format!(
                "the resolver forgets {} at its next start or by: {}",
                path.display(),
                file.reader.reload()
            ));
            self.steps.push(Step::RemoveResolver(path.clone()));
        }
        self.installation.resolver_files.remove(&path);
    }
}

fn can_be_written(file: &ResolverFile) -> bool {
    file.missing.is_empty() || file.reader.finds_new_directories()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::claim::{How, Use};
    use crate::host::resolver::Seen;
    use crate::install::have::Have;
    use crate::install::host_dns::Domain;
    use crate::install::plan::tests::{installed, settings};
    use crate::install::plan::{Plan, plan};
    use crate::install::settings::Settings;

    const FILE: &str = "/etc/systemd/dns-delegate.d/smarter-cni.dns-delegate";

    fn told() -> Settings {
        let mut settings = Settings { host_dns: Domain::parse("cluster.local"), ..settings() };
        settings.network.dns = Some([169, 254, 0, 2].into());
        settings.words.dns = Some("169.254.0.2".to_owned().into());
        settings
    }

    /// With systemd-resolved, and nothing of ours for it.
    fn node() -> Have {
        let mut have = installed();
        have.resolvers = Some(Seen {
            resolv_conf: "nameserver 127.0.0.53\n".to_owned(),
            takes_delegates: true,
            ..Seen::default()
        });
        let file = |reader| ResolverFile { reader, missing: Vec::new(), standing: Standing::Absent };
        have.resolver_files = Reader::ALL.map(file).into();
        have.resolver_files[0].missing = vec!["/etc/systemd/dns-delegate.d".into()];
        have
    }

    /// As after the plan was carried out.
    fn carried_out() -> Have {
        let mut have = node();
        let plan = plan(&told(), &have).unwrap();
        for step in &plan.steps {
            if let Step::WriteResolver(_, bytes) = step {
                have.resolver_files[0].standing = Standing::of(bytes.clone());
                have.resolver_files[0].missing.clear();
            }
        }
        have.installation = Some(plan.installation);
        have
    }

    fn of_resolver(plan: &Plan) -> Vec<String> {
        let is_conflist = |step: &&Step| matches!(step, Step::WriteConflist(..));
        plan.steps.iter().filter(|step| !is_conflist(step)).map(ToString::to_string).collect()
    }

    #[test]
    fn it_is_written_once_and_said_how_it_counts() {
        let first = plan(&told(), &node()).unwrap();
        assert_eq!(of_resolver(&first), [format!("write {FILE}")]);
        let directory = std::path::Path::new("/etc/systemd/dns-delegate.d");
        assert!(first.installation.directories.contains(directory), "it goes with the last of it");
        let reload = format!(
            "{FILE} counts when the resolver has read it, at its next start or by: systemctl reload systemd-resolved"
        );
        assert_eq!(first.notes, [reload]);
        assert!(first.installation.resolver_files.contains(std::path::Path::new(FILE)));
        let again = plan(&told(), &carried_out()).unwrap();
        assert!(of_resolver(&again).is_empty() && again.notes.is_empty(), "{again:?}");
        assert_eq!(Some(again.installation), carried_out().installation);
    }

    #[test]
    fn it_comes_back_when_it_is_lost_or_damaged_or_says_something_else() {
        for standing in
            [Standing::Absent, Standing::Empty, Standing::of(b"# Written by smarter-cni 0.1\nDNS=1\n".into())]
        {
            let mut have = carried_out();
            have.resolver_files[0].standing = standing;
            assert_eq!(of_resolver(&plan(&told(), &have).unwrap()), [format!("write {FILE}")]);
            // Also while its resolver is not to be seen.
            have.resolvers = Some(Seen::default());
            assert_eq!(of_resolver(&plan(&told(), &have).unwrap()), [format!("write {FILE}")]);
        }
    }

    #[test]
    fn it_goes_when_nobody_asks_for_it_or_another_resolver_is_there() {
        let forgotten = plan(&settings(), &carried_out()).unwrap();
        assert_eq!(of_resolver(&forgotten), [format!("remove {FILE}, which is not wanted any more")]);
        assert!(forgotten.installation.resolver_files.is_empty());
        let mut have = carried_out();
        have.resolvers = Some(Seen {
            resolv_conf: "nameserver 127.0.0.1\n".to_owned(),
            dnsmasq: vec!["conf-dir=/etc/dnsmasq.d\nbind-dynamic\n".to_owned()],
            has_dnsmasq_directory: true,
            ..Seen::default()
        });
        assert_eq!(
            of_resolver(&plan(&told(), &have).unwrap()),
            [
                &format!("remove {FILE}, which is not wanted any more"),
                "write /etc/dnsmasq.d/smarter-cni.conf"
            ]
        );
    }

    #[test]
    fn no_resolver_is_sent_to_somebody_else() {
        let mut have = carried_out();
        let how = How::Connection { port: 3260 };
        have.uses = vec![Use {
            network: std::net::Ipv4Addr::new(169, 254, 0, 2).into(),
            interface: String::new(),
            how,
            ours: false,
        }];
        let plan = plan(&told(), &have).unwrap();
        assert_eq!(of_resolver(&plan), [format!("remove {FILE}, which is not wanted any more")]);
        assert_eq!(plan.collisions.len(), 1);
    }

    #[test]
    fn what_is_somebody_elses_is_refused_at_first_and_stays_later() {
        for standing in
            [Standing::of(b"[Delegate]\n".into()), Standing::Foreign("somebody else's link"), Standing::Empty]
        {
            let mut have = node();
            have.resolver_files[0].standing = standing;
            let refusals = plan(&told(), &have).unwrap_err();
            assert!(refusals[0].starts_with(&format!("{FILE} is somebody else's")), "{refusals:?}");
            assert!(
                refusals[0].ends_with(", and stays: move it away, or say --host-dns off"),
                "{refusals:?}"
            );
            assert!(of_resolver(&plan(&settings(), &have).unwrap()).is_empty(), "not ours to remove");
        }
        let mut have = carried_out();
        have.resolver_files[0].standing = Standing::Foreign("somebody else's");
        let later = plan(&told(), &have).unwrap();
        assert!(of_resolver(&later).is_empty());
        assert_eq!(later.collisions.len(), 1, "the rest of the installation does not wait for it");
    }

    #[test]
    fn where_no_file_is_read_a_person_is_told_what_to_type() {
        let mut have = node();
        have.resolvers = Some(Seen { resolv_conf: "nameserver 192.0.2.1\n".to_owned(), ..Seen::default() });
        let plan = plan(&told(), &have).unwrap();
        assert!(of_resolver(&plan).is_empty());
        assert!(plan.notes[0].ends_with("nameserver 169.254.0.2"), "{:?}", plan.notes);
    }
}
