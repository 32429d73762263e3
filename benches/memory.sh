#!/usr/bin/env bash
# benches/memory.sh [MB [URL]]
#
# Pushes and pulls one incompressible object of MB (default 4000) through one agent, to a store in a folder, or at URL with
# the credentials in the environment; prints for each way how soon `init` was answered, the peak memory, and the time.
# Needs GNU time and three times MB on the disk of ${TMPDIR:-/tmp}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
megabytes=${1:-4000}
[ -x /usr/bin/time ] || { echo "GNU time is missing; on Debian: apt install time" >&2; exit 2; }
cargo build --release --locked --quiet
agent=$PWD/target/release/git-lfs-cdc
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=$folder XDG_CACHE_HOME=$folder/cache GIT_CONFIG_GLOBAL=$folder/gitconfig
git init -q "$folder/repository"
cd "$folder/repository"
"$agent" init "${2:-../store}" >/dev/null
head -c "$megabytes"000000 /dev/urandom >"$folder/object"
oid=$(sha256sum "$folder/object" | cut -d' ' -f1)
size=$(stat -c %s "$folder/object")

for operation in upload download; do
  coproc AGENT { exec /usr/bin/time -o "$folder/time" -f '%M KiB at most, %U s user, %S s system' "$agent" transfer; }
  start=$(date +%s%N)
  echo "{\"event\":\"init\",\"operation\":\"$operation\",\"remote\":\"origin\"}" >&"${AGENT[1]}"
  read -r _ <&"${AGENT[0]}"
  ready=$(date +%s%N)
  echo "{\"event\":\"$operation\",\"oid\":\"$oid\",\"size\":$size,\"path\":\"$folder/object\"}" >&"${AGENT[1]}"
  while read -r line <&"${AGENT[0]}"; do
    case $line in *'"complete"'*) break ;; esac
  done
  done=$(date +%s%N)
  case $line in *'"error"'*) echo "$line" >&2; exit 1 ;; esac
  pid=$AGENT_PID
  exec {AGENT[1]}>&-
  wait "$pid"
  echo "$operation of $megabytes MB: init answered in $(((ready - start) / 1000)) µs (the process's start included)," \
    "$(cat "$folder/time"), $(((done - ready) / 1000000)) ms"
done
