"""Hypothesis strategies for Dockerfiles in every spelling that BuildKit reads."""

from __future__ import annotations

from hypothesis import strategies as st

IMAGES = ("debian", "golang:1.22", "ghcr.io/team/tool:v1", "localhost:5000/a/b", "Tool", "x@sha256:" + "0" * 64)


@st.composite
def image_words(draw: st.DrawFn) -> str:
    """An image reference as a FROM may spell it: plain, quoted, escaped, or as a variable."""
    image = draw(st.sampled_from(IMAGES))
    return draw(
        st.sampled_from(
            [
                image,
                f'"{image}"',
                f"'{image}'",
                "${X:-" + image + "}",
                "$X",
                f"${{X}}{image}",
                f"{image[:2]}\\{image[2:]}",
            ]
        )
    )


@st.composite
def broken(draw: st.DrawFn, text: str, escape: str) -> str:
    """The text with some places continued on the next line, with comments and empty lines in between."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(1, len(text)))
        between = draw(st.sampled_from(["", "# a comment\n", "\n", "  \t\n", "   # FROM x\n", "# from=y \\\n"]))
        if text[at - 1 : at] in {"\\", "`", "\n"} or text[at : at + 1] in {"\n", ""}:
            continue
        if text[at : at + 1] in {"#", " ", "\t"} and between:
            continue
        text = f"{text[:at]}{escape}{draw(st.sampled_from(['', ' ', chr(9)]))}\n{between}{text[at:]}"
    return text


def _flag(name: str, value: str) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [f"--{name}={value}", f'--{name}="{value}"', f"--{name}='{value}'", f'--{name[:1]}"{name[1:]}={value}"']
    )


@st.composite
def lines(draw: st.DrawFn) -> str:
    """One instruction, on one line."""
    image = draw(st.sampled_from(IMAGES))
    from_flag, exotic = draw(_flag("from", image)), draw(st.sampled_from(["", "--link ", "--chown=é:0 "]))
    mount = draw(
        st.sampled_from(
            [
                f"from={image}",
                f"type=bind,from={image},target=/t",
                f"From={image},src=a,dst=/b",
                f"target=/x,from={image}",
                f'type=cache,\\"from={image}\\",target=/c',
            ]
        )
    )
    return draw(
        st.sampled_from(
            [
                f"{draw(st.sampled_from(['FROM', 'from', 'From']))} {draw(image_words())}",
                f"FROM --platform={draw(st.sampled_from(['linux/arm64', '$BUILDPLATFORM']))} {draw(image_words())} AS b",
                f"FROM\t{draw(image_words())} as {draw(st.sampled_from(['debian', 'c', 'golang']))}",
                f"COPY {exotic}{from_flag} a b /x",
                f"copy {from_flag} {exotic}['x', 'y']",
                f'COPY {from_flag} ["a b", "/x"]',
                f"RUN --mount={mount} --mount={draw(_flag('mount', mount))[8:]} make",
                "RUN --network=none true",
                "ARG X=debian",
                "ENV A=b",
                "ONBUILD COPY --from=debian a b",
                "WORKDIR /x y",
            ]
        )
    )


HEREDOCS = (
    "RUN <<EOF\nFROM debian\nCOPY --from=debian a b\nEOF",
    "COPY <<-'E F' /x\n\tFROM x\n\tE F",
    "RUN <<A cat <<B\na\nA\nb\nB",
)


@st.composite
def dockerfiles(draw: st.DrawFn) -> bytes:
    """A whole Dockerfile: directives, line endings, a byte order mark, invalid UTF-8, no final newline."""
    escape = draw(st.sampled_from(["\\", "\\", "`"]))
    head = draw(st.sampled_from(["", "# syntax=docker/dockerfile:1\n", "#!/usr/bin/env x\n"]))
    if escape == "`" and not head.startswith("#!"):
        head += "# escape=`\n"
    elif escape == "`":
        escape = "\\"
    body = ["ARG X", "FROM debian AS first"]
    for _ in range(draw(st.integers(0, 6))):
        body.append(draw(st.one_of(lines().flatmap(lambda line: broken(line, escape)), st.sampled_from(HEREDOCS))))
        body.append(draw(st.sampled_from(["", "# a comment", "  \t", "RUN true"])))
    text = head + "\n".join(body) + draw(st.sampled_from(["", "\n", "\n\n", " "]))
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    raw = text.encode() + draw(st.sampled_from([b"", b"\n# \xff\xfe", b"\nLABEL a=\xe9"]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + raw
