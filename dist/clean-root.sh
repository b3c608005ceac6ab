#!/bin/sh
# Tries the package where nothing else is: builds it, installs it by dpkg in a root of busybox and the C library (or
# of Debian, by debootstrap), starts the daemon as its unit says, lets two containers ping each other, upgrades it
# under a running ping, removes it, and looks that nothing is left. All of it in namespaces of its own: this machine's
# network, mounts and packages are not touched.
#
#   dist/clean-root.sh                          some seconds, no network; needs root, busybox and dpkg
#   dist/clean-root.sh --debootstrap bookworm   a minute or two, a mirror and debootstrap
#
#   BIN=   where vswitchd, vsctl and vswitch-cni were built: target/release, else target/debug
#
# Exit codes: 0 all is well; 1 something is not, and the last line says what; 77 it cannot be tried here.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)

me=clean-root
. "$repo/dist/trial.sh"

# What there is, but for what useradd puts aside: the package's user stays, as Debian wants it.
files() {
  (cd "$root" && find . -path ./proc -prune -o -path ./dev -prune -o -path ./run -prune -o -path ./var/lib/dpkg -prune \
    -o -path ./var/log -prune -o -path './etc/*-' -o -print | sort)
}
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install_package() {
  DEBIAN_FRONTEND=noninteractive dpkg --root="$root" "$@" >"$work/dpkg.log" 2>&1 ||
    { cat "$work/dpkg.log" >&2; fail "dpkg $*"; }
}

# The root: $work/root. Programs of busybox, and what the programs of the package are linked to.
make_small_root() {
  for folder in usr/bin usr/sbin usr/lib usr/lib64 etc tmp var/lib/dpkg/info var/lib/dpkg/updates proc dev run; do
    mkdir -p "$root/$folder"
  done
  for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
  cp "$(command -v busybox)" "$root/usr/bin/busybox"
  for program in "$BIN/vswitchd" "$BIN/vsctl" "$BIN/vswitch-cni" "$root/usr/bin/busybox"; do
    ldd "$program" 2>/dev/null | sed -n 's/^[^/]*\(\/[^ ]*\).*/\1/p'
  done | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  chroot "$root" /usr/bin/busybox --install -s /usr/bin
  echo clean-root > "$root/etc/hostname"
  # What was copied, so that the package's dependencies are held against it.
  fields='Package: ${Package}\nStatus: install ok installed\nMaintainer: ${Maintainer}\nArchitecture: ${Architecture}\n'
  fields=$fields'Multi-Arch: same\nVersion: ${Version}\nDescription: copied\n\n'
  for package in libc6 libgcc-s1; do
    dpkg-query -W -f "$fields" "$package"
  done > "$root/var/lib/dpkg/status"
  : > "$root/var/lib/dpkg/available"
}

# ---- In namespaces of its own ----

in_namespaces() {
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/dev"
  mkdir "$root/dev/net"
  for device in null zero urandom net/tun; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  inside ip link set lo up
  files > "$work/before"

  install_package --install "$work/old/"*.deb
  inside vswitchd --version >/dev/null && inside vsctl --version >/dev/null || fail "the programs do not run"
  inside env CNI_COMMAND=VERSION /usr/lib/cni/vswitch-cni </dev/null | grep -q supportedVersions ||
    fail "the CNI plugin does not run"
  for file in share/man/man8/vswitchd.8.gz share/man/man8/vsctl-port-add.8.gz share/bash-completion/completions/vsctl \
    share/doc/vswitch/examples/cni/containerd.conflist share/doc/vswitch/copyright lib/sysusers.d/vswitch.conf; do
    [ -s "$root/usr/$file" ] || fail "there is no /usr/$file"
  done
  say "installed: $(inside vswitchd --version)"

  # As systemd would, from the unit that was installed.
  unit=$root/usr/lib/systemd/system/vswitchd.service
  start=$(sed -n 's/^ExecStart=//p' "$unit" | sed 's/ \$VSWITCHD_OPTIONS//')
  reload=$(sed -n 's/^ExecReload=//p' "$unit")
  [ -n "$start" ] && [ -n "$reload" ] || fail "the unit says neither how to start nor how to reload"
  # shellcheck disable=SC2086 # words
  inside $start </dev/null >"$work/log" 2>&1 &
  eventually inside vsctl status
  first=$(pid_of_daemon)
  say "started: $start"

  inside mkdir -p /run/netns
  for name in red blue; do
    : > "$root/run/netns/$name"
    inside unshare --net="/run/netns/$name" true
  done
  inside vsctl --quiet port add red --netns red --address 10.0.0.1/24
  inside vsctl --quiet port add blue --netns blue --address 10.0.0.2/24
  inside nsenter --net=/run/netns/red ping -c 3 -W 5 10.0.0.2 >"$work/ping" 2>&1 ||
    { cat "$work/ping" >&2; fail "no ping"; }
  say "two containers ping each other"

  echo "# changed" >> "$root/etc/vswitch/vswitchd.toml"
  install_package --force-confold --install "$work/new/"*.deb
  grep -q '^# changed' "$root/etc/vswitch/vswitchd.toml" || fail "the upgrade took the settings away"
  inside sh -c 'echo $$ >/tmp/pid && exec nsenter --net=/run/netns/red ping -i 0.05 10.0.0.2' >"$work/ping" 2>&1 &
  pinging=$!
  eventually more_answers_than 5
  # shellcheck disable=SC2034 # the unit's variable
  MAINPID=$first
  eval "inside $reload"
  eventually is_another "$first"
  second=$(pid_of_daemon)
  eventually test ! -e "/proc/$first"
  # Of the old version the link would say (deleted).
  [ "$(readlink "/proc/$second/exe")" = "$root/usr/bin/vswitchd" ] ||
    fail "$(readlink "/proc/$second/exe") is not the new version"
  answered_on
  kill -INT "$(cat "$root/tmp/pid")"
  wait $pinging || true # the last request may have no answer yet
  rm "$root/tmp/pid"
  are_all_answered || { cat "$work/ping" >&2; fail "the upgrade lost frames"; }
  say "upgraded by takeover: process $first, then $second; $asked of $asked pings under way were answered"

  inside vsctl --quiet port del red
  inside vsctl --quiet port del blue
  kill "$second"
  eventually test ! -e "/proc/$second"
  install_package --remove vswitch
  grep -q '^# changed' "$root/etc/vswitch/vswitchd.toml" || fail "removal took the settings away"
  install_package --purge vswitch
  files > "$work/after"
  diff "$work/before" "$work/after" >&2 || fail "this is left after the removal (>), or gone with it (<)"
  say "removed, and nothing is left"
}

if [ "${1:-}" = --inside ]; then
  work=$2 BIN=$3 root=$2/root inside=yes
  trap '[ $? = 0 ] || fail "a command, which says above why"' EXIT
  in_namespaces
  exit 0
fi

suite=
case ${1:-} in
  '') ;;
  --debootstrap) suite=${2:?which suite, such as bookworm} ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
need busybox dpkg dpkg-deb unshare ldd
[ -z "$suite" ] || command -v debootstrap >/dev/null || skip "it takes debootstrap"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
root=$work/root
make_packages

# Without a package: what install.sh puts it takes away.
DESTDIR=$work/folder "$repo/dist/install.sh"
for program in usr/local/bin/vswitchd usr/local/bin/vsctl opt/cni/bin/vswitch-cni; do
  [ -x "$work/folder/$program" ] || fail "install.sh does not install /$program"
done
echo "# changed" >> "$work/folder/etc/vswitch/vswitchd.toml"
DESTDIR=$work/folder "$repo/dist/install.sh" | grep -q 'stays as it is' || fail "install.sh takes changed settings away"
DESTDIR=$work/folder "$repo/dist/install.sh" --uninstall
left=$(find "$work/folder" ! -type d)
[ "$left" = "$work/folder/etc/vswitch/vswitchd.toml" ] || fail "install.sh --uninstall leaves $left"
DESTDIR=$work/folder "$repo/dist/install.sh" --purge
left=$(find "$work/folder" ! -type d)
[ -z "$left" ] || fail "install.sh --purge leaves $left"
say "install.sh installs and removes"

if [ "$suite" ]; then
  debootstrap --variant=minbase --include=iproute2,iputils-ping "$suite" "$root" >"$work/build.log" 2>&1 ||
    { tail -n 5 "$work/build.log" >&2; skip "debootstrap got no Debian"; }
else
  make_small_root
fi
unshare --mount --net --pid --fork --kill-child --mount-proc "$0" --inside "$work" "$BIN"
