"""Update images in the text of a plan: only the keys that the program writes get new lines, all other bytes stay.

The positions come from the marks of the YAML reader. A comment in updated lines stays with its line or, if that line is
gone, at its position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import yaml
from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.patterns import regex
from chainbuild.release.model import PlannedImage
from chainbuild.release.rules import WRITTEN
from chainbuild.release.writing import REASON_HERE, image_lines, key_lines
from chainbuild.yamlspec.nodes import compose

_ENDS: Final = regex("(\r\n|[\n\r\x85\u2028\u2029])")
"""The line ends that the YAML reader counts."""
_BLOCK: Final = "Write one key per line, as chainbuild release create does."


class _Edit(Struct, frozen=True):
    """Replace the lines from `first` up to `last` (exclusive; counted from 0) with `lines`."""

    first: int
    last: int
    lines: list[str]


def renew(raw: bytes, shown: str, images: Mapping[str, PlannedImage], added: Sequence[PlannedImage] = ()) -> bytes:
    """Return the plan's text with these images updated (by their names in the file) and new images added at the end.

    The text must be a valid plan. Errors: `WrongUseError` if its format does not allow replacing lines.
    """
    bom = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    pieces = _ENDS.split(raw.decode("utf-8-sig"))
    lines, ends = pieces[0::2], [*pieces[1::2], ""]
    root = compose(raw)
    table = _value(root, "images") if isinstance(root, yaml.MappingNode) else None
    problems: list[Problem] = []
    edits: list[_Edit] = []
    if not isinstance(table, yaml.MappingNode):
        raise ValueError("not a plan")  # noqa: TRY004  # the caller's mistake, not a value's type
    if table.flow_style and (table.value or added):
        raise WrongUseError([_flow(shown, table, "images")])
    for key, node in table.value:
        image = images.get(key.value)
        if image is None:
            continue
        if not isinstance(node, yaml.MappingNode) or node.flow_style:
            problems.append(_flow(shown, node, key.value))
            continue
        result, wrong = _edits(node, image, lines, shown)
        edits += result
        problems += wrong
    if problems:
        raise WrongUseError(problems)
    column = table.value[0][0].start_mark.column if table.value else 2
    more = [line for image in added for line in image_lines(image, column)]
    if more:
        end = max((_end(node, lines) for _, node in table.value), default=table.start_mark.line + 1)
        edits.append(_Edit(end, end, more))
    ending = ends[0] or "\n"
    for edit in sorted(edits, key=lambda item: (item.first, item.last), reverse=True):
        if edit.first and edit.lines and not ends[edit.first - 1]:
            ends[edit.first - 1] = ending  # the last line of the file had no line end
        lines[edit.first : edit.last] = edit.lines
        ends[edit.first : edit.last] = [ending] * len(edit.lines)
    return bom + "".join(line + end for line, end in zip(lines, ends, strict=True)).encode("utf-8")


def _flow(shown: str, node: yaml.Node, name: str) -> Problem:
    message = f"{name} is written in braces and cannot be updated line by line"
    return Problem(path=shown, line=node.start_mark.line + 1, message=message, hint=_BLOCK)


def _value(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in node.value if key.value == name), None)


def _edits(
    node: yaml.MappingNode, image: PlannedImage, lines: list[str], shown: str
) -> tuple[list[_Edit], list[Problem]]:
    edits: list[_Edit] = []
    column = node.value[0][0].start_mark.column
    present = {key.value: (key, value) for key, value in node.value}
    last = _end(node, lines)
    missing: list[str] = []
    for name in WRITTEN:
        new = key_lines(image, name, column)
        if name in present:
            key, value = present[name]
            first, end = key.start_mark.line, _end(value, lines)
            if lines[first][: key.start_mark.column].strip():
                return [], [_flow(shown, key, name)]
            edits.append(_Edit(first, end, with_comments(lines[first:end], new)))
        else:
            missing += new
    if missing:
        edits.append(_Edit(last, last, missing))
    key, value = present["decision"]
    if value.value != image.decision and not any(edit.first <= value.start_mark.line < edit.last for edit in edits):
        at = value.start_mark
        line = lines[at.line]
        edits.append(_Edit(at.line, at.line + 1, [line[: at.column] + image.decision + line[value.end_mark.column :]]))
    return edits, []


def _end(node: yaml.Node, lines: list[str]) -> int:
    """Return the line after the last line of a value; comments below it do not belong to it."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last, lines)
    end = node.end_mark.line + (1 if node.end_mark.column or node.end_mark.line == node.start_mark.line else 0)
    # A multi-line scalar ends where the next node begins. In a literal scalar, # does not begin a comment.
    literal = isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}
    while end > node.start_mark.line + 1 and not lines[end - 1].strip():
        end -= 1
    while not literal and end > node.start_mark.line + 1 and _is_comment(lines[end - 1]):
        end -= 1
    return end


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


_Path = tuple[str, ...]
"""A line's content, after the contents of its parent lines: identifies a line among equal lines elsewhere."""


def with_comments(old: list[str], new: list[str]) -> list[str]:
    """Return the new lines with the comments of the old: next to equal lines, else at their old positions."""
    comments: dict[_Path, tuple[list[str], str]] = {}
    waiting: list[str] = []
    trail = _Trail()
    for line in old:
        if _is_comment(line):
            waiting.append(line)
            continue
        content, comment = _split(line)
        above, behind = comments.get(path := trail.of(content), ([], ""))
        if behind and comment.strip() not in {"", REASON_HERE}:
            # If a line occurs twice, only one comment fits behind it.
            if behind.strip() != REASON_HERE:
                waiting.append(content[: len(content) - len(content.lstrip())] + comment.lstrip())
            else:
                behind = comment
        comments[path] = ([*above, *waiting], behind or comment)
        waiting = []
    trail = _Trail()
    paths = [trail.of(_split(line)[0]) for line in new]
    kept, order = frozenset(paths), list(comments)
    result: list[str] = []
    reached = 0
    for path, line in zip(paths, new, strict=True):
        if path not in comments:
            result.append(line)
            continue
        place = order.index(path)
        result += _left(order[reached:place], comments, kept)
        reached = max(reached, place + 1)
        above, behind = comments[path]
        result += [*above, path[-1] + behind]
    result += _left(order[reached:], comments, kept)
    return result + [line for line in waiting if line.strip()]


def _left(paths: Iterable[_Path], comments: Mapping[_Path, tuple[list[str], str]], kept: frozenset[_Path]) -> list[str]:
    """Return the comments of removed lines as lines of their own."""
    result: list[str] = []
    for path in paths:
        above, behind = comments[path]
        if path not in kept:
            indent = path[-1][: len(path[-1]) - len(path[-1].lstrip())]
            result += above
            result += [indent + behind.lstrip()] if behind and behind.strip() != REASON_HERE else []
    return result


class _Trail:
    """Follows lines from top to bottom and returns the path of each."""

    def __init__(self) -> None:
        self._above: list[tuple[int, str]] = []

    def of(self, content: str) -> _Path:
        """Return the path of the next line."""
        indent = len(content) - len(content.lstrip())
        while self._above and self._above[-1][0] >= indent:
            self._above.pop()
        self._above.append((indent, content))
        return tuple(text for _, text in self._above)


def _split(line: str) -> tuple[str, str]:
    """Return a line's content, and its comment with the space before it."""
    quote = ""
    index = 0
    while index < len(line):
        letter = line[index]
        if quote == '"' and letter == "\\":
            index += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and (index == 0 or line[index - 1] in " \t[{,:-"):
            quote = letter
        elif letter == "#" and (index == 0 or line[index - 1] in " \t"):
            content = line[:index].rstrip()
            return content, line[len(content) :]
        index += 1
    return line.rstrip(), ""
