# Sourced by compare.sh: the ways that it compares. What it gives: $work, $area, $agent, $address, and the machine in ${as[@]}.
# shellcheck shell=bash disable=SC2154,SC2034
#   plain     git-lfs's own transfers over HTTP, from and to giftless
#   file      git-lfs's own transfers in a folder (lfs.url = file://…): hard links on the same file system, no byte is moved
#   restic    no git at all: restic backs the files up into a folder and restores them; corpus names only
#   ours      a store in a folder
#   ours-s3   a store in SeaweedFS
all_ways=(plain file restic ours ours-s3)

# is_offered WAY CORPUS: whether this way takes part; through a link only those that use a network do
is_offered() {
  case $1 in
    plain | ours-s3) ;;
    restic) [ "$2" = names ] && [ -z "$link" ] ;;
    *) [ -z "$link" ] ;;
  esac
}

# setup SCRIPT ARGUMENTS…: one of tests/setup, told where servers are to listen. SeaweedFS would take keys of its own from
# the environment.
setup() {
  env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY SEAWEEDFS_ADDRESS="$address" GIFTLESS_ADDRESS="$address" \
    bash "$root/tests/setup/$1" "${@:2}"
}

# start_servers WAY: what it needs, with nothing stored; how its requests are counted goes to ${counting[@]}
start_servers() {
  counting=()
  case $1 in
    plain)
      setup giftless.sh start "$work/giftless"
      # shellcheck source=/dev/null
      . "$work/giftless/env"
      counting=(--log "$GIT_LFS_CDC_PLAIN_LOG" --server "$(cat "$work/giftless/giftless.pid")")
      ;;
    ours-s3)
      setup servers.sh start "$work/servers"
      # shellcheck source=/dev/null
      . "$work/servers/env"
      export AWS_ACCESS_KEY_ID=${GIT_LFS_CDC_TEST_S3_KEYS%%:*} AWS_SECRET_ACCESS_KEY=${GIT_LFS_CDC_TEST_S3_KEYS#*:}
      counting=(--metrics "$GIT_LFS_CDC_TEST_S3_METRICS" --server "$(cat "$work/servers/seaweedfs.pid")")
      ;;
  esac
}

stop_servers() {
  setup giftless.sh stop "$work/giftless"
  setup servers.sh stop "$work/servers"
}

# init_way WAY: tells the repository in this folder where its objects are to go
init_way() {
  case $1 in
    plain) git_here config -f .lfsconfig lfs.url "$GIT_LFS_CDC_PLAIN" ;;
    file) git_here config -f .lfsconfig lfs.url "file://$area/remote.git" ;;
    ours) "${as[@]}" "$agent" init "$area/store" ;;
    ours-s3) "${as[@]}" "$agent" init "s3://lfs/compare?region=us-east-1&endpoint=$GIT_LFS_CDC_TEST_S3" ;;
  esac >/dev/null
  [ "$deltas" = yes ] || git_here config lfs-cdc.delta false
}

size_of() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }

# stored_bytes WAY: what is kept now, in the repository in this folder
stored_bytes() {
  case $1 in
    plain) size_of "$work/giftless/data" ;;
    file) size_of "$area/remote.git/lfs/objects" ;;
    restic | ours) size_of "$area/store" ;;
    # for a folder this is the sum of all files
    ours-s3) "${as[@]}" "$agent" stats --json | sed -n 's/.*"stored_bytes": \([0-9]*\).*/\1/p' ;;
  esac
}
