"""Workflows for tests: the vendors' published schemas, and pipelines without a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from chainbuild.ci.checkout import Checkout
from chainbuild.ci.install import by_command
from chainbuild.ci.jobs import JobSplit, make_jobs
from chainbuild.ci.pipeline import Login, Pipeline
from chainbuild.model import Graph
from chainbuild.requests.ci.reading import VENDORS
from chainbuild.values import replace

PINNED = "chainbuild==0.2.0 \\\n    --hash=sha256:" + "1" * 64 + "\n"
SCHEMAS = {"github": "github-workflows", "gitlab": "gitlab-ci", "circleci": "circle-ci"}


@cache
def schema(vendor: str) -> Any:
    """Return the published schema of a vendor, which the package check-jsonschema includes."""
    text = files("check_jsonschema").joinpath(f"builtin_schemas/vendor/{SCHEMAS[vendor]}.json").read_text()
    return jsonschema.Draft7Validator(json.loads(text))


def valid(vendor: str, text: str) -> Any:
    """Return the data of a workflow, which the vendor's schema accepts."""
    # YAML 1.2, which the vendors read, has no `on` for true; the file quotes it for readers of 1.1.
    read = yaml.safe_load(text)
    schema(vendor).validate(read)
    return read


def texts(node: Any) -> Iterator[str]:
    """Yield every text in the data of a YAML file."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)


def pipeline_of(
    vendor: str, graph: Graph, split: JobSplit | None = None, words: Sequence[str] = ("build",)
) -> Pipeline:
    """Return a pipeline in which every job runs the same words, and so does the plan."""
    found = VENDORS[vendor]
    runners = {chain.platform.name: found.runner(chain.platform) for chain in graph.chains}
    made = make_jobs(graph, lambda platform: runners[platform.name].labels, split)
    jobs = tuple(replace(job, commands=(("chainbuild", *words),)) for job in made.jobs)
    return Pipeline(
        graph=replace(made, jobs=jobs),
        group="team/atom:v1",
        plans=(("chainbuild", *words),),
        checkout=Checkout(top=Path(), branch="main"),
        logins=(Login(host="ghcr.io", user="USER", password="PASSWORD"),),
        installation=by_command(["pipx", "install", "chainbuild==0.2.0"]),
        state=".chainbuild",
        deadline_seconds=3600,
        limit=found.limit,
        runners=runners,
        made_by="chainbuild ci",
    )
