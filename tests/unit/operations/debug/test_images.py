"""The builds of a debug session, and its container's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec, Pin
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.cut import STAGE, cut_before, find_place
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.operations.debug import startup
from chainbuild.operations.debug.container import ImageState, run_variables
from chainbuild.operations.debug.image import content_spec, copy_flags, is_file_line, state_spec, with_mounted_files
from chainbuild.operations.debug.mounts import run_mounts
from chainbuild.operations.debug.prepare import Prepared
from chainbuild.operations.debug.subject import Subject
from chainbuild.references import Platform
from chainbuild.step_id import StepId

AMD64 = Platform.parse("amd64")
RAW = b"""\
ARG BASE_IMAGE
FROM debian AS first
RUN one
FROM ${BASE_IMAGE}
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
ARG A=1
COPY --from=other /x /y
RUN --network=none --mount=type=cache,target=/c --mount=type=secret,id=t make -C "$A"; make install
COPY --from=third /z /z
"""


def subject(line: int = 8, raw: bytes = RAW) -> Subject:
    dockerfile = parse(raw, "one/10-Dockerfile-x")
    pins = tuple(
        Pin(place=ImageWordPosition(number, flag), word=word, reference=f"r/{word}@sha256:1")
        for number, flag, word in ((2, -1, "debian"), (7, 0, "other"), (9, 0, "third"))
    )
    spec = BuildSpec(
        step=StepId.parse("amd64/one/10-x"),
        dockerfile=Path("/tree/one/10-Dockerfile-x"),
        shown="one/10-Dockerfile-x",
        source=raw,
        pins=pins,
        run_flags=tuple((line, ("--mount=type=bind,from=tools,target=/n",)) for line in (3, 8)),
        context=Path("/tree"),
        platform=AMD64,
        args=(("BASE_IMAGE", "r/base@sha256:2"), ("A", "two")),
        target="last",
        image="r/x:staging",
    )
    return Subject(spec=spec, raw=raw, dockerfile=dockerfile, place=find_place(dockerfile, line))


def test_state_is_dockerfile_before_instruction_with_files_of_container() -> None:
    spec = state_spec(subject(), Path("/files"), "chainbuild-debug:1", ())
    assert spec.source is not None
    lines = spec.source.decode().splitlines()
    assert lines[:3] == RAW.decode().splitlines()[:3]
    assert lines[3] == f"FROM ${{BASE_IMAGE}} AS {STAGE}"
    assert lines[7:] == [f"FROM {STAGE} AS chainbuild-debug", "COPY --from=chainbuild-debug-files / /.chainbuild/"]
    assert [pin.word for pin in spec.pins] == ["debian", "other"]
    assert [line for line, _ in spec.run_flags] == [3]
    assert (spec.target, spec.image, spec.load) == (None, "", "chainbuild-debug:1")
    assert spec.contexts == (("chainbuild-debug-files", "/files"),)
    assert parse(spec.source, "").problems == ()


def test_content_of_mounts_is_copied_by_run_that_is_never_cached() -> None:
    found = subject()
    mounts = run_mounts(found.place.instruction, variables={}, folder="/")
    spec = content_spec(found, copy_flags(mounts), "chainbuild-debug:1-mounts", "token", ())
    assert spec.source is not None
    run = next(line for line in spec.source.decode().splitlines() if "type=cache" in line)
    assert run.startswith(
        'RUN --mount=type=cache,target=/.chainbuild-mounts/from/0,id=/c ["/bin/sh", "-c", ": token; for'
    )
    dockerfile = parse(spec.source, "")
    assert dockerfile.problems == ()
    assert dockerfile.stages[-2].instructions[-1].json
    assert [stage.base for stage in dockerfile.stages][-2:] == [STAGE, "scratch"]


def test_mounted_file_is_copied_into_image() -> None:
    found = subject()
    state = state_spec(found, Path("/files"), "chainbuild-debug:1", ())
    content = content_spec(found, {0: "--mount=target=/f,source=f"}, "chainbuild-debug:1-mounts", "token", ())
    whole = with_mounted_files(state, content, {0: "/etc/my file"})
    assert whole.source is not None
    dockerfile = parse(whole.source, "")
    assert dockerfile.problems == ()
    assert [stage.name for stage in dockerfile.stages] == [
        "first",
        STAGE,
        "chainbuild-debug-mounts",
        "chainbuild-debug",
    ]
    last = dockerfile.stages[-1].instructions[-1]
    assert last.words == ("/.chainbuild-mounts/to/0/.chainbuild-file", "/etc/my file")
    assert with_mounted_files(state, content, {}) == state


def test_variables_of_run_are_those_of_image_and_args() -> None:
    found = subject()
    cut, _ = cut_before(found.raw, found.place)
    state = ImageState(platform=AMD64, env=("PATH=/bin", "X=image"))
    variables = run_variables(
        parse(cut, ""),
        state,
        args={"BASE_IMAGE": "r/base@sha256:2", "A": "two", "http_proxy": "p", "UNUSED": "u"},
        target=AMD64,
        build=AMD64,
    )
    assert variables == {"PATH": "/bin", "X": "image", "A": "two", "http_proxy": "p"}


@pytest.mark.parametrize(
    ("lines", "in_image", "expected"),
    [
        ("ARG V=arg", "base", "arg"),
        ("ENV V=env\nARG V=arg", "env", "arg"),
        ("ARG V=arg\nENV V=env", "env", "env"),
        ("ENV V=$V:more", "base:more", "base:more"),
        ("ARG W=$V\nENV V=env", "env", "env"),
    ],
)
def test_last_of_arg_and_env_wins(lines: str, in_image: str, expected: str) -> None:
    state = ImageState(platform=AMD64, env=("PATH=/bin", f"V={in_image}"))
    dockerfile = parse(f"FROM base\n{lines}\n".encode(), "")
    variables = run_variables(dockerfile, state, args={}, target=AMD64, build=AMD64)
    assert variables["V"] == expected


def prepared() -> Prepared:
    mounts = run_mounts(subject().place.instruction, variables={}, folder="/")
    return Prepared(
        image="chainbuild-debug:1",
        state=ImageState(platform=AMD64, env=("PATH=/bin",)),
        variables={"PATH": "/bin", "A": "two words"},
        mounts=mounts,
        volumes={0: "v0"},
        uncopied=(),
        secret_flags=("--mount", "type=bind,source=/s,target=/run/secrets/t,readonly"),
        secret_variables=(),
    )


def test_container_gets_platform_network_args_and_mounts() -> None:
    argv = prepared().argv(
        subject(), "name", ("/bin/sh", "x"), terminal=True, shell="/bin/bash", mounts=["type=tmpfs,target=/m"]
    )
    text = " ".join(argv)
    assert text.startswith("docker run --name name --pull never --platform linux/amd64 --hostname buildkitsandbox")
    assert "--network none --interactive --tty --env A=two words --env CHAINBUILD_SHELL=/bin/bash" in text
    assert "source=v0,target=/c" in text
    assert "target=/run/secrets/t" in text
    assert text.endswith("--mount type=tmpfs,target=/m --entrypoint /bin/sh chainbuild-debug:1 x")
    assert "PATH" not in text


def test_variables_with_secrets_are_set_from_files() -> None:
    import msgspec

    whole = msgspec.structs.replace(prepared(), secret_variables=("TOKEN", "/run/chainbuild-secrets/1"))
    argv = whole.argv(subject(), "name", ("make", "all"), terminal=False, shell="", mounts=())
    assert argv[argv.index("--entrypoint") + 1] == "/bin/sh"
    assert argv[-6:] == ("sh", "TOKEN", "/run/chainbuild-secrets/1", "--", "make", "all")
    assert "--tty" not in argv


@pytest.mark.parametrize(
    ("line", "command"),
    [(8, 'make -C "$A"; make install'), (3, "one"), (7, "")],
)
def test_history_has_command_of_instruction(line: int, command: str, tmp_path: Path) -> None:
    assert startup.command_of(subject(line).place.instruction) == command
    startup.write_files(tmp_path, command, "10-x$(id)")
    assert (tmp_path / "command").read_text() == command
    assert "10-x-id-" in (tmp_path / "bashrc").read_text()
    assert all(path.stat().st_mode & 0o777 == 0o666 for path in tmp_path.iterdir())


def test_json_form_is_typed_with_quotes() -> None:
    place = find_place(parse(b'FROM x\nRUN ["echo", "a b"]\n', ""), 2)
    assert startup.command_of(place.instruction) == "echo 'a b'"


def test_shell_is_that_of_dockerfile_without_options_that_end_it() -> None:
    shell = startup.shell_of(subject().place)
    assert shell == ("/bin/bash", "-eo", "pipefail", "-c")
    assert startup.interactive(shell) == (("/bin/sh", "/.chainbuild/start", "-o", "pipefail"), "/bin/bash")
    assert startup.interactive(startup.shell_of(subject(3).place)) == (("/bin/sh", "/.chainbuild/start"), "")


def test_pieces_have_texts_lines_and_marks() -> None:
    found = subject()
    pieces = startup.split(found.place, found.raw, startup.shell_of(found.place))
    assert pieces.texts == ('make -C "$A"', "make install")
    assert pieces.lines == (8, 8)
    assert "[2/2] make install" in pieces.marked
    assert not startup.can_split(found.place, ("pwsh", "-c"))
    assert not startup.can_split(subject(7).place, ("/bin/sh", "-c"))


def test_label_is_one_printable_line() -> None:
    assert startup.one_line("a \\\n\t b\x1b[31m") == "a \\ b [31m"
    assert len(startup.one_line("x" * 500)) == 100


def test_copying_reports_files_with_token_of_session() -> None:
    spec = content_spec(subject(), {7: "--mount=target=/f,source=f"}, "chainbuild-debug:1-mounts", "token", ())
    assert f"echo {is_file_line('token', 7).replace('7', '$n')};" in (spec.source or b"").decode()
