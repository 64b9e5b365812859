"""What programs and libraries need around them: configuration, modules of a language, tables of data, helper programs.

To add a rule, copy an entry that is like it, name the software and where its documentation or source has the path, and add a
row to the table in docs/stages.md (a test compares them). How an entry is read is documented in :mod:`.rules`.

A rule has the paths that upstream and Debian compile in. Where a build may have put other ones, they are read from the
program's own data (`named`, `reads`).
"""

from __future__ import annotations

from chainbuild.minimize.rules import Rule

_SYSTEM = (
    Rule(
        name="openssl", of="libcrypto 1.1 and 3", libraries=r"libcrypto(?:-[0-9a-f]{6,})?\.so\.(?:1\.[01]|3)[\w.]*",
        what="OpenSSL's folder (openssl.cnf, CA certificates), providers and engines",
        reads=rb'(?:OPENSSLDIR|ENGINESDIR|MODULESDIR): "(/[^"\0]{1,255})"', brings=("{read}",), without=("misc",),
        any_origin=True, source="OPENSSL_info(3), OpenSSL_version(3); SSL_CTX_set_default_verify_paths(3)",
    ),
    Rule(
        name="unwinder", of="programs with threads", libraries=r"libc\.so\.6",
        imports=("pthread_cancel", "pthread_exit", "thrd_exit", "backtrace"), opens=("libgcc_s.so.1",), any_origin=True,
        what="the unwinder, without which a thread that ends itself ends the program",
        source="glibc, misc/unwind-link.c: LIBGCC_S_SO",
    ),
    Rule(
        name="gconv", of="programs that call iconv_open", imports=("iconv_open",), limited=True, same_libc=True,
        brings=("/usr/lib/{triplet}/gconv", "/usr/lib64/gconv", "/usr/lib/gconv"),
        what="character sets other than Unicode and ASCII", source="iconv(1), gconv-modules; glibc, iconv/gconv_conf.c",
    ),
    Rule(
        name="time-zones", of="programs that read the time zones", programs=r"/.*/zoneinfo/_tzpath\.py",
        mentions=("/usr/share/zoneinfo", "/usr/share/zoneinfo/"), brings=("/usr/share/zoneinfo",), limited=True,
        what="time zones", source="tzfile(5); PEP 615, TZPATH",
    ),
    Rule(
        name="terminfo", of="libtinfo, libncurses", libraries=r"lib(?:tinfo|ncursesw?)\.so\.[56]", limited=True,
        brings=("/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"),
        what="descriptions of terminals", source="terminfo(5), Fetching Compiled Descriptions",
    ),
    Rule(
        name="pam", of="libpam", libraries=r"libpam\.so\.0", what="PAM modules and their configuration",
        brings=("{lib}/security", "/usr/lib/{triplet}/security", "/etc/pam.conf", "/etc/pam.d", "/usr/lib/pam.d",
                "/etc/security", "/usr/sbin/unix_chkpwd"),
        source="pam.conf(5), pam_unix(8)",
    ),
    Rule(
        name="sasl", of="libsasl2", libraries=r"libsasl2\.so\.[23]", what="SASL mechanisms",
        brings=("{lib}/sasl2", "/usr/lib/sasl2", "/etc/sasl2", "/etc/sasl"),
        source="Cyrus SASL, System Administrators: plugins; lib/dlopen.c",
    ),
    Rule(
        name="krb5", of="libkrb5, libgssapi_krb5", libraries=r"lib(?:krb5|gssapi_krb5)\.so\.[23]",
        what="Kerberos plugins and configuration",
        brings=("{lib}/krb5/plugins", "{lib}/gss", "/etc/krb5.conf", "/etc/krb5.conf.d", "/etc/gss"),
        source="krb5.conf(5), plugin_base_dir; MIT Kerberos, Plugins",
    ),
    Rule(
        name="p11-kit", of="libp11-kit", libraries=r"libp11-kit\.so\.0", what="PKCS #11 modules",
        brings=("/usr/share/p11-kit", "/etc/pkcs11", "{lib}/pkcs11"), source="pkcs11.conf(5)",
    ),
    Rule(
        name="mozilla-nss", of="libnss3", libraries=r"libnss3\.so", what="cryptographic modules of Mozilla's NSS",
        opens=("libsoftokn3.so", "libfreebl3.so", "libfreeblpriv3.so", "libnssckbi.so", "libnssdbm3.so"),
        brings=("{lib}/nss", "{lib}/libsoftokn3.chk", "{lib}/libfreebl*.chk"),
        source="NSS, lib/pk11wrap/pk11load.c and lib/freebl/loader.c",
    ),
    Rule(
        name="ldap", of="libldap", libraries=r"libldap(?:_r|-2\.\d)?[-.].*", what="LDAP client configuration",
        brings=("/etc/ldap/ldap.conf", "/etc/openldap/ldap.conf"), source="ldap.conf(5)",
    ),
    Rule(
        name="mysql", of="libmariadb, libmysqlclient", libraries=r"lib(?:mariadb|mysqlclient)\.so\.\d+",
        what="authentication plugins and configuration of MySQL clients",
        brings=("{lib}/libmariadb3/plugin", "{lib}/mysql/plugin", "/etc/mysql", "/etc/my.cnf", "/etc/my.cnf.d"),
        source="MariaDB Connector/C, Plugins: MARIADB_PLUGIN_DIR",
    ),
    Rule(
        name="odbc", of="libodbc", libraries=r"libodbc\.so\.\d", what="ODBC drivers and their configuration",
        brings=("/etc/odbcinst.ini", "/etc/odbc.ini", "{lib}/odbc"), source="odbcinst.ini(5)",
    ),
)  # fmt: skip

_PROGRAMS = (
    Rule(
        name="git", of="git", programs=r"(?P<home>/.*)/bin/git", what="git's commands, remote helpers and templates",
        brings=("{home}/lib/git-core", "{home}/libexec/git-core", "{home}/share/git-core/templates", "/etc/gitconfig",
                "/etc/gitattributes"),
        source="git(1), --exec-path; gitremote-helpers(7); git-init(1), TEMPLATE DIRECTORY",
    ),
    Rule(
        name="magic", of="libmagic", libraries=r"libmagic\.so\.1", what="the table of file types",
        brings=("/usr/share/misc/magic.mgc", "/usr/share/misc/magic", "/usr/share/file/magic*", "/usr/lib/file/magic.mgc",
                "{lib}/../share/misc/magic*", "/etc/magic", "/etc/magic.mime"),
        source="magic(5); libmagic(3), magic_getpath",
    ),
    Rule(
        name="java", of="java and the tools beside it",
        programs=r"(?P<home>/.+)/bin/(?:java\w*|j(?:ar|cmd|db|deps|info|link|map|mod|package|shell|stack|stat|web)|keytool)",
        requires=("{home}/lib/libjli.so", "{home}/lib/*/jli/libjli.so"), what="the Java home",
        brings=("{home}/lib", "{home}/conf", "{home}/release"), without=("src.zip", "ct.sym"),
        source="JDK, src/java.base/share/native/libjli/java.c: jvm.cfg, lib/modules",
    ),
    Rule(
        name="javac", of="javac", programs=r"(?P<home>/.+)/bin/javac", requires=("{home}/lib/libjli.so",),
        brings=("{home}/lib/ct.sym",), what="the tables of earlier Java releases", source="JEP 247, javac --release",
    ),
    Rule(
        name="node", of="node, libnode", libraries=r"libnode\.so\.\d+", programs=r"/.*/bin/node(?:js)?",
        named=r"/.+/nodejs/.+", what="built-in modules that Debian has as files",
        source="Node.js, configure.py: --shared-builtin-…-path",
    ),
    Rule(
        name="perl", of="perl, libperl", libraries=r"libperl\.so[\d.]*", programs=r"/.*/bin/perl(?:5[\d.]*)?",
        named=r"/etc/perl|/.+/(?:perl-base|perl/5[\d.]*|perl5/core_perl|lib/5\.\d+\.\d+)(?:/[\w-]+)?",
        what="Perl's standard library", source="perlvar(1), @INC; perl -V",
    ),
    Rule(
        name="perl-modules", of="perl, libperl", libraries=r"libperl\.so[\d.]*", programs=r"/.*/bin/perl(?:5[\d.]*)?",
        named=r"/.+/(?:perl5(?:/5[\d.]*|/vendor_perl)?|site_perl(?:/5[\d.]*)?)", limited=True,
        what="Perl modules of other packages", source="perlvar(1), @INC; perl -V",
    ),
    Rule(
        name="ruby", of="ruby, libruby", libraries=r"libruby[\d.-]*\.so\.[\d.]+", programs=r"/.*/bin/ruby[\d.]*",
        named=r"/.+/ruby/(?:vendor_ruby(?:/\d[\d.]*)?|\d[\d.]*)", what="Ruby's standard library and RubyGems",
        source="Ruby, ruby.c: $LOAD_PATH; RbConfig",
    ),
    Rule(
        name="ruby-gems", of="ruby, libruby", libraries=r"libruby[\d.-]*\.so\.[\d.]+", programs=r"/.*/bin/ruby[\d.]*",
        named=r"/.+/site_ruby(?:/\d[\d.]*)?", limited=True,
        brings=("/usr/share/rubygems-integration", "/usr/lib/{triplet}/rubygems-integration", "/usr/lib/ruby/gems",
                "/var/lib/gems"),
        what="gems of other packages", source="Gem.path; Debian, rubygems/defaults/operating_system.rb",
    ),
    Rule(
        name="python", of="python3 outside of /usr and /usr/local", programs=r"(?P<home>/.+)/bin/python3(?:\.\d+)?t?",
        requires=("{home}/lib/python3.*/encodings",), brings=("{home}/lib/python3.*",), without=("config-3*",),
        what="Python's standard library", source="Python, Modules/getpath.py",
    ),
    Rule(
        name="python-venv", of="a virtual environment", programs=r"/.+/pyvenv\.cfg",
        reads=rb"(?m)^home[ \t]*=[ \t]*(/[^\r\n\0]{1,255})", requires=("{read}/../lib/python3.*/encodings",),
        brings=("{read}/../lib/python3.*",), without=("config-3*",), what="the standard library of its Python",
        source="PEP 405, pyvenv.cfg",
    ),
    Rule(
        name="tcl", of="libtcl, libtk", libraries=r"lib(?:tcl|tk)\d\.\d+\.so[\d.]*", what="Tcl's and Tk's script libraries",
        named=r"/.+/(?:tcl|tk)\d\.\d+", brings=("/usr/share/tcltk/tcl8", "/usr/share/tcltk/tk8.*", "{lib}/tcltk"),
        source="tclvars(3), tcl_library; tkvars(3), tk_library",
    ),
    Rule(
        name="guile", of="libguile", libraries=r"libguile-\d\.\d\.so\.\d+", what="Guile's modules",
        named=r"/.+/guile/\d[\d.]*(?:/(?:ccache|extensions|site-ccache))?", source="Guile reference manual, Load Paths",
    ),
    Rule(
        name="php", of="php", programs=r"/.*/bin/php[\d.]*", named=r"/(?:etc|usr/lib|usr/local/etc)/php/.+",
        what="PHP's extensions and configuration", source="PHP manual, php.ini; php -i",
    ),
    Rule(
        name="r", of="R", programs=r"/.*/bin/R(?:script)?|/.*/lib/R/bin/exec/R", what="R's home with the base packages",
        brings=("/usr/lib/R", "/usr/share/R", "/etc/R"), without=("doc",), source="R, R.home() and R_HOME",
    ),
    Rule(
        name="gnuplot", of="gnuplot", programs=r"/.*/bin/gnuplot(?:-\w+)?", what="gnuplot's scripts and helpers",
        brings=("/usr/share/gnuplot", "/usr/libexec/gnuplot", "/usr/lib/gnuplot"), source="gnuplot, help loadpath",
    ),
    Rule(
        name="nginx", of="nginx", programs=r"/.*/bin/nginx|/.*/sbin/nginx", what="nginx's configuration, modules and folders",
        brings=("/etc/nginx", "/usr/share/nginx", "/usr/lib/nginx/modules", "/var/lib/nginx", "/var/log/nginx"),
        source="nginx -V: --prefix, --modules-path, --conf-path, --http-*-temp-path",
    ),
    Rule(
        name="apache", of="Apache httpd", programs=r"/.*/sbin/(?:apache2|httpd)", what="httpd's configuration and modules",
        brings=("/etc/apache2", "/usr/lib/apache2/modules", "/usr/share/apache2", "/var/log/apache2"),
        without=("*.pyc", "apache2-doc"), source="apache2 -V: HTTPD_ROOT, SERVER_CONFIG_FILE; mod_so, LoadModule",
    ),
    Rule(
        name="openmpi-launcher", of="mpirun, mpiexec", what="Open MPI's daemon and tools",
        programs=r"(?P<home>/.+)/bin/(?:mpirun|mpiexec|orterun|prterun)(?:\.openmpi)?",
        brings=("{home}/bin/orted", "{home}/bin/orte-*", "{home}/bin/prted", "{home}/bin/prte", "/usr/bin/ssh",
                "/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d"),
        source="mpirun(1); Open MPI, orte/mca/plm",
    ),
)  # fmt: skip

_LIBRARIES = (
    Rule(
        name="openmpi", of="libopen-pal, libmpi", libraries=r"lib(?:open-pal|open-rte|mpi|prrte)\.so\.\d+",
        what="Open MPI's components, help texts and configuration", without=("include", "*.a", "*.la"),
        brings=("{lib}/openmpi/lib/openmpi*", "{lib}/openmpi/mca_*.so", "{lib}/openmpi?", "/usr/share/openmpi",
                "{lib}/../share/openmpi", "/etc/openmpi", "{lib}/../etc/openmpi-*", "/usr/share/prte", "{lib}/prte"),
        source="Open MPI, opal/mca/installdirs and opal/mca/base",
    ),
    Rule(
        name="pmix", of="libpmix", libraries=r"libpmix\.so\.\d+", what="PMIx's components, help texts and configuration",
        brings=("{lib}/pmix", "{lib}/pmix2", "{lib}/../share/pmix", "/usr/share/pmix", "/etc/pmix-mca-params.conf"),
        without=("include", "*.a", "*.la", "pkgconfig"), source="PMIx, src/mca/pinstalldirs",
    ),
    Rule(
        name="fontconfig", of="libfontconfig", libraries=r"libfontconfig\.so\.1", what="fontconfig's configuration",
        brings=("/etc/fonts", "/usr/share/fontconfig", "/usr/share/xml/fontconfig"),
        tells=("/usr/share/fonts/*", "/usr/local/share/fonts/*"), tells_what="fonts", source="fonts-conf(5)",
    ),
    Rule(
        name="imagemagick-settings", of="ImageMagick, GraphicsMagick", what="ImageMagick's configuration",
        libraries=r"lib(?:Magick(?:Core|\+\+)|GraphicsMagick)-?[\w.+]*\.so\.\d+",
        brings=("/etc/ImageMagick-*", "/usr/share/ImageMagick-*", "{lib}/GraphicsMagick-*", "/usr/share/GraphicsMagick-*"),
        without=("doc", "www"), source="ImageMagick, Resources: Configuration Files",
    ),
    Rule(
        name="ghostscript", of="libgs", libraries=r"libgs\.so\.\d+", what="Ghostscript's resources and fonts", limited=True,
        brings=("/usr/share/ghostscript", "/var/lib/ghostscript", "/usr/share/color/icc/ghostscript", "/etc/ghostscript"),
        without=("doc",), source="Ghostscript, How Ghostscript finds files",
    ),
    Rule(
        name="gstreamer-presets", of="GStreamer", libraries=r"libgstreamer-1\.0\.so\.0", what="GStreamer's presets",
        brings=("/usr/share/gstreamer-1.0",), source="GstPreset, GST_PRESET_PATH",
    ),
    Rule(
        name="glib", of="GIO", libraries=r"libgio-2\.0\.so\.0", what="settings schemas and the table of MIME types",
        brings=("/usr/share/glib-2.0/schemas/gschemas.compiled", "/usr/share/mime/mime.cache"),
        source="glib-compile-schemas(1); Shared MIME-info Database, mime.cache",
    ),
    Rule(
        name="proj", of="libproj", libraries=r"libproj\.so\.\d+", what="PROJ's database",
        brings=("/usr/share/proj/proj.db", "/usr/share/proj/proj.ini", "{lib}/../share/proj/proj.*"),
        source="PROJ, Resource files",
    ),
    Rule(
        name="gdal", of="libgdal", libraries=r"libgdal\.so\.\d+", what="GDAL's tables and plugins", limited=True,
        brings=("/usr/share/gdal", "{lib}/../share/gdal", "{lib}/gdalplugins"), source="GDAL, GDAL_DATA and GDAL_DRIVER_PATH",
    ),
    Rule(
        name="x11", of="libX11", libraries=r"libX11\.so\.6", what="Xlib's locales and tables", limited=True,
        brings=("/usr/share/X11/locale", "/usr/share/X11/XErrorDB", "/usr/share/X11/XKeysymDB"),
        source="libX11, modules/om and XLOCALEDIR",
    ),
    Rule(
        name="xkb", of="libxkbcommon, Xvfb, Xorg", libraries=r"libxkb(?:common|file)\.so\.\d+", what="keyboard layouts",
        programs=r"/.*/bin/(?:Xorg|Xvfb|Xwayland|Xephyr|Xvnc|xkbcomp)", brings=("/usr/share/X11/xkb", "/usr/bin/xkbcomp"),
        source="libxkbcommon, User-configuration; Xkb Library, file system paths",
    ),
    Rule(
        name="drm", of="libdrm_amdgpu", libraries=r"libdrm_amdgpu\.so\.1", what="names of graphics cards",
        brings=("/usr/share/libdrm",), source="libdrm, amdgpu/amdgpu_asic_id.c",
    ),
    Rule(
        name="tesseract", of="libtesseract", libraries=r"libtesseract\.so\.\d+", what="Tesseract's language models",
        limited=True, brings=("/usr/share/tesseract-ocr",), source="tesseract(1), TESSDATA_PREFIX",
    ),
)  # fmt: skip


def _beside(name: str, library: str, what: str, source: str, *brings: str) -> Rule:
    """A rule of a library with plugins or data of its own in folders that are compiled in."""
    return Rule(
        name=name, of=name, libraries=rf"lib{library}\.so\.\d+", what=what, brings=brings, limited=True, source=source
    )  # fmt: skip


_BESIDE = (
    _beside("UCX", "ucs", "UCX modules", "UCX, src/ucs/sys/module.c", "{lib}/ucx", "/etc/ucx"),
    _beside("libfabric", "fabric", "fabric providers", "fi_provider(7)", "{lib}/libfabric"),
    _beside("hwloc", "hwloc", "hwloc plugins", "hwloc, Plugins", "{lib}/hwloc"),
    _beside("libibverbs", "ibverbs", "InfiniBand drivers", "libibverbs, README", "{lib}/libibverbs", "/etc/libibverbs.d"),
    _beside("PulseAudio", "pulse", "client configuration", "pulse-client.conf(5)", "/etc/pulse/client.conf",
            "/etc/pulse/client.conf.d"),
    _beside("PipeWire", r"pipewire-0\.3", "modules and configuration", "pipewire(1)", "{lib}/pipewire-0.3", "{lib}/spa-0.2",
            "/usr/share/pipewire", "/etc/pipewire"),
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
)  # fmt: skip

SURROUNDINGS = (*_SYSTEM, *_PROGRAMS, *_LIBRARIES, *_BESIDE)
