"""What a Dockerfile says, as values, and the variables of a stage.

The variables of a stage, and how far they are known.

What a Dockerfile says, as values: directives, stages, instructions; nothing is evaluated here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from chainbuild.dockerfile.expansion import Expanded
from chainbuild.dockerfile.lines import Piece
from chainbuild.errors import Problem


class Scope(Struct):
    """The variables of a stage at one line. `open`: an image that was not looked into may have set more of them."""

    env: dict[str, str]
    uncertain: set[str]
    open: bool

    def copy(self) -> Scope:
        return Scope(dict(self.env), set(self.uncertain), self.open)

    def doubtful(self, expanded: Expanded) -> bool:
        return bool(expanded.looked_up & self.uncertain) or (self.open and bool(expanded.missing))

    def doubt_all(self) -> None:
        """Any variable may have been set."""
        self.uncertain.update(self.env)
        self.open = True

    def set(self, name: str, value: str, *, doubtful: bool) -> None:
        self.env[name] = value
        (self.uncertain.add if doubtful else self.uncertain.discard)(name)


class ImageWordPosition(Struct, frozen=True, order=True):
    """Where a Dockerfile names an image: the line of the instruction and which of its flags; -1 is the word of a FROM."""

    line: int
    flag: int = -1


class Flag(Struct, frozen=True, kw_only=True):
    """One `--name=value` of an instruction. `value` is None where there is no `=`."""

    name: str
    value: str | None = None


class Heredoc(Struct, frozen=True, kw_only=True):
    """One here-document of a RUN, COPY or ADD. `word` is what stands in the instruction, as in `<<-"EOF"`."""

    word: str
    name: str
    expand: bool
    strip_tabs: bool
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction.

    `keyword` is in upper case, `line` and `end_line` count from 1, `text` is the instruction with its continued lines
    joined (here-documents not included), `original` the lines as they stand in the file. `words` are the arguments
    after the flags: those of the JSON form (`json`), else split at white space and not yet expanded. `rest` is what
    follows the flags, unsplit. `trigger` is the instruction that an ONBUILD holds. `pieces` say where in the file the
    parts of `text` stand (none for a trigger). `older`: BuildKit before 0.15 takes it for the JSON form, because it
    begins with a JSON array.
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
    pieces: tuple[Piece, ...] = field(default=(), compare=False, repr=False)
    older: bool = False

    def flag(self, name: str) -> str | None:
        """The last value of the flag, None where it is not there; a flag without `=` has the value ``""``."""
        for flag in reversed(self.flags):
            if flag.name == name:
                return flag.value or ""
        return None

    def flag_values(self, name: str) -> tuple[str, ...]:
        """Every value of a flag that may stand several times, in order."""
        return tuple(flag.value or "" for flag in self.flags if flag.name == name)


class ArgDeclaration(Struct, frozen=True, kw_only=True):
    """One name of an ARG, with its default as it is written (None: a bare name)."""

    name: str
    default: str | None
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One FROM and what follows it.

    `name` is in lower case, `""` if there is none; the rest is not expanded. `head` is the FROM itself.
    """

    index: int
    name: str
    base: str
    platform: str
    line: int
    instructions: tuple[Instruction, ...] = ()
    head: Instruction | None = field(default=None, compare=False, repr=False)


class Dockerfile(Struct, frozen=True, kw_only=True):
    """A whole Dockerfile. `syntax` is the frontend's image (`""`: the builder's own), `check` the lint directive."""

    path: str
    syntax: str = ""
    escape: str = "\\"
    check: str = ""
    global_args: tuple[ArgDeclaration, ...] = ()
    stages: tuple[Stage, ...] = ()
    problems: tuple[Problem, ...] = ()
