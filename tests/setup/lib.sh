# Sourced by install.sh, tests/run.sh, .ci/run and the scripts beside it: telling what is done, and getting what is missing.
# shellcheck shell=bash

step() { printf '==> %s\n' "$*"; }

# fail PROBLEM REMEDY
fail() {
  printf 'error: %s\n  remedy: %s\n' "$1" "$2" >&2
  exit 2
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root; fails where that cannot be done.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo; then sudo "$@"; else return 1; fi
}

apt_install() {
  set -- env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  # The package lists may be missing or old: fetch them only if it doesn't work without.
  as_root "$@" >/dev/null 2>&1 || { as_root apt-get update -qq && as_root "$@" >/dev/null; }
}

# by_hand COMMAND PACKAGES …: prints the commands that have packages, between brackets
by_hand() {
  local text=""
  while [ $# -gt 0 ]; do
    if [ "$2" != - ]; then text="${text:+$text; }$1 $2"; fi
    shift 2
  done
  [ -z "$text" ] || printf ' (%s)' "$text"
}

# install_packages WHY APT DNF BREW: each a list of names for that package manager, "-" where it has none
install_packages() {
  local why=$1 apt=$2 dnf=$3 brew=$4
  # The lists are to be split into words.
  # shellcheck disable=SC2086
  if have apt-get && [ "$apt" != - ]; then
    step "$why: installing $apt with apt-get"
    apt_install $apt && return
  elif have dnf && [ "$dnf" != - ]; then
    step "$why: installing $dnf with dnf"
    as_root dnf install -y -q $dnf && return
  elif have brew && [ "$brew" != - ]; then
    step "$why: installing $brew with brew"
    brew install --quiet $brew && return
  fi
  fail "$why, and it could not be installed from here" \
    "install it by hand$(by_hand "Debian: apt-get install" "$apt" "Fedora: dnf install" "$dnf" "macOS: brew install" "$brew"), then run this again"
}

# need COMMAND APT DNF BREW
need() { have "$1" || install_packages "$1 is missing" "$2" "$3" "$4"; }

need_git_lfs() {
  need git git git git
  need git-lfs git-lfs git-lfs git-lfs
}

# need_rust MANIFEST: a cargo that works, of the version that the manifest asks for, and a C compiler for its dependencies
need_rust() {
  local cargo wanted found
  local advice="install Rust with rustup, see https://www.rust-lang.org/tools/install, open a new shell, and run this again"
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
  cargo=$(command -v cargo) || fail "cargo is missing" "$advice"
  if ! cargo --version >/dev/null 2>&1 && [ -d "${cargo%/.cargo/bin/cargo}/.rustup" ]; then
    # HOME is not the one that rustup was installed for: its toolchains stand beside its cargo.
    export RUSTUP_HOME="${cargo%/.cargo/bin/cargo}/.rustup"
  fi
  found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
  [ -n "$found" ] || fail "$cargo does not run" "$advice"
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$1")
  [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ] ||
    fail "cargo is of version $found, and this needs $wanted or newer" "run 'rustup update', or $advice"
  have cc || install_packages "a C compiler is missing" "gcc libc6-dev" "gcc" "-"
}

# need_python_venv DIR: a virtual environment there
need_python_venv() {
  need python3 python3 python3 python
  [ -x "$1/bin/pip" ] && return
  python3 -c 'import ensurepip' 2>/dev/null || install_packages "python3's venv is missing" python3-venv python3 -
  python3 -m venv "$1"
}
