"""Tables of Dockerfiles and the facts in their step keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from chainbuild.dockerfile import (
    Facts,
    ImageUse,
    ParentConfig,
    RemoteSource,
    arg_counts,
    base_arg_used,
    find_facts,
    parse,
    unknown_args,
)
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.references import Platform

AMD, ARM = Platform.parse("amd64"), Platform.parse("arm64")
SEEN = {("img", "linux/arm64"): ParentConfig(), ("img", "linux/amd64"): ParentConfig()}


def facts(
    text: str,
    *,
    target: str | None = None,
    contexts: Collection[str] = (),
    parents: Mapping[tuple[str, str], ParentConfig] = SEEN,
    **args: str,
) -> Facts:
    parsed = parse(text.encode(), "Dockerfile")
    assert not parsed.problems
    return find_facts(
        parsed, args=args, target=target, target_platform=ARM, build_platform=AMD, contexts=contexts, parents=parents
    )


@pytest.mark.parametrize(
    ("body", "patterns"),
    [
        ("COPY a b /", ("a", "b")),
        ("COPY . /x", (".",)),
        ("COPY / /x", (".",)),
        ("COPY ./a/../b/ ../../c /", ("b", "c")),
        ('COPY ["a b", "/"]', ("a b",)),
        ("ADD a.tar.gz /", ("a.tar.gz",)),
        ("ARG D=x\nCOPY $D/*.c /", ("x/*.c",)),
        ("ENV D=x\nCOPY ${D}y /", ("xy",)),
        ("COPY <<EOF /x\na\nEOF", ()),
        ("COPY <<EOF b /x\na\nEOF", ("b",)),
        ("RUN make", ()),
        ("RUN --mount=type=bind,target=/s make", (".",)),
        ("RUN --mount=target=/s,src=tools make", ("tools",)),
        ("ARG T=t\nRUN --mount=type=bind,source=$T,dst=/s make", ("t",)),
        ("RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t make", ()),
        ("RUN --mount=type=secret,id=x --mount=type=ssh make", ()),
        ("COPY --from=other a /", ()),
        ("COPY --exclude=*.o a /", ("a",)),
        ("ONBUILD COPY a /", ()),
    ],
)
def test_local_sources_of_instructions_are_found(body: str, patterns: tuple[str, ...]) -> None:
    found = facts(f"FROM img\n{body}")
    assert found.sources.patterns == patterns
    assert found.sources.everything == (patterns == (".",))
    assert not found.doubts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# syntax=me/front\nFROM img", "frontend me/front"),
        ("FROM other\nCOPY a /", "ONBUILD triggers of other are unknown"),
        ("FROM --platform=linux/s390x img", "ONBUILD triggers of img are unknown"),
        ("FROM other AS x\nFROM x\nARG V\nCOPY $V /", "$V"),
        ("FROM other AS x\nARG V=$W\nFROM x\nCOPY $V /", "$V"),
        ("FROM other\nRUN --mount=source=$V,target=/s x", "$V"),
        ("FROM other\nRUN --mount=type=$V,target=/s x", "$V"),
        ("FROM img\nARG A=one\nARG A=two B=$A\nCOPY $B /", "$B"),
        ("FROM img\nENV N=V\nARG ${N}=b\nCOPY ${V:-a} /", "V"),
        ("FROM img\nARG A=p\nARG A=q B=$A\nARG B=q C=$B\nCOPY $C /", "$C"),
        ("FROM img\nARG A=p\nARG A=q B=$A\nENV V=a\nENV ${B}=b\nCOPY $V /", "$V"),
        ("FROM img\nARG A=p\nARG A=q B=$A\nENV V=a\nARG ${B}=b\nCOPY $V /", "$V"),
        ("FROM img\nARG TARGETSTAGE\nCOPY $TARGETSTAGE /", "$TARGETSTAGE"),
        ("FROM img\nARG TARGETOSVERSION\nCOPY ${TARGETOSVERSION-a} /", "TARGETOSVERSION"),
        ("ARG G=a\nARG G\nFROM img\nARG G\nCOPY $G /", "$G"),
        ('FROM img\nCOPY ["a", "/"] b', "JSON form"),
        ("ARG TARGETARCH\nFROM img\nARG TARGETARCH\nCOPY $TARGETARCH /", "$TARGETARCH"),
        ("FROM img\nCOPY ${X /", "${X"),
    ],
)
def test_uncertain_sources_select_all_files(text: str, reason: str) -> None:
    found = facts(text)
    assert found.sources.everything
    assert any(reason in doubt for doubt in found.doubts)


def test_docker_frontends_are_no_uncertainty() -> None:
    for name in ("docker/dockerfile", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile-upstream:master"):
        assert not facts(f"# syntax={name}\nFROM img\nCOPY a /").sources.everything
    assert facts("# syntax=example.com/docker/dockerfile:1\nFROM img").sources.everything
    assert facts("FROM img", BUILDKIT_SYNTAX="me/front").sources.everything


def test_parent_config_sets_env_and_triggers() -> None:
    parents = {("img", "linux/arm64"): ParentConfig(env=("D=dir",), onbuild=("COPY $D/x /", "ARG Z", "RUN <<E\nhi\nE"))}
    found = facts("FROM img\nCOPY ${D}/y /", parents=parents)
    assert found.sources.patterns == ("dir/x", "dir/y")
    assert not found.sources.everything
    assert "Z" in found.declared_args


def test_triggers_of_stage_run_in_next_stage_only() -> None:
    text = "FROM img AS a\nONBUILD COPY x /\nONBUILD COPY --from=lib l /\nFROM a AS b\nFROM b\nCOPY y /"
    found = facts(text, parents=SEEN)
    assert found.sources.patterns == ("x", "y")
    assert [use.reference for use in found.images] == ["img", "lib"]
    assert found.onbuild == ()
    assert facts(text, target="a").onbuild == ("COPY x /", "COPY --from=lib l /")
    assert facts(text, target="a").sources.patterns == ()


def test_images_of_reachable_stages_are_found() -> None:
    found = facts(
        "ARG TAG=1\nARG BASE=img\n"
        "FROM --platform=$BUILDPLATFORM tool:${TAG} AS build\n"
        "FROM unused:1 AS no\n"
        "FROM scratch AS none\nCOPY --from=none a /\n"
        "FROM $BASE\nCOPY --from=build a /\nCOPY --from=2 a /\nCOPY --from=ext:2 a /\n"
        "RUN --mount=type=cache,from=cached,target=/c --mount=from=build,target=/b x",
        TAG="9",
    )
    assert found.images == (
        ImageUse(reference="tool:9", platform="linux/amd64", line=3, how="FROM", place=ImageWordPosition(3)),
        ImageUse(reference="img", platform="linux/arm64", line=7, how="FROM", place=ImageWordPosition(7)),
        ImageUse(reference="ext:2", platform="linux/arm64", line=10, how="COPY --from", place=ImageWordPosition(10, 0)),
        ImageUse(
            reference="cached", platform="linux/arm64", line=11, how="RUN --mount", place=ImageWordPosition(11, 0)
        ),
    )
    assert found.reachable == (0, 2, 3)
    assert [problem.line for problem in found.problems] == [6]


def test_named_contexts_replace_stages_and_images() -> None:
    text = (
        "FROM huge AS build\nCOPY . /\n"
        "FROM docker.io/library/debian:latest\nCOPY --from=build x /\nCOPY --from=files *.c /\n"
        "RUN --mount=from=more,source=s,target=/s x"
    )
    found = facts(text, contexts=["BUILD".lower(), "debian", "files", "more", "spare"])
    assert found.images == ()
    named = dict(found.named_sources)
    assert set(named) >= {"build", "debian", "files", "more"}
    assert named["files"].patterns == ("*.c",)
    assert named["more"].patterns == ("s",)
    assert named["debian"].everything
    found = facts(
        text, contexts=["build", "debian", "files", "more"], parents={("debian", "linux/arm64"): ParentConfig()}
    )
    assert found.sources.patterns == ()
    assert not found.doubts
    assert dict(found.named_sources)["build"].patterns == ("x",)


def test_target_selects_reachable_stages() -> None:
    text = "FROM img AS a\nCOPY x /\nFROM a AS B\nCOPY y /\nFROM img AS c\nCOPY z /"
    assert facts(text).sources.patterns == ("z",)
    assert facts(text, target="b").sources.patterns == ("x", "y")
    assert facts(text, target="A").sources.patterns == ("x",)
    wrong = facts(text, target="nope").problems
    assert "no such stage: 'nope'" in wrong[0].message


def test_later_stage_with_same_name_hides_the_earlier() -> None:
    text = "FROM img AS a\nCOPY x /\nFROM a AS a\nCOPY y /\nFROM a\nCOPY z /"
    assert facts(text).sources.patterns == ("x", "y", "z")


def test_variables_follow_scopes_of_stages() -> None:
    text = (
        "ARG G=g\nARG H=${G}h\nFROM img AS a\nARG H\nARG I=i$H\nENV J=j$I\n"
        "FROM a\nCOPY $G${H} /\nCOPY $I /\nCOPY $J /\nARG G\nCOPY $G /\nARG TARGETARCH\nCOPY $TARGETARCH /"
    )
    assert facts(text).sources.patterns == ("arm64", "g", "gh", "igh", "jigh")
    assert facts(text, G="k", J="no").sources.patterns == ("arm64", "ikh", "jikh", "k", "kh")
    assert facts(text, TARGETARCH="mine", H="h").sources.patterns == ("g", "h", "ih", "jih", "mine")


def test_undeclared_args_are_not_seen() -> None:
    assert facts("FROM img\nCOPY ${X:-a}${http_proxy:-b} /", X="no", http_proxy="no").sources.patterns == ("ab",)


def test_env_line_uses_values_from_before_the_line() -> None:
    assert facts("FROM img\nENV A=1\nENV A=2 B=$A\nCOPY $B /").sources.patterns == ("1",)


def test_remote_sources_of_add_are_found() -> None:
    found = facts(
        "FROM img\nARG V=2\nADD --checksum=sha256:00 https://x/y-$V.tgz a /\n"
        "ADD git@github.com:o/r.git#v1 https://g/r.git /"
    )
    assert found.remotes == (
        RemoteSource(url="https://x/y-2.tgz", checksum="sha256:00", line=3),
        RemoteSource(url="git@github.com:o/r.git#v1", checksum="", line=4),
        RemoteSource(url="https://g/r.git", checksum="", line=4),
    )
    assert "a" in found.sources.patterns
    assert found.ssh == ("default",)


@pytest.mark.parametrize(
    ("word", "remote"),
    [("$B", True), ('"${B}x"', True), ("http$B", True), ("https://h/$B", True), ("git@$B", True), ("app-$B", False)],
)
def test_add_of_uncertain_variable_is_an_uncertain_remote(word: str, remote: bool) -> None:
    """The content of an uncertain address cannot be queried, so the whole context is not enough."""
    found = facts(f"FROM img\nARG A=1\nARG A=2 B=$A\nADD {word} /")
    assert found.remotes == ((RemoteSource(url=word, checksum="", line=4, certain=False),) if remote else ())
    assert found.sources.everything
    assert not facts(f"FROM img\nARG A=1\nARG A=2 B=$A\nCOPY {word} /").remotes


def test_add_with_uncertain_checksum_is_a_remote_without_checksum() -> None:
    found = facts("FROM img\nARG A=1\nARG A=2 B=$A\nADD --checksum=sha256:$B https://h/x /")
    assert found.remotes == (RemoteSource(url="https://h/x", checksum="", line=4),)


def test_secret_and_ssh_mounts_are_found() -> None:
    found = facts(
        "FROM img\nRUN --mount=type=secret,id=tok --mount=type=secret,target=/run/key "
        "--mount=type=ssh --mount=type=ssh,id=git x"
    )
    assert found.secrets == ("key", "tok")
    assert found.ssh == ("default", "git")


def test_declared_args_have_lines_by_reachability() -> None:
    text = "ARG A\nFROM img AS u\nARG U\nARG B\nFROM img\nARG A B=1\nARG C=2"
    found = facts(text)
    assert found.declared_args == {"A": 1, "B": 6, "C": 7}
    assert found.unreachable_args == {"U": 3}
    assert arg_counts("A", found)
    assert arg_counts("HTTP_PROXY", found)
    assert arg_counts("SOURCE_DATE_EPOCH", found)
    assert arg_counts("BUILDKIT_SYNTAX", found)
    assert not arg_counts("U", found)


def test_unknown_args_have_a_nearest_name() -> None:
    files = [parse(b"FROM a\nARG BLAS_TARGET_CPU", "1"), parse(b"ARG BASE_IMAGE\nFROM $BASE_IMAGE", "2")]
    problems = unknown_args(["BASE_IMAGE", "BLAS_TARGET", "QQ", "no_proxy"], files, path="x-args", line=3)
    assert [(each.path, each.line, each.hint) for each in problems] == [
        ("x-args", 3, "Perhaps you meant BLAS_TARGET_CPU."),
        ("x-args", 3, "Add 'ARG QQ' to the Dockerfile that uses it."),
    ]


@pytest.mark.parametrize(
    ("text", "declared", "used"),
    [
        ("ARG BASE_IMAGE\nFROM $BASE_IMAGE", 1, (2,)),
        ("ARG X\nARG BASE_IMAGE=a\nFROM b\nFROM ${BASE_IMAGE:-c}\nFROM $X", 2, (4,)),
        ("ARG BASE_IMAGE\nARG FULL=r/$BASE_IMAGE\nFROM $FULL", 1, (3,)),
        ("FROM $BASE_IMAGE", 0, (1,)),
        ("ARG BASE_IMAGE\nFROM debian", 1, ()),
        ("FROM debian\nARG BASE_IMAGE", 0, ()),
    ],
)
def test_base_image_arg_has_its_lines(text: str, declared: int, used: tuple[int, ...]) -> None:
    found = base_arg_used(parse(text.encode(), "D"), "BASE_IMAGE")
    assert (found.declared, found.used) == (declared, used)
    assert bool(found) == bool(declared and used)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("ARG B\nFROM $B", 2, "FROM has no image"),
        ("FROM img AS a\nCOPY --from=b x /\nFROM img AS b\nFROM a", 2, "comes later"),
        ("FROM img AS a\nCOPY --from=a x /", 2, "is this stage itself"),
        ("FROM img AS a\nCOPY --from=a x /\nFROM img", 2, "in a cycle"),
        ("FROM img AS a\nCOPY --from=b x /\nFROM img AS b\nRUN --mount=from=a x\nFROM img", 2, "in a cycle"),
        ("FROM img\nCOPY --from=1 a /", 2, "no such stage: 1"),
        ("FROM img AS a\nFROM img\nRUN --mount=from=0 x", 3, "cannot refer to a stage by number"),
        ("FROM img AS scratch", 1, "named 'scratch'"),
        ("ARG X=a\nARG X\nFROM ${X:-b}", 3, "before 0.17"),
        ("ARG P=linux/amd64\nARG P\nFROM --platform=${P:-linux/arm64} img", 3, "before 0.17"),
        ("FROM img\nCOPY --from=$X a /", 2, "does not expand variables"),
        ("FROM img\nCOPY ${X:?give} /", 2, "X: give"),
        ("FROM --platform=$NONE img", 1, "empty after expansion"),
    ],
)
def test_stage_problem_has_its_line(text: str, line: int, part: str) -> None:
    assert [each.line for each in facts(text).problems if part in each.message] == [line]


def test_thousands_of_stages_need_no_recursion() -> None:
    text = "FROM img AS s0\nCOPY a /\n" + "".join(f"FROM s{at} AS s{at + 1}\n" for at in range(3000))
    assert facts(text).sources.patterns == ("a",)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("FROM --platform=$BUILDPLATFORM img", False),
        ("FROM img\nARG BUILDARCH\nRUN <<E\nx\nE", True),
        ("ARG T=t-${BUILDOS}\nFROM img", True),
        ("FROM --platform=$TARGETPLATFORM img\nARG TARGETARCH", False),
        ("FROM --platform=$BUILDPLATFORM img AS unused\nFROM img", False),
        ("# syntax=me/front\nFROM img", True),
    ],
)
def test_build_platform_counts_if_its_variables_are_used(text: str, counts: bool) -> None:
    assert facts(text).build_platform_counts is counts
