#!/usr/bin/env bash
# newer-git-lfs.sh DIR: puts the git-lfs of Debian trixie (3.6) below DIR, beside the one of the system, and prints the
# folder that it is in. Nothing is installed system-wide. Idempotent.
# Exit code 3: this machine has no apt with a Debian mirror, so there is no newer version to be had from here.
set -euo pipefail
dir=${1:?"usage: $0 DIR"}
suite=trixie
bin=$dir/root/usr/bin

if [ -x "$bin/git-lfs" ]; then
  echo "$bin"
  exit
fi
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

mkdir -p "$dir"/{lists/partial,cache/archives/partial,debs}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$site" "$suite" >"$dir/sources.list"
options=(
  -o Dir::Etc::sourcelist="$(realpath "$dir/sources.list")" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::State::lists="$(realpath "$dir/lists")" -o Dir::Cache="$(realpath "$dir/cache")"
  -o APT::Sandbox::User="$(id -un)"
)
apt-get "${options[@]}" -qq update >&2
(cd "$dir/debs" && apt-get "${options[@]}" -qq download "git-lfs/$suite" >&2)
rm -rf "$dir/root.part"
dpkg-deb -x "$dir"/debs/git-lfs_*.deb "$dir/root.part"
"$dir/root.part/usr/bin/git-lfs" version >&2
mv "$dir/root.part" "$dir/root"
echo "$bin"
