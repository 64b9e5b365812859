"""Format numbers and foreign text for display: sizes, durations, digests, build output, similar names.

Pure functions. Sizes are decimal with three digits, as docker prints them. Durations are read as people type them: `4h30m`,
`7d`, `90s`, `1.5h`.
"""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from chainbuild.errors import WrongUseError
from chainbuild.patterns import regex

_SIZE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")

_ESCAPE_SEQUENCE: Final = regex(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves, erasing (ECMA-48 5.4)
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: window titles, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-Z\\^-~]"  # character sets, resets, saved cursors
)
# What remains may still move the cursor, change the writing direction, or not be encodable.
_HARMFUL: Final = regex("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SURROGATE: Final = regex("[\ud800-\udfff]")

# In the name that the builder gives an instruction: `[stage 2/3] RUN --mount=… command`.
_FLAGS: Final = regex(r"(?<!\S)(?P<word>RUN|COPY|ADD)(?:\s+--[a-z]+(?:=\S*)?)+")

_PAST: Final = {
    "build": "built",
    "rebase": "rebased",
    "reuse": "reused",
    "minimize": "minimized",
    "produce": "produced",
    "join": "joined",
    "publish": "published",
    "verify": "verified",
    "push": "pushed",
    "pull": "pulled",
    "copy": "copied",
    "test": "tested",
    "convert": "converted",
    "upload": "uploaded",
}
_GOING_ON: Final = {
    "build": "building",
    "rebase": "rebasing",
    "minimize": "minimizing",
    "produce": "producing",
    "join": "joining",
    "publish": "publishing",
    "verify": "verifying",
    "push": "pushing",
    "pull": "pulling",
    "copy": "copying",
    "test": "testing",
    "convert": "converting",
    "upload": "uploading",
}


def size(count: float) -> str:
    """Format a number of bytes: `0 B`, `999 B`, `81.2 MB`, `912 MB`, `1.05 GB`."""
    # Numbers in foreign records and manifests may not be finite.
    if not math.isfinite(count):
        return "unknown size"
    value, unit = float(max(count, 0)), 0
    while _three_digits(value) == "1000" and unit < len(_SIZE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{_three_digits(value)} {_SIZE_UNITS[unit]}"


def _three_digits(value: float) -> str:
    """Format with three significant digits, without trailing zeros; `1000` if the next unit is needed."""
    if value >= 999.5:
        return "1000"
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def binary_size(count: int) -> str:
    """Format a number of bytes as limits are written: `64 KiB`, `8 MiB`, or `8,191 bytes` if it is not a round number."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count and not count % (1 << power):
            return f"{count >> power:,} {unit}"
    return f"{count:,} bytes"


def duration(seconds: float) -> str:
    """Format an elapsed time: `0.4s`, `3.2s`, `42s`, `4m07s`, `1h02m`."""
    if not math.isfinite(seconds):
        return "unknown time"
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m"


def moment(seconds: float) -> str:
    """Format seconds since the epoch as `2025-03-01 12:30 UTC`, or `an unknown time` if they are invalid."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def plural(count: int, word: str, many: str = "") -> str:
    """Format a count: `1 step`, `3 steps`; `many` is an irregular plural (`2 libraries`)."""
    return f"{count} {word if count == 1 else many or word + 's'}"


def perhaps_you_meant(word: str, known: Iterable[str], shown: Callable[[str], str] = repr) -> str:
    """Return `Perhaps you meant 'stock'. ` with a trailing space, or an empty text if no known word is similar."""
    import difflib  # only for wrong words

    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"Perhaps you meant {shown(near[0])}. " if near else ""


def share(part: int, whole: int) -> str:
    """Format a share: `9 %`; `under 1 %` if it rounds to zero; empty if `whole` is unknown."""
    if whole <= 0:
        return ""
    percent = round(100 * part / whole)
    return "under 1 %" if percent == 0 and part > 0 else f"{percent} %"


def short_digest(digest: str) -> str:
    """Return `sha256:0123456789ab` for `sha256:0123456789ab…`, a form that docker accepts."""
    algorithm, colon, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}" if colon else digest[:12]


def past(activity: str) -> str:
    """Return the past participle: `build` -> `built`."""
    return _PAST.get(activity, activity)


def going_on(activity: str) -> str:
    """Return the present participle: `build` -> `building`."""
    return _GOING_ON.get(activity, f"busy with {activity}" if activity else "busy")


def visible(text: str) -> str:
    """Make a line of build output safe to show: one line, no escape sequence, no control character, always encodable.

    A progress bar that overwrites itself (with carriage returns or backspaces) becomes its last state.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPE_SEQUENCE.sub("", text)
    if "\r" in text or "\n" in text:
        kept = [part for part in re.split(r"[\r\n]+", text) if part.strip()]
        text = kept[-1] if kept else ""
    if "\b" in text:
        text = _without_backspaces(text)
    text = _SURROGATE.sub("\ufffd", _HARMFUL.sub("", text))
    return text.expandtabs(8).rstrip()


def escaped(text: str) -> str:
    r"""Make foreign text (a name, a path, a tag, a command line) safe to show on one line, without dropping anything.

    Unprintable characters become escapes (`\n`, `\x1b`, `\u202e`, `\xff` for a byte that is not text), so they can
    neither act on the terminal nor hide.
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(letter: str) -> str:
    if letter.isprintable():
        return letter
    # An undecodable byte of a file name (PEP 383) is shown as that byte.
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def short_instruction(text: str, width: int = 0) -> str:
    """Make an instruction safe to show on one line, without the mounts and other flags of a RUN, COPY or ADD.

    `width`: shorten it to so many columns; 0: do not.
    """
    shown = " ".join(_FLAGS.sub(r"\g<word>", visible(text)).split())
    return clip(shown, width) if width else shown


def visible_lines(text: str) -> list[str]:
    """Split a text (a message, a hint) into lines that are safe to show, without dropping anything."""
    return [escaped(line.rstrip().expandtabs(8)) for line in text.split("\n")]


def last_line(text: str, default: str = "no answer") -> str:
    """Return the last line that is not blank: the reason at the end of a program's output."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), default)


def inert(text: str) -> str:
    """Escape everything in a text that could act on a terminal, and keep every other character.

    This is the last guard before a terminal. Foreign text is made readable earlier, by `escaped` or (build output) by
    `visible`.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SURROGATE.sub(_escape_match, _HARMFUL.sub(_escape_match, text))


def _escape_match(match: re.Match[str]) -> str:
    return _escape(match[0])


def _without_backspaces(text: str) -> str:
    kept: list[str] = []
    for letter in text:
        if letter != "\b":
            kept.append(letter)
        elif kept:
            kept.pop()
    return "".join(kept)


def cells(text: str) -> int:
    """Return the number of terminal columns of a text (wide East Asian characters: two, combining marks: none)."""
    if text.isascii():
        return len(text)
    return sum(_letter_cells(letter) for letter in text)


def _letter_cells(letter: str) -> int:
    if unicodedata.combining(letter) or letter in "\u200b\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def clip(text: str, width: int, *, ellipsis: str = "…") -> str:
    """Shorten a text to at most `width` columns, ending in the ellipsis."""
    if cells(text) <= width:
        return text
    if width <= len(ellipsis):
        return ellipsis[: max(width, 0)]
    room, kept = width - len(ellipsis), 0
    for index, letter in enumerate(text):
        kept += _letter_cells(letter)
        if kept > room:
            return text[:index].rstrip() + ellipsis
    return text


_UNITS: Final = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = regex(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?P<unit>[wdhms])")


def parse_duration(text: str) -> float:
    """Parse a duration into seconds. Errors: `WrongUseError`."""
    parts = list(_PART.finditer(text.strip().lower()))
    units = [part["unit"] for part in parts]
    whole = "".join(part[0] for part in parts) == text.strip().lower()
    falling = units == sorted(set(units), key="wdhms".index)
    if not parts or not whole or not falling:
        raise WrongUseError(f"{text!r} is not a duration", hint="Write it as in 4h30m, 90m, 45s, 7d.")
    return sum(float(part["count"]) * _UNITS[part["unit"]] for part in parts)


def without_login(address: str) -> str:
    """Return a URL without a user and a password."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else address
