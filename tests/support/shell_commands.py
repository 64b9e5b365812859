"""Shell commands for tests, as hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st

COMMANDS = (
    "true",
    "false",
    "x=1",
    "cd /",
    "echo one",
    "echo 'a && b; c'",
    'echo "$x && y; $(echo "in && side"; true)"',
    "echo `true && echo z`",
    "echo $((1 + 2)) ${x:-d} \\&\\& \\;",
    'test -n "$x"',
    "( true && echo s; false )",
    "{ echo g && x=2; }",
    'if true && test -n "$x"; then echo i; elif false; then :; else echo e; fi',
    "case a in (a) echo c && true;; b|c) false;; esac",
    "for i in 1 2; do echo $i && true; done",
    "while false; do echo never; done",
    "f() { echo f && false; }",
    "echo p | cat",
    "! true",
    "! false",
    "exit 3",
    "echo out >&2",
    "echo done fi esac",
)
"""Each is a command that a shell ends with `&&`, `;` or a new line, and that the splitter takes as one operand."""
_LOOKING_BACK = ("echo $?", "test $? = 0", 'echo $?: "${x}"')
_SETS = ("set -e", "set -ex", "set -o errexit", "set -u", "set +e", "set -eu -o noglob")
_HEREDOC = "cat <<'E'\nx && y; z\nE\n"
_JOINTS = (" && ", " || ", "; ", "\n", " && \\\n  ", " &&\n", " && # a && b\n", "\n# it's\n")


@st.composite
def commands(draw: st.DrawFn) -> str:
    """Return a command of several operands with any operators."""
    operand = st.sampled_from((*COMMANDS, *_LOOKING_BACK, *_SETS))
    parts = [draw(operand)]
    for _ in range(draw(st.integers(0, 6))):
        parts += [draw(st.sampled_from(_JOINTS)), draw(operand)]
    if draw(st.booleans()):
        parts.insert(0, _HEREDOC)
    return "".join(parts)


chains = st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=8)
"""The operands of a chain."""
