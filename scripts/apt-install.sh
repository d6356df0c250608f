#!/usr/bin/env bash
# Installs packages of Debian: scripts/apt-install.sh PACKAGE...
# As root, or by sudo without a password; without a word it fails where neither is possible, or where there is no apt-get.
set -euo pipefail

command -v apt-get >/dev/null
privilege=()
if ((EUID)); then
    sudo -n true 2>/dev/null
    privilege=(sudo -n)
fi
"${privilege[@]}" apt-get -qq update
# RUNLEVEL: a service that is started by its package would be one more, with files of its own.
"${privilege[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -qq install --yes --no-install-recommends "$@"
