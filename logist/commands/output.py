"""How data is printed: to stdout, and what agents and people wrote without its control sequences."""

from __future__ import annotations

import contextlib

import click


def print_json(value: object) -> None:
    """One JSON value, indented, in UTF-8; bytes of a file name that are none are spelled out."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def print_text(text: str | bytes) -> None:
    """Text that may come from anywhere, made harmless for a terminal."""
    from logist.plain_text import plain_text

    click.echo(plain_text(text))


def print_drawn(text: str) -> None:
    """What the console drew for stdout: made harmless there, and coloured when stdout shows colours."""
    click.echo(text)


def tell(text: str) -> None:
    """A remark for the person at the terminal, on stderr: never data."""
    from logist.plain_text import plain_text

    tell_drawn(plain_text(text))


def tell_drawn(text: str) -> None:
    """A remark that is harmless as it is: what the console drew, or words of ours."""
    # Where nobody can be told, what was done is done all the same.
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
