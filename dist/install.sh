#!/bin/sh
# Installs what `cargo build --release` built, or removes it. No network, nothing is built.
#
#   dist/install.sh                 below /usr/local, with the CNI plugin in /opt/cni/bin, settings in /etc/vswitch
#   dist/install.sh --uninstall     removes that; settings that were changed, and the state, stay
#   dist/install.sh --purge         removes these too
#
# Nothing is removed from under a daemon that runs: it says how to stop it, and ends with 1.
#
#   DESTDIR=    a folder that stands for /, as packagers want it
#   PREFIX=     /usr/local
#   CNIDIR=     /opt/cni/bin
#   SYSCONFDIR= /etc
#   BIN=        target/release: where vswitchd, vsctl and vswitch-cni were built
#   STRIP=      strip: takes debug information out of programs; "" leaves it
set -eu
umask 022

usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
}

task=install
case ${1:-} in
  '') ;;
  --uninstall) task=uninstall ;;
  --purge) task=purge ;;
  --help | -h) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
CNIDIR=${CNIDIR:-/opt/cni/bin}
SYSCONFDIR=${SYSCONFDIR:-/etc}
BIN=${BIN:-$root/target/release}
STRIP=${STRIP-strip}
config=$SYSCONFDIR/vswitch/vswitchd.toml
# Debian's zsh looks elsewhere than others below /usr.
case $PREFIX in /usr) zsh=vendor-completions ;; *) zsh=site-functions ;; esac
doc=$PREFIX/share/doc/vswitch

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

# Whether a process runs the program that is installed, or the one that was before an upgrade. A container may have
# another one of that name.
runs_ours() {
  [ "$1/exe" -ef "$PREFIX/bin/vswitchd" ] || {
    [ "$(readlink "$1/exe")" = "$PREFIX/bin/vswitchd (deleted)" ] && [ "$1/ns/mnt" -ef /proc/self/ns/mnt ]
  }
}

# Nothing is taken from a daemon that runs: its state would be gone, and it could not start again.
refuse_under_a_daemon() {
  stop="systemctl disable --now vswitchd.service vswitchd.socket"
  if [ -d /run/systemd/system ]; then
    # The socket too: it would start the daemon for whoever connects.
    for unit in vswitchd.service vswitchd.socket; do
      if systemctl is-active --quiet "$unit"; then fail "$unit is active: $stop, then this again"; fi
    done
  fi
  for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    [ "$name" = vswitchd ] || continue
    pid=${process#/proc/}
    if runs_ours "$process"; then
      fail "process $pid runs $PREFIX/bin/vswitchd: $stop, or kill $pid where it was started by hand; then this again"
    fi
  done
}

# Puts file $2 to $3 with mode $1, at once: whoever starts a program meanwhile starts the old one or the new one.
put() {
  if [ "$task" != install ]; then
    remove "$3"
    return
  fi
  mkdir -p "$DESTDIR$(dirname "$3")"
  cp "$2" "$DESTDIR$3.new"
  chmod "$1" "$DESTDIR$3.new"
  mv -f "$DESTDIR$3.new" "$DESTDIR$3"
}

remove() {
  rm -f "$DESTDIR$1"
}

# Folders of ours alone; others stay as they are.
remove_folder() {
  rmdir "$DESTDIR$1" 2>/dev/null || true
}

program() {
  if [ "$task" = install ]; then
    [ -x "$BIN/$1" ] ||
      fail "there is no $BIN/$1: cargo build --release -p vswitch -p vsctl -p vswitch-cni (BIN says where it is else)"
    cp "$BIN/$1" "$work/$1"
    [ -z "$STRIP" ] || "$STRIP" "$work/$1" 2>/dev/null ||
      echo "install.sh: $1 keeps its debug information: no $STRIP" >&2
  fi
  put 0755 "$work/$1" "$2/$1"
}

if [ "$task" != install ] && [ -z "$DESTDIR" ]; then refuse_under_a_daemon; fi

program vswitchd "$PREFIX/bin"
program vsctl "$PREFIX/bin"
program vswitch-cni "$CNIDIR"

# The programs write their own manual pages and completions.
mkdir "$work/man" "$work/completions"
if [ "$task" = install ]; then
  "$BIN/vsctl" man "$work/man"
  "$BIN/vswitchd" --man > "$work/man/vswitchd.8"
  for shell in bash zsh fish; do
    "$BIN/vsctl" completions "$shell" > "$work/completions/$shell"
  done
else
  # Those of any version.
  for page in "$DESTDIR$PREFIX/share/man/man8/"vsctl*.8 "$DESTDIR$PREFIX/share/man/man8/vswitchd.8"; do
    if [ -e "$page" ]; then : > "$work/man/${page##*/}"; fi
  done
fi
for page in "$work/man/"*; do
  [ -e "$page" ] || continue
  put 0644 "$page" "$PREFIX/share/man/man8/${page##*/}"
done
put 0644 "$work/completions/bash" "$PREFIX/share/bash-completion/completions/vsctl"
put 0644 "$work/completions/zsh" "$PREFIX/share/zsh/$zsh/_vsctl"
put 0644 "$work/completions/fish" "$PREFIX/share/fish/vendor_completions.d/vsctl.fish"

for unit in vswitchd.service vswitchd.socket; do
  sed "s|/usr/bin/vswitchd|$PREFIX/bin/vswitchd|; s|/etc/vswitch/vswitchd.toml|$config|" \
    "$root/dist/systemd/$unit" > "$work/$unit"
  put 0644 "$work/$unit" "$PREFIX/lib/systemd/system/$unit"
done
put 0644 "$root/dist/systemd/sysusers.conf" "$PREFIX/lib/sysusers.d/vswitch.conf"
put 0644 "$root/dist/systemd/tmpfiles.conf" "$PREFIX/lib/tmpfiles.d/vswitch.conf"

for file in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT dist/vswitchd.toml; do
  put 0644 "$root/$file" "$doc/$(basename "$file")"
done
for file in containerd podman kubernetes; do
  put 0644 "$root/dist/cni/$file.conflist" "$doc/examples/cni/$file.conflist"
done
put 0644 "$root/dist/kubernetes/vswitch.yaml" "$doc/examples/kubernetes/vswitch.yaml"
for file in alerts.yml grafana.json; do
  put 0644 "$root/docs/monitoring/$file" "$doc/examples/monitoring/$file"
done

case $task in
  install)
    if [ -e "$DESTDIR$config" ]; then
      cmp -s "$root/dist/vswitchd.toml" "$DESTDIR$config" ||
        echo "$config stays as it is; the one of this version is $doc/vswitchd.toml"
    else
      put 0644 "$root/dist/vswitchd.toml" "$config"
    fi
    if [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ]; then
      # The group whose members may look (vswitchd.socket).
      if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$PREFIX/lib/sysusers.d/vswitch.conf"
      elif command -v useradd >/dev/null && ! id vswitch >/dev/null 2>&1; then
        useradd --system --home-dir /var/lib/vswitch --shell /usr/sbin/nologin vswitch
      fi
      if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    fi
    ;;
  *)
    if [ "$task" = purge ] || cmp -s "$root/dist/vswitchd.toml" "$DESTDIR$config"; then remove "$config"; fi
    if [ "$task" = purge ]; then rm -rf "${DESTDIR}/var/lib/vswitch"; fi
    for folder in "$SYSCONFDIR/vswitch" "$doc/examples/cni" "$doc/examples/kubernetes" "$doc/examples/monitoring" \
      "$doc/examples" "$doc"; do
      remove_folder "$folder"
    done
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    ;;
esac
