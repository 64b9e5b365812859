"""The end of every command's help: one example, and the page of the documentation."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "chainbuild": (
        "chainbuild amd64 acme/tools v1 debian:12-slim stock debian:12-slim",
        "getting-started.md",
    ),
    "build": (
        "chainbuild build amd64 acme/tools v1 debian:12-slim stock debian:12-slim",
        "command.md",
    ),
    "plan": (
        "chainbuild plan amd64 acme/tools v1 debian:12-slim stock debian:12-slim",
        "command.md",
    ),
    "layer": ("chainbuild layer tools --image acme/tools:1.0 --base debian:bookworm-slim", "layers.md"),
    "science": ("chainbuild science plan --repo ghcr.io/acme/compute-images", "science.md"),
    "science plan": ("chainbuild science plan --repo ghcr.io/acme/compute-images --ref origin/main", "science.md"),
    "science build": ("chainbuild science build --repo ghcr.io/acme/compute-images --push", "science.md"),
    "science orphans": ("chainbuild science orphans --repo ghcr.io/acme/compute-images", "science.md"),
    "types": ("chainbuild types list", "image-types.md"),
    "types list": ("chainbuild types list 'casa-dev:*'", "image-types.md"),
    "types plan": ("chainbuild types plan 'casa-dev:*'", "image-types.md"),
    "types build": ("chainbuild types build 'casa-dev:*' --platform amd64", "image-types.md"),
    "types update": ("chainbuild types update 'casa-dev:*' --dry-run", "image-types.md"),
    "types publish": ("chainbuild types publish 'casa-dev:*' --public ghcr.io/acme", "image-types.md"),
    "types new": ("chainbuild types new my-dev --based-on casa-dev/debian-12", "image-types.md"),
    "init": ("chainbuild init --dry-run", "project-file.md"),
    "why": ("chainbuild why 20-openblas", "reuse.md"),
    "images": ("chainbuild images acme/tools", "command.md"),
    "inspect": ("chainbuild inspect acme/tools:v1-stock-amd64", "command.md"),
    "diff": ("chainbuild diff acme/tools:v1-stock-amd64 acme/tools:v2-stock-amd64 --files", "command.md"),
    "files": ("chainbuild files 40-openblas --added", "command.md"),
    "report": ("chainbuild report --open", "output.md"),
    "debug": ("chainbuild debug 40-openblas", "debugging.md"),
    "shell": ("chainbuild shell acme/tools:v1-stock-amd64 -- python3 --version", "command.md"),
    "minimize": ("chainbuild minimize removed acme/tools:v1-stock-amd64", "stages.md"),
    "minimize explain": (
        "chainbuild minimize explain acme/tools:v1-stock-amd64 libopenblas.so.0",
        "stages.md",
    ),
    "minimize removed": ("chainbuild minimize removed acme/tools:v1-stock-amd64 --files", "stages.md"),
    "minimize report": ("chainbuild minimize report acme/tools:v1-stock-amd64 --open", "stages.md"),
    "minimize trace": ("chainbuild minimize trace stock --write", "stages.md"),
    "sbom": ("chainbuild sbom acme/tools:v1-stock-amd64 -o sbom.json", "command.md"),
    "verify": ("chainbuild verify acme/tools:v1-stock-amd64 --provenance", "provenance.md"),
    "test": ("chainbuild test stock amd64,aarch64 acme/tools v1", "command.md"),
    "release": ("chainbuild release create --to 'ghcr.io/acme/{name}:{tag}'", "release-plans.md"),
    "release create": ("chainbuild release create --to 'ghcr.io/acme/{name}:{tag}'", "release-plans.md"),
    "release update": ("chainbuild release update 'acme/tools:*'", "release-plans.md"),
    "release show": ("chainbuild release show --html plan.html", "release-plans.md"),
    "release page": ("chainbuild release page -o site", "release-plans.md"),
    "release apply": ("chainbuild release apply --dry-run", "release-plans.md"),
    "release rollback": ("chainbuild release rollback --dry-run", "release-plans.md"),
    "singularity": ("chainbuild singularity create 'acme/tools:*-amd64'", "singularity.md"),
    "singularity create": ("chainbuild singularity create 'acme/tools:*-amd64' --folder sif", "singularity.md"),
    "singularity list": ("chainbuild singularity list --folder sif", "singularity.md"),
    "singularity publish": (
        "chainbuild singularity publish --folder sif --to sftp://files.example.org/sif",
        "singularity.md",
    ),
    "doctor": ("chainbuild doctor --platform amd64,aarch64 --base debian:bookworm-slim", "troubleshooting.md"),
    "registry": ("chainbuild registry status", "registry.md"),
    "registry up": ("chainbuild registry up", "registry.md"),
    "registry down": ("chainbuild registry down", "registry.md"),
    "registry status": ("chainbuild registry status --json", "registry.md"),
    "registry ls": ("chainbuild registry ls acme/tools", "registry.md"),
    "registry gc": ("chainbuild registry gc --keep 2 --delete", "registry.md"),
    "records": ("chainbuild records copy managed ghcr.io/acme", "trust.md"),
    "records copy": ("chainbuild records copy managed ghcr.io/acme acme/tools", "trust.md"),
    "records adopt": ("chainbuild records adopt", "trust.md"),
    "trust": ("chainbuild trust show", "trust.md"),
    "trust show": ("chainbuild trust show --registry ghcr.io/acme", "trust.md"),
    "trust add": ("chainbuild trust add ed25519:… --name ci-main", "trust.md"),
    "trust remove": ("chainbuild trust remove ci-main", "trust.md"),
    "trust key": ("chainbuild trust key", "trust.md"),
    "bootstrap": ("chainbuild bootstrap debian:bookworm-slim --platform amd64,aarch64", "registry.md"),
    "native": ("chainbuild native debian:bookworm-slim --platform aarch64", "native.md"),
    "docs": ("chainbuild docs getting-started", "index.md"),
    "ci": (
        "chainbuild ci github amd64 acme/tools v1 debian stock debian --registry ghcr.io/acme",
        "ci.md",
    ),
}
"""By command, without the leading `chainbuild`: an example, and a page in `docs/`."""


def ending(command: str) -> str:
    """Return the end of a command's help, marked so that click does not join its lines."""
    example, page = EXAMPLES[command]
    return f"\b\nExample:\n  {example}\nRead more: chainbuild docs {page.removesuffix('.md')}"
