#!/bin/sh
# Writes the pages of the reference anew, from the programs: run it where a test says that a page is stale.
set -eu
cd "$(dirname "$0")/../.."
cargo build --quiet -p vswitch -p vsctl
bin=${CARGO_TARGET_DIR:-target}/debug
for page in drop-reasons metrics vswitchd; do
  "$bin/vswitchd" --reference "$page" > "docs/reference/.new"
  mv "docs/reference/.new" "docs/reference/$page.md"
done
"$bin/vsctl" reference > docs/reference/.new
mv docs/reference/.new docs/reference/words.md
