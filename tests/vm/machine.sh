# shellcheck shell=bash
# A virtual machine on Debian's kernel of an architecture; sourced by tests/vm/run and tests/arch/run, which say what runs in it.
#
#   fetch ARCH [SUITE]     amd64, arm64 or armhf: sets $machine (its directory) and $release (its kernel); fails when there is none
#                          to be had. A SUITE is another release of Debian than this machine's, such as bullseye or sid
#   machine ARCH [SUITE]   the same, and sets $root (of its file system)
#   boot LIMIT [QEMU-WORD…]   with $cpus processors (default 2), runs $root/test as root there; succeeds if it did. $console has what was printed
#
# Without KVM, and from "no module loaded", like a node that just booted: what a program needs, it must make the kernel load.
# Kernel and busybox are downloaded once; everything else is made anew, which takes a second: stale files make wrong tests.
# The caller is in the root of the repository and has set -euo pipefail.

fail() {
  echo "${0#"$PWD/"}: $*" >&2
  exit 1
}

require() { # require COMMAND-OR-FILE:PACKAGE…
  local need
  for need in "$@"; do
    command -v "${need%%:*}" >/dev/null || [[ $need == /* && -r ${need%%:*} ]] || fail "${need%%:*} is missing; it is in the package ${need#*:}"
  done
}

fetch() { # fetch ARCH [SUITE]
  require dpkg-deb:dpkg apt-get:apt apt-cache:apt unxz:xz-utils
  local arch=$1 suite=${2-} flavour=$1 kernels
  [[ $arch != armhf ]] || flavour=armmp
  machine=$PWD/target/vm/$arch${suite:+-$suite}
  [[ -e $machine/complete ]] || download "$arch" "$flavour" "$suite" || return
  kernels=("$machine"/tree/boot/vmlinuz-*)
  release=${kernels[0]##*/vmlinuz-}
}

machine() { # machine ARCH [SUITE]
  local arch=$1 suite=${2-} part
  require timeout:coreutils /bin/busybox:busybox-static
  case $arch in
    # Not every CPU: an armhf kernel boots on ARMv7 alone, and every node has at least these.
    amd64) emulator=(qemu-system-x86_64 -cpu max) terminal=ttyS0 && require qemu-system-x86_64:qemu-system-x86 ;;
    arm64) emulator=(qemu-system-aarch64 -M virt -cpu cortex-a53) terminal=ttyAMA0 && require qemu-system-aarch64:qemu-system-arm ;;
    armhf) emulator=(qemu-system-arm -M virt -cpu cortex-a15) terminal=ttyAMA0 && require qemu-system-arm:qemu-system-arm ;;
    *) fail "knows no machine for $arch" ;;
  esac
  fetch "$arch" "$suite" || fail "Debian's kernel for $arch${suite:+ of $suite} cannot be had"

  root=$machine/root
  rm -rf "$root"
  mkdir -p "$root"/{bin,sbin,dev,proc,sys,tmp,run,etc,var/lib/cni}
  ln -s /run "$root/var/run"
  cp "$machine/tree/bin/busybox" "$root/bin/busybox"
  cp tests/vm/init "$root/init"

  # Whole directories, so that a rule we do not use yet does not fail for want of its module.
  local modules=lib/modules/$release
  (
    cd "$machine/tree/$modules" || exit
    for part in kernel/net/{bridge,802,8021q,llc,netfilter,ipv4,ipv6} kernel/drivers/net/{veth,dummy}.ko kernel/lib/libcrc32c.ko \
      kernel/crypto/crc32c_generic.ko kernel/arch/*/crypto/{crc32c-intel,crc32-arm-ce}.ko; do
      [[ ! -e $part ]] || { mkdir -p "$root/$modules/${part%/*}" && cp -r "$part" "$root/$modules/$part"; }
    done
  )
  cp "$machine/tree/$modules"/modules.{order,builtin,builtin.modinfo} "$root/$modules"
  /bin/busybox depmod -b "$root" "$release"
}

# The package manager with a memory of its own: no architecture is added to this machine, and it need not be root.
foreign_apt() { # foreign_apt ARCH COMMAND WORD…
  local arch=$1 tool=$2 state=$machine/apt sources=()
  shift 2
  [[ ! -e $state/sources.list ]] || sources=(-o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null)
  "$tool" -q -o APT::Sandbox::User=root -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" "${sources[@]}" \
    -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache" "$@"
}

# Where this machine has its packages from: one address per line, that of security updates last.
mirrors() {
  local all
  all=$(sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    grep -E '/debian(-security)?/?$' | awk '!seen[$0]++') || true
  { grep -v security <<<"$all" | head -n 1; grep security <<<"$all" | head -n 1; } || true
}

sources() { # sources SUITE: where packages of that release are, in the words of sources.list
  local suite=$1 signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]' from
  while read -r from; do
    case $from in
      '') ;;
      # Unstable has no security updates of its own.
      *security*) [[ $suite == sid ]] || echo "deb $signed $from $suite-security main" ;;
      *) echo "deb $signed $from $suite main" ;;
    esac
  done < <(mirrors)
}

download() { # download ARCH FLAVOUR SUITE: Debian's kernel and busybox into $machine/tree
  local arch=$1 flavour=$2 suite=$3 packages deb
  rm -rf "$machine" && mkdir -p "$machine"/apt/{lists,cache/archives}/partial "$machine/tree" && : >"$machine/apt/status"
  [[ -z $suite ]] || sources "$suite" >"$machine/apt/sources.list"
  # A mirror may be out of step with itself for an hour. apt takes no list whose signature does not hold, so what is left is sound.
  foreign_apt "$arch" apt-get update || echo "apt-get update: not everything could be fetched"
  # One package, or since 2026 several of one version: what is executed, the modules, what both need.
  packages=$(foreign_apt "$arch" apt-cache depends --recurse --important "linux-image-$flavour" 2>/dev/null |
    sed -nE 's/^  Depends: (linux-(image|binary|modules|base)-[0-9].*)/\1/p' | sort -u) || true
  [[ -n $packages ]] || { echo "Debian's packages for $arch have no linux-image-$flavour" >&2 && return 1; }
  echo "downloading" $packages
  # shellcheck disable=SC2086 # a list of words
  (cd "$machine/apt" && foreign_apt "$arch" apt-get download $packages busybox-static) || return
  for deb in "$machine"/apt/*.deb; do dpkg-deb -x "$deb" "$machine/tree" || return; done
  arranged || return
  # The package lists are of no use here.
  rm -rf "$machine/apt"
  touch "$machine/complete"
}

# Every release at the same places: the kernel in /boot, modules in /lib/modules and not compressed, which busybox may not read.
arranged() {
  local tree=$machine/tree kernel
  if [[ -d $tree/usr/lib/modules ]]; then mkdir -p "$tree/lib" && mv "$tree/usr/lib/modules" "$tree/lib/modules" || return; fi
  for kernel in "$tree"/lib/modules/*/vmlinuz; do
    [[ ! -e $kernel ]] || { mkdir -p "$tree/boot" && mv "$kernel" "$tree/boot/vmlinuz-$(basename "${kernel%/vmlinuz}")"; } || return
  done
  [[ ! -e $tree/usr/bin/busybox ]] || { mkdir -p "$tree/bin" && mv "$tree/usr/bin/busybox" "$tree/bin/busybox"; } || return
  # What no network needs is most of it.
  rm -rf "$tree"/boot/System.map-* "${tree:?}"/usr "$tree"/lib/modules/*/kernel/{sound,fs}
  find "$tree"/lib/modules/*/kernel/drivers -mindepth 1 -maxdepth 1 ! -name net -exec rm -rf {} +
  find "$tree/lib/modules" -name '*.ko.xz' -exec unxz {} +
}

boot() {
  local limit=$1 status=0 marker result
  shift
  console=$machine/console
  # Not compressed: that would be undone on an emulated processor.
  (cd "$root" && find . | /bin/busybox cpio -o -H newc 2>/dev/null) >"$machine/initramfs"

  # A test that prints our marker by chance, or a console cut short, must not pass: the marker is new every time.
  marker=smarter-cni-vm-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
  echo "starting $release; the console is kept in ${console#"$PWD/"}"
  # On a busy machine the timer of an emulated one ticks late, which kernels take for a broken one (x86) or a lockup.
  # No KVM even where there is one: nested in another virtual machine it may hang, and emulation is fast enough.
  timeout --foreground --kill-after=5 "$limit" "${emulator[@]}" -accel tcg -smp "${cpus:-2}" -m 1024 -nodefaults -no-reboot \
    -display none -serial stdio -kernel "$machine/tree/boot/vmlinuz-$release" -initrd "$machine/initramfs" \
    -append "console=$terminal quiet panic=-1 no_timer_check nowatchdog tsc=unstable clocksource=hpet marker=$marker" "$@" 2>&1 | sed -u 's/\r//g' | tee "$console" || status=$?

  ((status != 124)) || fail "no result within $limit seconds"
  ((status == 0)) || fail "the emulator failed ($status)"
  result=$(sed -n "s/^$marker //p" "$console")
  [[ -n $result ]] || fail "the machine ended without a result; see $console"
  [[ $result == 0 ]] || fail "the tests failed with status $result"
}
