"""The libraries that load plugins, and the folders and manifests compiled into them.

A manifest names a library: JSON for glvnd, Vulkan and EGL's platforms, or a line of text for OpenCL's loader. See
`rules` for the fields of an entry.
"""

from __future__ import annotations

import json

from chainbuild.minimize.rules import Rule

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


def _qt_rules() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            name=f"qt{version}-{module.lower()}",
            what=f"Qt {version} plugins",
            of=f"Qt{version}{module}",
            source="Qt documentation, How to Create Qt Plugins; QLibraryInfo::PluginsPath",
            libraries=rf"libQt{version}{module}\.so\.{version}",
            brings=tuple(f"{{lib}}/qt{version}/plugins/{name}" for name in names.split()),
        )
        for version in ("5", "6")
        for module, names in _QT
    )


PLUGINS = (
    Rule(
        name="egl",
        what="EGL vendors (glvnd)",
        of="libEGL",
        libraries=r"libEGL\.so\.1",
        manifests=(
            "/etc/glvnd/egl_vendor.d/*.json",
            "/usr/share/glvnd/egl_vendor.d/*.json",
            "/etc/egl/egl_external_platform.d/*.json",
            "/usr/share/egl/egl_external_platform.d/*.json",
        ),
        source="libglvnd, src/EGL/icd_enumeration.md; eglexternalplatform, README.md",
    ),
    Rule(
        name="glx",
        what="GLX vendors (glvnd)",
        of="libGLX",
        libraries=r"libGLX\.so\.0",
        opens=("{lib}/libGLX_*.so.0",),
        source="libglvnd, README.md, GLX vendor libraries",
    ),
    Rule(
        name="mesa",
        what="Mesa drivers",
        of="Mesa",
        libraries=r"lib(?:EGL_mesa|GLX_mesa|gbm)\.so\.\d+",
        brings=("{lib}/dri", "{lib}/gbm", "/usr/share/drirc.d"),
        source="Mesa, src/loader/loader.c, src/util/xmlconfig.c",
    ),
    Rule(
        name="vulkan",
        what="Vulkan drivers",
        of="the Vulkan loader",
        libraries=r"libvulkan\.so\.1",
        manifests=(
            "/etc/vulkan/icd.d/*.json",
            "/usr/share/vulkan/icd.d/*.json",
            "/usr/local/share/vulkan/icd.d/*.json",
            "/etc/vulkan/implicit_layer.d/*.json",
            "/usr/share/vulkan/implicit_layer.d/*.json",
        ),
        source="Vulkan-Loader, docs/LoaderDriverInterface.md and LoaderLayerInterface.md",
    ),
    Rule(
        name="opencl",
        what="OpenCL drivers",
        of="the OpenCL loader",
        libraries=r"libOpenCL\.so\.1",
        manifests=("/etc/OpenCL/vendors/*.icd",),
        source="cl_khr_icd, the ICD loader's registry on Linux",
    ),
    Rule(
        name="gdk-pixbuf",
        what="gdk-pixbuf loaders",
        of="gdk-pixbuf",
        libraries=r"libgdk_pixbuf-2\.0\.so\.0",
        brings=("{lib}/gdk-pixbuf-2.0",),
        source="gdk-pixbuf-query-loaders(1)",
    ),
    Rule(
        name="gio",
        what="GIO modules",
        of="GIO",
        libraries=r"libgio-2\.0\.so\.0",
        brings=("{lib}/gio/modules",),
        source="GIO reference manual, Extending GIO; gio-querymodules(1)",
    ),
    Rule(
        name="girepository",
        what="GObject type libraries",
        of="GObject Introspection",
        libraries=r"libgirepository-[12]\.0\.so\.[01]",
        brings=("{lib}/girepository-1.0",),
        source="g-ir-compiler(1), GI_TYPELIB_PATH",
    ),
    Rule(
        name="gtk3",
        what="GTK 3 modules",
        of="GTK 3",
        libraries=r"libgtk-3\.so\.0",
        brings=("{lib}/gtk-3.0", "/usr/share/glib-2.0/schemas/gschemas.compiled"),
        source="GTK 3 reference manual, Running GTK Applications",
    ),
    Rule(
        name="gtk4",
        what="GTK 4 modules",
        of="GTK 4",
        libraries=r"libgtk-4\.so\.1",
        brings=("{lib}/gtk-4.0", "/usr/share/glib-2.0/schemas/gschemas.compiled"),
        source="GTK 4 reference manual, Running and debugging GTK Applications",
    ),
    Rule(
        name="gtk2",
        what="GTK 2 modules",
        of="GTK 2",
        libraries=r"libgtk-x11-2\.0\.so\.0",
        brings=("{lib}/gtk-2.0",),
        source="GTK 2 reference manual, Running GTK Applications",
    ),
    Rule(
        name="gstreamer",
        what="GStreamer plugins",
        of="GStreamer",
        libraries=r"libgstreamer-1\.0\.so\.0",
        brings=("{lib}/gstreamer-1.0", "{lib}/gstreamer1.0", "{lib}/../libexec/gstreamer-1.0"),
        source="GStreamer, gst/gstregistry.c and gstpluginloader.c",
    ),
    Rule(
        name="imagemagick",
        what="ImageMagick coders",
        of="ImageMagick",
        libraries=r"libMagickCore-\d\.\w+\.so\.\d+",
        brings=("{lib}/ImageMagick-*",),
        source="ImageMagick, Modules: MAGICK_CODER_MODULE_PATH",
    ),
    Rule(
        name="alsa",
        what="ALSA plugins",
        of="ALSA",
        libraries=r"libasound\.so\.2",
        brings=("{lib}/alsa-lib", "/usr/share/alsa"),
        source="alsa-lib, src/conf.c and src/dlmisc.c",
    ),
    *_qt_rules(),
)


def libraries_in(manifest: bytes) -> tuple[str, ...]:
    """Return the library names and paths in a manifest, as written; empty if it cannot be parsed."""
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
    values = [part.get("library_path") for part in parts if isinstance(part, dict)]
    return tuple(name for name in values if isinstance(name, str) and name)
