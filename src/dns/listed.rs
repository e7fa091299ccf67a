//! Which names lead to which address, without a server: what `status` shows. Records, files of hostnames, links and the zone are
//! read as the server reads them, so that there is one answer to what a pod is called.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use super::data::{Attachments, LinkEvent, Places, all_links};
use super::name::Name;
use super::resident::zone;
use super::settings::Settings;
use crate::state::{BootId, record};

/// What the server of this node would say, or says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) domain: String,
    /// The canonical one first; without the dot at their end.
    pub(crate) by_address: BTreeMap<IpAddr, Vec<String>>,
}

/// `domain` is that of the server that runs, whose environment is not ours.
pub(crate) fn names(domain: Option<&str>, environment: &[(OsString, OsString)]) -> Result<Names, String> {
    let mut settings = Settings::parse(environment)?;
    if let Some(domain) = domain.and_then(Name::parse) {
        settings.domain = domain;
    }
    let boot = BootId::current().map_err(|error| format!("the identity of this boot: {error}"))?;
    let mut attachments =
        Attachments::new(Path::new(record::ROOT).to_owned(), boot, Places::below(Path::new("/")));
    attachments.rescan().map_err(|error| error.to_string())?;
    if let Some(names) = all_links() {
        attachments.link(&LinkEvent::All(names));
    }
    let zone = zone(&settings, attachments.gathered());
    let shown = |name: &Name| name.to_string().trim_end_matches('.').to_owned();
    let by_address = zone.by_address().into_iter();
    Ok(Names {
        domain: shown(&settings.domain),
        by_address: by_address
            .map(|(address, names)| (address, names.into_iter().map(shown).collect()))
            .collect(),
    })
}
