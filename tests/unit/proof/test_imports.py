"""The proof of Python: what runs where, what is compared and reported, and when it is free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import BuildResult, BuildSpec
from chainbuild.errors import BuildFailedError, ChainbuildError, NotProvenError
from chainbuild.events import Emit, Event, Verdict
from chainbuild.model import BuildArg, Step
from chainbuild.proof.chain_files import read_whose
from chainbuild.proof.imports import EMULATED_SECONDS, MODULE_SECONDS, ImportProof, read_answers
from chainbuild.proof.libraries import PythonEnvironment
from chainbuild.proof.switches import is_on, switches
from chainbuild.references import Platform
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning
from tests.support.world import GOOD_PROOF, World

PRODUCTION = StepId.parse("amd64/stock/production")
VENV = PythonEnvironment(start="/opt/venv/bin/python", missing="", folders=("/opt/venv/site",), modules=("a", "b", "c"))
SYSTEM = PythonEnvironment(start="/usr/bin/python3.11", missing="", folders=("/usr/lib/python3.11",), modules=("_ssl",))
NO_LIBRARY = "libGL.so.1: cannot open shared object file: No such file or directory"


def raised(kind: str, message: str, **more: str) -> dict[str, Any]:
    return {"outcome": "raised", "errors": [{"type": kind, "message": message, "module": "", "file": "", **more}]}


@dataclass
class Images:
    """A builder whose images import everything unless configured; `files` are the files of the chain's image."""

    fails: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)
    breaks: Mapping[str, str] = field(default_factory=dict)
    """The images whose interpreters do not start, with the builder's message."""
    runs: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    warnings: tuple[StepWarning, ...] = ()
    """The warnings of the latest proof."""
    texts: list[str] = field(default_factory=list)

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        assert spec.export is not None
        assert not spec.image
        image = dict(spec.args)["IMAGE"]
        if spec.target == "whose":
            assert image == "chain@sha256:1"
            self.asked = json.loads((spec.context / "questions.json").read_bytes())
            found = [{"files": self.files.get(one["name"], [])} for one in self.asked]
            (spec.export / "whose.json").write_text(json.dumps({"answers": found}))
            return BuildResult(digest=None, seconds=0.1)
        text = spec.dockerfile.read_text()
        self.texts.append(text)
        start = json.loads(text[text.index('["') : text.index("]") + 1])[0]
        modules = tuple((spec.context / "questions").read_text().split())
        self.runs.append((image, start, modules))
        if image in self.breaks:
            raise BuildFailedError(f"x: RUN failed: {self.breaks[image]}", log_tail=("No module named 'encodings'",))
        lines = []
        for module in modules:
            answer = {"module": module, "outcome": "imported", "code": 0, "errors": [], "said": ""}
            lines.append(json.dumps(answer | dict(self.fails.get((image, module), {}))))
        (spec.export / "answers").write_text("\n".join(lines))
        return BuildResult(digest=None, seconds=0.1)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    world = World(tmp_path)
    world.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"})
    return world.graph().by_id[PRODUCTION]


def proven(images: Images, step: Step, *pythons: PythonEnvironment) -> tuple[str, list[Event]]:
    events: list[Event] = []
    proof = ImportProof(images, events.append, step, image="new@sha256:2", chain="chain@sha256:1", contexts={})
    verdict = proof.prove(pythons)
    images.warnings = proof.warnings
    return verdict, events


def refused(images: Images, step: Step, *pythons: PythonEnvironment) -> tuple[NotProvenError, Verdict]:
    events: list[Event] = []
    proof = ImportProof(images, events.append, step, image="new@sha256:2", chain="chain@sha256:1", contexts={})
    with pytest.raises(NotProvenError) as caught:
        proof.prove(pythons)
    (verdict,) = events
    assert isinstance(verdict, Verdict)
    return caught.value, verdict


def test_image_without_python_runs_nothing(step: Step) -> None:
    images = Images()
    assert proven(images, step) == ("", [])
    assert images.runs == []


def test_successful_imports_skip_chain_image(step: Step) -> None:
    images = Images()
    verdict, events = proven(images, step, VENV, SYSTEM)
    assert verdict == "4 modules"
    assert [image for image, _, _ in images.runs] == ["new@sha256:2", "new@sha256:2"]
    (event,) = events
    assert isinstance(event, Verdict)
    assert (event.proof, event.passed, event.summary, event.findings) == ("imports", True, "4 modules", ())
    for text in images.texts:
        assert "RUN --network=none --mount=type=bind,target=/.chainbuild-imports [" in text


def test_module_failing_in_both_images_is_warning(step: Step) -> None:
    fails = {(image, "b"): raised("ValueError", "of its own\nmore") for image in ("new@sha256:2", "chain@sha256:1")}
    images = Images(fails=fails)
    verdict, (event,) = proven(images, step, VENV, SYSTEM)
    assert verdict == "3 modules"
    assert images.runs[-1] == ("chain@sha256:1", VENV.start, ("b",))
    assert isinstance(event, Verdict)
    assert (event.passed, event.findings) == (True, ())
    assert [one.text for one in images.warnings] == [
        "b (/opt/venv/bin/python): ValueError: of its own, as in the chain's image"
    ]


def test_module_failing_only_in_production_reports_file_and_package(step: Step) -> None:
    fails = {("new@sha256:2", name): raised("ImportError", NO_LIBRARY) for name in ("a", "b")} | {
        ("new@sha256:2", "c"): raised("FileNotFoundError", "no table", file="/usr/share/table")
    }
    gl = {"path": "/usr/lib/libGL.so.1", "kind": "deb", "package": "libgl1", "version": "1.6"}
    table = {"path": "/usr/share/table", "kind": "", "package": "", "version": ""}
    images = Images(fails=fails, files={"libGL.so.1": [gl], "/usr/share/table": [table]})
    error, verdict = refused(images, step, VENV)
    first, second = error.findings
    assert first == (
        f"a, b (/opt/venv/bin/python): ImportError: {NO_LIBRARY}; the chain's image has {gl['path']}, of the Debian package"
        " libgl1 1.6"
    )
    assert second == (
        "c (/opt/venv/bin/python): FileNotFoundError: no table; the chain's image has /usr/share/table, of no package"
    )
    assert verdict.passed is False
    assert verdict.summary == "3 of 3 modules can be imported in the chain's image but not in this one"
    assert "ADDITIONAL_FILES=/usr/lib/libGL.so.1 /usr/share/table in minimize-amd64-args" in error.hint
    assert "PROVE_IMPORTS=0 in production-amd64-args" in error.hint
    assert images.asked[0] == {"kind": "library", "name": "libGL.so.1", "folders": ["/opt/venv/site"]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"outcome": "killed", "code": 11, "said": "Fatal\n(most recent call first):\n  File x\n  File y\n"},
            "(File x)",
        ),
        ({"outcome": "killed", "code": 11, "said": ""}, "killed by signal 11"),
        ({"outcome": "late"}, "timed out"),
        ({"outcome": "ended", "code": 127, "said": "undefined symbol: x\n"}, "code 127 (undefined symbol: x)"),
        (raised("AttributeError", ""), "AttributeError"),
    ],
)
def test_other_failures_are_described(step: Step, answer: dict[str, Any], words: str) -> None:
    error, _ = refused(Images(fails={("new@sha256:2", "a"): answer}), step, VENV)
    (finding,) = error.findings
    assert finding.endswith(words)
    assert "ADDITIONAL_FILES in " in error.hint


def test_interpreter_not_starting_fails_all_modules(step: Step) -> None:
    home = {"path": "/srv/lib/python3.11/encodings", "kind": "", "package": "", "version": ""}
    images = Images(breaks={"new@sha256:2": "exit code: 1"}, files={"encodings": [home]})
    error, verdict = refused(images, step, VENV)
    assert verdict.summary.startswith("3 of 3 modules")
    (finding,) = error.findings
    assert finding == (
        "a, b, c (/opt/venv/bin/python): the interpreter does not start (No module named 'encodings'); the chain's image has"
        " /srv/lib/python3.11/encodings, of no package"
    )


def test_missing_interpreter_is_reported(step: Step) -> None:
    gone = PythonEnvironment(start="/opt/venv/bin/python", missing="/srv/python3.11", folders=(), modules=("a",))
    images = Images(breaks={"new@sha256:2": "OCI runtime create failed: exec: no such file"})
    refused(images, step, gone)
    assert [one["name"] for one in images.asked] == ["/srv/python3.11"]


def test_interpreter_not_starting_in_both_images_is_warning(step: Step) -> None:
    images = Images(breaks=dict.fromkeys(("new@sha256:2", "chain@sha256:1"), "exit code: 1"))
    verdict, (event,) = proven(images, step, VENV)
    assert verdict == "0 modules"
    assert isinstance(event, Verdict)
    (warning,) = images.warnings
    assert warning.text.startswith("a, b, c (/opt/venv/bin/python): the interpreter does not start")


def test_builder_failure_gives_no_verdict(step: Step) -> None:
    with pytest.raises(BuildFailedError):
        proven(Images(breaks={"new@sha256:2": "the build was cancelled"}), step, VENV)


def test_findings_over_limit_are_counted(step: Step) -> None:
    many = tuple(f"m{number:02}" for number in range(30))
    fails = {("new@sha256:2", name): raised("ValueError", name) for name in many}
    error, _ = refused(Images(fails=fails), step, PythonEnvironment(start="/p", missing="", folders=(), modules=many))
    assert len(error.findings) == 21
    assert error.findings[-1] == "and 10 more"


def test_emulated_imports_have_longer_time_limit(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"})
    platforms = [Platform.parse("amd64"), Platform.parse("aarch64")]
    for step in (one for one in world.graph(platforms) if one.name == "production"):
        images = Images()
        proven(images, step, SYSTEM)
        native = step.platform.same_as(Platform.of_this_machine())
        assert f'"{MODULE_SECONDS if native else EMULATED_SECONDS}"]' in images.texts[0]


@pytest.mark.parametrize(
    ("raw", "modules"), [(b"", ["a"]), (b"nonsense\n", ["a"]), (b"[]\n", ["a"]), (b'{"module": "a"}\n', ["a"])]
)
def test_malformed_answer_is_bug(raw: bytes, modules: list[str]) -> None:
    with pytest.raises(ChainbuildError, match="returned no valid answer"):
        tuple(read_answers(raw, "/p", modules))
    with pytest.raises(ChainbuildError, match="returned no valid answer"):
        read_whose(raw or b"{}")


# The switch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "default", "wanted"),
    [
        (None, None, True),
        (None, "1", True),
        (None, "0", False),
        ("0", "1", False),
        ("1", "0", True),
        ("off", None, False),
        ("", "1", True),
        ("of", "1", True),
    ],
)
def test_switch_turns_proof_on_or_off(step: Step, said: str | None, default: str | None, wanted: bool) -> None:
    from chainbuild.values import replace

    args = (BuildArg(name="PROVE_IMPORTS", value=said),) if said is not None else ()
    declared = "ARG PROVE_IMPORTS" if default is None else f"ARG PROVE_IMPORTS={default}"
    values = switches(replace(step, args=args), f"{declared}\nFROM scratch\n".encode())
    assert is_on(values, "PROVE_IMPORTS") is wanted


# In a run -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A chain whose production image has Python; the test decides how its imports end."""
    made = World(tmp_path)
    made.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN make\n"})
    python = {"start": "/usr/bin/python3", "missing": "", "folders": [], "modules": ["a"]}
    made.driver.proof = GOOD_PROOF | {"pythons": [python]}
    return made


def answering(world: World, outcomes: Mapping[str, str]) -> list[str]:
    """Answer the imports by the image's repository and digest; return the tested images in order."""
    asked: list[str] = []

    def during(spec: BuildSpec) -> None:
        if spec.shown != "the proof of Python" or spec.export is None:
            return
        image = dict(spec.args)["IMAGE"]
        asked.append(image)
        outcome = outcomes.get(str(len(asked)), "imported")
        answer = {"module": "a", "outcome": outcome, "code": 1, "errors": [], "said": ""}
        (spec.export / "answers").write_text(json.dumps(answer))

    world.driver.during = during
    return asked


def test_verdict_is_recorded_and_unchanged_image_is_not_proven_again(world: World) -> None:
    asked = answering(world, {})
    outcome = world.run()
    record = outcome.results[PRODUCTION].record
    assert record.verdicts["imports"] == "1 module"
    assert [image.endswith(str(record.image)) for image in asked] == [True]
    world.begin_again()
    assert world.run().succeeded
    assert len(asked) == 1


def test_rejected_image_has_neither_record_nor_tag(world: World) -> None:
    asked = answering(world, {"1": "ended"})
    outcome = world.run()
    assert isinstance(outcome.failures[PRODUCTION], NotProvenError)
    assert outcome.failures[PRODUCTION].exit_code == 5
    assert asked[1].endswith(str(outcome.results[StepId.parse("amd64/stock/10-base")].record.image))
    assert "v1-stock-amd64" not in world.tags()
    graph = world.graph()
    step = graph.by_id[PRODUCTION]
    assert world.records.last(step.repository, step.family).record is None


def test_disabled_proof_runs_nothing(world: World) -> None:
    world.write({"stock/production-amd64-args": "PROVE_IMPORTS=0\n"})
    asked = answering(world, {"1": "ended"})
    outcome = world.run()
    assert outcome.succeeded
    assert asked == []
    assert "imports" not in outcome.results[PRODUCTION].record.verdicts
    # Turned on again, the key changes.
    world.begin_again()
    world.write({"stock/production-amd64-args": "PROVE_IMPORTS=1\n"})
    assert list(world.run().failures) == [PRODUCTION]
