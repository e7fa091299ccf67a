//! Word of changed names that nobody has read yet, when a question is there already.
//!
//! An ADD leaves it with the kernel before it returns, and whoever asks then is right to expect the name. But a server that reads
//! its questions while word comes in would answer them from the names of before: with four pods at a time starting on two processors
//! that happened to one of eighty. So it is looked at behind the reading of questions and before their answers, and costs
//! one system call for a batch. Refuses to know what the word is.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;

/// Whoever reads it does so before other tasks go on, in one of them. What nobody reads must not keep a question waiting.
const ROUNDS: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct News(RefCell<Option<Rc<AsyncFd<OwnedFd>>>>);

impl News {
    /// What becomes readable with it, and is read by somebody else in this runtime.
    pub(crate) fn come_by(&self, descriptor: Option<Rc<AsyncFd<OwnedFd>>>) {
        self.0.replace(descriptor);
    }

    pub(super) fn are_unread(&self) -> bool {
        let descriptor = self.0.borrow();
        let Some(descriptor) = &*descriptor else { return false };
        let mut one = [PollFd::new(descriptor.get_ref(), PollFlags::IN)];
        poll(&mut one, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Returns when somebody has read them all.
    pub(super) async fn read(&self) {
        for _ in 0..ROUNDS {
            if !self.are_unread() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
