//! The socket beside the records, for programs of this node: a successor takes over here, `status` reads counters, and
//! `dns --query` asks where no address is up yet.
//!
//! Mode 0600, and the kernel says who is at the other end (SO_PEERCRED). One line says what is wanted.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::forward::Counters;
use super::handover::{MOST_SOCKETS, PATIENCE, SERVING, TAKE, is_trusted};
use super::server::Server;
use super::sockets::Sockets;

/// What else can be wanted.
pub(crate) const COUNTERS: &str = "counters";
pub(crate) const ASK: &str = "ask";
const LONGEST_LINE: u64 = 64;
const LONGEST_QUESTION: u64 = 4096;
/// Who asks at once; others wait.
const MOST: usize = 16;

/// The socket's file, which goes with this value unless another has taken its place.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Control {
    /// Takes the place of a predecessor's.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let name = format!(".dns.sock.{}", std::process::id());
        let temporary = path.with_file_name(name);
        // The first pod would make it, and nobody has to wait for one.
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        let place = || {
            fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
            let inode = fs::symlink_metadata(&temporary)?.ino();
            fs::rename(&temporary, path)?;
            Ok(inode)
        };
        match place() {
            Ok(inode) => Ok(Self { listener, path: path.to_owned(), inode }),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| now.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What the doors lead to.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) server: Rc<Server>,
    pub(crate) sockets: Rc<RefCell<Sockets>>,
    /// Told when a successor that had taken over is gone.
    pub(crate) resumed: Rc<tokio::sync::Notify>,
}

/// Takes every connection. Ends with the task.
pub(crate) async fn accept(control: Control, inside: Inside) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = control.listener.accept().await else {
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        if !is_trusted(&stream) {
            continue;
        }
        let inside = inside.clone();
        spawn_local(async move {
            if let Err(error) = serve(stream, inside).await {
                tracing::info!("{}: {error}", super::handover::SOCKET);
            }
            drop(place);
        });
    }
}

async fn serve(stream: UnixStream, inside: Inside) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    match line(&mut stream).await?.as_str() {
        COUNTERS => timeout(PATIENCE, stream.write_all(inside.report().to_string().as_bytes())).await?,
        ASK => {
            let mut packet = Vec::new();
            timeout(PATIENCE, (&mut stream).take(LONGEST_QUESTION).read_to_end(&mut packet)).await??;
            let answer = inside.server.ask(&packet).await.unwrap_or_default();
            timeout(PATIENCE, stream.write_all(&answer)).await?
        }
        TAKE => hand_over(stream, inside).await,
        _ => stream.write_all(b"{\"error\":\"unknown request\"}\n").await,
    }
}

async fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    timeout(PATIENCE, stream.take(LONGEST_LINE).read_line(&mut line)).await??;
    Ok(line.trim_end().to_owned())
}

/// Gives all that a successor needs, stops once it serves, and serves again if it ends before us.
async fn hand_over(mut stream: BufReader<UnixStream>, inside: Inside) -> io::Result<()> {
    send_descriptors(stream.get_ref(), &inside.sockets).await?;
    let cache = inside.server.forwarder().export_cache();
    let length = u64::try_from(cache.len()).unwrap_or(0).to_be_bytes();
    timeout(PATIENCE, stream.write_all(&length)).await??;
    timeout(PATIENCE, stream.write_all(&cache)).await??;
    if timeout(PATIENCE * 5, line(&mut stream)).await?? != SERVING {
        return Err(io::Error::other("a successor took the sockets and did not serve"));
    }
    inside.sockets.borrow_mut().pause();
    tracing::info!("a successor serves now");
    // It never says anything more: this is its end.
    let _ = stream.read(&mut [0]).await;
    inside.sockets.borrow_mut().resume(&inside.server);
    tracing::warn!("the successor is gone: this one serves again");
    inside.resumed.notify_one();
    Ok(())
}

async fn send_descriptors(stream: &UnixStream, sockets: &RefCell<Sockets>) -> io::Result<()> {
    loop {
        timeout(PATIENCE, stream.writable()).await??;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let sockets = sockets.borrow();
            let descriptors: Vec<BorrowedFd<'_>> =
                sockets.all().map(|(.., fd)| fd).take(MOST_SOCKETS).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            sendmsg(stream, &[IoSlice::new(b"\n")], &mut control, SendFlags::empty()).map_err(io::Error::from)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent.map(drop),
        }
    }
}

impl Inside {
    /// What `status` shows.
    fn report(&self) -> serde_json::Value {
        let sockets = self.sockets.borrow();
        let forwarding: Counters = self.server.forwarder().counters();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "domain": self.server.settings().domain.to_string().trim_end_matches('.'),
            "addresses": sockets.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "serving": !sockets.is_paused(),
            "names": self.server.names(),
            "counters": self.server.counters,
            "forwarding": forwarding,
        })
    }
}
