"""`chainbuild trust show | add | remove | key`: manage the keys whose records are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import print_lines
from chainbuild.text import escaped

if TYPE_CHECKING:
    from chainbuild.trust.keys import PublicKey

app = typer.Typer(no_args_is_help=True, help="Manage the keys whose records are trusted.")


@app.command()
def show(
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    json: flags.Json = False,
) -> int:
    """List the trusted keys, and where each is configured.

    Without --registry, lists the keys that are trusted for the managed registry.
    """
    from chainbuild.cli.settings import settings_from
    from chainbuild.execution.session import keyring_of
    from chainbuild.ui import stdout

    settings = settings_from(root=root, registry=registry, managed=True)
    keys = tuple(keyring_of(settings).trusted.values())
    if json:
        rows = [{"id": item.key.id, "key": str(item.key), "name": item.name, "source": item.source} for item in keys]
        stdout().write_json({"schema": "chainbuild.trust/1", "registry": str(settings.chain), "keys": rows})
        return 0
    if not keys:
        print_lines("No key yet. The first build creates yours, or chainbuild trust key.")
    for item in keys:
        print_lines(f"{item.key.short_id}  {item.key}  {escaped(item.name)}  ({escaped(str(item.source))})")
    return 0


@app.command()
def add(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="Public key to trust: ed25519:…, or a PEM file with a public key.")
    ],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name for the key (default: the start of its id).")
    ] = "",
) -> int:
    """Trust a key: accept the records that it signed, in every registry that you use.

    The owner of that key decides what your builds reuse. Get the key from its owner, not from the registry.
    """
    from chainbuild.trust.keyring import add_key

    public_key = _read(key)
    new = add_key(public_key, " ".join(name.split()) or public_key.short_id)
    print_lines(f"{public_key.short_id} {'is now trusted' if new else 'was already trusted; its name was updated'}")
    return 0


@app.command()
def remove(
    key: Annotated[
        str, typer.Argument(metavar="KEY|ID|NAME", help="Key to remove, as listed by chainbuild trust show.")
    ],
) -> int:
    """Stop trusting a key that you added: its records are no longer accepted."""
    from chainbuild.errors import WrongUseError
    from chainbuild.trust.keyring import remove_keys

    removed = remove_keys(key)
    if not removed:
        raise WrongUseError(
            f"no added key matches {key!r}",
            hint="List the keys with chainbuild trust show. Your own key cannot be removed.",
        )
    for item in removed:
        print_lines(f"{item.key.short_id} ({escaped(item.name)}) is no longer trusted")
    return 0


@app.command()
def key(
    *,
    export: Annotated[
        bool, typer.Option("--export", help="Print the private signing key, for a CI secret. Keep it secret.")
    ] = False,
    generate: Annotated[
        bool, typer.Option("--generate", help="Print a new key pair for CI, without storing it.")
    ] = False,
    pem: Annotated[bool, typer.Option("--pem", help="Print the public key in PEM form, for other tools.")] = False,
) -> int:
    """Print your public key, which others need to trust what you built. Creates the key if you have none."""
    from chainbuild.errors import WrongUseError
    from chainbuild.trust.keyring import SIGNING_KEY, KeyRing
    from chainbuild.trust.keys import SigningKey

    if sum((export, generate, pem)) > 1:
        raise WrongUseError("--export, --generate and --pem cannot be combined", hint="Use only one of them.")
    if generate:
        pair = SigningKey.generate()
        print_lines(f"{SIGNING_KEY}={pair.secret_text}\npublic key: {pair.public}")
        return 0
    own = KeyRing().signing_key
    print_lines(own.secret_text if export else own.public.pem.strip() if pem else str(own.public))
    return 0


def _read(text: str) -> PublicKey:
    """Return a public key from its text, or from the file that `text` names. Errors: `WrongUseError`."""
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
            f"{text}: cannot read a public key ({error})", hint="Name a file with a public key in PEM form."
        ) from None
