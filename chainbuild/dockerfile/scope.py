"""The variables of a stage, and how far they are known."""

from __future__ import annotations

from msgspec import Struct

from chainbuild.dockerfile.expansion import Expanded


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
