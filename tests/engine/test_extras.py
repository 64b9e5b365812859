"""The `extras` option, built on `stock`: images are processed with OpenCV, Pillow and the codecs."""

from __future__ import annotations

import pytest

from .conftest import OWN, Done, Place, container_output, write_tree

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

LEFT = b"ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo left by a step below > /usr/local/lib/libtiff.so.6\n"

PIPELINE = """
import io, sys
import cv2, numpy as np
from PIL import Image
raw = np.frombuffer(bytes.fromhex(sys.argv[1]), np.uint8)
picture = cv2.imdecode(raw, cv2.IMREAD_COLOR)
blurred = cv2.GaussianBlur(picture, (3, 3), 0)
buffer = io.BytesIO()
Image.fromarray(cv2.cvtColor(blurred, cv2.COLOR_BGR2RGB)).save(buffer, "PNG")
again = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
print(picture.shape, again[0, 0].tolist(), again[1, 1].tolist())
"""


@pytest.fixture(scope="module")
def extras(stocked: Place) -> tuple[Place, Done]:
    """The result of building `stock,extras`, with an additional step before those of extras."""
    write_tree(stocked.root, {"extras/05-Dockerfile-left": LEFT})
    return stocked, stocked.build("stock,extras")


def test_extras_steps_build_on_stock_result_and_pass_their_tests(extras: tuple[Place, Done]) -> None:
    place, done = extras
    assert [step for step in done.built if step[:2].isdigit()] == ["05-left", "10-codecs", "20-pillow", "30-opencv"]
    assert f"v1-extras-{OWN}" in place.tags()
    # The test results are stored with the image, so there is nothing left to do.
    again = place.build("stock,extras")
    assert again.built == []


def test_picture_is_read_filtered_and_written(extras: tuple[Place, Done]) -> None:
    place, _ = extras
    # A portable pixmap of 3 by 3 pixels: a white pixel in the middle, the others are black.
    picture = b"P6 3 3 255\n" + bytes(12) + b"\xff\xff\xff" + bytes(12)
    said = place.output(f"v1-extras-{OWN}", "python3", "-c", PIPELINE, picture.hex())
    # A quarter of the 3 by 3 filter's weight is in its middle; at the mirrored corner four of its sixteenths count.
    assert said == "(3, 3, 3) [64, 64, 64] [64, 64, 64]\n"


def test_codec_libraries_keep_package_path_and_package_record(extras: tuple[Place, Done]) -> None:
    place, _ = extras
    image = place.image(f"v1-extras-{OWN}").reference.pinned
    said = container_output(
        image, "-c", "readlink -f /usr/local/lib/libtiff.so.6; ls /var/lib/dpkg/status.d", entrypoint="sh"
    )
    where, *packages = said.split()
    assert where.startswith("/usr/lib/")
    assert "-linux-gnu" in where
    assert {"libjpeg62-turbo", "libpng16-16", "libtiff6", "libwebp7"} <= set(packages)
    # Neither the compilers nor the package caches are in the image.
    assert container_output(image, "-c", "command -v cc || echo none", entrypoint="sh") == "none\n"
