r"""Expand variables and quotes in the words of a Dockerfile, as BuildKit's shell lexer does.

Forms: `$X`, `${X}`, and `${X` followed by `:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/p/r`, `//p/r`.
Single quotes keep everything, double quotes allow `$`, the escape character (`\`, or a back quote set by `# escape=`)
removes the special meaning of the next character. (Dockerfile reference, "Environment replacement".)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.patterns import regex

SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""The characters that Go's `unicode.IsSpace` accepts."""

_PLAIN: Final = regex(r"[A-Za-z0-9_./:@,=*+-]+")
_SPECIAL_PARAMETERS: Final = "@*#?-$!0"
_DEEPEST: Final = 60
_LONGEST: Final = 1 << 20
_MOST_STEPS: Final = 4_000_000
_SURROGATE: Final = regex("[\ud800-\udfff]")
_TEMPLATE: Final = regex(r"\$(?:(\$)|\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+))")


class ExpansionError(ValueError):
    """Raised for a word that BuildKit rejects: an open quote or brace, an unknown modifier, or a failed `${X:?}`."""


class TooLongError(ExpansionError):
    """Raised if the expansion is longer than 1 MiB or takes too much work. BuildKit may accept the word."""


class Expanded(Struct, frozen=True, kw_only=True):
    """An expanded word.

    `words` is the text split at unquoted white space; `looked_up` has every name that was used, `missing` the names among
    them that the environment does not set.
    """

    text: str
    words: tuple[str, ...]
    looked_up: frozenset[str]
    missing: frozenset[str]


def expand(
    word: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    keep_unset: bool = False,
) -> Expanded:
    """Expand a word.

    `raw_quotes` and `raw_escapes` keep quotes and escape characters in the result, `keep_unset` keeps references to
    unset variables. Errors: `ExpansionError`.
    """
    if _PLAIN.fullmatch(word):
        return Expanded(text=word, words=(word,), looked_up=frozenset(), missing=frozenset())
    # BuildKit's scanner replaces bytes that are not UTF-8 with U+FFFD, and drops a byte order mark at the start.
    word = _SURROGATE.sub("\ufffd", word).removeprefix("\ufeff")
    lexer = _Lexer(word, env, escape, raw_quotes=raw_quotes, keep_unset=keep_unset)
    text, words = lexer.until(None, raw_escapes=raw_escapes)
    return Expanded(
        text=text, words=tuple(words), looked_up=frozenset(lexer.looked_up), missing=frozenset(lexer.missing)
    )


class _Words:
    """Collects the words of a text, which are split at white space that is not quoted or escaped."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.current: list[str] = []

    def add(self, text: str) -> None:
        for char in text:
            if char not in SPACE:
                self.current.append(char)
            elif self.current:
                self.close()

    def add_raw(self, text: str) -> None:
        self.current.append(text)

    def close(self) -> list[str]:
        word = "".join(self.current)
        if word:
            self.done.append(word)
            self.current = []
        return self.done


class _Lexer:
    def __init__(self, text: str, env: Mapping[str, str], escape: str, *, raw_quotes: bool, keep_unset: bool) -> None:
        self.text = text
        self.env = env
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.raw_escapes = False
        self.keep_unset = keep_unset
        self.at = 0
        self.depth = 0
        self.length = 0
        self.looked_up: set[str] = set()
        self.missing: set[str] = set()

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def next(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def value_of(self, name: str) -> str | None:
        self.looked_up.add(name)
        value = self.env.get(name)
        if value is None:
            self.missing.add(name)
        else:
            self.length += len(value)
            if self.length > _LONGEST:
                raise TooLongError("the value is longer than 1 MiB")
        return value

    def until(self, stop: str | None, *, raw_escapes: bool) -> tuple[str, list[str]]:
        """Read up to and including the unquoted character `stop` (None: to the end)."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ExpansionError("substitutions are nested too deeply")
        outer, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            return self._until(stop)
        finally:
            self.raw_escapes = outer
            self.depth -= 1

    def _until(self, stop: str | None) -> tuple[str, list[str]]:
        result: list[str] = []
        words = _Words()
        special: dict[str, Callable[[], str]] = {
            "$": self.dollar,
            "<": self.heredoc,
            "'": self.single_quote,
            '"': self.double_quote,
        }
        while char := self.peek():
            if char == stop:
                self.at += 1
                return "".join(result), words.close()
            if reader := special.get(char):
                piece = reader()
                result.append(piece)
                if char == "$":
                    words.add(piece)
                else:
                    words.add_raw(piece)
                continue
            self.at += 1
            if char == self.escape:
                if self.raw_escapes:
                    words.add_raw(char)
                    result.append(char)
                if not (char := self.next()):
                    break
                words.add_raw(char)
            else:
                words.add(char)
            result.append(char)
        if stop is not None:
            raise ExpansionError(f"missing {stop}")
        return "".join(result), words.close()

    def heredoc(self) -> str:
        """Keep the white space between `<<` and the name of a here-document in the word."""
        start = self.at
        self.at += 1
        if self.peek() == "<":
            self.at += 1
            while self.peek() and self.peek() in "\t\r ":
                self.at += 1
        return self.text[start : self.at]

    def single_quote(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ExpansionError("missing closing single quote")
        inner = self.text[self.at + 1 : end]
        self.at = end + 1
        return f"'{inner}'" if self.raw_quotes else inner

    def double_quote(self) -> str:
        self.at += 1
        result = ['"'] if self.raw_quotes else []
        while char := self.peek():
            if char == '"':
                self.at += 1
                if self.raw_quotes:
                    result.append(char)
                return "".join(result)
            if char == "$":
                result.append(self.dollar())
                continue
            self.at += 1
            if char == self.escape:
                if self.raw_escapes:
                    result.append(char)
                following = self.peek()
                if not following:
                    continue
                if following in {'"', "$", self.escape}:
                    char = self.next()
            result.append(char)
        raise ExpansionError("missing closing double quote")

    def name(self) -> str:
        start = self.at
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        elif first and first in _SPECIAL_PARAMETERS:
            self.at += 1
        else:
            while (char := self.peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.at += 1
        return self.text[start : self.at]

    def dollar(self) -> str:
        self.at += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.value_of(name)
            if value is None:
                return f"${name}" if self.keep_unset else ""
            return value
        self.at += 1
        if not self.peek():
            raise ExpansionError("missing '}'")
        if self.peek() in "{}:":
            raise ExpansionError("bad substitution")
        return self.braces()

    def braces(self) -> str:
        """Read and expand what follows `${`: the name, a modifier and its words, up to the closing brace."""
        name = self.name()
        modifier = self.next()
        if modifier == "}":
            value = self.value_of(name)
            if value is None:
                return f"${{{name}}}" if self.keep_unset else ""
            return value
        if modifier == "/":
            return self.replace(name)
        empty_is_unset = modifier == ":"
        if empty_is_unset:
            modifier = self.next()
        if not modifier or modifier not in "+-?#%":
            raise ExpansionError(f"unsupported modifier {modifier!r} in a substitution")
        word, _ = self.until("}", raw_escapes=modifier in "#%")
        value = self.value_of(name)
        if value is None and self.keep_unset:
            return f"${{{name}{':' if empty_is_unset else ''}{modifier}{word}}}"
        unset = value is None or (empty_is_unset and not value)
        if modifier == "-":
            return word if unset else value or ""
        if modifier == "+":
            return "" if unset else word
        if modifier == "?":
            if unset:
                raise ExpansionError(f"{name}: {word or 'not set'}")
            return value or ""
        longest = word.startswith(modifier)
        pattern = _tokens(word[1:] if longest else word)
        return _trim(pattern, value or "", from_end=modifier == "%", longest=longest)

    def replace(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.at += 1
        pattern, _ = self.until("/", raw_escapes=True)
        replacement, _ = self.until("}", raw_escapes=True)
        value = self.value_of(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return _replace(_tokens(pattern), value or "", replacement, everywhere=everywhere)


def _tokens(pattern: str) -> list[tuple[str, bool]]:
    """Return the tokens of a shell pattern as (character, whether it is a wildcard)."""
    tokens: list[tuple[str, bool]] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char in "*?":
            tokens.append((char, True))
        elif char != "\\":
            tokens.append((char, False))
        elif pattern[at : at + 1] not in {"}", "/"}:  # these two are escaped because of the braces
            escaped = pattern[at : at + 1]
            if not escaped or escaped not in "*?\\":
                raise ExpansionError(f"invalid escape '\\{escaped}' in a pattern")
            tokens.append((escaped, False))
            at += 1
    return tokens


class _Work:
    """Counts steps, to stop on hostile patterns."""

    def __init__(self) -> None:
        self.left = _MOST_STEPS

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooLongError("its patterns take too much work")


def _ends(tokens: list[tuple[str, bool]], value: str, work: _Work, start: int = 0) -> set[int]:
    """Return every offset where a match that begins at `start` can end."""
    ends = {start}
    for char, wild in tokens:
        work.spend(1 + len(ends))
        if not ends:
            break
        if wild and char == "*":
            first = min(ends)
            line_end = value.find("\n", first)
            until = (len(value) if line_end < 0 else line_end) + 1
            work.spend(until - first)
            ends |= set(range(first, until))
        else:
            ends = {
                end + 1 for end in ends if end < len(value) and (value[end] != "\n" if wild else value[end] == char)
            }
    return ends


def _trim(tokens: list[tuple[str, bool]], value: str, *, from_end: bool, longest: bool) -> str:
    if from_end:
        return _trim(tokens[::-1], value[::-1], from_end=False, longest=longest)[::-1]
    ends = _ends(tokens, value, _Work())
    if not ends:
        return value
    return value[max(ends) if longest else min(ends) :]


def _replace(tokens: list[tuple[str, bool]], value: str, replacement: str, *, everywhere: bool) -> str:
    """Replace the first (or every) longest match from the left; an empty match right after another does not count."""
    result: list[str] = []
    work = _Work()
    length = 0
    at, last = 0, -1
    while at <= len(value):
        end = max(_ends(tokens, value, work, at), default=-1)
        if end > at or (end == at and at != last):
            piece = _filled(replacement, value[at:end]) if everywhere else replacement
            result.append(piece)
            length += len(piece)
            if length > _LONGEST:
                raise TooLongError("the value is longer than 1 MiB")
            last = end
            if not everywhere:
                return "".join(result) + value[last:]
        if end > at:
            at = last
        else:
            result.append(value[at : at + 1])
            at += 1
    return "".join(result)


def _filled(replacement: str, match: str) -> str:
    """Fill a replacement as Go's `Regexp.Expand` does: `$0` is the match, `$$` a dollar, other references are empty."""
    if "$" not in replacement:
        return replacement

    def fill(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        return match if name == "0" else ""

    return _TEMPLATE.sub(fill, replacement)
