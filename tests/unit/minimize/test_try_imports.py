"""The program that imports modules: a crash, exit, hang or flood of one module hides no other.

It forks by design; nothing else is started.
"""

from __future__ import annotations

import json
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize import try_imports
from chainbuild.minimize.try_imports import quoted

MODULES = {
    "fine": "print('hello')",
    "crashes": "import os, faulthandler\nfaulthandler.disable()\nos.kill(os.getpid(), 11)",
    "leaves": "import sys\nsys.exit('enough')",
    "goes": "import os\nos._exit(7)",
    "hangs": "import os, time\nos.write(1, b'waiting\\n')\ntime.sleep(600)",
    "hangs_on": "import subprocess, os\nif os.fork() == 0:\n    os.execvp('sleep', ['sleep', '600'])\nos.wait()",
    "floods": "import os\nfor _ in range(3000):\n    os.write(2, b'x' * 1000)\nos.write(1, b'the end\\n')\nraise ValueError",
    "forks": "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)",
    "leaves_one_behind": "import os, time\nif os.fork() == 0:\n    time.sleep(600)",
    "lacks": "import nothing_of_that_name",
    "wraps": (
        "try:\n    import ctypes\n    ctypes.CDLL('libnone-of-that-name.so.1')\n"
        "except OSError as error:\n    raise ImportError('could not be set up') from error"
    ),
    "no_file": "open('/nowhere/at/all')",
    "strange": (
        "class Odd(Exception):\n    def __str__(self): raise ValueError\n    name = 3\n    filename = object()\nraise Odd"
    ),
    "asks": "input()",
    "closes": "import os\nos.closerange(3, 100)",
    "talks": "import sys\nsys.stderr.write('\\udcff \\U0001f600 \"quoted\"\\n'.encode('utf-8', 'replace').decode())\n1/0",
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Return the result of each import, from a single run with a limit that only hanging modules reach."""
    folder = tmp_path_factory.mktemp("modules")
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text + "\n")
    return run(folder, list(MODULES), 3.0)


def run(folder, names, limit):
    (folder / "questions").write_text("\n".join(names))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        try_imports.main(str(folder / "questions"), str(folder / "answers"), limit)
    lines = (folder / "answers").read_text().splitlines()
    return {one["module"]: one for one in map(json.loads, lines)}


def test_module_has_a_single_answer(answered):
    assert set(answered) == set(MODULES)


@pytest.mark.parametrize(
    ("module", "outcome", "code"),
    [
        ("fine", "imported", 0),
        ("crashes", "killed", signal.SIGSEGV),
        ("leaves", "raised", 0),
        ("goes", "ended", 7),
        ("hangs", "late", 0),
        ("hangs_on", "late", 0),
        ("floods", "raised", 0),
        ("forks", "imported", 0),
        ("leaves_one_behind", "imported", 0),
        ("lacks", "raised", 0),
        ("asks", "raised", 0),
        ("strange", "raised", 0),
        ("closes", "ended", 0),
    ],
)
def test_outcome_of_each_ending(answered, module, outcome, code):
    assert (answered[module]["outcome"], answered[module]["code"]) == (outcome, code)


def test_exception_is_reported_with_its_causes(answered):
    (error,) = answered["lacks"]["errors"]
    assert (error["type"], error["module"]) == ("ModuleNotFoundError", "nothing_of_that_name")
    first, cause = answered["wraps"]["errors"]
    assert first["message"] == "could not be set up"
    assert cause["message"].startswith("libnone-of-that-name.so.1: cannot open shared object file")
    assert answered["no_file"]["errors"][0]["file"] == "/nowhere/at/all"
    assert answered["strange"]["errors"][0] == {"type": "Odd", "message": "", "module": "", "file": ""}
    assert answered["leaves"]["errors"][0]["message"] == "enough"


def test_end_of_output_is_kept(answered):
    assert answered["floods"]["said"].endswith("xthe end\n")
    assert len(answered["floods"]["said"]) <= 2000
    assert answered["fine"]["said"] == ""  # a buffer that was not flushed
    assert answered["hangs"]["said"] == "waiting\n"


def test_child_processes_are_killed(answered):
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_imports_are_independent(tmp_path):
    (tmp_path / "sets.py").write_text("import sys\nsys.modules['made_up'] = sys\n")
    (tmp_path / "uses.py").write_text("import made_up\n")
    answers = run(tmp_path, ["sets", "uses"], 60.0)
    assert [answers[name]["outcome"] for name in ("sets", "uses")] == ["imported", "raised"]


@given(st.text())
def test_text_is_quoted_as_json(text):
    assert json.loads(quoted(text).encode("ascii")) == text


@given(st.text(alphabet=st.characters(categories=["Cs"])))
def test_surrogates_are_quoted_as_json(text):
    assert quoted(text).isascii()
    json.loads(quoted(text))
