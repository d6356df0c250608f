"""What a worker runs for `--storage`: `python -m logist.commands.stored_chunk STORAGE BUNDLE CHUNK`.

No command for people. It prints what the chunk's command prints, and nothing else unless something is wrong.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import NoReturn

from logist.chunk_attempts import TOKEN_VARIABLE, new_token
from logist.chunk_selection import BundleAddress
from logist.chunks import ChunkId
from logist.commands.output import tell
from logist.commands.signals import ended_cleanly
from logist.errors import ExitCode, LogistError
from logist.execution.local import LocalWorkerAdapter
from logist.stored_chunks import StoredChunk, run_stored_chunk


def main(arguments: list[str]) -> NoReturn:
    """Make the chunk, and end as its command did; what else went wrong is told on stderr."""
    storage, bundle, chunk = arguments
    wanted = StoredChunk(BundleAddress(storage, bundle), chunk, os.environ.get(TOKEN_VARIABLE) or new_token())
    try:
        with ended_cleanly(), closing(LocalWorkerAdapter()) as adapter:
            result = run_stored_chunk(wanted, adapter, _pass_on)
    except LogistError as error:
        tell(f"Error: {error.message}")
        tell(f"Hint: {error.hint}")
        sys.exit(int(error.exit_code))
    if result.problem and not result.exit_code:
        tell(f"Error: {result.problem}")
    sys.exit(result.exit_code or (ExitCode.CHUNK_FAILED if result.problem else ExitCode.SUCCESS))


def _pass_on(_chunk: ChunkId | None, data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
