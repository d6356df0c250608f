"""`logist merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import json_option
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.render.merge import Merged
    from logist.render.options import AudioTrack


@click.command()
@click.argument("output", help="The file to make: .mp4, .m4v, .mov, .mkv or .webm.")
@click.argument("inputs", nargs=-1, required=True, help="The videos, in the order in which they are shown.")
@click.option("--video-codec", metavar="CODEC", help="Transcode the frames: h264, hevc, vp9, … Default: copy.")
@click.option(
    "--audio-codec",
    metavar="CODEC",
    help="Transcode the sound: aac, opus, …; none leaves it out. Default: copy, or what suits OUTPUT when it is mixed.",
)
@click.option(
    "--audio",
    metavar="FILE[,NAME=VALUE]…",
    multiple=True,
    help="Mix this sound in; names: offset, seek, duration, fade-in, fade-out (seconds), volume, rate, loop=true.",
)
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
    audio: tuple[str, ...],
    quality: float | None,
    preset: str | None,
    as_json: bool,
) -> None:
    """Make OUTPUT of the videos INPUTS, one after the other, frame by frame without a gap.

    Frames and sound are copied as they are unless an option asks for transcoding. The parts of a render know which
    sounds belong to it: these are mixed here. OUTPUT is decoded before it gets its name; a file of that name stays
    until then.
    """
    from pathlib import Path

    from logist.commands.signals import ended_cleanly
    from logist.render.merge import MergeOptions
    from logist.render.merge import merge as merge_videos

    options = MergeOptions(video_codec, audio_codec, quality, preset, tuple(map(_track, audio)))
    with ended_cleanly():
        merged = merge_videos(Path(output), [Path(name) for name in inputs], options)
    for warning in merged.warnings:
        tell(f"warning: {warning}")
    tell(_sentence(merged, silenced=audio_codec == "none"))
    if as_json:
        print_json(_values(merged))


def _track(text: str) -> AudioTrack:
    from logist.render.flags import parse_track

    try:
        return parse_track(text)
    except ValueError as error:
        raise UsageProblem(f"--audio: {error}", "see logist help merge") from error


def _sentence(merged: Merged, *, silenced: bool) -> str:
    made = [f"{merged.video_codec} {'transcoded' if merged.video_transcoded else 'copied'}"]
    if merged.sounds:
        made.append(f"{merged.audio_codec} mixed of {merged.sounds} {'sound' if merged.sounds == 1 else 'sounds'}")
    elif merged.audio_codec is not None:
        made.append(f"{merged.audio_codec} {'transcoded' if merged.audio_transcoded else 'copied'}")
    elif silenced:
        made.append("no sound, as asked for")
    return (
        f"{merged.output}: {merged.frames} frames of {merged.width}x{merged.height} pixels, "
        f"{merged.duration:.3f} s at {float(merged.fps):.6g} frames a second, "
        f"{merged.size} bytes, {', '.join(made)}, from {merged.inputs} {'file' if merged.inputs == 1 else 'files'}"
    )


def _values(merged: Merged) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(merged), "fps": str(merged.fps), "duration": merged.duration}
