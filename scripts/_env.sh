# The other scripts source this file. It finds a Python and keeps a virtual environment with the packages of
# requirements.lock.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

say() { printf '%s\n' "$*" >&2; }

# version_of PYTHON: prints "3.13 /path/to/it" if it runs, is CPython 3.11 to 3.14 and can make virtual environments.
# It has to be run to find out, because version managers leave commands on PATH that only print an error.
version_of() {
  "$1" -c '
import sys, ensurepip, venv
if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", None) or sys.executable)
' 2>/dev/null </dev/null
}

# find_python: sets found="3.13 /path" to $PYTHON if it is set, else to the first suitable Python on PATH.
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
  say "No suitable Python is on PATH. handprop needs CPython 3.11 to 3.14 with venv; set PYTHON=/path/to/python."
  exit 2
}

# use_env FOLDER "VERSION PYTHON": makes FOLDER a virtual environment with the locked packages and this checkout, and
# sets bin. It installs nothing if Python's version, the location, pyproject.toml and the lock have not changed.
use_env() {
  local folder=$1 version=${2%% *} python=${2#* } stamp
  bin=$root/$folder/bin
  stamp="$version $root $(cksum <pyproject.toml) $(cksum <requirements.lock)"
  [[ -x $bin/python && -f $root/$folder/handprop-stamp && $(<"$root/$folder/handprop-stamp") == "$stamp" ]] && return
  say "Setting up $folder with Python $version. This downloads about 250 MB once and takes a minute or two ..."
  rm -f "$root/$folder/handprop-stamp"
  if [[ $(version_of "$bin/python" || true) != "$version "* ]] || ! "$bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$root/$folder"
  fi
  local pip=("$bin/python" -m pip --disable-pip-version-check --no-input -qq install)
  if ! "${pip[@]}" --require-hashes --only-binary :all: -r requirements.lock ||
    ! "${pip[@]}" --no-deps --no-build-isolation --editable .; then
    say "Setting up $folder failed; the lines above say why. Fix the cause and run this again."
    exit 1
  fi
  printf '%s' "$stamp" >"$root/$folder/handprop-stamp"
}
