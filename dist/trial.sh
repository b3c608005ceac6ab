# What the scripts that try the package share; they set $me and $repo, and source it.
# shellcheck shell=sh disable=SC2154

say() { echo "$me: $*"; }
# The daemon's log first, so that what failed is the last line.
fail() {
  if [ -e "${work:-}/log" ]; then tail -n 20 "$work/log" >&2; fi
  echo "$me: FAILED: $*" >&2
  [ -z "${inside:-}" ] || trap - EXIT # what is outside removes the folder
  exit 1
}
skip() { echo "$me: SKIPPED: $*" >&2; exit 77; }

# Whether the command succeeds within half a minute.
comes_true() {
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || return 1
    sleep 0.1
  done
}
eventually() { comes_true "$@" || fail "in half a minute it did not come true: $*"; }

# `inside COMMAND` runs a command where the package is tried.
pid_of_daemon() { inside vsctl status --json | sed -n 's/.*"pid":\([0-9]*\).*/\1/p'; }
is_another() { now=$(pid_of_daemon) && [ -n "$now" ] && [ "$now" != "$1" ]; }
# Of the ping that writes to $work/ping.
answers() { sed -n 's/.*seq=\([0-9]*\) .*/\1/p' "$work/ping"; }
more_answers_than() { [ "$(answers | wc -l)" -gt "$1" ]; }
answered_on() { eventually more_answers_than $(($(answers | wc -l) + 5)); }
# From the first to the last that was answered, whether all were: sets asked.
are_all_answered() {
  asked=$(($(answers | tail -n 1) - $(answers | head -n 1) + 1))
  [ "$(answers | wc -l)" = "$asked" ]
}

need() {
  [ "$(id -u)" = 0 ] || skip "it takes root"
  [ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
  for program in "$@"; do
    command -v "$program" >/dev/null || skip "it takes $program"
  done
}

# Makes the packages of this version and the next, in $work/old and $work/new; BIN is where their programs lie.
make_packages() {
  if [ -z "${BIN:-}" ]; then
    BIN=$repo/target/release
    [ -x "$BIN/vswitchd" ] || BIN=$repo/target/debug
  fi
  mkdir "$work/bin"
  for program in vswitchd vsctl vswitch-cni; do
    [ -x "$BIN/$program" ] || fail "there is no $BIN/$program: cargo build --release -p vswitch -p vsctl -p vswitch-cni"
    cp "$BIN/$program" "$work/bin/$program"
    strip "$work/bin/$program" 2>/dev/null || true # once for both
  done
  BIN=$work/bin
  export BIN STRIP= COMPRESS=gzip
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$repo/Cargo.toml" | head -n 1)
  pack "$version" "$work/old"
  pack "$version+next" "$work/new"
}
pack() {
  VERSION=$1 "$repo/dist/deb.sh" "$2" >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; fail "no package"; }
}
