#!/usr/bin/env bash
# Installs the agent CLIs that the tests run for real, in fixed versions; does nothing where they are all there.
# They go to ${LOGIST_AGENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/logist/agents} (about 900 MB), and nowhere else.
# Prints the folder to put on PATH. Two runs at once, and a run that was killed half-way, are safe.
set -euo pipefail

readonly codex=0.169.0 mini=2.4.6
# The newest one that mini-swe-agent would take can't ask a model without a package that it does not require.
readonly litellm=1.80.0

fail() {
    printf 'Error: %s\nHint: %s\n' "$1" "$2" >&2
    exit 1
}

cache=${LOGIST_AGENTS_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/logist/agents}
[[ $cache == /* ]] || fail "the cache $cache is a relative path" 'Set LOGIST_AGENTS_CACHE to an absolute one.'
# Exists only while all of it is whole, and says what it was made from.
stamp=$cache/.ready
programs=(claude codex mini)

# The newest Claude Code that this Node.js runs.
claude_for() {
    if (($1 >= 22)); then
        printf '2.1.329\n'
    else
        printf '2.1.197\n'
    fi
}

versions() {
    printf '%s %s\n' claude-code "$claude" codex "$codex" mini-swe-agent "$mini" litellm "$litellm"
    # The scripts in there name this folder: one that was moved needs new ones.
    printf 'in %s\n' "$cache"
}

ready() {
    local program
    [[ -f $stamp && $(<"$stamp") == "$(versions)" ]] || return 1
    for program in "${programs[@]}"; do
        [[ -x $cache/bin/$program ]] || return 1
    done
    # The Python that it was made with may be gone.
    "$cache/python/bin/python" -c 'pass' 2>/dev/null
}

# Prints the name of a Python that runs, is new enough and can import the modules given; not too new for the packages.
find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3; do
        if "$name" -c "import sys${1:+, $1}; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

# Waits until no other run is installing. The kernel lets go of the lock when this run and its installer are gone.
lock() {
    exec 9>"$cache/.lock"
    "$python" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another installation of the agents to end", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
'
}

install_node_agents() {
    mkdir -p "$cache/node"
    npm install --prefix "$cache/node" --loglevel=error --no-audit --no-fund --no-update-notifier \
        "@anthropic-ai/claude-code@$claude" "@openai/codex@$codex"
}

# Without `datasets`, which mini-swe-agent needs for its benchmarks only: two thirds of what it would install.
install_python_agent() {
    local needed=(
        "litellm==$litellm" 'openai!=1.100.0,!=1.100.1' 'pydantic>=2' jinja2 platformdirs prompt_toolkit python-dotenv
        pyyaml requests rich tenacity textual typer
    )
    if [[ $installer == uv ]]; then
        uv venv --quiet --no-project --python "$python" "$cache/python"
        set -- uv pip install --quiet --compile-bytecode --python "$cache/python/bin/python"
    else
        "$python" -m venv "$cache/python"
        set -- "$cache/python/bin/python" -m pip install -qq
    fi
    "$@" "${needed[@]}" && "$@" --no-deps "mini-swe-agent==$mini"
}

# Installs by the function $2, and shows the end of its log where it fails.
attempt() {
    "$2" >"$cache/$1.log" 2>&1 && return
    tail -n 15 "$cache/$1.log" >&2
    fail "the $1 agents could not be installed" "The lines above say why, and $cache/$1.log says more; a package \
registry must be reachable. Then run this again."
}

command -v node >/dev/null || fail 'Node.js is not installed' 'Install Node.js 20 or newer, then run this again.'
command -v npm >/dev/null || fail 'npm is not installed' 'Install npm (it comes with Node.js), then run this again.'
major=$(node -p 'process.versions.node.split(".")[0]') || fail 'node can not be run' 'Install Node.js 20 or newer.'
((major >= 20)) || fail "Node.js $major is too old" 'Install Node.js 20 or newer, then run this again.'
claude=$(claude_for "$major")
if ready; then
    printf '%s\n' "$cache/bin"
    exit 0
fi

# An inherited setting must neither lead an installer out of the cache nor other modules into it.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_PREFIX PIP_TARGET NODE_OPTIONS npm_config_global npm_config_prefix
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_USER=0 UV_PYTHON_DOWNLOADS=never
if command -v uv >/dev/null; then
    installer=uv
    python=$(find_python '') || fail 'no Python from 3.11 to 3.13 was found' 'Install one, then run this again.'
else
    installer=pip
    python=$(find_python 'ensurepip, venv') || fail 'no Python from 3.11 to 3.13 that makes virtual environments was found' \
        'Install one with its venv module (on Debian and Ubuntu the package python3-venv) or uv, then run this again.'
fi

mkdir -p "$cache" || fail "the cache $cache can't be made" 'Set LOGIST_AGENTS_CACHE to a folder that you may write.'
lock
if ready; then
    printf '%s\n' "$cache/bin"
    exit 0
fi
printf 'Installing the agents that the tests run (claude %s, codex %s, mini %s)\n' "$claude" "$codex" "$mini" >&2
# What is there may be half of something, or of another version.
rm -rf -- "$stamp" "$cache/bin" "$cache/node" "$cache/python"
attempt npm install_node_agents
attempt pip install_python_agent
mkdir "$cache/bin"
ln -s ../node/node_modules/.bin/claude ../node/node_modules/.bin/codex ../python/bin/mini "$cache/bin/"
for program in "${programs[@]}"; do
    [[ -x $cache/bin/$program ]] || fail "the installers brought no program $program" "See the logs in $cache."
done
# Written last and in one piece: without it the next run starts over.
versions >"$stamp.new"
mv -f -- "$stamp.new" "$stamp"
printf '%s\n' "$cache/bin"
