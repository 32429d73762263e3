#!/usr/bin/env bash
# tests/run.sh [--full] | --help
#
# Installs what the tests need, starts the storage servers that they talk to, then runs all tests: unit, property, golden
# and integration tests, and the end-to-end tests: with the git-lfs of this system and stores in directories, and again
# with a newer git-lfs and stores in S3.
#   --full   the large forms too: all corpora, an object of 1 GB, the memory of an agent with one of 4 GB, a slow link,
#            the large form of the model, a torture of ten minutes, and either kind of store with either git-lfs
# Tests that need root, mounts or FUSE print SKIPPED on a machine without.
# Downloads are kept in ${XDG_CACHE_HOME:-~/.cache}/git-lfs-cdc-tests. May be run again at any time.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setup=$root/tests/setup
# shellcheck source=tests/setup/lib.sh
. "$setup/lib.sh"

full=no
for argument in "$@"; do
  case $argument in
    --full) full=yes ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) fail "unknown option: $argument" "$0 --help" ;;
  esac
done
cache=${XDG_CACHE_HOME:-${HOME:?"HOME is not set"}/.cache}/git-lfs-cdc-tests
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
cd "$root"

step "Looking for what the tests need: Rust, a C compiler, git, git-lfs, zstd"
need_rust Cargo.toml
need_git_lfs
need zstd zstd zstd zstd
if [ "$(uname)" = Linux ]; then
  (need faketime faketime libfaketime -) || step "Clocks that are off will be skipped"
fi
if [ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ]; then # who may mount a file system tries sharing on these
  (need mkfs.xfs xfsprogs xfsprogs - && need mkfs.btrfs btrfs-progs btrfs-progs -) || step "Sharing on XFS or btrfs will be skipped"
fi

scratch=$(mktemp -d)
servers=$scratch/servers
mkdir "$servers"
# Downloads wait for the network while the compiler works.
step "Building, while the rest is fetched"
cargo test --release --locked --no-run --lib --bins --test it --test tidy --test model --test e2e >"$scratch/build.log" 2>&1 &
building=$!
clean_up() {
  [ -z "$building" ] || kill "$building" 2>/dev/null || true
  bash "$setup/servers.sh" stop "$servers"
  rm -rf "$scratch"
}
trap clean_up EXIT
# where a signal ends this script, the servers end too
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step "A newer git-lfs"
newer='' code=0
newer=$(bash "$setup/newer-git-lfs.sh" "$cache/newer-git-lfs") || code=$?
case $code in
  0 | 3) ;;
  *) fail "the newer git-lfs could not be fetched" "see apt's message above; with no network, run this again while you have one" ;;
esac

step "A file system without locks"
fuse='' # where none may be mounted, those tests are skipped
fuse=$(bash "$setup/fuse.sh" "$cache/fuse") || step "Skipped: clones and caches on such a file system"
[ -z "$fuse" ] || export GIT_LFS_CDC_TEST_FUSE=$fuse

form=short
[ $full = no ] || form=full
step "Corpora, the $form form, in $cache/corpora"
bash "$setup/corpora.sh" $form "$cache/corpora" ||
  fail "the corpora could not be made" "see the message above; it needs the network once, and about 3 GB on the disk"

step "Storage servers on the loopback interface: SeaweedFS, rclone, Azurite, and one for plain files"
bash "$setup/servers.sh" start "$servers" || fail "the servers could not be started" "see the messages above"
# shellcheck source=/dev/null
. "$servers/env"

[ $full = no ] || export GIT_LFS_CDC_FULL=1
step "Waiting for the build"
built=0
wait "$building" || built=$?
building=''
cat "$scratch/build.log"
[ $built = 0 ] || exit $built

step "Unit, property, golden and integration tests, and the model"
# thousands of small stores are synced in these: in memory, where there is room
stores=${TMPDIR:-/tmp}
if [ "$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 4000000 ] 2>/dev/null; then stores=/dev/shm; fi
# the ignored tests too, because their servers and programs are there now; but not the one that writes golden files
TMPDIR=$stores cargo test --release --locked --lib --bins --test it -- --include-ignored --skip write_missing_golden_files
cargo test --release --locked --test tidy --test model
cargo test --release --locked --doc

export GIT_LFS_CDC_CORPORA=$cache/corpora
arguments=(--include-ignored)
if [ $full = no ]; then
  step "Left out: the end-to-end tests of all releases, whose corpora only --full makes"
  arguments+=(--skip all_releases::)
fi
# They wait for servers and processes, so more of them run than there are cores.
arguments+=(--test-threads $((2 * $(nproc 2>/dev/null || echo 2))))
# end_to_end WITH ARGUMENT...: the end-to-end tests
end_to_end() {
  step "The end-to-end tests, with $1"
  cargo test --release --locked --test e2e -- "${arguments[@]}" "${@:2}"
}
end_to_end "$(git-lfs version)"
# these choose their stores themselves, so that once is enough
once=(--skip network_faults:: --skip proxy:: --skip web:: --skip credentials::)
# each kind of store is tortured once, because the long form takes ten minutes
calm=("${once[@]}" --skip torture::)
# the corpora are the same for each kind of store
[ $full = yes ] || once+=(--skip corpora::)
if [ -z "$newer" ]; then
  step "Skipped: the newer git-lfs, which is to be had from a Debian mirror only"
  GIT_LFS_CDC_TEST_STORE=s3 end_to_end "stores in S3" "${once[@]}"
else
  [ $full = no ] || GIT_LFS_CDC_TEST_STORE=s3 end_to_end "stores in S3" "${calm[@]}"
  export GIT_LFS_CDC_TEST_GIT_LFS=$newer
  [ $full = no ] || end_to_end "$("$newer/git-lfs" version)" "${calm[@]}"
  GIT_LFS_CDC_TEST_STORE=s3 end_to_end "$("$newer/git-lfs" version) and stores in S3" "${once[@]}"
fi

if [ $full = yes ]; then
  step "The model, its large form"
  cargo test --release --locked --test model -- --ignored
  step "Memory of one agent"
  need /usr/bin/time time time time
  benches/memory.sh
  step "Pushing and cloning through a slow link (how fast is for people to judge: this machine may be busy)"
  benches/wan.sh || step "The slow link: see above"
fi
step "All tests passed"
