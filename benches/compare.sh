#!/usr/bin/env bash
# benches/compare.sh [OPTION…]
#
# Pushes, clones and pulls the same data by git-lfs-cdc and by git-lfs's own transfers, in turn on this machine, and prints
# tables in Markdown: wall time, CPU time, memory, requests, bytes stored.
#   --corpus NAME     only this one; may stand several times: names, models, binary, assets (tests/setup/corpora.sh),
#                     large (a file of 2 GB), small (10,000 files of 10 KB)
#   --way NAME        only this one; may stand several times: plain, file, restic, ours, ours-s3 (benches/compare_ways.sh)
#   --rounds N        so many times (1), all ways in each round; the tables show medians
#   --link RATE/DELAY as 400mbit/20ms: through a link of this rate and this delay each way (benches/wan-link.py; needs root);
#                     only the ways that use a network: plain, ours-s3
#   --tmpfs           everything in /dev/shm, so that no disk is measured
#   --no-deltas       ours pushes without delta frames (lfs-cdc.delta)
#   --quick           small stand-ins for all corpora, to see whether this script works
#   --transfers LIST  instead: pushes small by ours and ours-s3 with lfs.concurrenttransfers as in LIST, "8 16 32 64 100"
#   --out FILE        the results, a line of JSON each (target/compare/TIME.jsonl); benches/compare_table.py FILE makes the
#                     tables again
#
# Each way pushes each version as a commit of its own; a clone on a machine that has nothing yet is compared with the data;
# then a clone of the version before the last pulls the last one. Servers are started for each way anew, and what git and
# git-lfs do before a push (add, commit) isn't measured. git-lfs-cdc is set up by `git lfs-cdc init`, all else are defaults.
# CPU time and memory are those of git, git-lfs and agents (benches/measure.py), not of servers; these run on the same cores.
# The program is built, unless GIT_LFS_CDC_BINARY names one. GIT_LFS_CDC_CORPORA is where the corpora are, or are to be.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# shellcheck source=tests/setup/lib.sh
. tests/setup/lib.sh
# shellcheck source=benches/link.sh
. benches/link.sh
# shellcheck source=benches/compare_ways.sh
. benches/compare_ways.sh
all_corpora=(names models binary assets large small)

# --- options

is_one_of() { # WORD LIST…
  local each
  for each in "${@:2}"; do [ "$1" != "$each" ] || return 0; done
  return 1
}

corpora=() ways=() rounds=1 link='' tmpfs=no deltas=yes quick=no transfers=() out=''
while [ $# -gt 0 ]; do
  case $1 in
    --corpus | --way | --rounds | --link | --transfers | --out)
      [ $# -ge 2 ] || fail "$1 needs a value" "$0 --help"
      value=$2
      ;;&
    --corpus)
      is_one_of "$value" "${all_corpora[@]}" || fail "no such corpus: $value" "one of: ${all_corpora[*]}"
      corpora+=("$value")
      ;;
    --way)
      is_one_of "$value" "${all_ways[@]}" || fail "no such way: $value" "one of: ${all_ways[*]}"
      ways+=("$value")
      ;;
    --rounds)
      [[ $value =~ ^[1-9][0-9]*$ ]] || fail "no number of rounds: $value" "$0 --rounds 3"
      rounds=$value
      ;;
    --link)
      [[ $value =~ ^([1-9][0-9]*)mbit/([0-9]+)ms$ ]] || fail "no link: $value" "$0 --link 400mbit/20ms"
      link=$value link_rate=${BASH_REMATCH[1]} link_delay=${BASH_REMATCH[2]}
      ;;
    --transfers)
      [[ $value =~ ^\ *[1-9][0-9]*(\ +[1-9][0-9]*)*\ *$ ]] || fail "no list of numbers: $value" "$0 --transfers '8 16 32 64 100'"
      read -r -a transfers <<<"$value"
      ;;
    --out) out=$value ;;
    --tmpfs) tmpfs=yes && shift && continue ;;
    --no-deltas) deltas=no && shift && continue ;;
    --quick) quick=yes && shift && continue ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) fail "unknown option: $1" "$0 --help" ;;
  esac
  shift 2
done
[ ${#ways[@]} -gt 0 ] || ways=("${all_ways[@]}")
[ ${#corpora[@]} -gt 0 ] || corpora=("${all_corpora[@]}")
if [ ${#transfers[@]} -gt 0 ]; then
  corpora=(small)
  asked=("${ways[@]}") ways=()
  for way in "${asked[@]}"; do [[ $way != ours* ]] || ways+=("$way"); done
  [ ${#ways[@]} -gt 0 ] || fail "--transfers is about ours" "--way ours, --way ours-s3, or no --way"
fi
out=${out:-target/compare/$(date -u +%Y%m%dT%H%M%SZ).jsonl}
[ ! -e "$out" ] || fail "$out exists" "name another file, or remove it: results of two runs don't belong into one table"

# --- what it takes

[ "$(uname)" = Linux ] || fail "the measuring here reads /proc as Linux has it" "run it on Linux, in a container if need be"
need python3 python3 python3 python
need /usr/bin/time time time -
need_git_lfs
! is_one_of restic "${ways[@]}" || ! is_one_of names "${corpora[@]}" || [ -n "$link" ] || need restic restic restic restic
agent=${GIT_LFS_CDC_BINARY:-}
if [ -z "$agent" ]; then
  need_rust Cargo.toml
  step "Building"
  cargo build --release --locked --quiet
  agent=$root/target/release/git-lfs-cdc
fi
[ -x "$agent" ] || fail "$agent is no program" "GIT_LFS_CDC_BINARY is to name git-lfs-cdc; without it, it is built"
agent=$(realpath "$agent")

# MB that a corpus takes at most: its data if made here, a work tree, its objects, what is stored, and two clones
needed_mb() {
  [ $quick = no ] || { echo 300 && return; }
  case $1 in
    large) echo 12500 ;;
    names) echo 2300 ;;
    models) echo 1600 ;;
    binary) echo 600 ;;
    small) echo 900 ;;
    assets) echo 300 ;;
  esac
}
parent=${TMPDIR:-/tmp}
[ $tmpfs = no ] || parent=/dev/shm
needed=0
for corpus in "${corpora[@]}"; do
  megabytes=$(needed_mb "$corpus")
  [ "$megabytes" -le "$needed" ] || needed=$megabytes
done
free=$(df --output=avail --block-size=1000000 "$parent" | tail -n 1)
[ "$free" -ge "$needed" ] || fail "$parent has $free MB left, and this takes up to $needed" \
  "choose another place by TMPDIR, or less by --corpus; large takes the most"
if [ $tmpfs = yes ]; then
  free=$(awk '/^MemAvailable:/ { printf "%d\n", $2 / 1000 - 1500 }' /proc/meminfo)
  [ "$free" -ge "$needed" ] || fail "--tmpfs takes up to $needed MB of memory, and $free are free" \
    "leave out --tmpfs, or choose less by --corpus; large takes the most"
fi
free=$(awk -v cores="$(nproc)" '$1 > cores / 4 { print $1 }' /proc/loadavg)
[ -z "$free" ] || step "This machine is busy (load $free): figures will be of little use"

# --- places, and how all of it ends

work=$(mktemp -d "$parent/git-lfs-cdc-compare.XXXXXX") area=$work/area address=127.0.0.1 measuring=''
# shellcheck disable=SC2329 # the trap calls it
clean_up() {
  trap '' INT TERM HUP
  # it ends what it started
  [ -z "$measuring" ] || { kill "$measuring" && wait "$measuring"; } 2>/dev/null || true
  stop_servers || true
  link_down
  rm -rf "$work"
  [ ! -s "$out" ] || step "Results: $out"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$(dirname "$out")"
out=$(realpath "$out")

through=()
if [ -n "$link" ]; then
  code=0
  link_up "$link_delay" "$link_rate" "$work/link" || code=$?
  [ $code = 0 ] || fail "there can be no slow link, $link_refusal" "run it as root on a machine that allows network namespaces and TUN devices, or without --link"
  address=10.78.0.1
  through=(ip netns exec "$link_namespace")
fi

data=$work/data made=() downloaded=()
for corpus in "${corpora[@]}"; do
  if [ $quick = yes ] || is_one_of "$corpus" large small; then made+=("$corpus"); else downloaded+=("$corpus"); fi
done
if [ ${#downloaded[@]} -gt 0 ]; then
  published=${GIT_LFS_CDC_CORPORA:-${XDG_CACHE_HOME:-$HOME/.cache}/git-lfs-cdc-tests/corpora}
  step "Corpora in $published"
  bash tests/setup/corpora.sh full "$published" ||
    fail "the corpora could not be made" "see the message above; it needs the network once, and about 3 GB on the disk"
fi
if [ ${#made[@]} -gt 0 ]; then
  step "Making ${made[*]}"
  [ $quick = no ] || made+=(--quick)
  python3 benches/compare_data.py "$data" "${made[@]}"
fi

# --- one way with one corpus

# machine NAME: what is run with "${as[@]}" runs as on a machine of this name, which is new if the name is
machine() {
  local home=$area/machines/$1 variable
  as=(env)
  # nothing of this user's, or of the environment, leads elsewhere
  for variable in HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy AWS_PROFILE AWS_SESSION_TOKEN \
    AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 RESTIC_PASSWORD_FILE RESTIC_PASSWORD_COMMAND RESTIC_REPOSITORY_FILE GIT_DIR \
    GIT_WORK_TREE GIT_INDEX_FILE; do as+=(-u "$variable"); done
  as+=(HOME="$home" XDG_CACHE_HOME="$home/cache" XDG_CONFIG_HOME="$home/config" GIT_CONFIG_GLOBAL="$home/gitconfig"
    GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0)
  [ ! -d "$home" ] || return 0
  mkdir -p "$home"
  # a repacking in the background would take the objects away under git-lfs, and time from what is measured
  printf '[user]\n\tname = Bench\n\temail = bench@example.com\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n[lfs-cdc]\n\tallowHttp = true\n' \
    >"$home/gitconfig"
  git_here lfs install --skip-repo >/dev/null
  "${as[@]}" "$agent" install >/dev/null
}

git_here() { "${as[@]}" git "$@"; }

# timed STEP VERSION COMMAND…
timed() {
  local code=0 fields
  fields=$(printf '{"corpus":"%s","way":"%s","round":%s,"step":"%s","version":%s,"transfers":%s}' \
    "$corpus" "$way" "$round" "$1" "$2" "$concurrent")
  printf '%-8s %-8s %-6s %2s ' "$corpus" "$way" "$1" "$2"
  [ ${#transfers[@]} = 0 ] || printf '%3s transfers ' "$concurrent"
  # what was written until now is not to be written to the disk meanwhile
  sync -f "$area"
  # in the background, as bash hears no signal while it waits for a command in the foreground
  "$root/benches/measure.py" --into "$out" --output "$work/output" --fields "$fields" ${counting[@]+"${counting[@]}"} -- \
    ${through[@]+"${through[@]}"} "${as[@]}" "${@:3}" &
  measuring=$!
  wait $measuring || code=$?
  measuring=''
  [ $code = 0 ] && return
  printf '\n' >&2
  [ ! -s "$work/output" ] || tail -n 20 "$work/output" >&2
  fail "$1 of version $2 of $corpus by $way ended with $code" "see its last lines above; to see it alone: $0 --corpus $corpus --way $way"
}

# note_stored VERSION
note_stored() {
  local bytes
  bytes=$(stored_bytes "$way")
  [ "${bytes:-0}" -gt 0 ] || fail "nothing is stored after version $1 of $corpus by $way" "this is a fault of this script, or of $way"
  printf '{"corpus":"%s","way":"%s","round":%s,"step":"stored","version":%s,"stored_bytes":%s}\n' "$corpus" "$way" "$round" "$1" "$bytes" >>"$out"
}

# same VERSION FOLDER: what arrived must be what was sent
same() {
  diff -r --brief "$source/v$1" "$2" >&2 || fail "$2 is not what was pushed as version $1 of $corpus by $way" "this is a fault of $way; to see it alone: $0 --corpus $corpus --way $way"
}

take_version() { # NUMBER
  rm -rf "$area/project/data"
  cp -r "$source/v$1" "$area/project/data"
}

# a repository with its remote, set up for the way and pushed
new_project() {
  machine pusher
  git_here init -q --bare "$area/remote.git"
  git_here init -q "$area/project"
  cd "$area/project"
  git_here remote add origin "$area/remote.git"
  init_way "$way"
  [ -z "${1:-}" ] || git_here config lfs.concurrenttransfers "$1"
  # as many as git-lfs uses if nothing is said
  concurrent=$(git_here config lfs.concurrenttransfers || echo 8)
  echo 'data/** filter=lfs diff=lfs merge=lfs -text' >.gitattributes
  git_here add --all
  git_here commit -q -m 'set up'
  git_here push -q origin main >"$work/output" 2>&1 || fail "nothing can be pushed by $way: $(tail -n 3 "$work/output")" "see whether this works by hand"
}

push_version() { # NUMBER
  take_version "$1"
  git_here add --all
  git_here commit -q -m "version $1"
  timed push "$1" git push -q origin main
  note_stored "$1"
}

by_git() {
  local version
  new_project
  for ((version = 1; version <= versions; version++)); do
    if [ $version = "$versions" ] && [ $version -gt 1 ]; then
      machine earlier
      git_here clone -q "$area/remote.git" "$area/earlier" >"$work/output" 2>&1 ||
        fail "no clone by $way: $(tail -n 3 "$work/output")" "to see it alone: $0 --corpus $corpus --way $way"
      machine pusher
    fi
    push_version $version
  done
  machine fresh
  concurrent=8
  timed clone "$versions" git clone -q "$area/remote.git" "$area/fresh"
  same "$versions" "$area/fresh/data"
  [ "$versions" -gt 1 ] || return 0
  rm -rf "$area/fresh"
  machine earlier
  timed pull "$versions" git -C "$area/earlier" pull -q
  same "$versions" "$area/earlier/data"
}

by_restic() {
  local version
  mkdir -p "$area/project"
  cd "$area/project"
  concurrent=0
  export RESTIC_REPOSITORY=$area/store RESTIC_PASSWORD=compare
  machine pusher
  "${as[@]}" restic init -q
  for ((version = 1; version <= versions; version++)); do
    if [ $version = "$versions" ] && [ $version -gt 1 ]; then
      machine earlier
      "${as[@]}" restic restore -q latest --target "$area/earlier"
      machine pusher
    fi
    take_version $version
    timed push $version restic backup -q data
    note_stored $version
  done
  machine fresh
  timed clone "$versions" restic restore -q latest --target "$area/fresh"
  same "$versions" "$area/fresh/data"
  [ "$versions" -gt 1 ] || return 0
  machine earlier
  timed pull "$versions" restic restore -q latest --target "$area/earlier"
  same "$versions" "$area/earlier/data"
}

by_transfers() {
  local number
  for number in "${transfers[@]}"; do
    fresh_area
    new_project "$number"
    push_version 1
  done
}

fresh_area() {
  cd "$root"
  stop_servers
  rm -rf "$area"
  mkdir -p "$area"
  start_servers "$way"
}

# --- all of them

python3 - "$link" $tmpfs $quick "$rounds" "$(git --version)" "$(git lfs version)" "$("$agent" --version)" \
  "$(git rev-parse --short HEAD 2>/dev/null || true)" ${transfers[@]+"${transfers[@]}"} >"$out" <<'PY'
import json, os, platform, re, sys, time
link, tmpfs, quick, rounds, git, lfs, agent, commit, *transfers = sys.argv[1:]
model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
print(json.dumps({
    "about": "benches/compare.sh", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit, "agent": agent,
    "git": git, "git_lfs": lfs, "cores": os.cpu_count(), "processor": model[1] if model else platform.machine(), "load": os.getloadavg()[0],
    "link": link, "tmpfs": tmpfs == "yes", "quick": quick == "yes", "rounds": int(rounds), "transfers": [int(t) for t in transfers],
}))
PY
counting=()
for ((round = 1; round <= rounds; round++)); do
  step "Round $round of $rounds"
  for corpus in "${corpora[@]}"; do
    source=$data/$corpus
    [ -d "$source" ] || source=$published/$corpus
    versions=$(find "$source" -mindepth 1 -maxdepth 1 -name 'v[0-9]*' | wc -l)
    for way in "${ways[@]}"; do
      is_offered "$way" "$corpus" || continue
      if [ ${#transfers[@]} -gt 0 ]; then
        by_transfers
      else
        fresh_area
        if [ "$way" = restic ]; then by_restic; else by_git; fi
      fi
    done
  done
done
cd "$root"
echo
python3 benches/compare_table.py "$out"
