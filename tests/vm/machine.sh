# shellcheck shell=bash
# A virtual machine on Debian's kernel of an architecture; sourced by tests/vm/run and tests/arch/run, which say what runs in it.
#
#   machine ARCH       amd64, arm64 or armhf: sets $machine (its directory), $root (of its file system) and $release (its kernel)
#   boot LIMIT [QEMU-WORD…]   runs $root/test as root there; succeeds if it did. $console has what was printed
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

machine() {
  local arch=$1 flavour=$1 part
  require dpkg-deb:dpkg apt-get:apt timeout:coreutils /bin/busybox:busybox-static
  case $arch in
    # Not every CPU: an armhf kernel boots on ARMv7 alone, and every node has at least these.
    amd64) emulator=(qemu-system-x86_64 -cpu max) terminal=ttyS0 && require qemu-system-x86_64:qemu-system-x86 ;;
    arm64) emulator=(qemu-system-aarch64 -M virt -cpu cortex-a53) terminal=ttyAMA0 && require qemu-system-aarch64:qemu-system-arm ;;
    armhf) emulator=(qemu-system-arm -M virt -cpu cortex-a15) terminal=ttyAMA0 flavour=armmp && require qemu-system-arm:qemu-system-arm ;;
    *) fail "knows no machine for $arch" ;;
  esac
  machine=$PWD/target/vm/$arch
  [[ -e $machine/complete ]] || download "$arch" "$flavour"
  release=$(basename "$machine"/tree/boot/vmlinuz-*) && release=${release#vmlinuz-}

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
  local arch=$1 tool=$2 state=$machine/apt
  shift 2
  "$tool" -q -o APT::Sandbox::User=root -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" \
    -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache" "$@"
}

download() { # download ARCH FLAVOUR: Debian's kernel and busybox into $machine/tree
  local arch=$1 flavour=$2 kernel deb
  rm -rf "$machine" && mkdir -p "$machine"/apt/{lists,cache/archives}/partial "$machine/tree" && : >"$machine/apt/status"
  # A mirror may be out of step with itself for an hour. apt takes no list whose signature does not hold, so what is left is sound.
  foreign_apt "$arch" apt-get update || echo "apt-get update: not everything could be fetched"
  kernel=$(foreign_apt "$arch" apt-cache depends --important "linux-image-$flavour" | sed -n 's/.*Depends: //p;T;q') || true
  [[ -n $kernel ]] || fail "Debian's packages for $arch have no linux-image-$flavour"
  echo "downloading $kernel"
  (cd "$machine/apt" && foreign_apt "$arch" apt-get download "$kernel" busybox-static)
  for deb in "$machine"/apt/*.deb; do dpkg-deb -x "$deb" "$machine/tree"; done
  # Debug symbols of the kernel and the package lists are of no use here.
  rm -rf "$machine/apt" "$machine"/tree/boot/System.map-*
  touch "$machine/complete"
}

boot() {
  local limit=$1 status=0 marker result
  shift
  console=$machine/console
  (cd "$root" && find . | /bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$machine/initramfs"

  # A test that prints our marker by chance, or a console cut short, must not pass: the marker is new every time.
  marker=smarter-cni-vm-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
  echo "starting $release; the console is kept in ${console#"$PWD/"}"
  # No KVM even where there is one: nested in another virtual machine it may hang, and emulation is fast enough.
  timeout --foreground --kill-after=5 "$limit" "${emulator[@]}" -accel tcg -smp 2 -m 1024 -nodefaults -no-reboot \
    -display none -serial stdio -kernel "$machine/tree/boot/vmlinuz-$release" -initrd "$machine/initramfs" \
    -append "console=$terminal quiet panic=-1 marker=$marker" "$@" 2>&1 | tr -d '\r' | tee "$console" || status=$?

  ((status != 124)) || fail "no result within $limit seconds"
  ((status == 0)) || fail "the emulator failed ($status)"
  result=$(sed -n "s/^$marker //p" "$console")
  [[ -n $result ]] || fail "the machine ended without a result; see $console"
  [[ $result == 0 ]] || fail "the tests failed with status $result"
}
