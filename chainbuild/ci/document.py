"""The text of a workflow: what it is and how it was made, then its YAML."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from chainbuild.ci.pipeline import Pipeline, Vendor


class _Dumper(yaml.SafeDumper):
    """Safe YAML for people: scripts as they are written, nothing by reference, lists set in."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def document(vendor: Vendor, pipeline: Pipeline) -> str:
    """The whole file."""
    body = yaml.dump(
        vendor.write(pipeline), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True, indent=2
    )
    notes = [line for note in pipeline.graph.notes for line in textwrap.wrap(f"Note: {note}.", 118)]
    header = [f"{vendor.title}: {vendor.path}. Written by chainbuild; change the tree or the words, and run it again:"]
    return "".join(f"# {line}\n" for line in [*header, pipeline.made_by, *notes]) + "\n" + body
