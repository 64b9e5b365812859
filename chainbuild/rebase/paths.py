"""Rules about paths: which files do not matter to a rebase, which a compiler may read, which are derived from others."""

from __future__ import annotations

import posixpath
import re
from typing import Final

from chainbuild.minimize.packages import DPKG
from chainbuild.minimize.users import GROUP, PASSWD
from chainbuild.patterns import regex

STATUS: Final = f"{DPKG}/status"
ACCOUNTS: Final = (PASSWD, GROUP)
SUBORDINATE_IDS: Final = ("/etc/subuid", "/etc/subgid")

_PASSING: Final = regex(
    r"/var/log/.*|/var/lib/apt/(lists|periodic)(/.*)?|/var/cache/(apt|ldconfig|man)/.*|/var/backups/.*"
    r"|/var/lib/dpkg/([^/]*-old|available|lock|lock-frontend|triggers/Lock|updates/.*)|/var/cache/debconf/[^/]*-old"
    r"|/etc/((passwd|group|shadow|gshadow|subuid|subgid)-|\.pwd\.lock|hostname|hosts|resolv\.conf|mtab)"
    r"|/(tmp|run|proc|sys|dev|var/tmp|root/\.cache)/.*|/(proc|sys|dev)|/\.dockerenv"
)
"""Logs, package lists, caches, backups, locks, and what container runtimes mount: the step's version is kept."""

_DOCUMENTATION: Final = regex(
    r"/usr/share/(doc|doc-base|man|info|lintian|locale|bug)/.*|/var/lib/(dpkg|apt)/.*|/var/cache/.*"
)

_COMPILED_FROM: Final = regex(
    r"/(.*/)?include/.*|/usr/lib(exec)?/(gcc|llvm)[^/]*/.*|/usr/(local/)?(lib|share)/(.*/)?(pkgconfig|cmake)/.*"
    r"|/usr/share/(cmake|aclocal)[^/]*/.*|/(.*/)?(_sysconfigdata[^/]*\.py|Makefile|Makeconf)|/(.*/)?bin/[^/]+-config"
    r"|/(.*/)?[^/]+\.(h|hh|hpp|hxx|h\+\+|H|inl|ipp|tcc|inc|def|cu|cuh|a|o|bc|la|lo|pc|cmake|mk|mod|rlib|rmeta|m4|pri|prf"
    r"|pxd|pxi|pyx|hi|cmi|cmx|cmxa|cma|ali|go|rs|jar|class|proto|idl|gir|vapi|swiftmodule)"
    r"|(/(.*/)?bin|/etc/alternatives)/([\w]+-linux-\w+-)?(gcc|g\+\+|cc|c\+\+|cpp|c89|c99|ld|ld\.\w+|as|ar|ranlib|nm|objcopy"
    r"|strip|clang|clang\+\+|lld|gfortran|f77|f95|nvcc|rustc|cargo|go|ghc|javac|make|gmake|cmake|ninja|meson|swig|protoc|bison"
    r"|yacc|flex|lex|m4|pkg-config|pkgconf)(-[\d.]+)?"
)
"""Headers, static libraries, objects, build rules and the compilers themselves."""

_LINKED: Final = regex(r"/(usr/)?(local/)?lib(32|64)?/([^/]+-linux-[^/]+/)?[^/]+\.so")
_BYTECODE: Final = regex(r"(?P<folder>.*)/__pycache__/(?P<stem>[^/.]+)\.[^/]*\.pyc")

_DERIVED: Final[tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]] = (
    (
        regex(r"/etc/ssl/certs/.*"),
        regex(r"/usr/(local/)?share/ca-certificates/.*|/etc/ca-certificates\.conf"),
    ),
    (regex(r"/usr/lib/locale/.*"), regex(r"/usr/share/i18n/.*|/etc/locale\.gen")),
    (regex(r"/usr/lib/(.*/)?gconv/gconv-modules\.cache"), regex(r"/usr/lib/(.*/)?gconv/.*")),
    (regex(r"/usr/share/glib-2\.0/schemas/gschemas\.compiled"), regex(r"/usr/share/glib-2\.0/schemas/.*")),
    (regex(r"/usr/share/mime/(?!packages/).*"), regex(r"/usr/share/mime/packages/.*")),
    (
        regex(r"/usr/lib/(.*/)?gdk-pixbuf-2\.0/.*/loaders\.cache"),
        regex(r"/usr/lib/(.*/)?gdk-pixbuf-2\.0/.*/loaders/.*"),
    ),
    (regex(r"/usr/lib/(.*/)?gio/modules/giomodule\.cache"), regex(r"/usr/lib/(.*/)?gio/modules/.*")),
    (regex(r"/usr/share/icons/[^/]+/icon-theme\.cache"), regex(r"/usr/share/icons/.*")),
    (regex(r"/usr/share/applications/mimeinfo\.cache"), regex(r"/usr/share/applications/.*")),
    (regex(r"/var/cache/fontconfig/.*"), regex(r"/usr/(local/)?share/fonts/.*|/etc/fonts/.*")),
    (regex(r"/etc/mailcap"), regex(r"/usr/lib/mime/packages/.*")),
    (regex(r"/usr/share/info/dir"), regex(r"/usr/share/info/.*")),
    (regex(r"/etc/pam\.d/common-.*"), regex(r"/usr/share/pam-configs/.*")),
    (regex(r"/usr/lib/(.*/)?gtk-\d\.0/.*/immodules\.cache"), regex(r"/usr/lib/(.*/)?gtk-\d\.0/.*/immodules/.*")),
    (regex(r"/(usr/lib|etc)/udev/hwdb\.bin"), regex(r"/(usr/lib|lib|etc)/udev/hwdb\.d/.*")),
    (regex(r"/var/lib/systemd/catalog/.*"), regex(r"/usr/lib/systemd/catalog/.*")),
    (regex(r"/usr/lib/(.*/)?vlc/plugins/plugins\.dat"), regex(r"/usr/lib/(.*/)?vlc/plugins/.*")),
    (regex(r"/var/lib/texmf/.*"), regex(r"/usr/share/(texlive|texmf)[^/]*/.*|/etc/texmf/.*")),
    (regex(r"/var/lib/ghc/package\.conf\.d/package\.cache"), regex(r"/var/lib/ghc/package\.conf\.d/.*")),
    (regex(r"/(.*/)?(jvm|jdk|jre|java)[^/]*/(.*/)?[^/]+\.jsa"), regex(r"/(.*/)?(jvm|jdk|jre|java)[^/]*/.*")),
    (regex(r"/usr/share/fonts/(.*/)?fonts\.(dir|scale)"), regex(r"/usr/share/fonts/.*")),
    (regex(r"/lib/modules/.*|/usr/lib/modules/.*/modules\..*|/boot/initrd.*"), regex(r"/(usr/)?lib/modules/.*")),
)
"""Files that a program makes of all files of a folder, and these files."""


def is_passing(path: str) -> bool:
    """Return whether it does not matter which version of a file an image has: a log, a list, a cache, a backup."""
    return _PASSING.fullmatch(path) is not None


def is_documentation(path: str) -> bool:
    """Return whether no program of an image needs a file, except the package manager."""
    return _DOCUMENTATION.fullmatch(path) is not None


def is_compiled_from(path: str) -> bool:
    """Return whether a compiler, a linker or a build tool may read a file, or it is one."""
    return _COMPILED_FROM.fullmatch(path) is not None


def is_linked(path: str) -> bool:
    """Return whether a linker finds a file by the name of a library: `libx.so` in a folder that it searches."""
    return _LINKED.fullmatch(path) is not None


def is_program(path: str) -> bool:
    """Return whether a file is in a folder of programs that a shell searches."""
    return posixpath.basename(posixpath.dirname(path)) in {"bin", "sbin", "games"}


def source_of_bytecode(path: str) -> str:
    """Return the source of a file of Python bytecode (PEP 3147); empty for any other file."""
    match = _BYTECODE.fullmatch(path)
    return f"{match['folder']}/{match['stem']}.py" if match else ""


def sources_of(path: str) -> tuple[re.Pattern[str], ...]:
    """Return the patterns of the files from which a program made the file at a path; none for most files."""
    return tuple(sources for derived, sources in _DERIVED if derived.fullmatch(path))
