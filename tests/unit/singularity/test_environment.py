"""Variables of images that Apptainer's script would break."""

from __future__ import annotations

import io
import shlex
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import digest_of
from chainbuild.singularity.environment import SCRIPT, divide, layer_of, script, with_layer

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)


def test_script_is_made_only_for_special_values() -> None:
    env = (("PATH", "/bin:/usr/bin"), ("A", "plain words, 1=2"), ("B", 'a "quote"'), ("C", "$HOME"), ("d.e", "x"))
    plain, hard, lost = divide(env)
    assert [name for name, _ in plain] == ["PATH", "A"]
    assert [name for name, _ in hard] == ["B", "C"]
    assert lost == ("d.e",)


@given(env=st.lists(st.tuples(NAMES, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))))
def test_arbitrary_variable_is_quoted_and_set_once(env: list[tuple[str, str]]) -> None:
    plain, hard, lost = divide(env)
    assert sorted([*plain, *hard]) == sorted(env)
    assert lost == ()
    # A shell reads exactly the value from the script.
    for name, value in hard:
        words = shlex.split(script(((name, value),)).splitlines(keepends=False)[0], comments=True)
        assert words == []
        text = script(((name, value),)).partition("\n")[2]
        text = text.removesuffix(f"export {name}\n")
        found = shlex.split(text.removeprefix(f'if [ -z "${{{name}:-}}" ]; then ').removesuffix("; fi\n"))
        assert found == [f"{name}={value}"]


def test_path_of_image_replaces_path_of_user() -> None:
    assert script((("PATH", "/a b$"),)) == "#!/bin/sh\nPATH='/a b$'\nexport PATH\n"


def test_layer_is_reproducible_and_on_top_of_the_image() -> None:
    layer = layer_of({SCRIPT: b"#!/bin/sh\n"})
    assert layer == layer_of({SCRIPT: b"#!/bin/sh\n"})
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        assert archive.getnames() == [".singularity.d", ".singularity.d/env", SCRIPT]
        assert archive.getmember(SCRIPT).mode == 0o755
    below = digest_of(b"below")
    config = with_layer(ImageConfig.make(Platform.parse("amd64"), [below], history=[{"created_by": "x"}]), layer)
    assert config.diff_ids == (below, digest_of(layer))
    assert b"history" not in config.raw
