"""The programs that are tested in minimized images: what is kept of each, where it runs, and its expected output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_HTTPS = """
import http.server, ssl, threading, urllib.request
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/tls/cert.pem", "/srv/tls/key.pem")
server = http.server.HTTPServer(("localhost", 0), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("status", urllib.request.urlopen(f"https://localhost:{server.server_port}/").status)
"""
_CLONE = """
import functools, http.server, subprocess, threading
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/srv/http")
server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
subprocess.run(["git", "clone", "-q", f"http://localhost:{server.server_port}/repo.git", "/tmp/clone"], check=True)
print(open("/tmp/clone/greeting").read())
"""
_NGINX = """
import subprocess, time, urllib.request
subprocess.run(["/usr/sbin/nginx", "-c", "/etc/nginx/echo.conf"], check=True)
print(urllib.request.urlopen("http://localhost:8080/").read().decode())
"""
_NODE = """
const name = new URL("http://b\\u00fccher.example").hostname;
console.log(name, require("crypto").createHash("sha256").update("a").digest("hex").slice(0, 8));
"""
_RUBY = 'require "json"; require "msgpack"; puts [MessagePack.unpack([1, "a"].to_msgpack)].to_json'
_PERL = "print POSIX::floor(3.5), JSON::XS::encode_json([1])"
_LOCALE = 'use POSIX; print setlocale(LC_ALL, "de_DE.UTF-8"), " ", strftime("%A", 0, 0, 0, 1, 0, 100), "\\n"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One program. `what` is its row in docs/minimize.md.

    `production` is `slim` (Debian without OpenSSL, certificates and Perl), `bare` (the C library only) or `scratch`. `args`
    are those of the minimize stage. `says` is part of the output of `command`. If `fix` is not empty, the program does not
    work until that line is added, and a warning names the line.
    """

    name: str
    what: str
    production: str
    args: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...]
    says: str
    fix: str = ""
    chain: str = "chain"
    """Its stage in tests/engine/programs/Dockerfile. Stages that start with `small` build quickly."""

    @property
    def small(self) -> bool:
        """True if every test run tests it; the others are tested on request."""
        return self.chain.startswith("small")


PROGRAMS = (
    Program(
        name="https",
        chain="small-with-python",
        what="Python: an HTTPS request to a server with a private CA",
        production="slim",
        says="status 200",
        args={"ADDITIONAL_FILES": "/srv/tls"},
        command=("/usr/bin/python3", "-c", _HTTPS),
    ),
    Program(
        name="nginx",
        chain="chain-with-python",
        what="nginx with a dynamic module",
        production="slim",
        says="hello",
        args={"ADDITIONAL_FILES": "/usr/sbin/nginx"},
        command=("/usr/bin/python3", "-c", _NGINX),
    ),
    Program(
        name="git",
        chain="small-with-python",
        what="git: a clone over HTTP",
        production="slim",
        says="hello",
        args={"ADDITIONAL_FILES": "/usr/bin/git /srv/http"},
        command=("/usr/bin/python3", "-c", _CLONE),
    ),
    Program(
        name="imagemagick",
        what="ImageMagick: text in a PNG",
        production="bare",
        says="1 drawn",
        args={"ADDITIONAL_FILES": "/usr/bin/convert"},
        fix="ADDITIONAL_FILES=/usr/share/fonts",
        command=(
            "/usr/bin/convert",
            "-size",
            "100x40",
            "xc:white",
            "-font",
            "DejaVu-Sans",
            "-annotate",
            "+5+20",
            "Hi",
            "-write",
            "png:/tmp/x.png",
            "-format",
            "%[fx:mean<1] drawn",
            "info:",
        ),
    ),
    Program(
        name="file",
        chain="small",
        what="file",
        production="bare",
        says="ELF 64-bit",
        args={"ADDITIONAL_FILES": "/usr/bin/file"},
        command=("/usr/bin/file", "-L", "/usr/bin/file"),
    ),
    Program(
        name="sasl",
        what="SASL mechanisms",
        production="bare",
        says="SCRAM-SHA-256",
        args={"ADDITIONAL_FILES": "/usr/sbin/saslpluginviewer"},
        command=("/usr/sbin/saslpluginviewer", "-c"),
    ),
    Program(
        name="openmpi",
        what="Open MPI: two ranks",
        production="slim",
        says="2 ranks, sum 4",
        args={"ADDITIONAL_FILES": "/usr/bin/mpirun /opt/own/bin/ranks"},
        command=("/usr/bin/mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", "/opt/own/bin/ranks"),
    ),
    Program(
        name="node",
        what="Node.js",
        production="bare",
        says="xn--bcher-kva.example ca978112",
        args={"ADDITIONAL_FILES": "/usr/bin/node"},
        command=("/usr/bin/node", "-e", _NODE),
    ),
    Program(
        name="java",
        what="Java",
        production="bare",
        says="Runtime Environment",
        args={"ADDITIONAL_FILES": "/usr/bin/java"},
        command=("/usr/bin/java", "-version"),
    ),
    Program(
        name="perl",
        chain="small",
        what="Perl with a module",
        production="bare",
        says="3[1]",
        args={"ADDITIONAL_FILES": "/usr/bin/perl"},
        command=("/usr/bin/perl", "-MPOSIX", "-MJSON::XS", "-e", _PERL),
    ),
    Program(
        name="ruby",
        what="Ruby with a gem",
        production="bare",
        says='[[1,"a"]]',
        args={"ADDITIONAL_FILES": "/usr/bin/ruby"},
        command=("/usr/bin/ruby", "-e", _RUBY),
    ),
    Program(
        name="gstreamer",
        what="GStreamer: audiotestsrc",
        production="slim",
        says="Got EOS",
        args={"ADDITIONAL_FILES": "/usr/bin/gst-launch-1.0"},
        command=("/usr/bin/gst-launch-1.0", "audiotestsrc", "num-buffers=3", "!", "audioconvert", "!", "fakesink"),
    ),
    Program(
        name="threads",
        chain="small",
        what="pthread_cancel",
        production="bare",
        says="cancelled",
        args={"ADDITIONAL_FILES": "/opt/own/bin/threads"},
        command=("/opt/own/bin/threads",),
    ),
    Program(
        name="iconv",
        chain="small",
        what="iconv to GB18030",
        production="scratch",
        says="hello",
        args={"ADDITIONAL_FILES": "/usr/bin/iconv /srv/work/greeting"},
        command=("/usr/bin/iconv", "-f", "UTF-8", "-t", "GB18030", "/srv/work/greeting"),
    ),
    Program(
        name="locale",
        what="a German locale selected by LANG",
        production="scratch",
        says="de_DE.UTF-8 Samstag",
        args={"ADDITIONAL_FILES": "/usr/bin/perl", "LOCALE": "de_DE.UTF-8"},
        command=("/usr/bin/perl", "-e", _LOCALE),
    ),
    Program(
        name="figlet",
        chain="small-with-figlet",
        what="figlet, with the fonts of its package",
        production="bare",
        says="| |",
        args={"ADDITIONAL_FILES": "/usr/bin/figlet"},
        command=("/usr/bin/figlet", "hi"),
        fix="KEEP_DATA=figlet",
    ),
    Program(
        name="script",
        chain="small",
        what="a script whose interpreter the production image lacks",
        production="bare",
        says="3",
        args={"ADDITIONAL_FILES": "/opt/own/bin/script"},
        command=("/opt/own/bin/script",),
        fix="KEEP_INTERPRETERS=1",
    ),
)


def with_line(program: Program) -> Mapping[str, str]:
    """Return the args with the line that fixes it: a list is extended, a switch is set."""
    name, _, value = program.fix.partition("=")
    before = program.args.get(name, "")
    return {**program.args, name: f"{before} {value}".strip()} if name else program.args


def table() -> list[str]:
    """Return the rows of the table in docs/minimize.md."""
    where = {"slim": "Debian slim", "bare": "C library only", "scratch": "`scratch`"}
    rows = ["| program | production image | works |", "| --- | --- | --- |"]
    for one in PROGRAMS:
        works = f"reported, and with `{one.fix}`" if one.fix else "as is"
        rows.append(f"| {one.what} | {where[one.production]} | {works} |")
    return rows
