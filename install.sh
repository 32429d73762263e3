#!/usr/bin/env bash
# install.sh [--prefix DIR] [--demo] | --uninstall [--prefix DIR] | --help
#
# Builds git-lfs-cdc, installs it to DIR/bin (default: ~/.local/bin) and makes it known to git-lfs for your user.
#   --prefix DIR   install somewhere else
#   --demo         then show, in a temporary folder, what two pushes of a large file add to a store
#   --uninstall    remove the binary and the settings; stores and caches stay
# May be run again at any time: it brings the installation up to date.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/setup/lib.sh
. "$here/tests/setup/lib.sh"

prefix="" demo=no uninstall=no
while [ $# -gt 0 ]; do
  case $1 in
    --prefix)
      [ -n "${2:-}" ] || fail "--prefix needs a folder" "$0 --prefix ~/.local"
      prefix=$2
      shift
      ;;
    --prefix=*) prefix=${1#*=} ;;
    --demo) demo=yes ;;
    --uninstall) uninstall=yes ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) fail "unknown option: $1" "$0 --help" ;;
  esac
  shift
done
[ -n "$prefix" ] || prefix=${HOME:?"HOME is not set: give --prefix DIR"}/.local

uninstall() {
  local binary=$prefix/bin/git-lfs-cdc
  if [ ! -x "$binary" ]; then
    [ "$(git config --global lfs.customtransfer.cdc.path)" = "$binary" ] ||
      fail "there is no $binary" "give the --prefix that you installed with"
    step "Removing the settings that git-lfs knew it by; the binary is gone already"
    git config --global --unset-all lfs.customtransfer.cdc.path
    git config --global --unset-all lfs.customtransfer.cdc.args || true
    git config --global --unset-all lfs.cdc::.standalonetransferagent || true
    return
  fi
  step "Removing the settings that git-lfs knew it by"
  "$binary" uninstall --global
  step "Removing $binary"
  rm -f "$binary"
  cat <<TEXT
Left alone: your stores and repositories, git-lfs itself, and the cache, which you may delete:
  rm -rf "${XDG_CACHE_HOME:-$HOME/.cache}/git-lfs-cdc"
A repository whose store you keep needs git-lfs-cdc again for its next fetch or push.
TEXT
}

install_binary() {
  local target temporary
  step "Looking for what the build needs: Rust, a C compiler, git, git-lfs"
  need_rust "$here/Cargo.toml"
  need_git_lfs
  step "Building git-lfs-cdc (some minutes the first time)"
  (cd "$here" && cargo build --release --locked) ||
    fail "the build failed" "read the compiler's message above; with no network, run 'cargo fetch' while you have one"
  target=$(cd "$here" && cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

  step "Installing $prefix/bin/git-lfs-cdc"
  mkdir -p "$prefix/bin" || fail "cannot create $prefix/bin" "choose a folder that you may write to with --prefix"
  prefix=$(cd "$prefix" && pwd)
  # Agents may be running the old one: it is replaced in one step, and they keep theirs.
  temporary=$prefix/bin/.git-lfs-cdc.$$
  if ! { install -m 755 "$target/release/git-lfs-cdc" "$temporary" && mv -f "$temporary" "$prefix/bin/git-lfs-cdc"; }; then
    rm -f "$temporary"
    fail "cannot write to $prefix/bin" "choose a folder that you may write to with --prefix"
  fi

  step "Making it known to git-lfs for your user"
  "$prefix/bin/git-lfs-cdc" install --global ||
    fail "git's configuration could not be written" "see the message above, then run: $prefix/bin/git-lfs-cdc install"

  case ":$PATH:" in
    *":$prefix/bin:"*) ;;
    *)
      cat <<TEXT
Note: $prefix/bin is not on your PATH, so 'git lfs-cdc' is not found yet. Add it in your shell's start-up file:
  export PATH="$prefix/bin:\$PATH"
Pushing and pulling work without that: git's configuration has the full path.
TEXT
      ;;
  esac
  step "Done: $("$prefix/bin/git-lfs-cdc" --version)"
}

# demo_material BINARY: prints real data that this machine has: a part of the Rust compiler, git, and the binary
demo_material() {
  local file
  for file in "$(rustc --print sysroot 2>/dev/null)"/lib/librustc_driver-* "$(command -v git)" "$1"; do
    if [ -f "$file" ]; then head -c 40000000 "$file"; fi
  done
}

bytes_below() { find "$1" -type f -exec cat {} + | wc -c | tr -d ' '; }

# row LABEL FILE_BYTES STORE_BYTES
row() {
  awk -v label="$1" -v plain="$2" -v stored="$3" 'BEGIN {
    printf "  %-28s %10.3f MB %14.3f MB %9.1f : 1\n", label, plain / 1e6, stored / 1e6, plain / stored }'
}

# end_demo FOLDER EXIT_CODE
end_demo() {
  cd /
  rm -rf "$1"
  [ "$2" = 0 ] ||
    fail "the demo failed" "run it again with GIT_TRACE=1 in the environment to see more, and report what it prints"
}

# demo BINARY: everything happens below a temporary folder, with a HOME and a git configuration of its own
demo() {
  local binary=$1 work first_bytes second_bytes empty after_first after_second half
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder's name is wanted as it is now
  trap "end_demo '$work' \$?" EXIT
  demo_material "$binary" >"$work/first-version"
  mkdir "$work/home"
  unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS
  export HOME=$work/home GIT_CONFIG_GLOBAL=$work/home/gitconfig GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
  export XDG_CONFIG_HOME=$work/home/config XDG_CACHE_HOME=$work/home/cache
  git config --global user.name Demo
  git config --global user.email demo@example.com
  git config --global init.defaultBranch main
  "$binary" install --global >/dev/null

  step "Demo: a repository with a remote and a store, all in $work"
  git init -q --bare "$work/remote.git"
  git init -q "$work/project"
  cd "$work/project"
  git remote add origin "$work/remote.git"
  "$binary" init "$work/store" >/dev/null
  git lfs track 'model.bin' >/dev/null
  empty=$(bytes_below "$work/store")

  first_bytes=$(wc -c <"$work/first-version" | tr -d ' ')
  step "Demo: pushing a real file of $((first_bytes / 1000000)) MB (parts of the Rust compiler, git, this program)"
  cp "$work/first-version" model.bin
  git add --all
  git commit -q -m 'first version'
  git push -q origin main
  after_first=$(bytes_below "$work/store")

  step "Demo: inserting one line into its middle and pushing again"
  half=$((first_bytes / 2))
  {
    head -c "$half" "$work/first-version"
    echo 'one line more, in the middle of it all'
    tail -c "+$((half + 1))" "$work/first-version"
  } >model.bin
  cp model.bin "$work/second-version"
  second_bytes=$(wc -c <model.bin | tr -d ' ')
  git commit -q -a -m 'second version'
  git push -q origin main
  after_second=$(bytes_below "$work/store")

  step "Demo: cloning into a second folder, with an empty cache, and comparing both versions byte for byte"
  XDG_CACHE_HOME=$work/home/second-cache git clone -q "$work/remote.git" "$work/clone"
  cmp "$work/second-version" "$work/clone/model.bin"
  XDG_CACHE_HOME=$work/home/second-cache git -C "$work/clone" checkout -q HEAD~1
  cmp "$work/first-version" "$work/clone/model.bin"

  echo
  printf '  %-28s %13s %17s %13s\n' '' 'plain Git LFS' 'this store' 'ratio'
  row 'first push' "$first_bytes" $((after_first - empty))
  row 'push after one line more' "$second_bytes" $((after_second - after_first))
  row 'both versions' $((first_bytes + second_bytes)) $((after_second - empty))
  echo
  step "Demo: both versions came back identical; removing the temporary folder"
}

if [ $uninstall = yes ]; then
  uninstall
  exit 0
fi
install_binary
if [ $demo = yes ]; then demo "$prefix/bin/git-lfs-cdc"; fi
