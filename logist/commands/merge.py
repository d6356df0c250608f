"""`logist merge`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import json_option
from logist.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType

    from logist.render.merge import Merged


@click.command()
@click.argument("output", help="The file to make: .mp4, .m4v, .mov, .mkv or .webm.")
@click.argument("inputs", nargs=-1, required=True, help="The videos, in the order in which they are shown.")
@click.option("--video-codec", metavar="CODEC", help="Transcode the frames: h264, hevc, vp9, … Default: copy.")
@click.option("--audio-codec", metavar="CODEC", help="Transcode the sound: aac, opus, … Default: copy.")
@click.option(
    "--quality",
    metavar="N",
    type=click.FloatRange(min=0, max=255),
    help="Transcode the frames with this constant rate factor; the codec stays when none is named.",
)
@click.option("--preset", metavar="NAME", help="Transcode the frames with the encoder's preset of this name.")
@json_option
def merge(
    output: str,
    inputs: tuple[str, ...],
    video_codec: str | None,
    audio_codec: str | None,
    quality: float | None,
    preset: str | None,
    as_json: bool,
) -> None:
    """Make OUTPUT of the videos INPUTS, one after the other, frame by frame without a gap.

    Frames and sound are copied as they are unless an option asks for transcoding. OUTPUT is decoded before it gets its
    name; a file of that name stays until then.
    """
    from pathlib import Path

    from logist.render.merge import MergeOptions
    from logist.render.merge import merge as merge_videos

    options = MergeOptions(video_codec, audio_codec, quality, preset)
    with _stopped_cleanly(), _quiet_encoders():
        merged = merge_videos(Path(output), [Path(name) for name in inputs], options)
    tell(_sentence(merged))
    if as_json:
        print_json(_values(merged))


@contextlib.contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """SIGTERM ends the command the way Ctrl-C does: what was half written is removed first."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(int(ExitCode.TERMINATED))

    previous = signal.getsignal(signal.SIGTERM)
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _quiet_encoders() -> Iterator[None]:
    """SVT-AV1 tells the terminal about itself unless a variable asks it not to."""
    if "SVT_LOG" in os.environ:
        yield
        return
    os.environ["SVT_LOG"] = "1"
    try:
        yield
    finally:
        del os.environ["SVT_LOG"]


def _sentence(merged: Merged) -> str:
    made = [f"{merged.video_codec} {'transcoded' if merged.video_transcoded else 'copied'}"]
    if merged.audio_codec is not None:
        made.append(f"{merged.audio_codec} {'transcoded' if merged.audio_transcoded else 'copied'}")
    return (
        f"{merged.output}: {merged.frames} frames of {merged.width}x{merged.height} pixels, "
        f"{merged.duration:.3f} s at {float(merged.fps):.6g} frames a second, "
        f"{merged.size} bytes, {', '.join(made)}, from {merged.inputs} {'file' if merged.inputs == 1 else 'files'}"
    )


def _values(merged: Merged) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(merged), "fps": str(merged.fps), "duration": merged.duration}
