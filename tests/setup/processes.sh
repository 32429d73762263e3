# Sourced by servers.sh and giftless.sh: servers in the background, which belong to the folder $dir, and their ports.
# shellcheck shell=bash disable=SC2154

# started NAME: whether the server of this DIR runs; another process may have its number by now, but not its arguments.
started() {
  [ -s "$dir/$1.pid" ] && ps -ww -o args= -p "$(cat "$dir/$1.pid")" 2>/dev/null | grep -qF "$dir"
}

# launch NAME COMMAND…: in the background, where the end of a terminal or of this script doesn't reach it
launch() {
  local name=$1
  shift
  nohup "$@" >"$dir/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/$name.pid"
}

# wait_for NAME URL: until the server answers with anything but "not yet" (SeaweedFS: no volume can be had)
wait_for() {
  local code
  for _ in $(seq 300); do
    # A child of this script, so the number is its own; its arguments can't be seen yet while the system reads the program.
    kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null || break
    code=$(python3 - "$2" 2>/dev/null <<'PY'
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
PY
    ) && [ "${code:-500}" -lt 500 ] && return
    sleep 0.1
  done
  tail -n 20 "$dir/$1.log" >&2
  stop
  fail "$1 did not start" "see the last lines of its log above; if a port was taken, run this again"
}

# act start|stop: what the script that sources this does with its DIR; its own start and stop do it.
act() {
  case $1 in
    start)
      mkdir -p "$dir" "$programs"
      dir=$(cd "$dir" && pwd)
      start
      ;;
    stop)
      [ ! -d "$dir" ] || { dir=$(cd "$dir" && pwd) && stop; }
      ;;
    *) fail "no such action: $1" "$usage" ;;
  esac
}

# Prints free ports, one a line, below those that systems give to outgoing connections.
free_ports() {
  python3 - "$1" <<'PY'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", random.randrange(10000, 32000)))
        held.append(candidate)
    except OSError:
        candidate.close()
for each in held:
    print(each.getsockname()[1])
PY
}
