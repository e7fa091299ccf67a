//! Programs that ask for one name and print its addresses, or what is said instead: for resolvers that come without any.

use std::fs;
use std::path::Path;

use crate::lab::{Node, Place as _, peers};

/// Asks the C library that it runs with.
const OF_MUSL: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int count, char **words) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all, *one;
  char text[64];
  int failed = getaddrinfo(words[count - 1], 0, &hints, &all);
  if (failed) return fprintf(stderr, "%s\n", gai_strerror(failed)), 2;
  for (one = all; one; one = one->ai_next)
    if (!getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST)) puts(text);
}
"#;

const OF_CARES: &str = r#"
#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
static void found(void *unused, int failed, int timeouts, struct ares_addrinfo *all) {
  struct ares_addrinfo_node *one;
  char text[64];
  fprintf(stderr, "%s, %d timeouts\n", ares_strerror(failed), timeouts);
  if (failed) return;
  for (one = all->nodes; one; one = one->ai_next)
    if (!getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST)) puts(text);
  ares_freeaddrinfo(all);
}
int main(int count, char **words) {
  struct ares_options options = {0};
  struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  ares_channel_t *channel;
  int failed = ares_library_init(ARES_LIB_INIT_ALL);
  if (!failed) failed = ares_init_options(&channel, &options, ARES_OPT_EVENT_THREAD);
  if (failed) return fprintf(stderr, "%s\n", ares_strerror(failed)), 1;
  ares_getaddrinfo(channel, words[count - 1], 0, &hints, found, 0);
  ares_queue_wait_empty(channel, -1);
  ares_destroy(channel);
}
"#;

/// Linked dynamically: with which musl it runs is said when it is called.
pub(super) fn of_musl() -> &'static str {
    const PROGRAM: &str = "/run/of-musl";
    let compiler = format!("{}-linux-musl-gcc", std::env::consts::ARCH);
    made(PROGRAM, OF_MUSL, &format!("{compiler} -x c -o {PROGRAM}"), "");
    PROGRAM
}

/// The musl of `tests/peers/fetch`, which is its own loader. Without arguments it says which one it is.
pub(super) fn todays_musl() -> String {
    let loader = peers().join(format!("usr/lib/{}-linux-musl/libc.so", std::env::consts::ARCH));
    let loader = loader.display().to_string();
    let about = Node.command(&loader).output();
    let about = about.unwrap_or_else(|error| panic!("COULD NOT RUN: {loader}: {error}: {AGAIN}"));
    let about = String::from_utf8_lossy(&about.stderr).into_owned();
    let number = about.lines().find_map(|line| line.strip_prefix("Version ")).expect("its version");
    let number: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    assert!(number >= vec![1, 2, 4], "COULD NOT RUN: a musl with TCP is 1.2.4 at least, and this is {about}");
    loader
}

/// With the library of `tests/peers/fetch`, and the loader and C library that belong to it.
pub(super) fn of_cares() -> &'static str {
    const PROGRAM: &str = "/run/of-cares";
    let peers = peers();
    let library = peers.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    assert!(
        library.join("libcares.so").exists(),
        "COULD NOT RUN: {} has no c-ares: {AGAIN}",
        peers.display()
    );
    let (root, library) = (peers.display(), library.display());
    let loader = format!("{root}/usr/lib64/ld-linux-x86-64.so.2");
    // RPATH, which holds for the libraries of libraries, too.
    let with = format!(
        "-Wl,--dynamic-linker={loader},--disable-new-dtags,-rpath,{library},--allow-shlib-undefined {library}/libcares.so"
    );
    made(PROGRAM, OF_CARES, &format!("cc -idirafter {root}/usr/include -x c -o {PROGRAM}"), &with);
    PROGRAM
}

const AGAIN: &str = "remove target/peers and run tests/peers/fetch";

/// Compiles it once in each sandbox.
fn made(program: &str, source: &str, compile: &str, with: &str) {
    if Path::new(program).exists() {
        return;
    }
    let file = format!("{program}.c");
    fs::write(&file, source).expect("a source");
    let line = format!("{compile} {file} -x none {with}");
    let out = Node.command(&line).output();
    let out = out.unwrap_or_else(|error| panic!("COULD NOT RUN: {line}: {error}"));
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
}
