#!/bin/sh
# Makes a Debian package of what `cargo build --release` built, with dpkg-deb alone: no network, nothing is built.
#
#   dist/deb.sh [FOLDER]      the package goes there; prints its path
#
#   BIN=       target/release: where vswitchd, vsctl and vswitch-cni were built
#   VERSION=   that of Cargo.toml
#   COMPRESS=  xz, gzip, zstd or none, as dpkg-deb takes it
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-.}
BIN=${BIN:-$root/target/release}
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)}
arch=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 0755 "$tree"
umask 022

DESTDIR=$tree PREFIX=/usr CNIDIR=/usr/lib/cni BIN=$BIN "$root/dist/install.sh" >&2

# As Debian has it (policy 12.1, 12.5, 12.7).
doc=$tree/usr/share/doc/vswitch
gzip -9n "$doc/CHANGELOG.md" "$tree"/usr/share/man/man8/*
mv "$doc/CHANGELOG.md.gz" "$doc/changelog.gz"
rm "$doc/LICENSE-APACHE"
{
  echo "Files: *"
  echo "License: Apache-2.0 or MIT"
  echo
  echo "License: Apache-2.0"
  echo " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0."
  echo
  echo "License: MIT"
  sed 's/^$/./; s/^/ /' "$doc/LICENSE-MIT"
} > "$doc/copyright"
rm "$doc/LICENSE-MIT"

# The youngest glibc that a program asks for.
glibc=$(cat "$tree/usr/bin/vswitchd" "$tree/usr/bin/vsctl" "$tree/usr/lib/cni/vswitch-cni" |
  grep -ao 'GLIBC_[0-9.]*[0-9]' | sed 's/GLIBC_//' | sort -uV | tail -n 1)

mkdir "$tree/DEBIAN"
cat > "$tree/DEBIAN/control" <<END
Package: vswitch
Version: $VERSION
Architecture: $arch
Section: net
Priority: optional
Maintainer: ${DEBFULLNAME:-vswitch} <${DEBEMAIL:-vswitch@localhost}>
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f 1)
Depends: libc6 (>= $glibc), libgcc-s1
Recommends: iproute2, nftables
Suggests: containernetworking-plugins
Description: userspace virtual switch with a VXLAN overlay for containers
 One daemon a host, vswitchd, attaches TAP devices for containers to a
 learning switch with VLANs and carries frames between hosts in VXLAN
 (RFC 7348). vsctl manages it, vswitch-cni attaches containers for CNI
 runtimes. An upgrade goes on in the running daemon's place: no frame is
 lost.
END
echo /etc/vswitch/vswitchd.toml > "$tree/DEBIAN/conffiles"

for script in postinst prerm postrm; do
  cp "$root/dist/debian/$script" "$tree/DEBIAN/$script"
  chmod 0755 "$tree/DEBIAN/$script"
done

mkdir -p "$folder"
package=$folder/vswitch_${VERSION}_$arch.deb
dpkg-deb --root-owner-group "-Z${COMPRESS:-xz}" --build "$tree" "$package" >&2
echo "$package"
