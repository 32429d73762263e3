#!/usr/bin/env bash
# fuse.sh DIR: prints the path of a Python below DIR that can run tests/setup/without_locks.py. Idempotent.
# Exit code 3: no file system may be mounted here.
set -euo pipefail
dir=${1:?"usage: $0 DIR"}
# shellcheck source=tests/setup/lib.sh
. "$(dirname "$0")/lib.sh"
package=mfusepy==3.1.1

if [ "$(id -u)" != 0 ] || [ ! -c /dev/fuse ] || ! have mountpoint; then exit 3; fi
need fusermount3 fuse3 fuse3 - >&2
need_python_venv "$dir" >&2
mark=$dir/$package
if [ ! -e "$mark" ]; then
  "$dir/bin/pip" install -q --disable-pip-version-check "$package" >&2
  touch "$mark"
fi
echo "$dir/bin/python"
