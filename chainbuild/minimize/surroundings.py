"""The files that programs and libraries need around them: configuration, language modules, data tables, helper programs.

To add a rule, copy a similar entry, name the software and where its documentation or source has the path, and renew
docs/surroundings.md with `python docs/surroundings_page.py` (a test compares them). The fields of an entry are documented
in `rules`; entries of programs and languages are in `program_surroundings`.

A rule has the paths that upstream and Debian compile in. If a build may use other paths, they are read from the
program's own data (`named`, `reads`).
"""

from __future__ import annotations

from chainbuild.minimize.program_surroundings import PROGRAMS
from chainbuild.minimize.rules import Rule

_SYSTEM = (
    Rule(
        name="openssl",
        of="libcrypto 1.1 and 3",
        libraries=r"libcrypto(?:-[0-9a-f]{6,})?\.so\.(?:1\.[01]|3)[\w.]*",
        what="OpenSSL's folder (openssl.cnf, CA certificates), providers and engines",
        reads=rb'(?:OPENSSLDIR|ENGINESDIR|MODULESDIR): "(/[^"\0]{1,255})"',
        brings=("{read}",),
        without=("misc",),
        any_origin=True,
        source="OPENSSL_info(3), OpenSSL_version(3); SSL_CTX_set_default_verify_paths(3)",
    ),
    Rule(
        name="unwinder",
        of="programs with threads",
        libraries=r"libc\.so\.6",
        imports=("pthread_cancel", "pthread_exit", "thrd_exit", "backtrace"),
        opens=("libgcc_s.so.1",),
        any_origin=True,
        what="the unwinder, without which a thread that ends itself ends the program",
        source="glibc, misc/unwind-link.c: LIBGCC_S_SO",
    ),
    Rule(
        name="gconv",
        of="programs that call iconv_open",
        imports=("iconv_open",),
        limited=True,
        same_libc=True,
        brings=("/usr/lib/{triplet}/gconv", "/usr/lib64/gconv", "/usr/lib/gconv"),
        what="character sets other than Unicode and ASCII",
        source="iconv(1), gconv-modules; glibc, iconv/gconv_conf.c",
    ),
    Rule(
        name="time-zones",
        of="programs that read the time zones",
        programs=r"/.*/zoneinfo/_tzpath\.py",
        mentions=("/usr/share/zoneinfo", "/usr/share/zoneinfo/"),
        brings=("/usr/share/zoneinfo",),
        limited=True,
        what="time zones",
        source="tzfile(5); PEP 615, TZPATH",
    ),
    Rule(
        name="terminfo",
        of="libtinfo, libncurses",
        libraries=r"lib(?:tinfo|ncursesw?)\.so\.[56]",
        limited=True,
        brings=("/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"),
        what="descriptions of terminals",
        source="terminfo(5), Fetching Compiled Descriptions",
    ),
    Rule(
        name="pam",
        of="libpam",
        libraries=r"libpam\.so\.0",
        what="PAM modules and their configuration",
        brings=(
            "{lib}/security",
            "/usr/lib/{triplet}/security",
            "/etc/pam.conf",
            "/etc/pam.d",
            "/usr/lib/pam.d",
            "/etc/security",
            "/usr/sbin/unix_chkpwd",
        ),
        source="pam.conf(5), pam_unix(8)",
    ),
    Rule(
        name="sasl",
        of="libsasl2",
        libraries=r"libsasl2\.so\.[23]",
        what="SASL mechanisms",
        brings=("{lib}/sasl2", "/usr/lib/sasl2", "/etc/sasl2", "/etc/sasl"),
        source="Cyrus SASL, System Administrators: plugins; lib/dlopen.c",
    ),
    Rule(
        name="krb5",
        of="libkrb5, libgssapi_krb5",
        libraries=r"lib(?:krb5|gssapi_krb5)\.so\.[23]",
        what="Kerberos plugins and configuration",
        brings=("{lib}/krb5/plugins", "{lib}/gss", "/etc/krb5.conf", "/etc/krb5.conf.d", "/etc/gss"),
        source="krb5.conf(5), plugin_base_dir; MIT Kerberos, Plugins",
    ),
    Rule(
        name="p11-kit",
        of="libp11-kit",
        libraries=r"libp11-kit\.so\.0",
        what="PKCS #11 modules",
        brings=("/usr/share/p11-kit", "/etc/pkcs11", "{lib}/pkcs11"),
        source="pkcs11.conf(5)",
    ),
    Rule(
        name="mozilla-nss",
        of="libnss3",
        libraries=r"libnss3\.so",
        what="cryptographic modules of Mozilla's NSS",
        opens=("libsoftokn3.so", "libfreebl3.so", "libfreeblpriv3.so", "libnssckbi.so", "libnssdbm3.so"),
        brings=("{lib}/nss", "{lib}/libsoftokn3.chk", "{lib}/libfreebl*.chk"),
        source="NSS, lib/pk11wrap/pk11load.c and lib/freebl/loader.c",
    ),
    Rule(
        name="ldap",
        of="libldap",
        libraries=r"libldap(?:_r|-2\.\d)?[-.].*",
        what="LDAP client configuration",
        brings=("/etc/ldap/ldap.conf", "/etc/openldap/ldap.conf"),
        source="ldap.conf(5)",
    ),
    Rule(
        name="mysql",
        of="libmariadb, libmysqlclient",
        libraries=r"lib(?:mariadb|mysqlclient)\.so\.\d+",
        what="authentication plugins and configuration of MySQL clients",
        brings=("{lib}/libmariadb3/plugin", "{lib}/mysql/plugin", "/etc/mysql", "/etc/my.cnf", "/etc/my.cnf.d"),
        source="MariaDB Connector/C, Plugins: MARIADB_PLUGIN_DIR",
    ),
    Rule(
        name="odbc",
        of="libodbc",
        libraries=r"libodbc\.so\.\d",
        what="ODBC drivers and their configuration",
        brings=("/etc/odbcinst.ini", "/etc/odbc.ini", "{lib}/odbc"),
        source="odbcinst.ini(5)",
    ),
)


_LIBRARIES = (
    Rule(
        name="openmpi",
        of="libopen-pal, libmpi",
        libraries=r"lib(?:open-pal|open-rte|mpi|prrte)\.so\.\d+",
        what="Open MPI's components, help texts and configuration",
        without=("include", "*.a", "*.la"),
        brings=(
            "{lib}/openmpi/lib/openmpi*",
            "{lib}/openmpi/mca_*.so",
            "{lib}/openmpi?",
            "/usr/share/openmpi",
            "{lib}/../share/openmpi",
            "/etc/openmpi",
            "{lib}/../etc/openmpi-*",
            "/usr/share/prte",
            "{lib}/prte",
        ),
        source="Open MPI, opal/mca/installdirs and opal/mca/base",
    ),
    Rule(
        name="pmix",
        of="libpmix",
        libraries=r"libpmix\.so\.\d+",
        what="PMIx's components, help texts and configuration",
        brings=("{lib}/pmix", "{lib}/pmix2", "{lib}/../share/pmix", "/usr/share/pmix", "/etc/pmix-mca-params.conf"),
        without=("include", "*.a", "*.la", "pkgconfig"),
        source="PMIx, src/mca/pinstalldirs",
    ),
    Rule(
        name="fontconfig",
        of="libfontconfig",
        libraries=r"libfontconfig\.so\.1",
        what="fontconfig's configuration",
        brings=("/etc/fonts", "/usr/share/fontconfig", "/usr/share/xml/fontconfig"),
        tells=("/usr/share/fonts/*", "/usr/local/share/fonts/*"),
        tells_what="fonts",
        source="fonts-conf(5)",
    ),
    Rule(
        name="imagemagick-settings",
        of="ImageMagick, GraphicsMagick",
        what="ImageMagick's configuration",
        libraries=r"lib(?:Magick(?:Core|\+\+)|GraphicsMagick)-?[\w.+]*\.so\.\d+",
        brings=(
            "/etc/ImageMagick-*",
            "/usr/share/ImageMagick-*",
            "{lib}/GraphicsMagick-*",
            "/usr/share/GraphicsMagick-*",
        ),
        without=("doc", "www"),
        source="ImageMagick, Resources: Configuration Files",
    ),
    Rule(
        name="ghostscript",
        of="libgs",
        libraries=r"libgs\.so\.\d+",
        what="Ghostscript's resources and fonts",
        limited=True,
        brings=(
            "/usr/share/ghostscript",
            "/var/lib/ghostscript",
            "/usr/share/color/icc/ghostscript",
            "/etc/ghostscript",
        ),
        without=("doc",),
        source="Ghostscript, How Ghostscript finds files",
    ),
    Rule(
        name="gstreamer-presets",
        of="GStreamer",
        libraries=r"libgstreamer-1\.0\.so\.0",
        what="GStreamer's presets",
        brings=("/usr/share/gstreamer-1.0",),
        source="GstPreset, GST_PRESET_PATH",
    ),
    Rule(
        name="glib",
        of="GIO",
        libraries=r"libgio-2\.0\.so\.0",
        what="settings schemas and the table of MIME types",
        brings=("/usr/share/glib-2.0/schemas/gschemas.compiled", "/usr/share/mime/mime.cache"),
        source="glib-compile-schemas(1); Shared MIME-info Database, mime.cache",
    ),
    Rule(
        name="proj",
        of="libproj",
        libraries=r"libproj\.so\.\d+",
        what="PROJ's database",
        brings=("/usr/share/proj/proj.db", "/usr/share/proj/proj.ini", "{lib}/../share/proj/proj.*"),
        source="PROJ, Resource files",
    ),
    Rule(
        name="gdal",
        of="libgdal",
        libraries=r"libgdal\.so\.\d+",
        what="GDAL's tables and plugins",
        limited=True,
        brings=("/usr/share/gdal", "{lib}/../share/gdal", "{lib}/gdalplugins"),
        source="GDAL, GDAL_DATA and GDAL_DRIVER_PATH",
    ),
    Rule(
        name="x11",
        of="libX11",
        libraries=r"libX11\.so\.6",
        what="Xlib's locales and tables",
        limited=True,
        brings=("/usr/share/X11/locale", "/usr/share/X11/XErrorDB", "/usr/share/X11/XKeysymDB"),
        source="libX11, modules/om and XLOCALEDIR",
    ),
    Rule(
        name="xkb",
        of="libxkbcommon, Xvfb, Xorg",
        libraries=r"libxkb(?:common|file)\.so\.\d+",
        what="keyboard layouts",
        programs=r"/.*/bin/(?:Xorg|Xvfb|Xwayland|Xephyr|Xvnc|xkbcomp)",
        brings=("/usr/share/X11/xkb", "/usr/bin/xkbcomp"),
        source="libxkbcommon, User-configuration; Xkb Library, file system paths",
    ),
    Rule(
        name="drm",
        of="libdrm_amdgpu",
        libraries=r"libdrm_amdgpu\.so\.1",
        what="names of graphics cards",
        brings=("/usr/share/libdrm",),
        source="libdrm, amdgpu/amdgpu_asic_id.c",
    ),
    Rule(
        name="tesseract",
        of="libtesseract",
        libraries=r"libtesseract\.so\.\d+",
        what="Tesseract's language models",
        limited=True,
        brings=("/usr/share/tesseract-ocr",),
        source="tesseract(1), TESSDATA_PREFIX",
    ),
)


def _beside(name: str, library: str, what: str, source: str, *brings: str) -> Rule:
    """Return a rule for a library that has its own plugins or data in compiled-in folders."""
    return Rule(
        name=name, of=name, libraries=rf"lib{library}\.so\.\d+", what=what, brings=brings, limited=True, source=source
    )


_BESIDE = (
    _beside("UCX", "ucs", "UCX modules", "UCX, src/ucs/sys/module.c", "{lib}/ucx", "/etc/ucx"),
    _beside("libfabric", "fabric", "fabric providers", "fi_provider(7)", "{lib}/libfabric"),
    _beside("hwloc", "hwloc", "hwloc plugins", "hwloc, Plugins", "{lib}/hwloc"),
    _beside(
        "libibverbs", "ibverbs", "InfiniBand drivers", "libibverbs, README", "{lib}/libibverbs", "/etc/libibverbs.d"
    ),
    _beside(
        "PulseAudio",
        "pulse",
        "client configuration",
        "pulse-client.conf(5)",
        "/etc/pulse/client.conf",
        "/etc/pulse/client.conf.d",
    ),
    _beside(
        "PipeWire",
        r"pipewire-0\.3",
        "modules and configuration",
        "pipewire(1)",
        "{lib}/pipewire-0.3",
        "{lib}/spa-0.2",
        "/usr/share/pipewire",
        "/etc/pipewire",
    ),
    _beside("VLC", "vlccore", "VLC plugins", "VLC, VLC_PLUGIN_PATH", "{lib}/vlc"),
    _beside("libvips", "vips", "libvips modules", "libvips, VIPSHOME and modules", "{lib}/vips-modules-*"),
    _beside("GEGL", r"gegl-0\.4", "GEGL operations", "GEGL, GEGL_PATH", "{lib}/gegl-0.4"),
    _beside("babl", r"babl-0\.1", "babl extensions", "babl, BABL_PATH", "{lib}/babl-0.1"),
    _beside("libheif", "heif", "codecs of libheif", "libheif, LIBHEIF_PLUGIN_PATH", "{lib}/libheif"),
    _beside("libgphoto2", "gphoto2", "camera drivers", "libgphoto2, CAMLIBS", "{lib}/libgphoto2"),
    _beside("libgphoto2_port", "gphoto2_port", "camera ports", "libgphoto2, IOLIBS", "{lib}/libgphoto2_port"),
    _beside("SANE", "sane", "scanner drivers", "sane-dll(5)", "{lib}/sane", "/etc/sane.d"),
    _beside("eSpeak NG", "espeak-ng", "voices", "espeak-ng(1)", "{lib}/espeak-ng-data"),
    _beside("Graphviz", "gvc", "Graphviz plugins", "dot(1), config6a", "{lib}/graphviz"),
    _beside("Enchant", "enchant-2", "spelling backends", "enchant(5)", "{lib}/enchant-2", "/usr/share/enchant-2"),
)

SURROUNDINGS = (*_SYSTEM, *PROGRAMS, *_LIBRARIES, *_BESIDE)
