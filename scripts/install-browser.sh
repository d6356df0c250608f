#!/usr/bin/env bash
# Sees to it that there is a browser that renders compositions; does nothing where one is found.
# Usage: scripts/install-browser.sh [--system]
#   Without --system nothing outside this checkout is changed: the browser goes to .cache/browsers.
#   --system may use the system's package manager, as root or by sudo without a password.
# Prints the browser's path. Needs .venv: run scripts/setup-env.sh first.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$root/.venv/bin/python
downloads=$root/.cache/browsers
log=$root/.cache/install-browser.log

find_browser() {
    PLAYWRIGHT_BROWSERS_PATH=${PLAYWRIGHT_BROWSERS_PATH:-$downloads} "$python" - <<'END'
import os, sys
from logist.errors import BrowserMissing
from logist.render.browser import find_browser
try:
    print(find_browser(None, os.environ).path)
except BrowserMissing as missing:
    sys.exit(f"{missing}; {missing.hint}")
END
}

by_package() {
    "$root/scripts/apt-install.sh" chromium-headless-shell chromium fonts-dejavu-core
}

by_download() {
    "$python" -m venv "$root/.cache/playwright" &&
        "$root/.cache/playwright/bin/python" -m pip install -qq playwright &&
        PLAYWRIGHT_BROWSERS_PATH=$downloads "$root/.cache/playwright/bin/playwright" install --only-shell chromium
}

if find_browser 2>/dev/null; then
    exit 0
fi
mkdir -p "$root/.cache"
printf 'Installing a browser\n' >&2
if [[ ${1-} == --system ]] && by_package >"$log" 2>&1 && find_browser; then
    exit 0
fi
if by_download >>"$log" 2>&1 && find_browser; then
    exit 0
fi
printf 'Error: no browser could be installed\n' >&2
tail -n 5 "$log" >&2
printf 'Hint: install chromium-headless-shell (Debian) or any Chromium, then run this again.\n' >&2
exit 1
