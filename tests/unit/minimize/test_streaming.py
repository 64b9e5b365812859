from __future__ import annotations

import hashlib
import json

import pytest

from chainbuild.minimize.write import Rows, digest_of, write_json

DOCUMENTS = [
    {},
    {"a": [1, {"b": "\udcff\n"}], "c": "é"},
    {"rows": [{"z": 1, "a": [2]}, {"z": 3}], "none": [], "more": {"x": ["y"]}},
]


def lazily(value):
    if isinstance(value, list):
        return Rows(lambda: [lazily(one) for one in value])
    return {key: lazily(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("document", DOCUMENTS)
def test_streamed_document_is_written_like_list(tmp_path, capsys, document):
    plain = json.dumps(document, indent=1) + "\n"
    for one in (document, lazily(document), lazily(document)):
        write_json(one, str(tmp_path / "x"))
        assert (tmp_path / "x").read_text() == plain
        write_json(one, "-")
        assert capsys.readouterr().out == plain


@pytest.mark.parametrize("document", DOCUMENTS)
def test_streamed_document_has_digest_of_whole(document):
    whole = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    rows = lazily(document)
    assert (digest_of(document), digest_of(rows), digest_of(rows)) == (whole, whole, whole)


def test_rows_are_equal_to_list():
    assert Rows(lambda: [1, 2]) == [1, 2] == Rows(lambda: (1, 2))
    assert Rows(list) == []
    assert Rows(lambda: [1]) != []
    assert [*Rows(lambda: [1, 2])] == [1, 2]


def test_rows_are_created_individually(tmp_path):
    there, most = 0, 0

    class Row(dict[str, int]):
        def __del__(self):
            nonlocal there
            there -= 1

    def make():
        nonlocal there, most
        for number in range(1000):
            there += 1
            most = max(most, there)
            yield Row(number=number)

    write_json({"rows": Rows(make)}, str(tmp_path / "x"))
    assert len(json.loads((tmp_path / "x").read_bytes())["rows"]) == 1000
    assert most < 5
