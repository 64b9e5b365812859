"""The graphics option as a user runs it: built, started, and its desktop used in a browser."""

from __future__ import annotations

import base64
import json
import signal
import struct
import subprocess
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import OWN, PATIENCE, Place, docker, eventually, kill, write_tree

pytestmark = [pytest.mark.timeout(1500), pytest.mark.long]

NOTHING = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
BACKGROUND = (0x2C, 0x4A, 0x6B)
WIDTH, HEIGHT = 1280, 800


@dataclass(kw_only=True, slots=True)
class Browser:
    """A tab of a headless Chromium, controlled with the DevTools protocol over its standard streams."""

    process: subprocess.Popen[bytes]
    session: str = ""
    number: int = 0
    waiting: bytes = b""
    console: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Open a page in a new tab and use its session from now on."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=address)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the browser and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            answer = self._next()
            if answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                self.console.append(json.dumps(answer["params"])[:500])
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\0" not in self.waiting:
            more = self.process.stdout.read1()  # type: ignore[attr-defined]
            assert more, "the browser ended"
            self.waiting += more
        first, _, self.waiting = self.waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self) -> bytes:
        """Return the page as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def click(self, x: int, y: int, button: str = "left") -> None:
        """Click on a position of the page."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            which = {} if kind == "mouseMoved" else {"button": button, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **which)

    def type(self, text: str) -> None:
        """Type lowercase letters, spaces and line ends."""
        special = {" ": (" ", "Space", 32), "\n": ("Enter", "Enter", 13)}
        for letter in text:
            key, code, number = special.get(letter, (letter, f"Key{letter.upper()}", ord(letter.upper())))
            words = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown", text="\r" if letter == "\n" else letter, **words)
            self.call("Input.dispatchKeyEvent", type="keyUp", **words)


@pytest.fixture
def chromium(base_images: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The build of an image with the distribution's Chromium, and its name."""
    name = f"chainbuild-test/chromium:{uuid.uuid4().hex[:12]}"
    dockerfile = (
        f"FROM {base_images}\n"
        "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium \\\n"
        " && rm -rf /var/lib/apt/lists/*\n"
    )
    build = subprocess.Popen(
        ["docker", "buildx", "build", "--builder", "default", "--load", "--quiet", "--tag", name, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert build.stdin is not None
    build.stdin.write(dockerfile.encode())
    build.stdin.close()
    build.stdin = None
    yield build, name
    if build.poll() is None:
        build.terminate()
    build.communicate()
    docker("image", "rm", "--force", name)


@pytest.fixture
def desktop(chromium: tuple[subprocess.Popen[bytes], str], stocked: Place) -> Iterator[str]:
    """The name of a running container. Its image is built at the same time as that of the browser.

    The image is that of an option on top of graphics, which does not mention anything that graphics adds.
    """
    place = stocked
    write_tree(place.root, {"top/10-Dockerfile-nothing": NOTHING})
    build = place.start(*place.words("stock,graphics,top", "--plain"))
    try:
        out, err = build.communicate(timeout=3 * PATIENCE)
    finally:
        kill(build, signal.SIGINT)
    assert build.returncode == 0, f"{out}\n{err[-20_000:]}"
    # The tests of all steps and of production have passed.
    assert err.count("test passed: ") == len(list((place.root / "graphics").glob("*-test"))), err

    container = f"chainbuild-test-{uuid.uuid4().hex[:12]}"
    started = docker("run", "--detach", "--name", container, f"{place.repo}:v1-top-{OWN}")
    try:
        assert started.returncode == 0, started.stderr
        yield container
    finally:
        docker("rm", "--force", "--volumes", container)


@pytest.fixture
def browser(chromium: tuple[subprocess.Popen[bytes], str], desktop: str) -> Iterator[Browser]:
    """A browser on the network of the desktop's container."""
    build, image = chromium
    _, err = build.communicate(timeout=3 * PATIENCE)
    assert build.returncode == 0, err.decode()
    name = f"{desktop}-browser"
    script = (
        "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=/tmp/profile"
        " --no-first-run --remote-debugging-pipe 3<&0 4>&1 >/dev/null"
    )
    process = subprocess.Popen(
        [
            "docker",
            "run",
            "--rm",
            "--interactive",
            "--name",
            name,
            "--network",
            f"container:{desktop}",
            image,
            "sh",
            "-c",
            script,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    yield Browser(process=process)
    docker("rm", "--force", "--volumes", name)
    process.communicate()


def test_desktop_is_displayed_and_usable_in_a_browser(desktop: str, browser: Browser, tmp_path: Path) -> None:
    said: list[str] = []

    def password() -> bool:
        lines = docker("logs", desktop).stdout.splitlines()
        said[:] = [line.rpartition(" ")[2] for line in lines if line.startswith("the VNC password is ")]
        return bool(said)

    eventually(password, "the password in the log")
    # Turning gears drawn by OpenGL, and a terminal, in which typed text creates a file.
    programs = (
        "with-display glxgears -geometry 400x400+20+40 >/dev/null & exec with-display xterm -geometry 60x20+600+60"
    )
    assert docker("exec", "--detach", desktop, "sh", "-c", programs).returncode == 0

    browser.open(f"http://localhost:6080/vnc.html?autoconnect=1&resize=scale#password={said[0]}")
    connected = "document.documentElement.classList.contains('noVNC_connected')"
    eventually(lambda: browser.value(connected) is True, f"a connection: {browser.console}")
    colours = seen(browser, tmp_path / "desktop.png")
    assert colours["desktop"] > WIDTH * HEIGHT / 4

    def typed() -> bool:
        # A window that opens at the same time takes the keys, so click and type again, as a user would.
        browser.click(700, 200)
        browser.type("\ntouch typed\n")
        time.sleep(2)
        return docker("exec", desktop, "test", "-e", "/typed").returncode == 0

    eventually(typed, "what was typed")

    before = counted(browser.picture())

    def menu() -> bool:
        # On a busy machine a press and release of the right button may arrive as one event that opens nothing, so click
        # again. The menu hides a part of the desktop, whose color is transferred unchanged.
        browser.click(300, 600, "right")
        time.sleep(2)
        picture = browser.picture()
        (tmp_path / "menu.png").write_bytes(picture)
        return counted(picture)["desktop"] < before["desktop"] - 15_000

    eventually(menu, "the menu of the desktop")


def seen(browser: Browser, target: Path) -> Counter[str]:
    """Wait until everything is displayed, and return the number of pixels of each thing."""
    limit = time.monotonic() + PATIENCE
    while True:
        picture = browser.picture()
        target.write_bytes(picture)
        colours = counted(picture)
        if min(colours[name] for name in ("desktop", "red", "green", "blue", "paper")) > 2_000:
            return colours
        assert time.monotonic() < limit, f"{colours} in {target}"
        time.sleep(0.5)


def counted(png: bytes) -> Counter[str]:
    """Count the pixels of a PNG by what they show: the desktop's color, shades of red, green and blue, white."""
    counts: Counter[str] = Counter()
    for pixel, count in Counter(pixels(png)).items():
        low, middle, high = sorted(pixel)
        if pixel == BACKGROUND:
            counts["desktop"] += count
        elif low == 255:
            counts["paper"] += count
        elif high > 60 and middle < high / 2 and low < high / 2:
            counts[("red", "green", "blue")[pixel.index(high)]] += count
    return counts


def pixels(png: bytes) -> Iterator[tuple[int, ...]]:
    """Return the pixels of a PNG with eight bits each of red, green, blue and optionally alpha (ignored).

    https://www.w3.org/TR/png-3/: chunks in 5.3, filters in 9.2.
    """
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        content = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content)
        packed += content if kind == b"IDAT" else b""
        at += length + 12
    assert (width, height, depth, interlaced) == (WIDTH, HEIGHT, 8, 0)
    size = {2: 3, 6: 4}[colour]
    raw = zlib.decompress(packed)
    above = bytearray(width * size)
    for row in range(height):
        start = row * (width * size + 1)
        line = bytearray(raw[start + 1 : start + 1 + width * size])
        unfilter(raw[start], line, above, size)
        yield from zip(*(line[channel::size] for channel in range(3)), strict=True)
        above = line


def unfilter(kind: int, line: bytearray, above: bytearray, size: int) -> None:
    """Undo the filter of a line, in place."""
    if kind == 0:
        return
    for index, byte in enumerate(line):
        left = line[index - size] if index >= size else 0
        corner = above[index - size] if index >= size else 0
        up = above[index]
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            near = left + up - corner
            guess = min((left, up, corner), key=lambda one: abs(near - one))
        line[index] = (byte + guess) & 0xFF
