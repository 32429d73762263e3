#!/usr/bin/env bash
# benches/wan.sh [MB [ROUNDS]]
#
# Through a link of 20 ms each way and 400 Mbit/s: pushes, fetches and clones an incompressible object of MB (default 1000)
# to and from an S3 server, beside four plain parallel streams of curl with a quarter of it each, in turn, ROUNDS times (3).
# Prints the medians; ends with 1 if a push or a fetch reaches less than 80 % of the plain streams, or a clone less than 80 %
# of the plain streams and a checkout of an object that is here already: git and git-lfs write it into the work tree only
# when it has arrived, and that part is theirs. The link is a network namespace and two TUN devices: where this machine
# doesn't allow them (they need root), it is skipped.
# Needs curl, python3, and on the disk of ${TMPDIR:-/tmp} five times MB and twice MB for each round. Short: benches/wan.sh 100 1
# shellcheck disable=SC2329 # functions are called by name
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# shellcheck source=tests/setup/lib.sh
. tests/setup/lib.sh
# shellcheck source=benches/link.sh
. benches/link.sh
megabytes=${1:-1000} rounds=${2:-3}
[[ $megabytes =~ ^[1-9][0-9]*$ && $rounds =~ ^[1-9][0-9]*$ ]] || fail "MB and ROUNDS are whole numbers" "$0 [MB [ROUNDS]]"

skip() {
  step "Skipped: the slow link, $1"
  exit 0
}
need curl curl curl curl
need_git_lfs

work=$(mktemp -d)
clean_up() {
  link_down
  bash "$root/tests/setup/servers.sh" stop "$work/servers" || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

code=0
link_up 20 400 "$work/link" || code=$?
[ $code != 3 ] || skip "$link_refusal"
need_rust Cargo.toml
cargo build --release --locked --quiet
agent=$root/target/release/git-lfs-cdc
SEAWEEDFS_ADDRESS=10.78.0.1 bash tests/setup/servers.sh start "$work/servers"
# shellcheck source=/dev/null
. "$work/servers/env"

export AWS_ACCESS_KEY_ID=${GIT_LFS_CDC_TEST_S3_KEYS%%:*} AWS_SECRET_ACCESS_KEY=${GIT_LFS_CDC_TEST_S3_KEYS#*:}
# nothing of this user's, or of the environment, leads elsewhere
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL \
  AWS_ENDPOINT_URL_S3 GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export XDG_CACHE_HOME=$work/cache HOME=$work GIT_CONFIG_GLOBAL=$work/gitconfig GIT_CONFIG_NOSYSTEM=1
git config --global user.name Bench
git config --global user.email bench@example.com
git config --global init.defaultBranch main
git config --global lfs-cdc.allowHttp true
"$agent" install >/dev/null

# timed NAME COMMAND…: prints the MB/s that the command moves, and adds them to the figures of NAME
timed() {
  local name=$1 start
  shift
  start=$(date +%s%N)
  # in the background, as bash hears no signal while it waits for a command in the foreground
  "$@" &
  wait $!
  awk -v mb="$megabytes" -v ns=$(($(date +%s%N) - start)) 'BEGIN { printf "%.1f\n", mb / (ns / 1e9) }' >>"$work/$name"
  printf '%-10s %8s MB/s\n' "$name" "$(tail -n 1 "$work/$name")"
}

quietly() { "$@" >/dev/null; }

# median NAME
median() { sort -n "$work/$1" | sed -n "$(((rounds + 1) / 2))p"; }

# stream ARGUMENTS…: curl with the keys, which must not stand in its command line
stream() {
  far curl -sSf -K - -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" <<<"user = \"$GIT_LFS_CDC_TEST_S3_KEYS\"
aws-sigv4 = \"aws:amz:us-east-1:s3\""
}

four() { # put|get
  local number all=()
  for number in 1 2 3 4; do
    case $1 in
      put) stream -T "$work/quarter" "$GIT_LFS_CDC_TEST_S3/lfs/plain/$number" & ;;
      get) stream -o /dev/null "$GIT_LFS_CDC_TEST_S3/lfs/plain/$number" & ;;
    esac
    all+=($!)
  done
  for number in "${all[@]}"; do wait "$number"; done
}

step "An object of $megabytes MB, and a quarter of it"
head -c $((megabytes * 250000)) /dev/urandom >"$work/quarter"
git init -q "$work/project"
cd "$work/project"
git lfs track '*.bin' >/dev/null
head -c $((megabytes * 1000000)) /dev/urandom >object.bin

for round in $(seq "$rounds"); do
  step "Round $round of $rounds"
  # a store and a remote that know nothing yet
  git init -q --bare "$work/remote-$round.git"
  git remote remove origin 2>/dev/null || true
  git remote add origin "$work/remote-$round.git"
  "$agent" init "s3://lfs/wan-$round?endpoint=$GIT_LFS_CDC_TEST_S3" >/dev/null
  git add --all
  git commit -q -m "round $round"
  timed plain-put four put
  timed push far git push -q origin main
  timed plain-get four get
  XDG_CACHE_HOME=$work/cache-$round GIT_LFS_SKIP_SMUDGE=1 git clone -q "$work/remote-$round.git" "$work/copy"
  cd "$work/copy"
  XDG_CACHE_HOME=$work/cache-$round timed fetch quietly far git lfs fetch
  rm object.bin
  timed checkout git checkout -q object.bin
  cd "$work/project"
  rm -rf "$work/copy"
  XDG_CACHE_HOME=$work/cache-$round-again timed clone far git clone -q "$work/remote-$round.git" "$work/copy"
  cmp object.bin "$work/copy/object.bin"
  rm -rf "$work/copy"
done

# row NAME MEDIAN COMPARED MEDIAN: fails below 80 % of what it is compared with
row() {
  awk -v name="$1" -v ours="$2" -v compared="$3" -v theirs="$4" 'BEGIN {
    printf "%-8s %8.1f   %-32s %8.1f %8.2f\n", name, ours, compared, theirs, ours / theirs
    exit ours < 0.8 * theirs }'
}
failed=0 put=$(median plain-put) get=$(median plain-get)
both=$(awk -v a="$get" -v b="$(median checkout)" 'BEGIN { print 1 / (1 / a + 1 / b) }')
printf '\n%s MB, MB/s, median of %s\n' "$megabytes" "$rounds"
row push "$(median push)" 'plain streams' "$put" || failed=1
row fetch "$(median fetch)" 'plain streams' "$get" || failed=1
row clone "$(median clone)" 'plain streams and a checkout' "$both" || failed=1
row clone "$(median clone)" 'plain streams' "$get" || true
[ $failed = 0 ] && exit
echo "less than 80 % of what it is compared with; on a busy machine run it again: the link takes half a core itself" >&2
exit 1
