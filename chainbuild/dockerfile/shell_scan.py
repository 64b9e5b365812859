"""Find the operators of a shell command that are outside of quotes, groups and compound commands, by the grammar of sh.

The grammar is that of POSIX.1-2017, "Shell Command Language", with the parts of bash that change where a command ends
(`[[ … ]]`, `(( … ))`, `$'…'`, here-strings). If a text may mean different things in different shells, it is not read.
"""

from __future__ import annotations

from typing import Final, Literal, cast

from msgspec import Struct

from chainbuild.patterns import regex

Operator = Literal["&&", "||", ";", "\n", "&", ""]


class Unreadable(Exception):  # noqa: N818 - not an error: the caller takes the command as a whole
    """Raised for a command that is incomplete, or that shells read differently."""


class Operand(Struct, frozen=True):
    """A pipeline or compound command between operators: its range in the text, and the operator before it."""

    before: Operator
    start: int
    end: int


_WORD: Final = regex(r"[^ \t\n;&|()<>'\"`$\\#]+|#")
_OPENS: Final = {"if": "fi", "while": "done", "until": "done", "for": "done", "select": "done", "{": "}", "[[": "]]"}
_CLOSES: Final = frozenset({"fi", "done", "esac", "}"})
_GO_ON: Final = frozenset({"then", "else", "elif", "do", "!", "time"})
_NOT_READ: Final = frozenset({"coproc", "function", "alias"})
_HEAD, _PATTERN, _BODY = "case", "pattern", "esac"
"""The states of a `case`: before `in`, in a pattern, and in the commands of a pattern."""
_HEREDOC: Final = regex(r"(?P<tabs>-?)[ \t]*(?P<word>(?:\\.|'[^'\n]*'|\"[^\"\n]*\"|[^ \t\n;&|()<>'\"\\`$])+)")
_END_OF_WORD: Final = frozenset(" \t\n;&|()<>")


def operands_of(text: str) -> tuple[Operand, ...]:
    """Return the operands of a shell command that are not nested in anything, in order. Raises `Unreadable`."""
    scan = _Scan(text)
    scan.read()
    return tuple(scan.operands)


class _Scan:
    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self.operands: list[Operand] = []
        self._open: list[str] = []
        """What closes each open group, or the state of a `case`."""
        self._command = True
        """Whether the next word may be a reserved word."""
        self._before: Operator = ""
        self._first = self._last = -1
        self._heredocs: list[tuple[str, bool]] = []

    def read(self, *, nested: bool = False) -> None:
        """Read to the end; if `nested`, to the `)` that ends the command substitution."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if nested and char == ")" and not self._open:
                break
            self._step(char)
        else:
            if nested:
                raise Unreadable
        if self._open or self._heredocs:
            raise Unreadable
        self._operator("")

    def _step(self, char: str) -> None:
        if char == "\n":
            self._newline()
        elif char in " \t":
            self.at += 1
        elif self.text.startswith("\\\n", self.at):
            self.at += 2
        elif char == "#" and (self.at == 0 or self.text[self.at - 1] in _END_OF_WORD):
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
        elif self._open and self._open[-1] == "]]":
            self._in_test(char)
        elif char in ";&|":
            self._control(char)
        elif char in "()":
            self._paren(char)
        elif char in "<>":
            self._redirection(char)
        else:
            self._word()

    def _token(self, end: int) -> None:
        """Take the text up to `end` as a part of the operand."""
        if end > len(self.text):
            raise Unreadable
        self._first = self.at if self._first < 0 else self._first
        self.at = self._last = end

    def _operator(self, operator: Operator) -> None:
        """End the operand at a control operator."""
        self._command = True
        if self._open:
            return
        if self._first < 0:
            if operator == "\n" or (operator == "" and self._before in {";", "\n", ""}):
                return  # an empty line, or a line that is continued after an operator
            raise Unreadable
        self.operands.append(Operand(self._before, self._first, self._last))
        self._before, self._first = operator, -1

    def _newline(self) -> None:
        self.at += 1
        for delimiter, tabs in self._heredocs:
            while True:
                end = self.text.find("\n", self.at)
                line = self.text[self.at : len(self.text) if end < 0 else end]
                self._last = self.at = self.at + len(line) if end < 0 else end + 1
                if (line.lstrip("\t") if tabs else line) == delimiter:
                    break
                if end < 0:
                    raise Unreadable
        self._heredocs.clear()
        self._operator("\n")

    def _control(self, char: str) -> None:
        two = self.text[self.at : self.at + 2]
        if char == ";" and two in {";;", ";&"}:
            if not self._open or self._open[-1] != _BODY:
                raise Unreadable
            self._open[-1] = _PATTERN
            self.at += 3 if self.text.startswith(";;&", self.at) else 2
        elif two in {"&&", "||"}:
            self._operator(cast(Operator, two))
            self.at += 2
        elif char == "|":
            self._token(self.at + (2 if two == "|&" else 1))
            self._command = True
        elif two == "&>":
            raise Unreadable  # bash redirects, other shells start a job
        else:
            self._operator(cast(Operator, char))
            self.at += 1

    def _paren(self, char: str) -> None:
        top = self._open[-1] if self._open else ""
        if char == "(":
            if top == _PATTERN:
                self._token(self.at + 1)
            elif self.text.startswith("((", self.at):
                self._arithmetic(self.at + 2)
            else:
                self._token(self.at + 1)
                self._open.append(")")
        elif top == _PATTERN:
            self._token(self.at + 1)
            self._open[-1] = _BODY
        elif top == ")":
            self._open.pop()
            self._token(self.at + 1)
        else:
            raise Unreadable
        self._command = True

    def _arithmetic(self, start: int) -> None:
        """Take an arithmetic expression, which begins after its `((`."""
        depth, end = 2, start
        while depth and end < len(self.text):
            depth += {"(": 1, ")": -1}.get(self.text[end], 0)
            end += 1
        inner = self.text[start:end]
        if depth or any(char in inner for char in "'\"`;#\\\n") or not inner.endswith("))"):
            raise Unreadable  # it may also be a subshell in a subshell
        self._token(end)

    def _redirection(self, char: str) -> None:
        if self.text.startswith("<<<", self.at):
            self._token(self.at + 3)
        elif self.text.startswith("<<", self.at):
            match = _HEREDOC.match(self.text, self.at + 2)
            if not match:
                raise Unreadable
            delimiter = match["word"]
            if "\\" in delimiter and ("'" in delimiter or '"' in delimiter):
                raise Unreadable
            for quote in ("'", '"', "\\"):
                delimiter = delimiter.replace(quote, "")
            self._heredocs.append((delimiter, match["tabs"] == "-"))
            self._token(match.end())
        elif self.text[self.at + 1 : self.at + 2] in {"&", "|", ">"} and (char == ">" or self.text[self.at + 1] != "|"):
            self._token(self.at + 2)
        else:
            self._token(self.at + 1)

    def _in_test(self, char: str) -> None:
        """Take a part of `[[ … ]]`, in which operators do not end a command."""
        if char in ";&|()<>":
            self._token(self.at + 1)
        else:
            self._word()

    def _word(self) -> None:
        """Take a word with its quotes and expansions."""
        start, plain = self.at, True
        while self.at < len(self.text) and self.text[self.at] not in _END_OF_WORD:
            match = _WORD.match(self.text, self.at)
            if match:
                self._token(match.end())
            else:
                plain &= self.text.startswith("\\\n", self.at)
                self._quoted()
        word = self.text[start : self.at].replace("\\\n", "")
        if not word:
            return
        if self._open and self._open[-1] in {_HEAD, _PATTERN, "]]"}:
            self._word_inside(word if plain else "")
        elif self._command and plain:
            self._reserved(word)
        else:
            self._command = False

    def _word_inside(self, word: str) -> None:
        """Take a word of a test, of the head of a `case`, or of a pattern."""
        if word == "]]" and self._open[-1] == "]]":
            self._open.pop()
            self._command = True
        elif word == "in" and self._open[-1] == _HEAD:
            self._open[-1] = _PATTERN
        elif word == "esac" and self._open[-1] == _PATTERN:
            self._open.pop()
            self._command = True

    def _reserved(self, word: str) -> None:
        if word in _NOT_READ:
            raise Unreadable
        if word == "case":
            self._open.append(_HEAD)
        elif word in _OPENS:
            self._open.append(_OPENS[word])
            self._command = word in {"if", "while", "until", "{"}
        elif word in _CLOSES:
            if not self._open or self._open.pop() != word:
                raise Unreadable
        else:
            self._command = word in _GO_ON

    def _quoted(self) -> None:
        """Take a quoted part, an expansion or an escaped character of a word."""
        char, text = self.text[self.at], self.text
        if char == "\\":
            self._token(self.at + 2)
        elif char == "'":
            self._token(self._after("'", self.at + 1))
        elif char == '"':
            self._token(self._double(self.at + 1))
        elif char == "`":
            self._token(self._backquotes(self.at + 1))
        elif text.startswith("$'", self.at):
            end = self._after("'", self.at + 2)
            if "\\" in text[self.at : end]:
                raise Unreadable  # only some shells read escapes in it
            self._token(end)
        else:
            self._token(self._expansion(self.at))

    def _after(self, char: str, start: int) -> int:
        end = self.text.find(char, start)
        if end < 0:
            raise Unreadable
        return end + 1

    def _double(self, at: int) -> int:
        """Return the end of a double-quoted text."""
        while at < len(self.text):
            char = self.text[at]
            if char == '"':
                return at + 1
            at = self._inside(char, at)
        raise Unreadable

    def _inside(self, char: str, at: int) -> int:
        """Return the end of what begins at a character in double quotes or braces."""
        if char == "\\":
            return at + 2
        if char == "`":
            return self._backquotes(at + 1)
        return self._expansion(at) if char == "$" else at + 1

    def _backquotes(self, at: int) -> int:
        while at < len(self.text):
            if self.text[at] == "`":
                return at + 1
            at += 2 if self.text[at] == "\\" else 1
        raise Unreadable

    def _expansion(self, at: int) -> int:
        """Return the end of what begins with a `$`."""
        if self.text.startswith("$((", at):
            inner = _Scan(self.text, at)
            inner._arithmetic(at + 3)
            return inner.at
        if self.text.startswith("$(", at):
            inner = _Scan(self.text, at + 2)
            inner.read(nested=True)
            return inner.at + 1
        if not self.text.startswith("${", at):
            return at + 1
        at += 2
        while at < len(self.text):
            char = self.text[at]
            if char == "}":
                return at + 1
            if char == "'":
                raise Unreadable  # in double quotes it is no quote
            at = self._double(at + 1) if char == '"' else self._inside(char, at)
        raise Unreadable
