"""Dynamic symbols of ELF files: imports, exports, versions, and damaged files."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.rebase.symbols import Symbol, Symbols, SymbolsError, provided, read_symbols
from tests.support.elf_builder import build_elf, library

FORMS = [(64, True), (32, True), (64, False), (32, False)]


@pytest.mark.parametrize(("bits", "little"), FORMS)
def test_symbols_are_read_in_every_class_and_byte_order(bits: int, little: bool) -> None:
    elf = build_elf(imports=("malloc", "weak_hook"), exports=("connect",), bits=bits, little=little)
    symbols = read_symbols(elf)
    assert symbols == Symbols(imports=frozenset({Symbol("malloc")}), exports=frozenset({"connect"}))


def test_exported_symbol_has_the_version_that_it_is_defined_with() -> None:
    symbols = read_symbols(library("libx.so.1", defines=("X_1", "X_2"), exports=("open@X_2", "close@X_1")))
    assert symbols.exports == {"open", "open@X_2", "close", "close@X_1"}
    assert symbols.provides(Symbol("open", "X_2"))
    assert symbols.provides(Symbol("open"))
    assert not symbols.provides(Symbol("open", "X_1"))


def test_imported_symbol_has_the_version_that_it_needs() -> None:
    elf = build_elf(needed=("libx.so.1",), needs={"libx.so.1": ("X_2",)}, imports=("open@X_2",))
    assert read_symbols(elf).imports == {Symbol("open", "X_2")}


def test_library_without_versions_provides_any_version() -> None:
    symbols = Symbols(exports=frozenset({"open"}))
    assert provided(Symbol("open", "X_9"), [symbols])
    assert not provided(Symbol("close"), [symbols])


def test_file_without_symbol_table_has_no_symbols() -> None:
    assert read_symbols(build_elf(needed=("libc.so.6",))) == Symbols()


def test_file_of_another_format_is_refused() -> None:
    with pytest.raises(SymbolsError, match="not an ELF file"):
        read_symbols(b"#!/bin/sh\n")


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_damaged_file_is_read_or_refused(place: int, damage: bytes) -> None:
    elf = library("libx.so.1", defines=("X_1",), exports=("open@X_1",), imports=("close",))
    place %= len(elf)
    with suppress(SymbolsError):
        read_symbols((elf[:place] + damage + elf[place + len(damage) :])[: len(elf)])


@given(st.binary(max_size=300))
def test_any_bytes_after_the_magic_are_read_or_refused(data: bytes) -> None:
    with suppress(SymbolsError):
        read_symbols(b"\x7fELF\x02\x01" + data)
