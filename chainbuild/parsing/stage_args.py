"""Stage arguments: what the options of a chain request from the stages, merged, and as each stage's Dockerfile gets it.

An option's requests are the args of its `minimize-<platform>-args` and `production-<platform>-args` that a stage declares.
They also apply to the options above it: an own value replaces an inherited one, lists are joined, and `!item` removes an
inherited item from a list. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.minimize.lists import EVERYTHING, ListWord, as_list, words_in
from chainbuild.model import Ask, BuildArg, Chain, Graph, Step
from chainbuild.patterns import regex
from chainbuild.step_id import StepId
from chainbuild.values import replace

PACKAGES: Final = "PRODUCTION_PACKAGES"
LOCATIONS: Final = "ADDITIONAL_LIB_LOCATIONS"
DATA: Final = "KEEP_DATA"
"""A list, or `0` or `1` for nothing or everything."""
LISTS: Final = frozenset({"ADDITIONAL_FILES", "TRACE_IGNORE", LOCATIONS, DATA, PACKAGES})
"""The stage arguments that are lists."""
_BELOW: Final = frozenset({LOCATIONS, DATA})
"""Lists of items that may be missing in the results of the options above: there, they may match nothing."""
_ESCAPED: Final = regex(r"\\.", re.DOTALL)
_ENVIRONMENT: Final = " (environment)"


class MergedStageArgs(Struct, frozen=True, kw_only=True):
    """The requests that apply to the stages, and the problems of the option's own args."""

    asks: tuple[Ask, ...]
    problems: tuple[Problem, ...] = ()


def has_commas(value: str) -> bool:
    """Return True if a list is written with commas."""
    return "," in _ESCAPED.sub("", value)


def merge(inherited: Sequence[Ask], own: Sequence[BuildArg], option: str) -> MergedStageArgs:
    """Merge an option's own stage args into the requests that it inherits.

    Arguments, and the items of a list, keep the order in which they were first requested.
    """
    by_name = {arg.name: arg for arg in own}
    asks: list[Ask] = []
    problems: list[Problem] = []
    for name in dict.fromkeys((*(ask.name for ask in inherited), *by_name)):
        below = [ask for ask in inherited if ask.name == name]
        arg = by_name.get(name)
        if arg is None:
            asks += below
        elif name in LISTS:
            asks += _list(below, arg, option, problems)
        else:
            asks.append(Ask(name=name, value=arg.value, option=option, origin=arg.origin))
    return MergedStageArgs(asks=tuple(asks), problems=tuple(problems))


def _list(below: Sequence[Ask], arg: BuildArg, option: str, problems: list[Problem]) -> list[Ask]:
    """Return the items of a list: the inherited ones that are not removed, then the option's own."""
    words = words_in(arg.value)
    kept = {word.text: ask for ask in below for word in words_in(ask.value)}
    before = dict(kept)
    commas = has_commas(arg.value)
    for word in words:
        if word.taken_back:
            removed = list(before) if word.text == EVERYTHING else [text for text in before if text == word.text]
            for text in removed:
                kept.pop(text, None)
            if not removed:
                problems.append(_takes_nothing(arg, word, list(before)))
        elif word.optional and arg.name == PACKAGES:
            hint = f"Write {ListWord(text=word.text)}: a named package must exist."
            problems.append(_problem(arg, f"{arg.name}: {str(word)!r}: a package cannot be optional", hint))
    for word in words:
        # If an item is both required and optional, it is required.
        if not word.taken_back and not (word.optional and word.text in kept):
            kept[word.text] = Ask(name=arg.name, value=str(word), option=option, origin=arg.origin, commas=commas)
    if arg.name == DATA:
        kept = _switched(kept, [word.text for word in words if not word.taken_back])
    return list(kept.values()) or [Ask(name=arg.name, value="", option=option, origin=arg.origin)]


def _switched(kept: Mapping[str, Ask], own: Collection[str]) -> dict[str, Ask]:
    """Resolve a list that may be a switch: an own `0` or `1` replaces everything; items add nothing to an inherited `1`."""
    for switch in ("0", "1"):
        if switch in own:
            return {switch: kept[switch]}
    if "1" in kept:
        return {"1": kept["1"]}
    return {text: ask for text, ask in kept.items() if text != "0" or not own}


def _takes_nothing(arg: BuildArg, word: ListWord, inherited: Sequence[str]) -> Problem:
    items = as_list(ListWord(text=text) for text in inherited)
    hint = f"The inherited items are: {items}." if items else "Remove it: no option below requests anything."
    return _problem(arg, f"{arg.name}: {str(word)!r} removes nothing", hint)


def _problem(arg: BuildArg, message: str, hint: str) -> Problem:
    path, line = place_of(arg.origin)
    return Problem(path=path, line=line, message=message, hint=hint)


def place_of(origin: str) -> tuple[str, int]:
    """Return the path and line of a build argument's origin, or the flag's name and 0 for the command line."""
    path, _, line = origin.removesuffix(_ENVIRONMENT).rpartition(":")
    return (path, int(line)) if line.isdecimal() else (origin, 0)


def args_for(
    asks: Sequence[Ask], declared: Collection[str], option: str, *, plain: bool = False
) -> tuple[BuildArg, ...]:
    """Return the args that a stage of an option gets, of those that its Dockerfile declares.

    Lists are always written in the same way, so that only their items affect a key. Items that need not be in the results
    of options above the requesting one become optional there. `plain`: for a stage of the tree itself, which supports only
    plain items: those of a list have no `?`, and are separated by commas if one of the lists was.
    """
    commas = plain and any(ask.commas for ask in asks)
    args: list[BuildArg] = []
    for name in dict.fromkeys(ask.name for ask in asks if ask.name in declared):
        mine = [ask for ask in asks if ask.name == name]
        origin = ", ".join(dict.fromkeys(ask.origin or f"from {ask.option}" for ask in mine))
        value = mine[-1].value
        if name in LISTS:
            words: Iterable[ListWord] = (
                _as_inherited(word, ask, option) for ask in mine for word in words_in(ask.value)
            )
            if plain or name == PACKAGES:
                words = (ListWord(text=word.text) for word in words)
            value = as_list(words, "," if commas else " ")
        args.append(BuildArg(name=name, value=value, origin=origin))
    return tuple(args)


def packages_for_scratch(args: Iterable[BuildArg]) -> list[Problem]:
    """Return the problems of packages to install into the empty image, which has no apt."""
    packages = next((arg for arg in args if arg.name == PACKAGES and arg.value.strip()), None)
    if packages is None:
        return []
    path, line = place_of(packages.origin.partition(", ")[0])
    return [
        Problem(
            path=path,
            line=line,
            message=f"{PACKAGES}: packages cannot be installed, because PRODUCTION is scratch and has no apt",
            hint=f"Name the files in ADDITIONAL_FILES, remove the inherited packages ({PACKAGES}=!*), or use a PRODUCTION"
            " image of the distribution.",
        )
    ]


def _as_inherited(word: ListWord, ask: Ask, option: str) -> ListWord:
    if ask.name in _BELOW and _is_inherited(ask, option) and word.text not in {"0", "1"}:
        return replace(word, optional=True)
    return word


def _is_inherited(ask: Ask, option: str) -> bool:
    return ask.option != option or not ask.origin


class StageArgument(Struct, frozen=True, kw_only=True):
    """A stage argument as shown in a plan: the value that the stage gets, and the inherited part of it.

    `inherited` has pairs of the value (or the items) and the option that requested it, lowest option first.
    """

    name: str
    value: str
    inherited: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> str:
        """The inherited part as text; empty if there is none."""
        return "; ".join(f"{self.name}={value} (from {option})" for value, option in self.inherited)

    def as_json(self) -> dict[str, object]:
        """Return the argument's part of a JSON document."""
        inherited = [{"value": value, "from": option} for value, option in self.inherited]
        return {"name": self.name, "value": self.value, "inherited": inherited}


def arguments_of(chain: Chain, stage: Step) -> tuple[StageArgument, ...]:
    """Return the requested arguments that a stage of a chain gets."""
    arguments: list[StageArgument] = []
    for arg in stage.args:
        asks = [ask for ask in chain.asks if ask.name == arg.name]
        if not asks:
            continue
        by_option: dict[str, list[str]] = {}
        for ask in asks:
            if _is_inherited(ask, chain.option) and (ask.value or ask.name not in LISTS):
                by_option.setdefault(ask.option, []).append(ask.value)
        inherited = tuple((" ".join(values), option) for option, values in by_option.items())
        arguments.append(StageArgument(name=arg.name, value=arg.value, inherited=inherited))
    return tuple(arguments)


def stage_arguments(graph: Graph) -> Mapping[StepId, tuple[StageArgument, ...]]:
    """Return the arguments of every stage of a graph."""
    return {
        stage.id: arguments_of(chain, stage)
        for chain in graph.chains
        for stage in (chain.minimize, chain.production)
        if stage
    }
