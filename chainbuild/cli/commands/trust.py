"""`chainbuild trust show | add | remove | key`: whose records count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import print_lines
from chainbuild.text import escaped

if TYPE_CHECKING:
    from chainbuild.trust.keys import PublicKey

app = typer.Typer(no_args_is_help=True, help="Whose records count: your own key, and the keys that you trust.")


@app.command()
def show(
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    json: flags.Json = False,
) -> int:
    """List the keys whose records count, with where each is named.

    Without --registry: those for the managed registry. Example: chainbuild trust show --registry ghcr.io/acme
    """
    from chainbuild.cli.settings import settings_from
    from chainbuild.execution.session import keyring_of
    from chainbuild.ui import stdout

    settings = settings_from(root=root, registry=registry, port=5000)
    keys = tuple(keyring_of(settings).trusted.values())
    if json:
        rows = [{"id": one.key.id, "key": str(one.key), "name": one.name, "source": one.source} for one in keys]
        stdout().write_json({"schema": "chainbuild.trust/1", "registry": str(settings.chain), "keys": rows})
        return 0
    if not keys:
        print_lines("No key yet: yours is made by the first run that builds something, or by chainbuild trust key.")
    for one in keys:
        print_lines(f"{one.key.short_id}  {one.key}  {escaped(one.name)}  ({escaped(str(one.source))})")
    return 0


@app.command()
def add(
    key: Annotated[str, typer.Argument(metavar="KEY", help="ed25519:…, or a file with a public key in PEM.")],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call it (default: the beginning of its id).")
    ] = "",
) -> int:
    """Trust a key: records that it has signed count from now on, in every registry that you use.

    Whoever has that key decides what your builds reuse. Ask its owner for the key, not the registry.
    Example: chainbuild trust add ed25519:… --name ci-main
    """
    from chainbuild.trust.keyring import add_key

    found = _read(key)
    new = add_key(found, " ".join(name.split()) or found.short_id)
    print_lines(f"{found.short_id} is {'trusted from now on' if new else 'already trusted; its name was updated'}")
    return 0


@app.command()
def remove(
    key: Annotated[str, typer.Argument(metavar="KEY|ID|NAME", help="As chainbuild trust show lists it.")],
) -> int:
    """Stop trusting a key that you added: its records no longer count.

    Example: chainbuild trust remove ci-main
    """
    from chainbuild.errors import WrongUseError
    from chainbuild.trust.keyring import remove_keys

    gone = remove_keys(key)
    if not gone:
        raise WrongUseError(f"no added key matches {key!r}", hint="See: chainbuild trust show. Your own key stays.")
    for one in gone:
        print_lines(f"{one.key.short_id} ({escaped(one.name)}) is no longer trusted")
    return 0


@app.command()
def key(
    *,
    export: Annotated[
        bool, typer.Option("--export", help="Print the signing key itself: for a CI secret. Keep it secret.")
    ] = False,
    generate: Annotated[
        bool, typer.Option("--generate", help="Print a new pair instead and store nothing: for CI.")
    ] = False,
    pem: Annotated[bool, typer.Option("--pem", help="Print the public key as PEM, for other tools.")] = False,
) -> int:
    """Print your public key, which others trust to use what you built. It is made if there is none.

    Example: chainbuild trust key
    """
    from chainbuild.errors import WrongUseError
    from chainbuild.trust.keyring import SIGNING_KEY, KeyRing
    from chainbuild.trust.keys import SigningKey

    if sum((export, generate, pem)) > 1:
        raise WrongUseError("--export, --generate and --pem exclude each other", hint="Give one of them.")
    if generate:
        made = SigningKey.generate()
        print_lines(f"{SIGNING_KEY}={made.secret_text}\npublic key: {made.public}")
        return 0
    own = KeyRing().signing_key
    print_lines(own.secret_text if export else own.public.pem.strip() if pem else str(own.public))
    return 0


def _read(text: str) -> PublicKey:
    """Read a key, or a file that holds one. Errors: `WrongUseError`."""
    from chainbuild.errors import WrongUseError
    from chainbuild.trust.keys import PUBLIC_PREFIX, PublicKey

    path = Path(text)
    if text.startswith(PUBLIC_PREFIX) or not path.is_file():
        return PublicKey.parse(text)
    try:
        with path.open(encoding="utf-8") as file:
            return PublicKey.parse(file.read(10_000))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(
            f"{text}: no public key can be read ({error})", hint="It is a file with PEM text."
        ) from None
