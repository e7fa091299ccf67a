//! Real containerds, with everything they own in a directory of the test, and pods on them through the interface of kubelet.

mod changes;
mod daemon;
mod found;
mod killed;
mod names;
mod networks;
mod pods;
mod release;
mod status;

pub(crate) use daemon::Containerd;
pub(crate) use release::{Format, Release};

/// Functions of a release as tests: each one is reported by the name of the release and its own. What stands behind `v2:` is
/// for today's alone.
macro_rules! on_each {
    ($($test:ident),+ $(,)?) => { $crate::containerd::on_each!($($test),+; v2:); };
    ($($test:ident),*; v2: $($of_2:ident),*) => {
        mod v1_6 { $crate::containerd::on_one!(V1_6: $($test),*); }
        mod v2 { $crate::containerd::on_one!(V2: $($test,)* $($of_2),*); }
    };
}

macro_rules! on_one {
    ($release:ident: $($test:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            let release = $crate::containerd::Release::$release;
            release.must_be_there();
            $crate::sandbox::sandboxed_daemons(|| super::$test(release));
        })*
    };
}

pub(crate) use {on_each, on_one};
