//! What to do about an error when whoever failed could not say. Pure.
//!
//! The nearer to the cause the better the advice: this is for what nobody nearer had any.

use crate::cni::error::{Code, Error};

/// A value of the configuration is not acceptable.
pub(super) const CONFIGURATION: &str = "correct this in the network's configuration";
/// CNI_ARGS are not acceptable.
pub(super) const ARGUMENTS: &str =
    "the runtime sends CNI_ARGS; IgnoreUnknown=1 among them lets a plugin pass over what it does not know";
/// An address that somebody asked for.
pub(super) const ADDRESS: &str = "ask for another address, or for none";

/// The error with advice. `verb` is CNI_COMMAND.
pub(super) fn advised(error: Error, verb: &str) -> Error {
    let advice = match error.code {
        Code::InvalidEnvironment => {
            "the container runtime sets these variables; the plugin's --help lists them"
        }
        Code::Io | Code::Decoding => {
            "standard input has to be the network's configuration: one JSON object with the texts name and cniVersion"
        }
        Code::IncompatibleVersion => "give the network's configuration another cniVersion",
        Code::InvalidNetworkConfig | Code::UnsupportedField => CONFIGURATION,
        Code::TryAgainLater => "try again later",
        _ if verb == "CHECK" => {
            "`smarter-cni reconcile` brings back what is missing; where it does not, restart the pod"
        }
        _ => "`smarter-cni doctor` says what is wrong with this node",
    };
    error.or_details(advice)
}
