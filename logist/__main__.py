"""`python -m logist` is `logist`."""

from __future__ import annotations

from logist.cli import main

if __name__ == "__main__":
    main()
