#!/usr/bin/env bash
# The main job, for real: seven scenes on the embedded playbook and command agents, every claim checked.
# The last one renders a page in a browser: one that is there, else one that is installed into .cache.
# Needs Python >= 3.11 and git; touches nothing outside this folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
project=$PWD
scripts/setup-env.sh
PATH="$project/.venv/bin:$PATH"
browser=$(scripts/install-browser.sh) || browser=

scratch="$project/.demo"
rm -rf "$scratch"
mkdir -p "$scratch"
export HOME="$scratch" GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=Demo GIT_AUTHOR_EMAIL=demo@example.invalid
export GIT_COMMITTER_NAME=Demo GIT_COMMITTER_EMAIL=demo@example.invalid
export NO_COLOR=1
for name in $(compgen -e | grep '^LOGIST_' || true); do unset "$name"; done
export LOGIST_JOBS_DIR="$scratch/project/.logist/jobs"
playbooks="$project/examples/demo"
runner=
trap '[ -z "$runner" ] || kill -9 "$runner" 2>/dev/null || true' EXIT

scene() { printf '\n=== %s\n' "$*"; }
say() { printf '  # %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}
# Show a command, run it, and require the exit code that is claimed.
expect() {
  local wanted=$1 code=0
  shift
  printf '  $ %s\n' "$*"
  "$@" >"$scratch/out" 2>&1 || code=$?
  sed -n "1,${lines_shown:-200}s/^/    /p" "$scratch/out"
  [ "$(wc -l <"$scratch/out")" -le "${lines_shown:-200}" ] || printf '    ...\n'
  [ "$code" -eq "$wanted" ] || fail "'$*' ended with exit code $code, not $wanted"
}
shown() { grep -qF -- "$1" "$scratch/out" || fail "the output does not say: $1"; }
status_of() { logist job status "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["status"])'; }
require_status() { [ "$(status_of "$1")" = "$2" ] || fail "job $1 is $(status_of "$1"), not $2"; say "$1 is $2: checked"; }
evidence() { git --git-dir="$scratch/project/.logist/jobs/$1/repo.git" log --format='%h %s' "logist/$1"; }
steps_in_git() {
  git --git-dir="$scratch/project/.logist/jobs/$1/repo.git" log \
    --format='%(trailers:key=Logist-Step,valueonly,separator=)' "logist/$1" | grep -v '^0$' | grep . | sort -n | tr '\n' ' '
}
# Wait, at most 20 s, until a command succeeds.
wait_until() {
  local tries=400
  until "$@" 2>/dev/null; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "waited in vain for: $*"
    sleep 0.05
  done
}
is_waiting() { grep -qs 'waiting for the signal' "$scratch/project/.logist/jobs/$1"/steps/*/stdout.log; }

scene "A small git repository"
mkdir "$scratch/project"
cd "$scratch/project"
git init -q -b main
printf 'def test_greet():\n    from greet import greet\n    assert greet("Ada") == "Hello, Ada!"\n\n\ntest_greet()\n' >test_greet.py
printf '__pycache__/\n' >.gitignore
git add -A
git commit -qm "A test without the code it tests"
before=$(git rev-parse HEAD)

scene "(a) A job that needs two attempts before checks and supervisor agree"
expect 0 logist job create . --id greet --objective "Write greet(name), documented" \
  --check "greets=python3 -B test_greet.py" \
  --worker "playbook:$playbooks/two-attempts.toml" --supervisor "playbook:$playbooks/two-attempts.toml"
lines_shown=8 expect 0 logist job preview greet
shown "Write greet(name), documented"
expect 0 logist job run greet
shown SUCCESS
require_status greet SUCCESS
expect 0 logist job status greet
expect 0 logist job log greet
shown RETRY
expect 0 logist job diff greet
shown "+    return f'Hello, {name}!'"
expect 0 logist job evidence greet
shown "step 5 supervisor: COMPLETED"
expect 0 logist job evidence greet --step 4
shown greet.py
printf '  $ git log   # of the evidence\n'
evidence greet | sed 's/^/    /'
[ "$(steps_in_git greet)" = "1 2 3 4 5 " ] || fail "the evidence's steps are: $(steps_in_git greet)"
say "five steps, one evidence commit each: checked"

scene "(b) A job that stops for a human, and goes on after the answer"
expect 0 logist job create . --id login --objective "Refuse empty passwords" \
  --worker "playbook:$playbooks/asks-a-human.toml" --supervisor "playbook:$playbooks/asks-a-human.toml"
expect 3 logist job run login
shown "400 or 401"
shown "logist job resolve"
require_status login INTERVENTION_REQUIRED
expect 0 logist job resolve login --retry -m "use 401"
expect 0 logist job run login
require_status login SUCCESS
grep -q 401 .logist/jobs/login/workspace/login.py || fail "the human's answer did not reach the work"
say "the human's words reached the worker: checked"

scene "(c) Canceled from another process while a step runs"
expect 0 logist job create . --id slow --objective "Wait for ever" \
  --worker "playbook:$playbooks/slow.toml" --supervisor "playbook:$playbooks/slow.toml"
printf '  $ logist job run slow &\n'
logist job run slow >"$scratch/run.out" 2>&1 &
runner=$!
wait_until is_waiting slow
expect 0 logist job cancel slow -m "not needed any more"
code=0
wait "$runner" || code=$?
runner=
[ "$code" -eq 4 ] || fail "the canceled run ended with exit code $code, not 4"
require_status slow CANCELED
say "the runner ended with exit code 4: checked"

scene "(d) The runner is killed with kill -9, and the job goes on"
expect 0 logist job create . --id killed --objective "Survive" \
  --worker "playbook:$playbooks/slow.toml" --supervisor "playbook:$playbooks/slow.toml"
printf '  $ logist job run killed & kill -9 $!\n'
logist job run killed >"$scratch/run.out" 2>&1 &
runner=$!
wait_until is_waiting killed
kill -9 "$runner"
wait "$runner" 2>/dev/null || true
runner=
expect 0 logist job status killed
shown "runner died"
touch .logist/jobs/killed/go-on
expect 0 logist job run killed
require_status killed SUCCESS
[ "$(steps_in_git killed)" = "1 2 " ] || fail "the evidence's steps are: $(steps_in_git killed)"
say "exactly one evidence commit per step: checked"

scene "(e) The work is delivered into the source repository"
[ -z "$(git branch --list 'logist/*')" ] || fail "the source repository was touched before deliver"
say "until now the source repository has not been touched: checked"
expect 0 logist job deliver greet
printf '  $ git log --oneline logist/greet\n'
git log --oneline logist/greet | sed 's/^/    /'
git merge-base --is-ancestor "$before" logist/greet || fail "the branch does not stand on the source's commit"
[ "$(git rev-parse HEAD)" = "$before" ] || fail "the source's own branch moved"
[ -z "$(git status --porcelain)" ] || fail "the source's files changed"
git show logist/greet:greet.py | grep -q 'Hello, {name}!' || fail "the delivered branch does not hold the work"
say "branch logist/greet holds the work; main is as it was: checked"

scene "(f) A render in three chunks, of which one fails the first time"
expect 0 logist job create --id film --spec "$project/examples/demo/film/job.json" --concurrency 2 \
  --check "30 frames=python3 frames.py count film.y4m | grep -qx 30" \
  --supervisor "command:test -s render/job.json/render-report.json"
expect 3 logist job run film
shown "chunk 2 failed: exit code 3"
shown "no licence is free"
shown "logist job resolve film --retry"
require_status film INTERVENTION_REQUIRED
touch .logist/jobs/film/licence
expect 0 logist job resolve film --retry
expect 0 logist job preview film
shown "1 would run; 2 are done and unchanged"
expect 0 logist job run film
shown "3 chunks, 30 frames, merged into film.y4m"
require_status film SUCCESS
film="$scratch/project/.logist/jobs/film/workspace"
attempts=$(tail -n +2 "$film/render/job.json/joblog.tsv" | cut -f 1 | sort -n | tr '\n' ' ')
[ "$attempts" = "1 2 3 3 " ] || fail "the attempts at the three chunks were: $attempts"
say "only the chunk that had failed was run again: checked"
hash=$(sha256sum "$film/film.y4m" | cut -d ' ' -f 1)
git --git-dir=.logist/jobs/film/repo.git show logist/film:render/job.json/render-report.json | grep -q "$hash" ||
  fail "the evidence does not hold the hash of the film"
git --git-dir=.logist/jobs/film/repo.git ls-tree -r --name-only logist/film >"$scratch/files"
! grep -q 'y4m$' "$scratch/files" || fail "the film is in git"
say "the evidence has the film's hash, and not the film: checked"

if [ -n "$browser" ]; then
  scene "(g) A page becomes a film: whole, and in three chunks"
  export LOGIST_BROWSER="$browser"
  page=(--width 320 --height 180 --duration 2 --quality 0)
  cp "$project/examples/compositions/canvas.html" sparks.html
  expect 0 logist render sparks.html -o whole.mp4 "${page[@]}"
  expect 0 logist render sparks.html -o chunks.mp4 "${page[@]}" --shards 3 --emit-job sparks.json
  expect 0 logist job run sparks.json --concurrency 2
  frames=$(python3 "$project/examples/demo/frames_of.py" whole.mp4)
  [ "$(wc -l <<<"$frames")" -eq 60 ] || fail "the film holds $(wc -l <<<"$frames") frames"
  [ "$(sort -u <<<"$frames" | wc -l)" -gt 50 ] || fail "the film stands still"
  [ "$(python3 "$project/examples/demo/frames_of.py" chunks.mp4)" = "$frames" ] || fail "chunks and whole differ"
  say "60 frames, and those of the chunks are the same to the pixel: checked"
  expect 0 logist render sparks.html -o third.png --width 320 --height 180 --frame 3
  file_type=$(head -c 4 third.png | tail -c 3)
  [ "$file_type" = PNG ] || fail "the picture of frame 3 is no PNG"
fi

cd "$project"
rm -rf "$scratch"
if [ -z "$browser" ]; then
  printf '\nNOT SHOWN: rendering. No browser is here and none could be installed; %s\n' "logist doctor says what to do." >&2
fi
printf '\nThe demo is done; every claim above was checked.\n'
