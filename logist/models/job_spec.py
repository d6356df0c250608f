"""A render job spec: chunks of frames, the command that makes each, and the command that merges them.

camelCase on disk. What Helios emits is read as it is; keys that Logist does not know are kept.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from logist.command_lines import merged_file
from logist.specs import CHUNK_NAME, LARGEST, Problem, shown, spec_problems

_ID = "must be a whole number of 0 or more, or a name of at most 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
_COMMAND = "must be one line, or a list of words"


def _whole(value: Any) -> Any:
    """Writers of JSON without integers write 30.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _chunk_id(value: Any) -> int | str:
    whole = _whole(value)
    if isinstance(whole, int) and not isinstance(whole, bool) and 0 <= whole <= LARGEST:
        return whole
    if isinstance(whole, str) and re.fullmatch(CHUNK_NAME, whole):
        return whole
    raise PydanticCustomError("chunk_id", _ID)


def _spec_id(value: Any) -> int | str | None:
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise PydanticCustomError("spec_id", "must be a whole number or text")


def _command_line(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise PydanticCustomError("command_line", _COMMAND)


def _file_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise PydanticCustomError("file_names", "must be a list of file names")


#: Helios counts chunks; others name them. A name is a part of file names.
ChunkId = Annotated[
    Annotated[int, Field(ge=0, le=LARGEST)] | Annotated[str, Field(pattern=f"^{CHUNK_NAME}$")],
    BeforeValidator(_chunk_id),
]
#: One line as a shell or Helios would read it, or the argument vector itself.
CommandLine = Annotated[str | tuple[str, ...], BeforeValidator(_command_line)]
Natural = Annotated[int, Field(strict=True, ge=0, le=LARGEST), BeforeValidator(_whole)]
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST), BeforeValidator(_whole)]
#: Kept as it is written: 30 does not become 30.0.
Rate = Annotated[int, Field(strict=True, gt=0)] | Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Seconds = Annotated[int, Field(strict=True, ge=0)] | Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


Inputs = Annotated[tuple[str, ...], BeforeValidator(_file_names)]


class SpecRecord(BaseModel):
    """A part of a spec: frozen, camelCase on disk, unknown keys kept."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)


class RenderJobMetadata(SpecRecord):
    """What the whole video is. `duration` is in seconds; `width` and `height` in pixels."""

    total_frames: Positive
    fps: Rate
    width: Positive
    height: Positive
    duration: Seconds


#: The few sets of keys that chunks without unknown keys can have.
_key_sets: dict[frozenset[str], set[str]] = {}
_NO_EXTRA: dict[str, Any] = {}


class RenderJobChunk(SpecRecord):
    """A range of frames, the command that makes it, and the file that is made, relative to the spec's folder."""

    id: ChunkId
    start_frame: Natural
    frame_count: Positive
    #: Empty: the command makes no file, and its exit code is all that is known of it.
    output_file: Annotated[str, Field(strict=True)] = ""
    command: CommandLine
    #: Files that the command reads beside those that it names.
    inputs: Inputs = ()

    @property
    def end_frame(self) -> int:
        """The first frame after the chunk."""
        return self.start_frame + self.frame_count

    def model_post_init(self, _context: Any, /) -> None:
        """Share what says which keys were given: it is most of a chunk's memory, and a spec may have 10,000."""
        if self.__pydantic_extra__:
            return
        keys = self.__pydantic_fields_set__
        object.__setattr__(self, "__pydantic_fields_set__", _key_sets.setdefault(frozenset(keys), keys))
        object.__setattr__(self, "__pydantic_extra__", _NO_EXTRA)


class RenderJobSpec(SpecRecord):
    """A whole render in chunks."""

    id: Annotated[int | str | None, BeforeValidator(_spec_id)] = None
    metadata: RenderJobMetadata
    chunks: Annotated[tuple[RenderJobChunk, ...], Field(min_length=1)]
    #: Empty: there is nothing to merge.
    merge_command: CommandLine = ""
    #: The merged file. Specs of Helios name it in the merge command only: see `merged_output`.
    output: Annotated[str, Field(strict=True)] | None = None
    #: Files that every chunk's command reads beside those that it names.
    inputs: Inputs = ()

    @property
    def merged_output(self) -> str | None:
        """The merged file as the spec names it, relative to its folder; None when nothing says what it is."""
        return self.output or merged_file(self.merge_command)


# --- From a document to a spec -------------------------------------------------------------------------------------


#: The keys that a problem's place may name; what else pydantic puts there are its own words for a type.
_KEYS = frozenset(
    field.alias for model in (RenderJobSpec, RenderJobMetadata, RenderJobChunk) for field in model.model_fields.values()
)
#: What a value must be, by pydantic's name of the problem.
_MUST_BE = {
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be an object",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
#: A file of which every chunk is wrong is not read to its end.
_ENOUGH_PROBLEMS = 100


def checked_spec(document: dict[str, Any]) -> RenderJobSpec | tuple[Problem, ...]:
    """The sound spec that `document` is as it stands on disk, else what is wrong with it.

    Takes the document over: its chunks are replaced one by one, so that not all of them are there twice at a time.
    """
    problems: list[Problem] = []
    given = document.get("chunks")
    chunks: list[Any] = given if isinstance(given, list) else []
    for place, chunk in enumerate(chunks):
        try:
            chunks[place] = RenderJobChunk.model_validate(chunk, by_alias=True, by_name=False)
        except ValidationError as error:
            problems += _problems_of(error, f"chunks[{place}]")
        if len(problems) >= _ENOUGH_PROBLEMS:
            break
    if problems:
        document = {**document, "chunks": _ANY_CHUNKS}
    try:
        spec = RenderJobSpec.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        return (*_problems_of(error), *problems)
    return tuple(problems) or spec_problems(spec) or spec


_ANY_CHUNKS = (RenderJobChunk(id=0, start_frame=0, frame_count=1, command="true"),)


def _problems_of(error: ValidationError, inside: str = "") -> list[Problem]:
    """What is wrong, one for each place: of a value that may be of two kinds, what the last kind says."""
    found = {_place(inside, each["loc"]): _sentence(each) for each in error.errors(include_url=False)}
    return [Problem(place, what) for place, what in found.items()]


def _place(inside: str, location: tuple[int | str, ...]) -> str:
    place = inside
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part in _KEYS:
            place += f".{part}" if place else part
    return place


def _sentence(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "too_short":
        return "is empty"
    known = _MUST_BE.get(error["type"])
    must_be = known.format(**error.get("ctx", {})) if known else error["msg"]
    return f"{must_be}, is {shown(error['input'])}"
