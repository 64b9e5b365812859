"""Which libraries load plugins, and from where: folders and manifests that are compiled into them.

In a pattern ``{lib}`` is the folder in which the library lies. A ``manifest`` pattern names files that name a
library: JSON as glvnd, Vulkan and EGL's platforms have it (https://github.com/KhronosGroup/Vulkan-Loader,
docs/LoaderDriverInterface.md; glvnd, src/EGL/icd_enumeration.md), or a line as OpenCL's loader has it
(cl_khr_icd). A ``libraries`` pattern names libraries that are opened by their bare name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_QT_GUI = "egldeviceintegrations generic iconengines imageformats platforminputcontexts platforms platformthemes"
_QT_GUI += " wayland-decoration-client wayland-graphics-integration-client wayland-shell-integration xcbglintegrations"
_QT = (
    ("Gui", _QT_GUI),
    ("Network", "bearer networkinformation tls"),
    ("Sql", "sqldrivers"),
    ("PrintSupport", "printsupport"),
    ("Multimedia", "audio mediaservice multimedia playlistformats video"),
    ("Svg", "iconengines imageformats"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginRule:
    """Where the library whose name ``loader`` matches looks for what it loads."""

    loader: re.Pattern[str]
    what: str
    folders: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


def _rule(
    loader: str, what: str, *folders: str, manifests: tuple[str, ...] = (), libraries: tuple[str, ...] = ()
) -> PluginRule:
    return PluginRule(
        loader=re.compile(loader), what=what, folders=folders, manifests=manifests, libraries=libraries
    )  # fmt: skip


def _qt_rules() -> tuple[PluginRule, ...]:
    rules = []
    for version in ("5", "6"):
        for module, names in _QT:
            where = tuple(f"{{lib}}/qt{version}/plugins/{name}" for name in names.split())
            rules.append(_rule(rf"libQt{version}{module}\.so\.{version}", f"Qt {version} plugins", *where))
    return tuple(rules)


RULES = (
    # pthread_exit(3), pthread_cancel(3) and backtrace(3) load it, and glibc ends the program where it is not there
    # (sysdeps/nptl, unwind-resume; the name is compiled in).
    _rule(
        r"libc\.so\.6", "the unwinder, without which a thread that ends itself ends the program",
        libraries=("{lib}/libgcc_s.so.1", "/usr{lib}/libgcc_s.so.1"),
    ),
    _rule(
        r"libEGL\.so\.1", "EGL vendors (glvnd)",
        manifests=("/etc/glvnd/egl_vendor.d/*.json", "/usr/share/glvnd/egl_vendor.d/*.json",
                   "/etc/egl/egl_external_platform.d/*.json", "/usr/share/egl/egl_external_platform.d/*.json"),
    ),
    _rule(r"libGLX\.so\.0", "GLX vendors (glvnd)", libraries=("{lib}/libGLX_*.so.0",)),
    _rule(
        r"lib(?:EGL_mesa|GLX_mesa|gbm)\.so\.\d+", "Mesa drivers", "{lib}/dri", "{lib}/gbm", "/usr/share/drirc.d",
    ),
    _rule(
        r"libvulkan\.so\.1", "Vulkan drivers",
        manifests=("/etc/vulkan/icd.d/*.json", "/usr/share/vulkan/icd.d/*.json", "/usr/local/share/vulkan/icd.d/*.json",
                   "/etc/vulkan/implicit_layer.d/*.json", "/usr/share/vulkan/implicit_layer.d/*.json"),
    ),
    _rule(r"libOpenCL\.so\.1", "OpenCL drivers", manifests=("/etc/OpenCL/vendors/*.icd",)),
    _rule(r"libgdk_pixbuf-2\.0\.so\.0", "gdk-pixbuf loaders", "{lib}/gdk-pixbuf-2.0"),
    _rule(r"libgio-2\.0\.so\.0", "GIO modules", "{lib}/gio/modules"),
    _rule(r"libgirepository-[12]\.0\.so\.[01]", "GObject type libraries", "{lib}/girepository-1.0"),
    _rule(
        r"libgtk-3\.so\.0", "GTK 3 modules", "{lib}/gtk-3.0", "/usr/share/glib-2.0/schemas/gschemas.compiled",
    ),
    _rule(
        r"libgtk-4\.so\.1", "GTK 4 modules", "{lib}/gtk-4.0", "/usr/share/glib-2.0/schemas/gschemas.compiled",
    ),
    _rule(r"libgtk-x11-2\.0\.so\.0", "GTK 2 modules", "{lib}/gtk-2.0"),
    _rule(r"libgstreamer-1\.0\.so\.0", "GStreamer plugins", "{lib}/gstreamer-1.0", "{lib}/gstreamer1.0"),
    _rule(r"libMagickCore-\d\.\w+\.so\.\d+", "ImageMagick coders", "{lib}/ImageMagick-*"),
    _rule(r"libasound\.so\.2", "ALSA plugins", "{lib}/alsa-lib", "/usr/share/alsa"),
    *_qt_rules(),
)  # fmt: skip


def rules_for(name: str) -> tuple[PluginRule, ...]:
    """The rules of the library called ``name`` (its SONAME)."""
    return tuple(rule for rule in RULES if rule.loader.fullmatch(name))


def libraries_in(manifest: bytes) -> tuple[str, ...]:
    """The library names and paths that a manifest names, as they stand there; empty when it cannot be understood."""
    text = manifest.decode("utf-8", "surrogateescape")
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        lines = (line.strip() for line in text.splitlines())
        return tuple(line for line in lines if line and not line.startswith("#") and len(line) < 4096)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    parts = [document.get("ICD"), document.get("layer")]
    layers = document.get("layers")
    parts += layers if isinstance(layers, list) else []
    named = [part.get("library_path") for part in parts if isinstance(part, dict)]
    return tuple(name for name in named if isinstance(name, str) and name)
