"""Creating SIF files, with a fake conversion tool."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from chainbuild import events
from chainbuild.attestations.cosign import attestation_layer
from chainbuild.attestations.statement import sign_statement, statement_bytes
from chainbuild.errors import BuildFailedError, ChainbuildError, NotReadyError
from chainbuild.execution.session import Session
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import put_image
from chainbuild.registry.oci import OCI_LAYER_ZSTD, Descriptor, digest_of
from chainbuild.registry.signed_tags import put_signed
from chainbuild.singularity import create
from chainbuild.singularity.create import SifOutcome, create_sifs, layer_sizes, open_shelf, plan_sifs
from chainbuild.singularity.images import find_images
from chainbuild.singularity.sif import architecture
from chainbuild.singularity.space import WorkFolders
from chainbuild.singularity.tool import Conversion, TellLine
from chainbuild.step_id import StepId
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import keyring
from tests.unit.singularity.sif_files import a_sif

OWN = Platform.of_this_machine()
OTHER = Platform.parse("aarch64" if OWN.name == "amd64" else "amd64")


class FakeTool:
    name = "apptainer 9"

    def __init__(self, *, reads_zstd: bool = True) -> None:
        self.reads_zstd = reads_zstd
        self.fails: dict[str, ChainbuildError] = {}
        self.seen: dict[str, dict[str, Any]] = {}

    def convert(self, conversion: Conversion, tell: TellLine) -> None:
        layout = conversion.layouts / conversion.layout

        def blob(digest: str) -> bytes:
            raw = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
            assert str(digest_of(raw)) == digest
            return raw

        index = json.loads((layout / "index.json").read_bytes())
        manifest = json.loads(blob(index["manifests"][0]["digest"]))
        config = json.loads(blob(manifest["config"]["digest"]))
        self.seen[conversion.image] = {
            "layers": [(layer["mediaType"].rpartition(".")[2], blob(layer["digest"])) for layer in manifest["layers"]],
            "config": config,
            "kept": {path.name for path in (layout.parent.parent / "blobs").glob("*")},
        }
        tell("INFO:    Creating SIF file...")
        if conversion.image in self.fails:
            raise self.fails[conversion.image]
        conversion.output.write_bytes(a_sif())


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> FakeTool:
    made = FakeTool()
    monkeypatch.setattr(create, "find_on_path", lambda environ: made)
    return made


def run(session: Session, tmp_path: Path, *words: str, refresh: bool = False, cache: Path | None = None) -> SifOutcome:
    shelf = open_shelf(tmp_path / "sifs")
    (tmp_path / "tmp").mkdir(exist_ok=True)
    planned = plan_sifs(shelf, find_images(session, words), refresh=refresh)
    places = WorkFolders(temporary=tmp_path / "tmp", cache=cache)
    outcome = create_sifs(session, shelf, planned, places, environ={})
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not [path for path in shelf.folder.iterdir() if path.is_dir() or path.name.startswith(".")]
    return outcome


def kinds(told: list[events.Event]) -> list[str]:
    return [type(event).__name__ for event in told]


def test_tool_gets_image_with_origin_labels(
    fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path
) -> None:
    image = fake.add_image("team/tool:v1", OWN, layers=[b"one", b"two"], labels={"a": "b"}, cmd=["x"])
    outcome = run(session, tmp_path, "team/tool:v1")
    (sif,) = outcome.made
    assert (sif.file, sif.digest, sif.tool) == ("team_tool_v1.sif", image.digest, "apptainer 9")
    seen = tool.seen["team/tool:v1"]
    assert seen["layers"] == [("tar+gzip", b"one"), ("tar+gzip", b"two")]
    assert seen["config"]["config"]["Cmd"] == ["x"]
    assert seen["config"]["config"]["Labels"] == {
        "a": "b",
        "io.github.chainbuild.image": "team/tool:v1",
        "io.github.chainbuild.digest": str(image.digest),
    }


def test_file_has_platform_of_image_despite_the_tool(
    fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path
) -> None:
    fake.add_image("team/tool:v1", "aarch64")
    (sif,) = run(session, tmp_path, "team/tool:v1").made
    assert architecture(tmp_path / "sifs" / sif.file) == "arm64"
    assert sif.platform == "linux/arm64"


def test_existing_file_is_skipped_until_the_digest_changes(
    fake: FakeRegistry, session: Session, tool: FakeTool, told: list[events.Event], tmp_path: Path
) -> None:
    fake.add_image("team/one:v1", OWN)
    fake.add_image("team/two:v1", OWN)
    run(session, tmp_path, "team/*")
    tool.seen.clear()
    told.clear()
    outcome = run(session, tmp_path, "team/*")
    assert tool.seen == {}
    assert kinds(told) == ["RunStarted", "StepReused", "StepReused", "RunFinished"]
    assert len(outcome.made) == 2
    fake.add_image("team/two:v1", OWN, layers=[b"other"])
    run(session, tmp_path, "team/*")
    assert list(tool.seen) == ["team/two:v1"]
    run(session, tmp_path, "team/*", refresh=True)
    assert list(tool.seen) == ["team/two:v1", "team/one:v1"]


def test_failed_conversion_does_not_stop_others(
    fake: FakeRegistry, session: Session, tool: FakeTool, told: list[events.Event], tmp_path: Path
) -> None:
    for name in "abc":
        fake.add_image(f"team/{name}:v1", OWN)
    tool.fails["team/b:v1"] = BuildFailedError("no")
    outcome = run(session, tmp_path, "team/*")
    assert [sif.file for sif in outcome.made] == ["team_a_v1.sif", "team_c_v1.sif"]
    assert list(outcome.failures) == [StepId.parse(f"{OWN.name}/team/b:v1")]
    assert kinds(told).count("StepFailed") == 1
    assert not list((tmp_path / "sifs").glob("team_b*"))


def test_shared_layer_is_fetched_once_and_removed_when_unused(
    fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path
) -> None:
    fake.add_image("team/a:v1", OWN, layers=[b"base", b"a"])
    fake.add_image("team/b:v1", OWN, layers=[b"base", b"b"])
    wanted = find_images(session, ["team/*"])
    assert sum(layer_sizes(wanted)) == len(b"base" + b"a" + b"b")
    fake.log.clear()
    run(session, tmp_path, "team/*")
    assert fake.counted("GET", f"/blobs/{digest_of(b'base')}") == 1
    assert tool.seen["team/b:v1"]["kept"] == {digest_of(b"base").hex, digest_of(b"b").hex}


def test_cache_folder_keeps_layers(fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path) -> None:
    fake.add_image("team/a:v1", OWN, layers=[b"base"])
    (tmp_path / "cache").mkdir()
    run(session, tmp_path, "team/a:v1", cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache" / "chainbuild").iterdir()] == ["blobs"]
    fake.log.clear()
    run(session, tmp_path, "team/a:v1", cache=tmp_path / "cache", refresh=True)
    assert fake.counted("GET", f"/blobs/{digest_of(b'base')}") == 0


def test_tool_without_zstd_support_gets_plain_tar(
    fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path
) -> None:
    packed = zstd.compress(b"the tar")
    place = ImageReference.parse("localhost:5000/team/tool:v1")
    fake.add_blob("team/tool", packed)
    config = ImageConfig.make(OWN, [digest_of(b"the tar")])
    put_image(session.registries, place, config, [Descriptor.of(packed, OCI_LAYER_ZSTD)])
    run(session, tmp_path, "team/tool:v1")
    assert tool.seen["team/tool:v1"]["layers"] == [("tar+zstd", packed)]
    tool.reads_zstd = False
    run(session, tmp_path, "team/tool:v1", refresh=True)
    assert tool.seen["team/tool:v1"]["layers"] == [("tar", b"the tar")]


def test_full_disk_is_reported_before_fetching(
    fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add_image("team/tool:v1", OWN)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(NotReadyError, match="not enough disk space"):
        run(session, tmp_path, "team/tool:v1")
    assert fake.counted("GET", "/blobs/" + str(digest_of(b"layer"))) == 0
    assert tool.seen == {}


def test_invalid_variable_names_are_reported(
    fake: FakeRegistry, session: Session, tool: FakeTool, told: list[events.Event], tmp_path: Path
) -> None:
    fake.add_image("team/tool:v1", OWN, env=[("a.b", "1"), ("C", "`x`"), ("D", "d")])
    run(session, tmp_path, "team/tool:v1")
    seen = tool.seen["team/tool:v1"]
    assert seen["config"]["config"]["Env"] == ["D=d"]
    assert [kind for kind, _ in seen["layers"]] == ["tar+gzip", "tar"]
    assert len(seen["config"]["rootfs"]["diff_ids"]) == 2
    assert [event.text for event in told if isinstance(event, events.Message) and event.level == "warning"] == [
        "team/tool:v1: these variables of the image have names that no shell can set: a.b"
    ]


def test_file_has_the_attestations_of_its_image(
    fake: FakeRegistry, session: Session, tool: FakeTool, tmp_path: Path
) -> None:
    image = fake.add_image("team/tool:v1", OWN, layers=[b"one"], env=[("A", 'with "quotes"')])
    statement = statement_bytes("team/tool", image.digest, "https://example.com/any", b"{}")
    envelope = sign_statement(keyring(), statement)
    layer = attestation_layer(envelope, "https://example.com/any")
    put_signed(session.registries, image.reference, "att", [layer])
    run(session, tmp_path, "team/tool:v1")
    _, (kind, top) = tool.seen["team/tool:v1"]["layers"]
    assert kind == "tar"
    with tarfile.open(fileobj=io.BytesIO(top)) as archive:
        file = archive.extractfile(".singularity.d/attestations/01.dsse.json")
        assert file is not None
        assert file.read() == envelope.raw
        assert ".singularity.d/env/11-image.sh" in archive.getnames()
