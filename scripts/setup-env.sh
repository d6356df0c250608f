#!/usr/bin/env bash
# Makes .venv with Logist and its development tools, from any Python >= 3.11; does nothing when .venv is up to date.
# Nothing outside this checkout is changed. Two runs at once, and a run that was killed half-way, are safe.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
# Exists only while .venv is whole, and says what it was made from.
stamp=$venv/.ready

fail() {
    printf 'Error: %s\nHint: %s\n' "$1" "$2" >&2
    exit 1
}

fingerprint() {
    "$venv/bin/python" -VV &&
        git hash-object --no-filters -- "$root/pyproject.toml" "$root/scripts/setup-env.sh" &&
        # The scripts in .venv/bin name this folder: a checkout that was moved needs new ones.
        printf '%s\n' "$root"
}

ready() {
    [[ -f $stamp ]] && made_from=$(fingerprint 2>/dev/null) && [[ $made_from == "$(<"$stamp")" ]]
}

# Prints the name of the newest Python that runs, is new enough and can import the modules given.
find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        if "$name" -c "import sys${1:+, $1}; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

# Waits until no other run is setting up. The kernel lets go of the lock when this run and its installer are gone.
lock() {
    mkdir -p "$root/.cache"
    exec 9>"$root/.cache/setup-env.lock"
    "$python" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another set-up of .venv to end", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
'
}

create() {
    # What is there may be half of something.
    rm -rf -- "$venv"
    if [[ $installer == uv ]]; then
        uv venv --quiet --no-project --python "$python" "$venv"
    else
        "$python" -m venv "$venv"
    fi
}

install() {
    if [[ $installer == uv ]]; then
        uv pip install --quiet --python "$venv/bin/python" --editable '.[dev]'
    else
        "$venv/bin/python" -m pip install -qq --editable '.[dev]'
    fi
}

command -v git >/dev/null || fail 'git is not installed' 'Install git, then run this again.'
# An inherited setting must neither lead the installer out of .venv nor other modules into it.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_PREFIX PIP_TARGET GIT_DIR GIT_WORK_TREE
if ready; then
    exit 0
fi

if command -v uv >/dev/null; then
    installer=uv
    needed=
else
    installer=pip
    needed='ensurepip, venv'
fi
newest=$(find_python '') || fail 'no Python 3.11 or newer was found' \
    'Install Python 3.11 or newer so that python3 starts it, then run this again.'
python=$(find_python "$needed") || fail "$newest can't make virtual environments" \
    'Install its venv module (on Debian and Ubuntu the package python3-venv) or uv, then run this again.'

lock
if ready; then
    exit 0
fi
printf 'Setting up .venv with %s and %s\n' "$("$python" -V)" "$installer" >&2
cd -- "$root"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_USER=0
export UV_CACHE_DIR="$root/.cache/uv" UV_PYTHON_DOWNLOADS=never
if [[ -f $stamp ]] && "$venv/bin/python" -c 'pass' 2>/dev/null && [[ $(tail -n 1 "$stamp") == "$root" ]]; then
    # Whole, only out of date: whoever uses it at this moment keeps what is already right.
    rm -f -- "$stamp"
else
    create || fail "$python could not make .venv" 'The lines above say why.'
fi
install || fail 'the packages could not be installed into .venv' \
    'The lines above say why; a package index must be reachable. Then run this again.'
# An editable install compiles nothing, and where Python may not write byte code every start would compile anew.
"$venv/bin/python" -m compileall -q logist
# Written last and in one piece: without it the next run starts over.
fingerprint >"$root/.cache/setup-env.stamp"
mv -f -- "$root/.cache/setup-env.stamp" "$stamp"
