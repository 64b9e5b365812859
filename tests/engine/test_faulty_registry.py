"""Every kind of wrong answer of a registry, with the client and the real command.

A command ends only with a clear error, never silently takes existing images for missing, and never waits longer than
the limits. The limits are lowered so that this takes seconds; the tests check how a command ends, never how fast.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainbuild import limits
from chainbuild.errors import ChainbuildError, NotFoundInRegistryError
from chainbuild.images.inventory import list_images
from chainbuild.limits import Limit, Pace
from chainbuild.records.garbage import find_garbage
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, is_intact, platforms_of, read_index, resolve
from chainbuild.registry.oci import digest_of
from chainbuild.registry.pool import Registries
from chainbuild.values import replace
from tests.engine.conftest import OWN, Done, Place, laid, push_files
from tests.engine.faulty import KINDS, UPLOADS, Exchange, Proxy, proxied
from tests.support.keys import record_store

PACE = Pace(
    answer=1.0,
    commit=1.5,
    silence=0.5,
    grace=1.0,
    error=0.3,
    leftover=0.1,
    call=3.0,
    listing=4.0,
    waits=(0.01, 0.02),
    again=(0.01, 0.02),
    retry_after=0.5,
)
# The same for a command in a process of its own.
LOWERED = f"""
import sys
from chainbuild import limits
limits.PACE = limits.{PACE!r}
limits.LIST_PAGES = limits.Limit(limits.LIST_PAGES.name, 50, "pages")
from chainbuild.cli import main
sys.argv[0] = "chainbuild"
main()
"""
# Seconds after which a command counts as hanging; every command ends long before.
HANGS = 120
TREE = {"tiny/10-Dockerfile-one": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY one /one\n", "one": "1\n"}
PLATFORM = Platform.parse(OWN)


@pytest.fixture(scope="module")
def proxy(registry_host: str) -> Iterator[Proxy]:
    with proxied(registry_host) as made:
        yield made


@pytest.fixture(autouse=True)
def _right_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reset the proxy before and after each test, so that a fault does not affect the next test."""
    proxy: Proxy = request.getfixturevalue("proxy")
    proxy.set(None)
    yield
    proxy.set(None)


# ---- the client -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(registry_host: str) -> RemoteImage:
    return push_files(f"{registry_host}/test/faulty:1", {"a": b"content"})


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registries]:
    monkeypatch.setattr(limits, "PACE", PACE)
    monkeypatch.setattr(limits, "LIST_PAGES", Limit("the pages of a list", 50, "pages"))
    with Registries(credentials=lambda _: None) as made:
        yield made


def questions(registries: Registries, host: str, image: RemoteImage) -> dict[str, Callable[[], object]]:
    """Return the requests to a registry; each returns True if its result is right."""
    client, name = registries.client(host), ImageReference.parse(f"{host}/test/faulty:1")
    layer = image.layers[0]
    repository = name.repository
    return {
        "head": lambda: client.head(repository, "1") == image.manifest.descriptor,
        "head of a digest": lambda: client.head(repository, image.digest) == image.manifest.descriptor,
        "manifest": lambda: client.manifest(repository, "1").raw == image.manifest.raw,
        "has_blob": lambda: client.has_blob(repository, layer.digest, size=layer.size),
        "blob": lambda: len(client.blob(repository, layer.digest, size=layer.size)) == layer.size,
        "stream": lambda: sum(map(len, client.stream(repository, layer.digest, size=layer.size))) == layer.size,
        "tags": lambda: "1" in client.tags(repository),
        "repositories": lambda: repository in client.repositories(),
        "resolve": lambda: resolve(registries, name, PLATFORM).digest == image.digest,
        "platforms_of": lambda: platforms_of(registries, name) == (PLATFORM,),
        "read_index": lambda: read_index(registries, name) is None,
        "is_intact": lambda: is_intact(registries, name, PLATFORM),
        "list_images": lambda: bool(list_images(record_store(registries, host), repository)),
    }


# Requests that return False if the registry changes content: not intact, and left out with a notice.
DAMAGE = frozenset({"is_intact", "list_images"})
# The answer to HEAD has no body with which its headers could be verified.
UNPROVEN = frozenset({"another digest", "more announced than comes", "a Content-Length that is too short"})


@pytest.mark.parametrize("kind", KINDS)
def test_client_with_wrong_answers_is_right_or_raises(
    proxy: Proxy, registries: Registries, image: RemoteImage, kind: str
) -> None:
    """Require the right answer or an error other than "not found" for every request."""
    proxy.set(KINDS[kind])
    for question, ask in questions(registries, proxy.host, image).items():
        proxy.seen.clear()
        try:
            right = ask()
        except NotFoundInRegistryError as error:
            pytest.fail(f"{question}: {error}")
        except ChainbuildError:
            right = True
        assert right or question in DAMAGE or (question.startswith("head") and kind in UNPROVEN), question
        assert proxy.seen, question


@pytest.mark.parametrize("kind", KINDS)
def test_client_after_one_wrong_answer_is_right_again(
    proxy: Proxy, registries: Registries, image: RemoteImage, kind: str
) -> None:
    """Catch a temporary fault that affects the next request, on whatever connection."""
    name = ImageReference.parse(f"{proxy.host}/test/faulty:1")
    client = registries.client(proxy.host)
    proxy.set(KINDS[kind], times=1)
    try:
        found = client.head(name.repository, image.digest)
        assert found is not None
        assert found.digest == image.digest
    except NotFoundInRegistryError as error:
        pytest.fail(str(error))
    except ChainbuildError:
        pass
    assert client.head(name.repository, "1") == image.manifest.descriptor
    assert resolve(registries, name, PLATFORM).digest == image.digest


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("kind", UPLOADS)
def test_upload_with_wrong_answers_is_stored_or_raises(
    proxy: Proxy, registries: Registries, kind: str, method: str
) -> None:
    """Require that the result of `put_blob` is stored, and no error if only the answer was lost."""
    client = registries.client(proxy.host)
    content = f"{kind} {method} {id(proxy)}".encode()
    proxy.set(UPLOADS[kind], where=lambda exchange: exchange.method == method)
    try:
        digest = client.put_blob("test/faulty", content)
    except ChainbuildError as error:
        if method == "PUT" and kind in {"a lost answer", "a lost answer of a proxy", "a request that was sent twice"}:
            pytest.fail(f"the blob is there, but: {error}")
    else:
        proxy.set(None)
        assert client.blob("test/faulty", digest) == content


@pytest.mark.parametrize("kind", UPLOADS)
def test_upload_after_one_wrong_answer_is_stored_or_raises(proxy: Proxy, registries: Registries, kind: str) -> None:
    client = registries.client(proxy.host)
    content = f"once {kind} {id(proxy)}".encode()
    proxy.set(UPLOADS[kind], where=lambda exchange: exchange.method == "PUT", times=1)
    try:
        digest = client.put_blob("test/faulty", content)
    except ChainbuildError as error:
        if kind not in {"413", "405"}:
            pytest.fail(str(error))
    else:
        assert client.blob("test/faulty", digest) == content


@pytest.mark.parametrize("kind", ["a lost answer", "a lost answer of a proxy", "202 for what is stored"])
def test_tag_push_with_lost_answer_is_confirmed_by_query(
    proxy: Proxy, registries: Registries, image: RemoteImage, kind: str
) -> None:
    client = registries.client(proxy.host)
    proxy.set(UPLOADS[kind], where=lambda exchange: exchange.method == "PUT")
    raw = image.manifest
    assert client.put_manifest("test/faulty", "lost", raw.raw, raw.media_type) == image.digest
    proxy.set(None)
    found = client.head("test/faulty", "lost")
    assert found is not None
    assert found.digest == image.digest


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_with_wrong_answers_never_includes_used_images(
    proxy: Proxy, registries: Registries, image: RemoteImage, kind: str
) -> None:
    """Catch a garbage collection that deletes images because a list was incomplete."""
    place = ImageReference.parse(f"{proxy.host}/test/faulty")
    proxy.set(KINDS[kind], where=lambda exchange: "/tags/list" in exchange.path or "/manifests/" in exchange.path)
    try:
        garbage = find_garbage(registries, place, dropped=())
    except NotFoundInRegistryError as error:
        pytest.fail(str(error))
    except ChainbuildError:
        return
    assert image.digest not in {held.digest for held in garbage.manifests}


def test_large_blob_through_proxy_is_read_completely(proxy: Proxy, registries: Registries) -> None:
    content = bytes(range(256)) * (64 << 10)
    digest = registries.client(proxy.host).put_blob("test/faulty", content)
    assert digest == digest_of(content)
    pieces = list(registries.client(proxy.host).stream("test/faulty", digest, size=len(content)))
    assert b"".join(pieces) == content


# ---- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(
    tmp_path_factory: pytest.TempPathFactory, proxy: Proxy, registry_host: str, base_images: str, nothing_image: str
) -> Iterator[Place]:
    """A built chain of one step, whose registry is now reached through the proxy."""
    with laid(tmp_path_factory.mktemp("faulty"), registry=registry_host, base=base_images) as lay:
        place = quick(lay(files=TREE), nothing_image)
        place.build("tiny")
        yield through(place, proxy)


def quick(place: Place, nothing_image: str) -> Place:
    """Return the same place with images that take no time to analyze."""
    return replace(place, base=nothing_image, production=nothing_image)


def through(place: Place, proxy: Proxy) -> Place:
    """Return the same place with its registry behind the proxy."""
    _, _, path = place.host.partition("/")
    return replace(place, registry=f"{proxy.host}/{path}")


def command(place: Place, *words: str) -> Done:
    """Run the real command in a process of its own, with lower limits."""
    done = subprocess.run(
        [sys.executable, "-c", LOWERED, *words],
        cwd=place.root,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=HANGS,
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def ended_well(done: Done) -> None:
    """Assert that no bug was reported and no control character was printed."""
    assert done.code in {0, 4}, done.told()
    assert "Traceback" not in done.err, done.told()
    assert "this is a bug" not in done.err, done.told()
    text = (done.out + done.err).replace("\n", "")
    assert text.isprintable(), done.told()
    assert done.code == 0 or "error: " in done.err, done.told()


# Texts in the reasons of the plan and in warnings.
SAID = ("its record is damaged", "its image is damaged", "skipped")


@pytest.mark.parametrize("kind", KINDS)
def test_plan_with_wrong_answers_reuses_everything_or_explains(proxy: Proxy, tiny: Place, kind: str) -> None:
    """Catch a plan that rebuilds existing images without reporting the registry or its records as damaged."""
    # The base images are excluded: without them the plan would end before it requests a record.
    proxy.set(KINDS[kind], where=lambda exchange: tiny.repo in exchange.path or exchange.path == "/v2/")
    done = command(tiny, "plan", *tiny.words("tiny"))
    assert proxy.seen, "the fault was never met"
    ended_well(done)
    if done.code == 0 and "nothing to build" not in done.out:
        assert any(words in done.out + done.err for words in SAID), done.told()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("404", "200", "5", "a ", "half"))])
def test_plan_after_one_wrong_answer_reuses_everything_or_explains(proxy: Proxy, tiny: Place, kind: str) -> None:
    """Require the same if only the first request for a record fails."""
    proxy.set(KINDS[kind], where=lambda exchange: f"{tiny.repo}/manifests/" in exchange.path, times=1)
    done = command(tiny, "plan", *tiny.words("tiny"))
    assert proxy.seen, "the fault was never met"
    ended_well(done)
    if done.code == 0 and "nothing to build" not in done.out:
        assert any(words in done.out + done.err for words in SAID), done.told()


@pytest.mark.parametrize("kind", ["429", "503", "404 with a page", "200 with a page", "a reset", "a flipped bit"])
def test_plan_with_unreadable_base_exits_with_registry_error(proxy: Proxy, tiny: Place, kind: str) -> None:
    proxy.set(KINDS[kind], where=lambda exchange: tiny.repo not in exchange.path)
    done = command(tiny, "plan", *tiny.words("tiny"))
    ended_well(done)
    assert done.code == 4, done.told()


@pytest.mark.parametrize("kind", ["429", "503", "no answer", "a reset", "404 with a page", "200 with a page"])
def test_build_with_wrong_answers_fails_and_pushes_nothing(proxy: Proxy, tiny: Place, kind: str) -> None:
    before = tiny.tags(machine=True)
    proxy.set(KINDS[kind], where=lambda exchange: exchange.method in {"GET", "HEAD"})
    done = command(tiny, "build", *tiny.words("tiny", "--no-load"))
    proxy.set(None)
    ended_well(done)
    assert done.code == 4, done.told()
    assert tiny.tags(machine=True) == before


@pytest.mark.parametrize("words", [["images"], ["registry", "ls"], ["registry", "ls", "--all"]])
@pytest.mark.parametrize(
    "kind", ["names that are none", "pages without end", "503", "a Link that is none", "200 with deep JSON"]
)
def test_list_with_wrong_answers_is_complete_or_fails(proxy: Proxy, tiny: Place, words: list[str], kind: str) -> None:
    proxy.set(KINDS[kind])
    done = command(tiny, *words, "--registry", tiny.host)
    ended_well(done)
    if done.code == 0:
        assert f"{tiny.repo}" in done.out, done.told()


@pytest.mark.parametrize("kind", ["a lost answer of a proxy", "a request that was sent twice"])
def test_build_with_lost_upload_answers_succeeds(
    proxy: Proxy, tmp_path: Path, registry_host: str, base_images: str, nothing_image: str, kind: str
) -> None:
    """Catch a run that fails because the first response to each upload was lost."""
    met: set[str] = set()

    def first(exchange: Exchange) -> bool:
        # Ignore the uploads of the builder itself.
        if exchange.method != "PUT" or exchange.path in met or exchange.agent != "chainbuild":
            return False
        if kind == "a request that was sent twice" and "/blobs/uploads/" not in exchange.path:
            return False
        met.add(exchange.path)
        return True

    with laid(tmp_path, registry=registry_host, base=base_images) as lay:
        place = through(quick(lay(files=TREE | {"one": f"{kind}\n"}), nothing_image), proxy)
        proxy.set(UPLOADS[kind], where=first)
        done = command(place, "build", *place.words("tiny", "--no-load"))
        proxy.set(None)
        assert done.code == 0, done.told()
        assert met, done.told()
        again = command(place, "plan", *place.words("tiny"))
        assert "nothing to build" in again.out, again.told()


def test_pace_of_these_tests_has_the_fields_of_the_product() -> None:
    """Require that these tests lower only numbers of the product's limits."""
    assert replace(PACE, **{name: getattr(limits.Pace(), name) for name in Pace.__struct_fields__}) == limits.Pace()
    assert len(KINDS) + len(UPLOADS) >= 100
