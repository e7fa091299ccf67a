//! What is heard of a directory's changes (inotify(7)) by whoever follows files in it.

use rustix::fs::inotify::WatchFlags;

/// A file that is there, is written to its end, goes, comes under its name or may be read; and that the directory itself went.
/// Nothing of reading, and nothing before a writer has finished.
pub const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
