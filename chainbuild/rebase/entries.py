"""Three-way merges of named entries: what the step added, changed and removed, applied to what the new base has. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

Entries = Mapping[str, bytes]


class MergeConflictError(Exception):
    """Entries that were changed on both sides; `names` are texts for people."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(", ".join(self.names))


def merged_entries(old: Entries, new: Entries, mine: Entries, describe: Callable[[str], str] = str) -> Entries:
    """Return the entries of `new` with what `mine` added, changed and removed compared with `old`, in the order of `new`.

    Errors: `MergeConflictError` with `describe(name)` of each entry that both changed differently.
    """
    result: dict[str, bytes] = {}
    conflicts: list[str] = []
    for name in dict.fromkeys((*new, *mine)):
        before, after, own = old.get(name), new.get(name), mine.get(name)
        if own != before and after not in (before, own):
            conflicts.append(describe(name))
            continue
        chosen = after if own == before else own
        if chosen is not None:
            result[name] = chosen
    if conflicts:
        raise MergeConflictError(conflicts)
    return result
