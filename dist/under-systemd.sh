#!/bin/sh
# Tries the package under systemd: boots one as process 1 of namespaces of its own, over this machine's files, where
# nothing that is written stays; installs the package, lets two containers ping each other, and restarts, reloads, kills,
# upgrades the daemon and makes it another user's meanwhile: no ping is lost. Then the socket's unit, the rights of who may
# look, the journal, and the removal. This machine's files, network, services and packages are not touched.
#
#   dist/under-systemd.sh     half a minute; needs root, systemd, dpkg, iproute2, ping
#
#   BIN=   where vswitchd, vsctl and vswitch-cni were built: target/release, else target/debug
#
# Exit codes: 0 all is well; 1 something is not, and the last line says what; 77 it cannot be tried here.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
me=under-systemd
. "$repo/dist/trial.sh"
cgroups=/sys/fs/cgroup

# ---- In namespaces of its own: becomes systemd ----

boot() {
  mount --make-rprivate /
  mkdir "$work/files" "$root"
  mount -t tmpfs tmpfs "$work/files"
  mkdir "$work/files/upper" "$work/files/work"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/files/upper,workdir=$work/files/work" "$root"
  for folder in tmp run dev; do mount -t tmpfs -o mode=0755 tmpfs "$root/$folder"; done
  chmod 1777 "$root/tmp"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  if [ -e $cgroups/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$root$cgroups"
  else
    mount -t tmpfs -o mode=0755 tmpfs "$root$cgroups"
    mkdir "$root$cgroups/systemd" "$root$cgroups/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root$cgroups/systemd"
    mount -t cgroup2 cgroup2 "$root$cgroups/unified"
  fi
  mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm" "$root/packages"
  for device in null zero full random urandom tty net/tun; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  cp "$work/old/"*.deb "$root/packages/old.deb"
  cp "$work/new/"*.deb "$root/packages/new.deb"
  # Nothing of what this machine starts.
  rm -rf "$root/etc/systemd/system" "$root/etc/init.d" "$root"/etc/rc?.d
  mkdir -p "$root/etc/systemd/system"
  : > "$root/etc/fstab"
  for unit in getty.target systemd-logind.service systemd-udevd.service systemd-networkd.service; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
  done
  ip link set lo up
  # As the first systemd of a machine has it: what is mounted later reaches the services.
  mount --make-rshared "$root"
  cd "$root"
  exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$systemd" --unit=multi-user.target
}

# ---- Outside ----

inside() {
  nsenter --target "$init" --pid --mount --net --uts --ipc --cgroup --root --wd -- \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"
}
as_member() { inside setpriv --reuid nobody --regid nogroup --groups vswitch "$@"; }
is_systemd() { [ "$(cat "/proc/$init/comm")" = systemd ]; }
has_booted() { is_systemd && case $(inside systemctl is-system-running) in running | degraded) ;; *) false ;; esac }
property() { inside systemctl show --property "$1" --value vswitchd.service; }
log_of_daemon() { inside journalctl --unit vswitchd.service --output cat "$@"; }
# As the unit counts: the new daemon is the main process, and has told what it keeps open.
is_kept() { [ "$(property MainPID)" = "$(pid_of_daemon)" ] && [ "$(property NFileDescriptorStore)" = 2 ]; }
# The daemon is another one than before, has all that the one before had, and pings are answered on.
goes_on() {
  eventually is_another "$pid"
  pid=$(pid_of_daemon)
  eventually is_kept
  answered_on
  say "$*: process $pid"
}

try() {
  inside dpkg --install /packages/old.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg"; }
  [ "$(inside systemctl is-active vswitchd.service vswitchd.socket | uniq)" = active ] || fail "the units do not run"
  pid=$(pid_of_daemon)
  say "installed, and started by its units: process $pid"

  for name in red blue; do inside ip netns add $name; done
  inside vsctl --quiet port add red --netns red --address 10.0.0.1/24
  inside vsctl --quiet port add blue --netns blue --address 10.0.0.2/24
  inside ip netns exec red ping -i 0.05 10.0.0.2 >"$work/ping" 2>&1 &
  pinging=$!
  eventually more_answers_than 5

  inside systemctl restart vswitchd.service
  goes_on "restarted"
  inside systemctl reload vswitchd.service
  goes_on "reloaded"
  inside kill -KILL "$pid"
  goes_on "killed, and started again"
  inside dpkg --install /packages/new.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg"; }
  goes_on "upgraded"
  inside mkdir /etc/systemd/system/vswitchd.service.d
  inside sh -c 'printf "[Service]\nUser=vswitch\n" >/etc/systemd/system/vswitchd.service.d/user.conf'
  inside systemctl daemon-reload
  inside systemctl restart vswitchd.service
  goes_on "as user vswitch"
  inside vsctl status --json | grep -q '"user":"vswitch"' || fail "it runs as somebody else: $(inside vsctl status)"
  inside systemctl reload vswitchd.service
  goes_on "reloaded as user vswitch"
  inside rm -r /etc/systemd/system/vswitchd.service.d
  inside systemctl daemon-reload
  inside systemctl restart vswitchd.service
  goes_on "as root again"

  inside pkill -INT ping
  wait $pinging || true # the last request may have no answer yet
  are_all_answered || { cat "$work/ping" >&2; fail "frames were lost"; }
  say "$asked of $asked pings under way were answered"

  inside systemctl stop vswitchd.service 2>/dev/null # it says that the socket's unit may start it
  inside vsctl port list --json | grep -q '"name":"red".*"state":"up"' || fail "the socket's unit started no daemon"
  inside ip netns exec red ping -c 3 -W 5 10.0.0.2 >/dev/null || fail "no ping after a stop"
  say "stopped, and started by who asked"
  as_member vsctl port list | grep -q '^red ' || fail "a member of the group may not look"
  ! as_member vsctl port del red 2>"$work/refused" || fail "a member of the group may change things"
  grep -q 'may look but not change' "$work/refused" || fail "a member was told $(cat "$work/refused")"

  log_of_daemon --priority info..info | grep -q '^serving ' || fail "the journal does not know what is information"
  ! log_of_daemon | grep -q -e "$(printf '\033')" -e INFO || fail "the journal holds $(log_of_daemon)"

  inside dpkg --purge vswitch >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg"; }
  ! inside pgrep -x vswitchd >/dev/null || fail "the daemon runs on after the removal"
  for path in /var/lib/vswitch /etc/vswitch /run/vswitch/vswitch.sock /etc/systemd/system/multi-user.target.wants; do
    ! inside test -e $path || [ -z "$(inside find $path -name '*vswitch*')" ] || fail "$path is left after the removal"
  done
  say "removed, and nothing is left"
}

if [ "${1:-}" = --boot ]; then
  work=$2 root=$2/root systemd=$3
  boot
fi
[ $# = 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
need dpkg dpkg-deb unshare nsenter setpriv systemctl ip ping pkill
for systemd in /usr/lib/systemd/systemd /lib/systemd/systemd ''; do
  [ ! -x "$systemd" ] || break
done
[ "$systemd" ] || skip "it takes systemd"
! dpkg-query --status vswitch >/dev/null 2>&1 || skip "the package is installed here"
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || skip "it takes overlayfs"

# A part of each tree of control groups, in which this systemd may do as it likes.
own=
for tree in $cgroups $cgroups/systemd $cgroups/unified; do
  if [ -e "$tree/cgroup.procs" ]; then
    mkdir "$tree/$me.$$" 2>/dev/null || skip "no control group can be made in $tree"
    own="$own $tree/$me.$$"
  fi
done
[ "$own" ] || skip "there are no control groups that systemd knows"
work=$(mktemp -d)
unshared=
end() {
  [ -z "$unshared" ] || kill -KILL $unshared 2>/dev/null || true
  wait
  for group in $own; do # once the last process in it is gone
    tries=0
    until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || [ $tries = 100 ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
  done
  rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM
make_packages

# shellcheck disable=SC2016 # its own words
sh -c 'for group in $1; do echo $$ >$group/cgroup.procs; done; shift; exec "$@"' sh "$own" \
  unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child "$0" --boot "$work" "$systemd" >"$work/log" 2>&1 &
unshared=$!
child() { init=$(cat /proc/$unshared/task/$unshared/children) && [ "$init" ]; }
comes_true child || skip "no namespaces can be made: $(tail -n 1 "$work/log")"
init=${init% }
# Nothing of the package is there yet.
comes_true has_booted || skip "no systemd starts here: $(tail -n 1 "$work/log")"
try
