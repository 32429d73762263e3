# Sourced by wan.sh and compare.sh: a slow link on this machine, a network namespace and two TUN devices (see wan-link.py).
# Servers listen on 10.78.0.1, and what is run with `far` reaches them through the link.
# shellcheck shell=bash disable=SC2034
link_namespace=git-lfs-cdc-wan-$$ link_pid='' link_refusal=''

# link_up DELAY_MS RATE_MBIT LOG: returns 3 where this machine allows no link, with the reason in $link_refusal. Root only.
link_up() {
  local code=0
  link_refusal=''
  [ "$(id -u)" = 0 ] || { link_refusal="which only root can make" && return 3; }
  [ -c /dev/net/tun ] || { link_refusal="as there is no /dev/net/tun here" && return 3; }
  need ip iproute2 iproute -
  need python3 python3 python3 python
  ip netns add "$link_namespace" 2>/dev/null || { link_refusal="as this machine allows no network namespaces" && return 3; }
  python3 "$(dirname "${BASH_SOURCE[0]}")/wan-link.py" "$link_namespace" "$1" "$2" >"$3" 2>&1 &
  link_pid=$!
  for _ in $(seq 100); do
    grep -q up "$3" && return
    kill -0 "$link_pid" 2>/dev/null || break
    sleep 0.1
  done
  kill "$link_pid" 2>/dev/null || true
  wait "$link_pid" || code=$?
  link_pid=''
  [ $code != 3 ] || { link_refusal="as this machine allows no TUN devices: $(tail -n 1 "$3")" && return 3; }
  fail "the link could not be made: $(tail -n 1 "$3")" "see whether another one is up: ip address show wan0"
}

# ends what runs at the other end, and the link
link_down() {
  [ -e "/run/netns/$link_namespace" ] || return 0
  # the streams in the background don't hear Ctrl-C; all that runs in the namespace was started from here
  while ip netns pids "$link_namespace" 2>/dev/null | xargs --no-run-if-empty kill -KILL 2>/dev/null &&
    [ -n "$(ip netns pids "$link_namespace" 2>/dev/null)" ]; do sleep 0.1; done
  [ -z "$link_pid" ] || kill "$link_pid" 2>/dev/null || true
  ip netns del "$link_namespace" || true
}

# far COMMAND…: at the other end of the link
far() { ip netns exec "$link_namespace" "$@"; }
