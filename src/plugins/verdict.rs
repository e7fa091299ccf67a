//! What CHECK makes of the steps that an ADD would still have to do. Pure, but for the log.

use crate::cni::error::{Error, Result};
use crate::datapath::step::Concern;

/// A runtime gives up a pod whose CHECK fails, and some ask for all pods of a node at once. So it fails for what the
/// attachment itself lost; what all of them lost is logged, and mended by the next ADD, `reconcile` or the watch. `strict`
/// fails for both.
pub(super) fn of(steps: &[(Concern, String)], strict: bool, what: &str) -> Result<()> {
    let missing: Vec<_> = steps
        .iter()
        .filter(|(concern, _)| *concern != Concern::Nobody)
        .map(|(_, step)| step.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = format!("{what}: {}", missing.join("; "));
    if strict || steps.iter().any(|(concern, _)| *concern == Concern::Attachment) {
        return Err(Error::internal(missing).with_details("run what is listed, or restart the pod"));
    }
    tracing::warn!(
        "{missing}; no fault of this attachment, so its CHECK succeeds: smarter-cni reconcile mends it"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: (Concern, &str) = (Concern::Nobody, "mark");
    const TABLE: (Concern, &str) = (Concern::Shared, "table");
    const ADDRESS: (Concern, &str) = (Concern::Attachment, "address");

    fn said(steps: &[(Concern, &str)], strict: bool) -> Option<String> {
        let steps: Vec<_> = steps.iter().map(|(concern, step)| (*concern, (*step).to_owned())).collect();
        of(&steps, strict, "missing").err().map(|error| error.msg)
    }

    #[test]
    fn check_fails_for_what_is_the_attachments_own() {
        assert_eq!(said(&[], true), None);
        assert_eq!(said(&[MARK], true), None);
        assert_eq!(said(&[TABLE, MARK], false), None);
        assert_eq!(said(&[TABLE, MARK], true).as_deref(), Some("missing: table"));
        // All of it, and in order: what is the attachment's may need what is shared.
        assert_eq!(said(&[TABLE, ADDRESS], false).as_deref(), Some("missing: table; address"));
    }
}
