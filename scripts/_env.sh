# Sourced by the scripts beside it: finds a Python and keeps a virtual environment that holds requirements.lock.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

say() { printf '%s\n' "$*" >&2; }

# version_of PYTHON: prints "3.13 /path/to/it" if it runs, is CPython 3.11 to 3.14 and can make environments.
# Running it is the test: version managers leave commands on PATH that only print an error.
version_of() {
  "$1" -c '
import sys, ensurepip, venv
if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", None) or sys.executable)
' 2>/dev/null </dev/null
}

# find_python: sets found="3.13 /path": $PYTHON, or the first suitable one on PATH.
find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    found=$(version_of "$PYTHON") && return
    say "PYTHON=$PYTHON is not a CPython from 3.11 to 3.14 that can make a virtual environment."
    exit 2
  fi
  for candidate in python3.13 python3.12 python3.11 python3.14 python3 python; do
    found=$(version_of "$candidate") && return
  done
  say "No suitable Python on PATH: handprop needs CPython 3.11 to 3.14 with its venv module (set PYTHON=/path/to/python)."
  exit 2
}

# use_env FOLDER "VERSION PYTHON": makes FOLDER a virtual environment that holds the lock and this checkout.
# Sets bin. Nothing is installed when Python's version, the place, pyproject.toml and the lock are as before.
use_env() {
  local folder=$1 version=${2%% *} python=${2#* } stamp
  bin=$root/$folder/bin
  stamp="$version $root $(cksum <pyproject.toml) $(cksum <requirements.lock)"
  [[ -x $bin/python && -f $root/$folder/handprop-stamp && $(<"$root/$folder/handprop-stamp") == "$stamp" ]] && return
  say "Setting up $folder with Python $version: about 250 MB to fetch, a minute or two, once ..."
  rm -f "$root/$folder/handprop-stamp"
  if [[ $(version_of "$bin/python" || true) != "$version "* ]] || ! "$bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$root/$folder"
  fi
  local pip=("$bin/python" -m pip --disable-pip-version-check --no-input -qq install)
  if ! "${pip[@]}" --require-hashes --only-binary :all: -r requirements.lock ||
    ! "${pip[@]}" --no-deps --no-build-isolation --editable .; then
    say "Setting up $folder failed; the lines above say why. Run this again once that is mended."
    exit 1
  fi
  printf '%s' "$stamp" >"$root/$folder/handprop-stamp"
}
