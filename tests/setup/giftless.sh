#!/usr/bin/env bash
# giftless.sh start|stop DIR: a plain Git LFS server, for benches/compare.sh: giftless, with the objects in a folder, on a
# free port of the loopback interface. Everybody who can reach it may read and write.
# start writes DIR/env, lines to be sourced with its URL, as lfs.url takes it, and the log that has a line for each request,
# which begins with the verb. Started again while it runs, it changes nothing. stop ends it; what it stored is removed.
# GIFTLESS_ADDRESS puts it on another address of this machine. The program stays in
# ${XDG_CACHE_HOME:-~/.cache}/git-lfs-cdc-tests/servers.
set -euo pipefail
umask 077
usage="usage: $0 start|stop DIR"
action=${1:?"$usage"}
dir=${2:?"$usage"}
# shellcheck source=tests/setup/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/setup/processes.sh
. "$(dirname "$0")/processes.sh"
programs=${XDG_CACHE_HOME:-${HOME:?"HOME is not set"}/.cache}/git-lfs-cdc-tests/servers
venv=$programs/giftless
address=${GIFTLESS_ADDRESS:-127.0.0.1}

# giftless names no versions of what it needs. With a newer pyjwt it answers uploads with 401. Of gunicorn and waitress,
# gunicorn was the faster: pushing 10,000 objects took 17 and 27 seconds.
packages=(
  giftless==0.6.2 gunicorn==27.0.1 flask==3.1.3 werkzeug==3.1.9 flask-marshmallow==1.5.0 marshmallow==4.4.0 webargs==8.7.1
  flask-classful==0.16.0 pyjwt==2.8.0 pyyaml==6.0.4 python-dateutil==4.0.0 typing-extensions==4.16.0 figcan==0.0.4
  python-dotenv==1.2.4 cachetools==8.0.2 cryptography==50.0.2
)

install_program() {
  need ps procps procps-ng -
  need_python_venv "$venv"
  local mark=$venv/${packages[0]}-${packages[1]}
  [ -e "$mark" ] && return
  step "Installing ${packages[0]}"
  "$venv/bin/pip" install -q --disable-pip-version-check "${packages[@]}" ||
    fail "giftless could not be installed" "see pip's message above; it needs the network once, and Python 3.10 or newer"
  touch "$mark"
}

stop() {
  local pid pids
  if started giftless; then
    pid=$(cat "$dir/giftless.pid")
    # the one that listens, and its workers
    read -r -d '' -a pids < <(echo "$pid" && ps -o pid= --ppid "$pid") || true
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  rm -rf "${dir:?}"/{env,data,giftless.pid,giftless.log,giftless.yaml,access.log,plain.py}
}

start() {
  local port
  started giftless && [ -s "$dir/env" ] && return
  stop
  install_program
  port=$(free_ports 1)
  # of uploads that come at once only one would succeed in making the folder, and git-lfs would send the others again
  mkdir -p "$dir/data/bench/compare"
  # As it is, giftless sends a file line by line, which for 2 GB without lines takes minutes; and it refuses some of the
  # first uploads if they come at once, as each begins to set up who may do what.
  cat >"$dir/plain.py" <<'PY'
from flask import request
from giftless.app import init_app
from giftless.auth import authentication
from giftless.storage.local_storage import LocalStorage
from werkzeug.wsgi import wrap_file


class Files(LocalStorage):
    def get(self, prefix, oid):
        return wrap_file(request.environ, super().get(prefix, oid), 1 << 20)


app = init_app()
with app.app_context():
    authentication.init_authenticators()
PY
  # JSON is YAML, and has quotes for every path
  python3 - "$dir/data" >"$dir/giftless.yaml" <<'PY'
import json, sys
storage = {"storage_class": "plain:Files", "storage_options": {"path": sys.argv[1]}}
json.dump({
    "AUTH_PROVIDERS": ["giftless.auth.allow_anon:read_write"],
    "LEGACY_ENDPOINTS": True,
    "TRANSFER_ADAPTERS": {
        "basic": {"factory": "giftless.transfer.basic_streaming:factory", "options": storage},
    },
}, sys.stdout)
PY
  # as many threads as git-lfs has transfers, in a process for each core
  GIFTLESS_CONFIG_FILE="$dir/giftless.yaml" PYTHONPATH=$dir PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore launch giftless \
    "$venv/bin/gunicorn" --worker-class gthread --workers "$(nproc)" --threads 8 --keep-alive 60 --bind "$address:$port" \
    --no-control-socket --access-logfile "$dir/access.log" --access-logformat '%(m)s %(s)s %(U)s' plain:app
  wait_for giftless "http://$address:$port"
  cat >"$dir/env.part" <<ENV
export GIT_LFS_CDC_PLAIN=http://$address:$port/bench/compare/
export GIT_LFS_CDC_PLAIN_LOG=$(printf %q "$dir/access.log")
ENV
  mv "$dir/env.part" "$dir/env"
}

act "$action"
