#!/usr/bin/env bash
# Sees to it that there is a Slurm that the tests can start; does nothing where there is one.
# Usage: scripts/install-slurm.sh    by the system's package manager, as root or by sudo without a password
# Only programs are installed: no service of Slurm is started, and none is configured.
set -euo pipefail

fail() {
    printf 'Error: %s\nHint: %s\n' "$1" "$2" >&2
    exit 1
}

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
log=$root/.cache/install-slurm.log
# Where Debian has the servers, which is not on everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin

missing() {
    local program
    for program in munged slurmctld slurmd sbatch squeue scancel scontrol; do
        command -v "$program" >/dev/null || printf '%s ' "$program"
    done
}

[[ -n $(missing) ]] || exit 0
mkdir -p "$root/.cache"
printf 'Installing Slurm\n' >&2
"$root/scripts/apt-install.sh" slurmctld slurmd slurm-client munge >"$log" 2>&1 || tail -n 5 "$log" >&2
left=$(missing)
[[ -z $left ]] || fail "Slurm could not be installed: ${left% } missing" \
    'Install slurmctld, slurmd, slurm-client and munge (Debian), then run this again.'
