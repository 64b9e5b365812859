"""The template language and its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.layouts.image_types.templates import Parameters, names_in, render, resolve_parameters
from chainbuild.values import replace

NAMES = ("a", "b", "c", "casa_version")
names = st.sampled_from(NAMES)
# Text around a use: mostly percent signs and brackets.
plain = st.text("%()sx d\n{}é", max_size=6)


def _is_plain(text: str) -> bool:
    return "%(" not in text


pieces = st.lists(st.tuples(plain.filter(_is_plain), names), max_size=5)


def resolved(**given: str) -> Parameters:
    parameters, wrong = resolve_parameters(given)
    assert not wrong
    return parameters


@given(pieces, st.fixed_dictionaries({name: plain.filter(_is_plain) for name in NAMES}))
def test_render_replaces_parameters_and_keeps_other_text(parts: list[tuple[str, str]], values: dict[str, str]) -> None:
    # "%" before a use escapes it, so no piece may end with one.
    text = "".join(f"{one.rstrip('%')}%({name})s" for one, name in parts)
    rendered, wrong = render(text, resolved(**values))
    assert not wrong
    assert rendered == "".join(f"{one.rstrip('%')}{values[name]}" for one, name in parts)


@given(st.text("%()sab \n", max_size=30))
def test_arbitrary_text_is_rendered_or_reported(text: str) -> None:
    rendered, wrong = render(text, resolved(a="1", b="2"))
    if "%(" not in text:
        assert (rendered, wrong) == (text, ())
    for one in wrong:
        assert 1 <= one.line <= text.count("\n") + 1
        assert one.message
        assert one.hint


@given(st.text(max_size=30))
def test_escaped_text_renders_to_the_original(text: str) -> None:
    """The escape `%%(` for `%(` loses nothing."""
    written = text.replace("%(", "%%(")
    if "%%(" in text:
        return
    assert render(written, resolved(a="1"))[1] == ()
    assert render("%%(a)s", resolved(a="1"))[0] == "%(a)s"


@given(st.dictionaries(names, st.lists(names, max_size=3), max_size=4))
def test_parameters_use_parameters_except_in_cycles(uses: dict[str, list[str]]) -> None:
    given_ = {name: f"<{name}{''.join(f'%({other})s' for other in others)}>" for name, others in uses.items()}
    parameters, wrong = resolve_parameters(given_)

    def value(name: str, path: tuple[str, ...] = ()) -> str | None:
        if name in path or name not in uses:
            return None
        inner = [value(other, (*path, name)) for other in uses[name]]
        return None if None in inner else f"<{name}{''.join(one or '' for one in inner)}>"

    expected = {name: found for name in uses if (found := value(name)) is not None}
    assert parameters.values == expected
    assert parameters.broken == set(uses) - set(expected)
    assert bool(wrong) == bool(parameters.broken)


def test_parameter_cycle_error_lists_its_members() -> None:
    _, wrong = resolve_parameters({"a": "%(b)s", "b": "x%(a)s", "c": "%(a)s"})
    assert [one.message for one in wrong.values()] == ["parameters use each other in a cycle: a uses b uses a"]


def test_unknown_parameter_error_has_line_and_nearest_name() -> None:
    _, (wrong,) = render("one\n%(casa_verson)s\n", resolved(casa_version="5", x="1"))
    assert (wrong.line, wrong.message) == (2, "no such parameter: 'casa_verson'")
    assert "Perhaps you meant %(casa_version)s." in wrong.hint
    assert "%%(casa_verson)s" in wrong.hint


def test_conversion_other_than_s_is_kept_as_text() -> None:
    text = "%(asctime)d %(message)-8s 50%% of %d, 100 % (a)s"
    assert render(text, resolved(a="1")) == (text, ())
    _, (wrong,) = render("%(a)d", resolved(a="1"))
    assert wrong.hint == "Write %(a)s."
    assert names_in("%(a)s %%(b)s %(c)d %(a)s") == ("a",)


def test_values_are_not_rendered_twice() -> None:
    """A value that looks like a use is text: rendering is not repeated."""
    assert render("%(a)s", resolved(a="%%(b)s", b="1"))[0] == "%(b)s"


# ---- hostile parameters ----------------------------------------------------------------------------------------------


def multiplying(levels: int, times: int) -> dict[str, str]:
    """Return `p0` of ten letters, and parameters that each repeat the previous parameter."""
    return {"p0": "0123456789"} | {f"p{level}": f"%(p{level - 1})s" * times for level in range(1, levels + 1)}


def test_multiplying_parameters_report_the_limit() -> None:
    """Ten parameters of ten uses each expand to a hundred gigabytes."""
    parameters, wrong = resolve_parameters(multiplying(10, 10))
    assert sum(map(len, parameters.values.values())) <= limits.TEMPLATE.value
    (one,) = wrong.values()
    assert "the expanded size of a template allows, 4 MiB" in one.message
    assert one.hint
    assert parameters.broken == {f"p{level}" for level in range(6, 11)}


def test_parameter_sizes_are_added_for_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TEMPLATE", replace(limits.TEMPLATE, value=100))
    _, wrong = resolve_parameters(dict.fromkeys("abc", "x" * 40))
    assert list(wrong) == ["c"]


@pytest.mark.parametrize("depth", [33, 400, 5000])
def test_deeply_nested_parameters_report_the_limit(depth: int) -> None:
    """Each use is a recursive call: a few hundred of them end in RecursionError."""
    given_ = {f"p{level}": f"%(p{level + 1})s" for level in range(depth)} | {f"p{depth}": "end"}
    parameters, wrong = resolve_parameters(given_)
    assert wrong
    assert "the depth of parameters in parameters, 32 levels" in next(iter(wrong.values())).message
    assert "p0" in parameters.broken
    assert parameters.values[f"p{depth}"] == "end"


def test_parameters_nested_up_to_the_limit_are_resolved() -> None:
    given_ = {f"p{level}": f"%(p{level + 1})s" for level in range(31)} | {"p31": "end"}
    assert resolved(**given_).values["p0"] == "end"


def test_render_beyond_the_size_limit_reports_the_limit() -> None:
    text, wrong = render("%(a)s" * 5000, resolved(a="x" * 1000))
    assert text == ""
    assert "4 MiB" in wrong[-1].message


def test_render_reports_a_limited_number_of_mistakes() -> None:
    """Each mistake searches the nearest name: half a million mistakes would take hours."""
    _, wrong = render("%(nothing)s\n" * 300_000, resolved(**{f"name{number}": "" for number in range(200)}))
    assert len(wrong) == 50
    assert wrong[-1].line == 50
