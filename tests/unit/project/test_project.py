"""Values of a project, flags that override them, and the graph of the whole project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chainbuild.cli.runs.project import load_project, unsaid_run
from chainbuild.cli.settings import settings_from
from chainbuild.errors import WrongUseError
from chainbuild.project.location import find_project
from chainbuild.project.model import Project
from chainbuild.project.reader import read_project
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.last_run import save_last_run
from chainbuild.requests.layer import LayerRun
from chainbuild.requests.options import RunOptions
from chainbuild.requests.project_runs import read_run
from chainbuild.requests.science import read_project_science
from chainbuild.step_id import StepId
from tests.support.graphs import shown
from tests.support.world import THREE_STEPS, World

HERE = Platform.of_this_machine().name
RELEASE = "ARG BASEIMAGE=atlas/slc6-atlasos:latest\nFROM ${BASEIMAGE}\nARG RELEASE=21\nRUN install $RELEASE\n"
OPTIONS = "platforms: amd64\nrepo: team/atom\ntag: v1\nbase: fat:1\nproduction: slim:1\noptions: stock\n"
LAYERS = """\
tag: v7
layers:
  - {folder: os, image: "meehan/slc6-atlasos:latest"}
  - {folder: release, image: meehan/analysisbase, build-args: {RELEASE: 21.2}}
"""
FOLDERS = {"os/Dockerfile": "FROM cern/slc6-base:latest\n", "release/Dockerfile": RELEASE}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def project(text: str, files: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> Project:
    for name, content in {"chainbuild.yaml": text, **(files or {})}.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return read_project(Path("chainbuild.yaml"), environ or {})


def run(text: str, files: Mapping[str, str], **typed: Any) -> LayerRun:
    return read_run(project(text, files), RunOptions(**typed))


def wrong(
    text: str, files: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, **typed: Any
) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        read_run(project(text, files, environ), RunOptions(**typed))
    return [f"{one.where}: {one.message} | {one.hint}" for one in caught.value.problems]


# Location and values --------------------------------------------------------------------------------------------------


def test_project_file_is_found_from_subfolder(here: Path) -> None:
    (here / "deep/er").mkdir(parents=True)
    assert find_project(here / "deep/er") is None
    (here / "chainbuild.yaml").touch()
    assert find_project(Path("deep/er")) == here / "chainbuild.yaml"


def test_project_values_are_read(here: Path) -> None:
    text = (
        OPTIONS
        + LAYERS.partition("\n")[2]
        + (
            "registry: ghcr.io/acme\nregistry-port: 5001\nbuilders: {arm64: far}\ncontext: os\nbuild-args: {CPU: , A: 0x1}\n"
            "build-contexts: {src: os, more: 'https://example.com/x.git'}\nsecrets: {one: {env: TOKEN}, two: {src: t.txt}}\n"
            "refresh-after: 7d\ndeadline: 2h\njobs: 3\nkeep-going: true\ntests: false\npush: true\nload: false\n"
            "science: {root: os, repo: acme}\n"
        )
    )
    made = project(text, {**THREE_STEPS, **FOLDERS, "t.txt": "t"}, {"CPU": "ZEN", "TOKEN": "secret"})
    assert (made.platforms, made.repo, made.tag, made.options) == (("amd64",), "team/atom", "v1", ("stock",))
    assert (made.registry, made.port, made.builders) == ("ghcr.io/acme", 5001, ("arm64=far",))
    assert [(arg.name, arg.value, arg.origin) for arg in made.build_args] == [
        ("CPU", "ZEN", "chainbuild.yaml:14"),
        ("A", "0x1", "chainbuild.yaml:14"),
    ]
    assert made.build_contexts == (f"src={here / 'os'}", "more=https://example.com/x.git")
    assert made.secrets == ("id=one,env=TOKEN", f"id=two,src={here / 't.txt'}")
    assert (made.refresh_after, made.deadline, made.jobs, made.context) == ("7d", "2h", 3, here / "os")
    assert (made.keep_going, made.tests, made.push, made.load) == (True, False, True, False)
    assert [(layer.name, str(layer.image), layer.line) for layer in made.layers] == [
        ("os", "meehan/slc6-atlasos:latest", 8),
        ("release", "meehan/analysisbase", 9),
    ]
    assert made.science is not None
    assert (made.science.root, made.science.repo) == (here / "os", "acme")


MEANT = [
    ("platforms: [amd64, x86_64]", ":7: platforms: 'x86_64' and 'amd64' are the same platform"),
    ("builders: {amd64: a, x86_64: b}", ":7: builders: duplicate platform x86_64"),
    ("registry: ghcr", ":7: registry: 'ghcr' is not a registry host"),
    ("context: sorc", ":7: context: no such folder: 'sorc' | Perhaps you meant 'src'."),
    ("deadline: 1m2h", ":7: deadline: '1m2h' is not a duration"),
    ("build-args: {UNSET: }", ":7: UNSET has no value, here or in the environment"),
    ("build-contexts: {a: gone}", ":7: build-contexts: a: no such folder: "),
    ("secrets: {t: {env: UNSET}}", ":7: secrets: t: UNSET is not set in the environment"),
    ("secrets: {t: {src: gone}}", ":7: secrets: t: no such file: "),
    ("secrets: {t: {src: src/setup.py, env: HOME}}", ":7: secrets: t has both src and env"),
    ("layers: [{folder: oss, image: a/b}]", ":7: folder: no such folder: 'oss' | Perhaps you meant 'os'."),
    ("layers: [{folder: os, image: a/B}]", ":7: image: 'a/B' is not a repository name"),
    ("layers: [{folder: os, image: 'a/b@sha256:" + "1" * 64 + "'}]", ":7: image: a/b@sha256:"),
    ("layers: [{folder: os, image: a/b, base: 'a b'}]", ":7: base: 'a b' is not a repository name"),
    (
        "layers:\n  - {folder: os, image: a/b}\n  - {folder: os, image: a/c}",
        ":9: duplicate layer name 'os'; first used in line 8",
    ),
    (
        "layers:\n  - {folder: os, image: a/b, base: release}\n  - {folder: release, image: a/c}",
        ":8: base: layer 'release' is not defined before this layer",
    ),
    ("layers: [{folder: os, image: a/b, name: stock}]", ":6: options: 'stock' is also the name of a layer"),
    ("layers: [{folder: os, image: a/b, build-args: {NOBODY: 1}}]", ":7: no Dockerfile declares the arg NOBODY"),
    ("layers: [{folder: os, image: 'a/b:1', tags: '1'}]", ":7: tags: a/b:1 has the tag '1'"),
    ("layers: [{folder: os, image: a/b, image-key: a, packages: b}]", ":7: packages cannot be combined with image-key"),
    ("layers: [{folder: os, image: a/b, dockerfile: x/y}]", ":7: layers[0].dockerfile: 'x/y' is not"),
    (
        "layers: [{folder: os, image: a/b, dockerfile: x, image-key: a}]",
        ":7: image-key cannot be combined with dockerfile",
    ),
    ("layers: [{folder: os, image: a/b, search-dirs: src}]", ":7: search-dirs needs image-key or packages"),
    ("layers: [{folder: os, image: a/b, skip-packages: x}]", ":7: skip-packages needs packages"),
    ("layers: [{folder: os, image: a/b, packages: x, search-dirs: scr}]", ":7: search-dirs: no such folder: 'scr'"),
    ("build-args: {CPUU: ZEN}", ":7: no Dockerfile declares the arg CPUU | Perhaps you meant CPU."),
]


@pytest.mark.parametrize(("line", "message"), MEANT, ids=[one[0][:60] for one in MEANT])
def test_invalid_value_is_reported_with_its_line(line: str, message: str) -> None:
    text = "".join(one for one in OPTIONS.splitlines(keepends=True) if one.partition(":")[0] != line.partition(":")[0])
    text = "\n" * (6 - text.count("\n")) + text + line + "\n"
    told = wrong(text, {**THREE_STEPS, **FOLDERS}, {"HOME": "/"})
    assert any(one.startswith("chainbuild.yaml" + message) or message in one for one in told), told


def test_missing_options_are_reported_with_nearest_name() -> None:
    told = wrong(OPTIONS.replace("options: stock", "options: [stok, 'a,b']"), THREE_STEPS)
    assert told[0].startswith("chainbuild.yaml:6: options: 'a,b' has a comma")
    assert told[1] == "chainbuild.yaml:6: options: no such folder: 'stok' | Perhaps you meant 'stock'."


def test_syntax_and_value_problems_are_reported_together() -> None:
    told = wrong("option: a\nlayers:\n  - 7\n  - {folder: os, image: a/B}\n", FOLDERS)
    assert [one.partition(" ")[0] for one in told] == ["chainbuild.yaml:1:", "chainbuild.yaml:3:", "chainbuild.yaml:4:"]


# Flags override values ------------------------------------------------------------------------------------------------


def test_flags_override_project_values() -> None:
    text = (
        OPTIONS
        + "registry: ghcr.io/acme\nbuilders: {amd64: near, aarch64: far}\njobs: 2\npush: true\nkeep-going: true\n"
    )
    made = project(text, THREE_STEPS)
    words = RunOptions().merged(made)
    assert (words.platform, words.repo, words.tag, words.base, words.option, words.production) == (
        "amd64",
        "team/atom",
        "v1",
        "fat:1",
        "stock",
        "slim:1",
    )
    assert (words.registry, words.port, words.builders, words.jobs) == (
        "ghcr.io/acme",
        None,
        ("amd64=near", "aarch64=far"),
        2,
    )
    assert (words.push, words.keep_going, words.load) == (True, True, True)
    typed = RunOptions(
        platform="aarch64",
        repo="x/y",
        tag="t",
        base="b:1",
        option="o",
        production="p:1",
        registry="quay.io/x",
        port=7,
        builders=("arm64=mine",),
        jobs=9,
        push=False,
        keep_going=False,
        load=False,
    )
    words = typed.merged(made)
    assert (words.platform, words.repo, words.tag, words.base, words.option, words.production) == (
        "aarch64",
        "x/y",
        "t",
        "b:1",
        "o",
        "p:1",
    )
    assert (words.registry, words.port, words.builders, words.jobs) == ("quay.io/x", 7, ("amd64=near", "arm64=mine"), 9)
    assert (words.push, words.keep_going, words.load) == (False, False, False)
    assert RunOptions(builders=("all",)).merged(made).builders == ("all",)


@pytest.mark.parametrize(
    ("line", "typed", "strict"),
    [("", None, False), ("", True, True), ("strict: true\n", None, True), ("strict: true\n", False, False)],
)
def test_strict_flag_overrides_the_project(line: str, typed: bool | None, strict: bool) -> None:
    made = project(OPTIONS + line, THREE_STEPS)
    assert RunOptions(strict=typed).merged(made).strict is strict
    assert run(OPTIONS + line, THREE_STEPS, strict=typed).request.options.strict is strict


def test_production_can_be_scratch() -> None:
    request = run(OPTIONS.replace("slim:1", "scratch"), THREE_STEPS).request
    production = next(step for step in request.graph if step.name == "production")
    source = production.image("PRODUCTION_IMAGE").source
    assert isinstance(source, ImageReference)
    assert source.is_scratch


def test_context_and_secret_flags_replace_entries_by_name() -> None:
    made = project(
        OPTIONS + "build-contexts: {a: src, b: src}\nsecrets: {one: {env: A}, two: {env: B}}\n",
        THREE_STEPS,
        {"A": "", "B": ""},
    )
    words = RunOptions(build_contexts=("a=/x",), secrets=("id=two,src=/y",)).merged(made)
    assert [text.partition("=")[0] for text in words.build_contexts or ()] == ["b", "a"]
    assert words.secrets == ("id=one,env=A", "id=two,src=/y")


def test_build_args_reach_dockerfiles_that_declare_them() -> None:
    text = OPTIONS + LAYERS.partition("\n")[2] + "build-args: {CPU: OLD, RELEASE: 20}\n"
    request = run(text, {**THREE_STEPS, **FOLDERS}, build_args=("CPU=NEW",)).request
    args = {step.id: {arg.name: arg.value for arg in step.args} for step in request.graph}
    assert args[StepId.parse("amd64/stock/20-blas")] == {"CPU": "NEW"}
    assert args[StepId.parse("amd64/release/release")] == {"RELEASE": "20"}
    assert args[StepId.parse("amd64/os/os")] == {}
    assert "no Dockerfile declares the arg NOBODY" in wrong(text, build_args=("NOBODY=1",))[0]


def test_step_range_selects_part_of_the_chain() -> None:
    request = run(OPTIONS, THREE_STEPS, until=20).request
    assert [step.name for step in request.graph] == ["10-base", "20-blas"]
    assert run(OPTIONS, THREE_STEPS, first=20).request.options.first == 20
    assert run(OPTIONS, THREE_STEPS, only=20).request.options.first == 20
    assert "no step has this number" in wrong(OPTIONS, THREE_STEPS, first=21)[0]
    text = OPTIONS + LAYERS.partition("\n")[2]
    assert "--from, --only and --until need a single OPTION" in wrong(text, FOLDERS, until=20)[0]
    assert "--only cannot be combined with" in wrong(OPTIONS, only=10, until=20)[0]


def test_missing_values_are_reported_with_key_and_flag() -> None:
    told = wrong("options: stock\n", THREE_STEPS)
    assert [one.partition(" |")[0] for one in told] == [
        f"chainbuild.yaml: the options need {key!r}" for key in ("base", "production", "repo", "tag")
    ]
    assert "--repo" in told[2]
    request = run("options: stock\n", THREE_STEPS, repo="a/b", tag="t", base="x:1", production="y:1").request
    assert request.graph.chains[0].platform.name == HERE


def test_option_flags_are_rejected_in_project_of_layers() -> None:
    assert "--base: this project has no options" in wrong(LAYERS, FOLDERS, base="x:1")[0]


# The graph ------------------------------------------------------------------------------------------------------------


def test_layers_form_a_single_chain() -> None:
    made = run(LAYERS, FOLDERS, platform="amd64")
    assert (
        shown(made.request.graph)
        == """\
amd64/os/os [meehan/slc6-atlasos:latest-amd64] cern/slc6-base:latest=>cern/slc6-base:latest
amd64/release/release [meehan/analysisbase:v7-amd64] BASEIMAGE<-amd64/os/os RELEASE=21.2"""
    )
    assert [one.how for one in made.layer_bases] == [
        "FROM at os/Dockerfile:1",
        "the layer before it, as ARG BASEIMAGE",
    ]
    assert shown(run(LAYERS, FOLDERS, platform="amd64", tag="v8").request.graph).count("v8-amd64") == 1


def test_layer_base_key_sets_the_base() -> None:
    text = LAYERS.replace("build-args:", 'base: "debian:12", build-args:')
    made = run(text, FOLDERS, platform="amd64")
    assert "BASEIMAGE<-debian:12" in shown(made.request.graph)
    assert made.layer_bases[1].how == "base: in chainbuild.yaml, as ARG BASEIMAGE"


def test_layers_of_image_keys_and_packages_are_read(here: Path) -> None:
    step = "ARG BASE_IMAGE=debian:12\nFROM $BASE_IMAGE\nARG CPU\n"
    World(here).write(
        {
            "docker/Dockerfile.base": step,
            "own/Dockerfile.app": step,
            "packages/torch/Dockerfile": f"#---\n# depends: [python, cuda]\n#---\n{step}",
            "packages/build/python/Dockerfile": step,
        }
    )
    (here / "chainbuild.yaml").write_text(
        """\
layers:
  - {folder: docker, image: me/app, tags: [new, "2"], image-key: base.app, search-dirs: [own], build-args: {CPU: ZEN}}
  - {folder: packages, image: me/torch, packages: torch, skip-packages: cuda, base: debian:12}
"""
    )
    graph = read_run(read_project(here / "chainbuild.yaml", {}), RunOptions(platform="amd64")).request.graph
    assert [str(step.id) for step in graph] == [
        "amd64/docker/base",
        "amd64/docker/app",
        "amd64/packages/python",
        "amd64/packages/torch",
    ]
    assert graph.chains[0].publication is not None
    assert graph.chains[0].publication.also == ("new", "2")


def test_selected_layer_is_built_with_its_bases_or_alone() -> None:
    text = LAYERS + "  - {folder: more, image: meehan/more}\n"
    files = {**FOLDERS, "more/Dockerfile": RELEASE}
    assert [step.name for step in run(text, files, layer="release").request.graph] == ["os", "release"]
    assert [step.name for step in run(text, files, layer="os").request.graph] == ["os"]
    (step,) = run(text, files, layer="more", alone=True).request.graph
    assert str(step.image("BASEIMAGE").source) == "localhost:5000/meehan/analysisbase:v7"
    told = wrong(text, files, layer="relase")
    assert told == [": chainbuild.yaml has no layer 'relase' | Perhaps you meant 'release'. Layers: os, release, more."]


def test_selected_layer_ignores_args_of_other_layers() -> None:
    text = LAYERS + "build-args: {RELEASE: 20}\n"
    (step,) = run(text, FOLDERS, layer="os").request.graph
    assert step.args == ()


def test_option_can_use_a_layer_as_base() -> None:
    text = OPTIONS.replace("fat:1", "release") + LAYERS.partition("\n")[2]
    graph = run(text, {**THREE_STEPS, **FOLDERS}).request.graph
    first = graph.by_id[StepId.parse("amd64/stock/10-base")]
    assert first.image("BASE_IMAGE").source == StepId.parse("amd64/release/release")
    assert [chain.option for chain in graph.chains] == ["os", "release", "stock"]
    assert str(graph.repo) == "team/atom"


def test_reference_to_image_of_project_uses_its_layer() -> None:
    text = LAYERS + "  - {folder: third, image: meehan/third, base: 'debian:12'}\n"
    files = {
        **FOLDERS,
        "third/Dockerfile": "ARG B=x\nFROM meehan/slc6-atlasos AS os\nFROM ${B}\nCOPY --from=os /a /a\n",
    }
    graph = run(text, files, platform="amd64").request.graph
    images = {one.name: one.source for one in graph.by_id[StepId.parse("amd64/third/third")].images}
    assert images["meehan/slc6-atlasos"] == StepId.parse("amd64/os/os")


def test_tests_key_and_flag_turn_off_tests() -> None:
    files = {**FOLDERS, "os/layer-test": "#!/bin/sh\n"}
    tested = [bool(step.test) for step in run(LAYERS, files).request.graph]
    assert tested == [True, False]
    for made in (run(LAYERS + "tests: false\n", files), run(LAYERS, files, tests=False)):
        assert not any(step.test for step in made.request.graph)
    assert any(step.test for step in run(LAYERS + "tests: false\n", files, tests=True).request.graph)


def test_problems_of_tree_file_and_flags_are_reported_together() -> None:
    text = OPTIONS.replace("slim:1", "'Slim'") + LAYERS.partition("\n")[2]
    told = wrong(text, {**THREE_STEPS, **FOLDERS, "stock/40-Dockerfile-bad": "FROM debian\n"})
    assert told == [
        "chainbuild.yaml:5: production: 'Slim' is not a repository name | Repository names are lower case: 'slim'."
    ]
    told = wrong(OPTIONS, {"stock/40-Dockerfile-bad": "FROM debian\n"}, deadline="soon", platform="amd65")
    for part in ("stock/40-Dockerfile-bad:1:", "PLATFORM: unknown platform 'amd65'", "--deadline: 'soon'"):
        assert any(part in one for one in told), (part, told)


def test_contradicting_step_numbers_are_reported_in_a_project_too(here: Path) -> None:
    assert "--from 30 comes after --until 20" in wrong(OPTIONS, THREE_STEPS, first=30, until=20)[0]
    assert "--only cannot be combined with --from or --until" in wrong(OPTIONS, THREE_STEPS, only=30, until=20)[0]


def test_project_with_only_science_has_no_layers_to_run(here: Path) -> None:
    assert "has neither options nor layers" in wrong("science: {}\n")[0]


# Runs without arguments -----------------------------------------------------------------------------------------------


def test_layers_take_precedence_over_the_last_run(here: Path) -> None:
    project(LAYERS, FOLDERS)
    words = RunOptions(
        platform="amd64", repo="old/one", tag="v1", base="a:1", option="gone", production="a:1", root=here
    )
    save_last_run(here, words)
    steps = [step.id for step in unsaid_run(RunOptions(root=here / "os", platform="amd64")).graph]
    assert steps == [StepId.parse("amd64/os/os"), StepId.parse("amd64/release/release")]


def test_options_use_the_arguments_of_the_last_run(here: Path) -> None:
    option = {"stock/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"}
    project("repo: team/new\ntag: v2\nbase: a:1\noptions: [stock]\nproduction: a:1\nplatforms: [amd64]\n", option)
    assert str(unsaid_run(RunOptions(root=here)).graph.repo).endswith("team/new")
    words = RunOptions(
        platform="amd64", repo="team/old", tag="v1", base="a:1", option="stock", production="a:1", root=here
    )
    save_last_run(here, words)
    assert str(unsaid_run(RunOptions(root=here)).graph.repo).endswith("team/old")


def test_missing_root_folder_is_reported(here: Path) -> None:
    project(LAYERS, FOLDERS)
    with pytest.raises(WrongUseError, match="--root: no such folder"):
        load_project(here / "nodir")


def test_settings_use_the_folder_of_the_project(here: Path) -> None:
    project(LAYERS, FOLDERS)
    assert settings_from(root=here / "os", registry=None, port=5000).root == here
    with pytest.raises(WrongUseError, match="no such folder"):
        settings_from(root=here / "nodir", registry=None, port=5000)


SESSION = "registry: ghcr.io/acme\nregistry-port: 5055\nbuilders: {aarch64: far}\n"


def test_settings_of_a_command_are_those_of_the_project(here: Path) -> None:
    project(LAYERS + SESSION, FOLDERS)
    settings = settings_from(root=here / "os", registry=None)
    assert (str(settings.registry), settings.port, settings.builders) == ("ghcr.io/acme", 5055, {"linux/arm64": "far"})


def test_flags_of_a_command_override_the_project(here: Path) -> None:
    project(LAYERS + SESSION, FOLDERS)
    settings = settings_from(root=here, registry="quay.io", port=5001, builders=["aarch64=near"])
    assert (str(settings.registry), settings.port, settings.builders) == ("quay.io", 5001, {"linux/arm64": "near"})


def test_managed_registry_has_the_port_of_the_project(here: Path) -> None:
    project(LAYERS + SESSION, FOLDERS)
    settings = settings_from(root=here, registry=None, managed=True)
    assert (settings.registry, settings.port) == (None, 5055)


def test_settings_of_a_command_report_wrong_registries_of_the_project_only(here: Path) -> None:
    (here / "chainbuild.yaml").write_text("registry: 'a b'\nregistry-port: 99999\nlayers: 5\n")
    with pytest.raises(WrongUseError) as caught:
        settings_from(root=here, registry=None)
    places = [(problem.line, problem.message.partition(":")[0]) for problem in caught.value.problems]
    assert sorted(places) == [(1, "registry"), (2, "registry-port")]


SCIENCE_ONLY = RunOptions(
    tag="v1",
    base="debian",
    option="o",
    production="debian",
    first=10,
    only=20,
    until=30,
    context=Path(),
    build_args=["A=1"],
    build_contexts=["a=."],
    secrets=["id=a"],
)


def test_science_layers_refuse_options_that_they_do_not_have(here: Path) -> None:
    project("science: {}\n", FOLDERS)
    read = load_project(here)
    assert read is not None
    with pytest.raises(WrongUseError) as caught:
        read_project_science(read, SCIENCE_ONLY)
    flags = {problem.message.partition(":")[0] for problem in caught.value.problems}
    numbered = {"--tag", "--base", "--option", "--production", "--from", "--only", "--until"}
    assert flags == numbered | {"--context", "--build-arg", "--build-context", "--secret"}


def test_run_without_project_or_last_run_is_an_error(here: Path) -> None:
    with pytest.raises(WrongUseError, match="no earlier run found in this tree"):
        unsaid_run(RunOptions(root=here))
