"""The template language."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.layouts.types.templates import Parameters, names_in, render, resolve_parameters

NAMES = ("a", "b", "c", "casa_version")
names = st.sampled_from(NAMES)
# Whatever can stand around a use: percent signs and brackets most of all.
plain = st.text("%()sx d\n{}é", max_size=6)


def _is_plain(text: str) -> bool:
    return "%(" not in text


pieces = st.lists(st.tuples(plain.filter(_is_plain), names), max_size=5)


def resolved(**given: str) -> Parameters:
    parameters, wrong = resolve_parameters(given)
    assert not wrong
    return parameters


@given(pieces, st.fixed_dictionaries({name: plain.filter(_is_plain) for name in NAMES}))
def test_every_use_becomes_its_value_and_nothing_else_changes(
    parts: list[tuple[str, str]], values: dict[str, str]
) -> None:
    # "%" before a use is the sign that it is none: two texts are put together with something between them.
    text = "".join(f"{one.rstrip('%')}%({name})s" for one, name in parts)
    rendered, wrong = render(text, resolved(**values))
    assert not wrong
    assert rendered == "".join(f"{one.rstrip('%')}{values[name]}" for one, name in parts)


@given(st.text("%()sab \n", max_size=30))
def test_any_text_is_rendered_or_told(text: str) -> None:
    rendered, wrong = render(text, resolved(a="1", b="2"))
    if "%(" not in text:
        assert (rendered, wrong) == (text, ())
    for one in wrong:
        assert 1 <= one.line <= text.count("\n") + 1
        assert one.message
        assert one.hint


@given(st.text(max_size=30))
def test_a_text_can_always_be_written_so_that_it_comes_out(text: str) -> None:
    """`%%(` for every `%(` that would be a use: the escape loses nothing."""
    written = text.replace("%(", "%%(")
    if "%%(" in text:
        return
    assert render(written, resolved(a="1"))[1] == ()
    assert render("%%(a)s", resolved(a="1"))[0] == "%(a)s"


@given(st.dictionaries(names, st.lists(names, max_size=3), max_size=4))
def test_parameters_name_parameters_unless_in_a_circle(uses: dict[str, list[str]]) -> None:
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


def test_a_circle_is_spelled_out() -> None:
    _, wrong = resolve_parameters({"a": "%(b)s", "b": "x%(a)s", "c": "%(a)s"})
    assert [one.message for one in wrong.values()] == ["parameters name each other in a circle: a names b names a"]


def test_a_name_that_is_none_is_told_with_the_nearest_and_its_line() -> None:
    _, (wrong,) = render("one\n%(casa_verson)s\n", resolved(casa_version="5", x="1"))
    assert (wrong.line, wrong.message) == (2, "there is no parameter 'casa_verson'")
    assert "Perhaps you meant %(casa_version)s." in wrong.hint
    assert "%%(casa_verson)s" in wrong.hint


def test_only_s_is_a_use() -> None:
    text = "%(asctime)d %(message)-8s 50%% of %d, 100 % (a)s"
    assert render(text, resolved(a="1")) == (text, ())
    _, (wrong,) = render("%(a)d", resolved(a="1"))
    assert wrong.hint == "Write %(a)s."
    assert names_in("%(a)s %%(b)s %(c)d %(a)s") == ("a",)


def test_values_are_not_read_twice() -> None:
    """A value that looks like a use after it was put in is text: nothing is rendered until it is stable."""
    assert render("%(a)s", resolved(a="%%(b)s", b="1"))[0] == "%(b)s"
