//! GC: mappings of attachments that are not in the runtime's list go, also where their record cannot be read.

use std::collections::BTreeSet;

use super::{PLUGIN, del, flows};
use crate::cni::config::NetConf;
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::Request;
use crate::datapath::hostports::observe;
use crate::datapath::session::Session;
use crate::net::IfName;
use crate::plugins::CallContext;
use crate::plugins::next_move::CONFIGURATION;
use crate::state::record::{Kept, Unread};
use crate::state::{Record, Records};

/// What runtimes call interfaces of pods: `eth0`, `net1`.
const STEMS: [&str; 2] = ["eth", "net"];
const NUMBERS: u8 = 16;

pub fn gc(request: &Request) -> Result<()> {
    let config = NetConf::decode(&request.config)
        .context("failed to parse network configuration")
        .hint(CONFIGURATION)?;
    let valid = config.valid_attachments.ok_or_else(|| {
        Error::new(Code::InvalidNetworkConfig, "GC without the key cni.dev/valid-attachments").with_details(
            "an empty list frees every attachment of the network; leaving the list out frees none",
        )
    })?;
    let CallContext { records, mut session } = CallContext::new()?;
    let network = request.network.as_str();
    let stays = |record: &Record| {
        valid.iter().any(|(id, name)| *id == record.id.container && name == record.id.if_name.as_str())
    };
    crate::plugins::sweep(&records, true);
    flows::resume(&records);
    let kept = records.all_kept().map_err(Error::internal)?;
    let ours = kept.records.iter().filter(|record| record.plugin == PLUGIN);
    let gone = ours.filter(|record| record.id.network == network && !stays(record));
    let removed = del::remove_records(&records, &mut session, gone).map(drop);
    let removed = removed.and(remove_unread(&records, &mut session, &kept, network, &valid));
    removed.map_err(|error| error.context("GC could not free everything"))
}

/// The name of such a file tells container, network and interface, each to whoever can guess it.
fn remove_unread(
    records: &Records,
    session: &mut Session,
    kept: &Kept,
    network: &str,
    valid: &[(String, String)],
) -> Result<()> {
    let names = interfaces(kept, network, valid);
    let stays = |unread: &Unread| {
        let is_it = |(id, name): &(String, String)| {
            unread.is_of(id) && name.parse::<IfName>().is_ok_and(|name| unread.is_in(network, &name))
        };
        valid.iter().any(is_it)
    };
    let of_network = |unread: &&Unread| {
        unread.plugin() == PLUGIN && names.iter().any(|name| unread.is_in(network, name)) && !stays(unread)
    };
    let gone: Vec<_> = kept.unread.iter().filter(of_network).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let owners = observe::observe_owners(session).map_err(Error::internal)?;
    for unread in gone {
        for container in owners.iter().filter(|owner| unread.is_of(owner)) {
            // Its other attachments keep what leads to them.
            let others = kept.records.iter().filter(|record| record.id.container == **container);
            let spared = others.filter(|record| record.plugin == PLUGIN && record.id.network != network);
            let spared: Vec<_> = spared.flat_map(Record::ips).collect();
            del::remove_claimed(records, session, container, &spared)?;
        }
        records.remove_unread(unread).map_err(Error::internal)?;
    }
    Ok(())
}

/// Of the network's attachments, as far as somebody may know.
fn interfaces(kept: &Kept, network: &str, valid: &[(String, String)]) -> BTreeSet<IfName> {
    let usual = STEMS.iter().flat_map(|stem| (0..NUMBERS).map(move |number| format!("{stem}{number}")));
    let listed = valid.iter().map(|(_, name)| name.clone());
    let known = kept.records.iter().filter(|record| record.id.network == network);
    let known = known.map(|record| record.id.if_name.to_string());
    usual.chain(listed).chain(known).filter_map(|name| name.parse().ok()).collect()
}
