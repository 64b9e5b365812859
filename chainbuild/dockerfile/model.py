"""The content of a Dockerfile as values (directives, stages, instructions; not evaluated), and the variables of a stage."""

from __future__ import annotations

from msgspec import Struct

from chainbuild.dockerfile.expansion import Expanded
from chainbuild.dockerfile.lines import Piece
from chainbuild.errors import Problem
from chainbuild.values import Compared


class Scope(Struct):
    """The variables of a stage at a line. `open`: an image with an unknown config may have set more variables."""

    env: dict[str, str]
    uncertain: set[str]
    open: bool

    def copy(self) -> Scope:
        return Scope(dict(self.env), set(self.uncertain), self.open)

    def doubtful(self, expanded: Expanded) -> bool:
        return bool(expanded.looked_up & self.uncertain) or (self.open and bool(expanded.missing))

    def doubt_all(self) -> None:
        """Mark every variable as possibly set."""
        self.uncertain.update(self.env)
        self.open = True

    def set(self, name: str, value: str, *, doubtful: bool) -> None:
        self.env[name] = value
        (self.uncertain.add if doubtful else self.uncertain.discard)(name)


class ImageWordPosition(Struct, frozen=True, order=True):
    """The position of an image name: the line of the instruction and the index of its flag; -1 for the word of a FROM."""

    line: int
    flag: int = -1


class Flag(Struct, frozen=True, kw_only=True):
    """A flag `--name=value` of an instruction. `value` is None if there is no `=`."""

    name: str
    value: str | None = None


class Heredoc(Struct, frozen=True, kw_only=True):
    """A here-document of a RUN, COPY or ADD. `word` is its word in the instruction, such as `<<-"EOF"`."""

    word: str
    name: str
    expand: bool
    strip_tabs: bool
    content: str


class Instruction(Compared, frozen=True, kw_only=True):
    """An instruction.

    `keyword` is in upper case, `line` and `end_line` count from 1, `text` is the instruction with its continued lines
    joined (without here-documents), `original` the lines in the file. `words` are the arguments after the flags: those
    of the JSON form (`json`), else split at white space and not expanded. `rest` is the text after the flags, not split.
    `trigger` is the instruction of an ONBUILD. `pieces` map the parts of `text` to the file (empty for a trigger).
    `older`: BuildKit before 0.15 reads it as the JSON form, because it begins with a JSON array.
    """

    keyword: str
    line: int
    end_line: int
    text: str
    original: str
    flags: tuple[Flag, ...] = ()
    rest: str = ""
    words: tuple[str, ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    trigger: Instruction | None = None
    pieces: tuple[Piece, ...] = ()
    older: bool = False

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison: everything but the pieces."""
        place = (self.keyword, self.line, self.end_line, self.text, self.original)
        content = (self.flags, self.rest, self.words, self.json, self.heredocs, self.trigger, self.older)
        return place + content

    def flag(self, name: str) -> str | None:
        """Return the last value of the flag, None if it is missing; a flag without `=` has the value ``""``."""
        for flag in reversed(self.flags):
            if flag.name == name:
                return flag.value or ""
        return None

    def flag_values(self, name: str) -> tuple[str, ...]:
        """Return every value of a flag that may be repeated, in order."""
        return tuple(flag.value or "" for flag in self.flags if flag.name == name)


class ArgDeclaration(Struct, frozen=True, kw_only=True):
    """A name that an ARG declares, with its default as it is written (None: no default)."""

    name: str
    default: str | None
    line: int


class Stage(Compared, frozen=True, kw_only=True):
    """A FROM and the instructions that follow it.

    `name` is in lower case, `""` if there is none; the other values are not expanded. `head` is the FROM itself.
    """

    index: int
    name: str
    base: str
    platform: str
    line: int
    instructions: tuple[Instruction, ...] = ()
    head: Instruction | None = None

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison: everything but the FROM itself."""
        return self.index, self.name, self.base, self.platform, self.line, self.instructions


class Dockerfile(Struct, frozen=True, kw_only=True):
    """A whole Dockerfile. `syntax` is the image of the frontend (`""`: the builder's own), `check` the lint directive."""

    path: str
    syntax: str = ""
    escape: str = "\\"
    check: str = ""
    global_args: tuple[ArgDeclaration, ...] = ()
    stages: tuple[Stage, ...] = ()
    problems: tuple[Problem, ...] = ()
