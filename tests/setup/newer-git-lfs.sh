#!/usr/bin/env bash
# newer-git-lfs.sh DIR: puts the newest git-lfs that Debian has and that runs here below DIR, beside the one of the system,
# and prints its folder. Nothing is installed system-wide. Idempotent.
# Exit code 3: this machine has no apt with a Debian mirror, so there is no newer version to be had from here.
set -euo pipefail
dir=${1:?"usage: $0 DIR"}
suites=(sid trixie) # the newest first; the second for systems too old for the first one's C library

for suite in "${suites[@]}"; do
  if [ -x "$dir/$suite/root/usr/bin/git-lfs" ]; then
    echo "$dir/$suite/root/usr/bin"
    exit
  fi
done
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 3

mirror() { # apt fills in $(SITE), not the shell
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | sed -n 1p
}
site=$(mirror)
if [ -z "$site" ] && [ "$(id -u)" = 0 ]; then # before the first update, apt doesn't know whose packages these are
  apt-get -qq update >&2
  site=$(mirror)
fi
[ -n "$site" ] || exit 3

# fetch SUITE: only a version that runs is left in its place
fetch() {
  local own=$dir/$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg options
  mkdir -p "$own"/{lists/partial,cache/archives/partial,debs} || return
  own=$(realpath "$own")
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$site" "$1" >"$own/sources.list" || return
  options=(
    -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$own/lists" -o Dir::Cache="$own/cache"
    -o APT::Sandbox::User="$(id -un)"
  )
  apt-get "${options[@]}" -qq update >&2 || return
  rm -rf "$own/debs"/*.deb "$own/root.part" || return
  (cd "$own/debs" && apt-get "${options[@]}" -qq download "git-lfs/$1" >&2) || return
  dpkg-deb -x "$own"/debs/git-lfs_*.deb "$own/root.part" || return
  "$own/root.part/usr/bin/git-lfs" version >&2 || return
  mv "$own/root.part" "$own/root" || return
  echo "$own/root/usr/bin"
}

for suite in "${suites[@]}"; do
  if fetch "$suite"; then exit; fi
  echo "git-lfs of Debian $suite can't be had, or does not run here" >&2
done
exit 1
