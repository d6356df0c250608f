#!/usr/bin/env bash
# Every check of the project: formatting, lints, types, layers, tests. Sets .venv up first.
# Usage: ./run-tests.sh [--slow] [pytest arguments]     --slow runs the slow tests too; e.g. ./run-tests.sh -k lease
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
scripts/setup-env.sh
unset PYTHONHOME PYTHONPATH
PATH=$PWD/.venv/bin:$PATH

mkdir -p .cache
logs=$(mktemp -d .cache/run-tests.XXXXXX)
# Outside of the repository: a job in a folder below it would find its git. Short: names of sockets may not be long.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/t.XXXXXX")
export TMPDIR
# Some tests become another user.
chmod 755 "$TMPDIR"
names=()
pids=()
failed=()

clean_up() {
    # Only a run that was interrupted still has any.
    kill "${pids[@]}" 2>/dev/null || true
    rm -rf -- "$logs" "$TMPDIR"
}
trap clean_up EXIT

start() {
    local name=$1
    shift
    "$@" >"$logs/$name" 2>&1 &
    names+=("$name")
    pids+=("$!")
}

start 'ruff check' ruff check .
start 'ruff format' ruff format --check .
start 'mypy' mypy
start 'lint-imports' lint-imports --cache-dir .cache/import_linter
for i in "${!names[@]}"; do
    if wait "${pids[$i]}"; then
        printf '%-14s ok\n' "${names[$i]}"
    else
        failed+=("${names[$i]}")
        printf '%-14s FAILED\n' "${names[$i]}"
        cat -- "$logs/${names[$i]}"
    fi
done
pids=()

# A process more than there commonly are processors: one has the tests that wait (tests/conftest.py).
pytest -n 3 --basetemp "$TMPDIR/p" "$@" || failed+=(pytest)

if ((${#failed[@]})); then
    printf -v list ', %s' "${failed[@]}"
    printf 'run-tests: failed: %s\n' "${list:2}" >&2
    exit 1
fi
printf 'run-tests: everything passed\n'
