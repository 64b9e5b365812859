"""Apply the rules of `plugins` and `surroundings` to the kept files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.abi import abi_of
from chainbuild.minimize.constants import Constants, read_from
from chainbuild.minimize.elf import Elf
from chainbuild.minimize.ground import Ground
from chainbuild.minimize.plugins import PLUGINS, libraries_in
from chainbuild.minimize.root import Node, base, join, parent
from chainbuild.minimize.rules import BIG, Rule, Rules, filled
from chainbuild.minimize.search import is_musl
from chainbuild.minimize.select import is_wide
from chainbuild.minimize.surroundings import SURROUNDINGS

_MOST_READ = 64
_MOST_ENTRIES = 200_000
_PLUGIN_NAMES = frozenset(rule.name for rule in PLUGINS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """What triggers rules: a file of the chain's image, or a library that the production image has itself.

    `path` is its path in its image, `node` the file, `elf` its content if it is an ELF file.
    """

    path: str
    node: Node
    elf: Elf | None = None
    constants: Constants = field(default_factory=Constants)
    called: frozenset[str] = frozenset()
    provided: bool = False


class Applier:
    """Applies rules to triggers, each rule once per trigger."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.rules = Rules(PLUGINS, SURROUNDINGS)
        self._done: set[tuple[str, str]] = set()
        self._warnings: list[tuple[Rule, Trigger]] = []

    def apply(self, trigger: Trigger) -> bool:
        """Apply all rules of `trigger`; return whether anything new is kept or needed."""
        more = False
        for rule, groups in self._rules_of(trigger):
            if (rule.name, trigger.path) not in self._done:
                self._done.add((rule.name, trigger.path))
                more |= self._apply(rule, trigger, groups)
        return more

    def tell(self) -> None:
        """Note the warnings of rules, at the end, when the content of the result is final."""
        for rule, trigger in self._warnings:
            matches = {pattern: self.ground.chain.glob(pattern) for pattern in rule.tells}
            if not any(self.ground.has(path) for paths in matches.values() for path in paths):
                for pattern in (pattern for pattern, paths in matches.items() if paths):
                    folder = parent(pattern)
                    self.ground.note(
                        trigger.path, folder, folder, "surroundings", rule.tells_what, "left", rule=rule.name
                    )

    def _rules_of(self, trigger: Trigger) -> Iterator[tuple[Rule, dict[str, str]]]:
        elf = trigger.elf
        if elf is not None and not elf.executable:
            for rule in self.rules.of_library(elf.soname or base(trigger.path)):
                if rule.any_origin or not trigger.provided:
                    yield rule, {}
        if trigger.provided:
            return
        yield from self.rules.of_program(trigger.path)
        if elf is not None and not is_musl(self.ground.loader.interpreter_for(elf)):
            yield from ((rule, {}) for name, rule in self.rules.imports.items() if name in trigger.called)
        yield from ((rule, {}) for path, rule in self.rules.mentions.items() if path in trigger.constants.paths)

    def _apply(self, rule: Rule, trigger: Trigger, groups: dict[str, str]) -> bool:
        ground, elf = self.ground, trigger.elf
        if rule.same_libc and elf is not None and not ground.has_same_libc(elf):
            return False
        triplet = abi_of(elf).triplet if elf is not None else "*"
        fills = [groups | {"read": read} for read in self._read(rule, trigger)] if rule.reads else [groups]

        def globbed(patterns: Iterable[str]) -> list[str]:
            texts = (
                filled(pattern.replace("{triplet}", triplet), trigger.path, fill)
                for pattern in patterns
                for fill in fills
            )
            return list(dict.fromkeys(path for text in dict.fromkeys(texts) for path in ground.chain.glob(text)))

        if rule.requires and not globbed(rule.requires):
            return False
        mentioned = (path.rstrip("/") for path in trigger.constants.paths if rule.names(path))
        more = self._bring(rule, trigger, dict.fromkeys((*globbed(rule.brings), *mentioned)))
        if elf is not None and not trigger.provided:
            names = [pattern for pattern in rule.opens if "/" not in pattern]
            names += [base(path) for path in globbed(pattern for pattern in rule.opens if "/" in pattern)]
            for name in names:
                more |= self._open(rule, trigger, elf, name)
            for manifest in globbed(rule.manifests):
                more |= self._manifest(rule, trigger, elf, manifest)
        if rule.tells and ground.arguments.keep_surroundings:
            self._warnings.append((rule, trigger))
        return more

    def _keeps(self, rule: Rule) -> bool:
        arguments = self.ground.arguments
        return arguments.keep_plugins if _kind(rule) == "plugin" else arguments.keep_surroundings

    def _read(self, rule: Rule, trigger: Trigger) -> Iterator[str]:
        """Yield the paths that the rule reads from its trigger, without `..`."""
        if trigger.elf is not None:
            values = read_from(trigger.node.host, trigger.elf, rule.reads)
        else:
            text = self.ground.chain.read(trigger.path) or b""
            values = tuple(os.fsdecode(match[1]) for match in re.finditer(rule.reads, text))
        for path in values[:_MOST_READ]:
            plain = "/" + "/".join(part for part in path.split("/") if part)
            if ".." not in plain.split("/") and not (is_wide(plain) and "{read}" in rule.brings):
                yield plain

    def _bring(self, rule: Rule, trigger: Trigger, paths: Iterable[str]) -> bool:
        """Keep the files at `paths` that exist and that the production image lacks."""
        ground = self.ground
        tops: list[str] = []
        for path in paths:
            top = ground.chain.resolve(path, follow=False)
            if top is not None and not is_wide(top) and top not in ground.selection.kept and not rule.leaves_out(top):
                tops.append(path)
        size = sum(self._size(rule, path) for path in tops) if rule.limited and self._keeps(rule) else 0
        more = False
        for path in tops:
            state = "left"
            if self._keeps(rule) and size <= BIG:
                reason = f"{rule.what}, which {trigger.path} {_verb(rule)}"
                state = "kept" if ground.keep(path, reason, trigger.path, rule.leaves_out) else "production"
            elif ground.production.resolve(path) is not None:
                state = "production"
            top = ground.chain.resolve(path, follow=False) or path
            reported = size if state == "left" else 0
            ground.note(trigger.path, path, top, _kind(rule), rule.what, state, rule=rule.name, size=reported)
            more |= state == "kept"
        return more

    def _size(self, rule: Rule, path: str) -> int:
        """Return the bytes of the files at and below `path` that the rule would bring and the result lacks."""
        ground, size = self.ground, 0
        top = ground.chain.resolve(path)
        walk = ground.chain.walk(top, leave=rule.leaves_out) if top is not None else iter(())
        for _, (place, node) in zip(range(_MOST_ENTRIES), walk, strict=False):
            if node.kind == "file" and place not in ground.selection.kept and ground.production.entry(place) is None:
                size += node.size
        return size

    def _open(self, rule: Rule, trigger: Trigger, elf: Elf, name: str) -> bool:
        keep = self._keeps(rule)
        return self.ground.open(trigger.path, elf, name, _kind(rule), rule.what, keep=keep, rule=rule.name)

    def _manifest(self, rule: Rule, trigger: Trigger, elf: Elf, manifest: str) -> bool:
        more = self._bring(rule, trigger, [manifest])
        for name in libraries_in(self.ground.chain.read(manifest) or b""):
            if "/" in name:
                more |= self._bring(rule, trigger, [name if name.startswith("/") else join(parent(manifest), name)])
            else:
                more |= self._open(rule, trigger, elf, name)
        return more


def _kind(rule: Rule) -> str:
    return "plugin" if rule.name in _PLUGIN_NAMES else "surroundings"


def _verb(rule: Rule) -> str:
    return "loads" if _kind(rule) == "plugin" else "uses"
