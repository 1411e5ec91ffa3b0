"""Every kind of bad row, between good ones, through the installed command."""

import json
import os
import socket
import struct
import sys
import zlib
from contextlib import chdir
from pathlib import Path

import pytest
from helpers import jsonl, longclip_score, parse_jsonl, png_chunk
from PIL import Image

GOOD = {"image_path": "good.png", "text": "a red square"}


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )


def make_files(folder: Path) -> None:
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    Image.new("RGB", (40, 30), "red").save(folder / "good.png")
    picture.save(folder / "whole.jpg")
    picture.save(folder / "whole.png")
    for name in ("whole.jpg", "whole.png"):
        whole = (folder / name).read_bytes()
        (folder / name.replace("whole", "truncated")).write_bytes(whole[: len(whole) * 2 // 3])
    damaged = bytearray((folder / "whole.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (folder / "damaged.png").write_bytes(damaged)
    (folder / "empty.png").touch()
    (folder / "notes.png").write_text("this is no image")
    (folder / "huge.png").write_bytes(png_header(20_000, 20_000))
    (folder / "sliver.png").write_bytes(png_header(1, 2_000_000))
    (folder / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "link.png").symlink_to("good.png")
    (folder / "目录 with spaces.png").write_bytes((folder / "good.png").read_bytes())
    with chdir(folder), socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")  # macOS allows 104 bytes


def image(value: object) -> str:
    return json.dumps({"id": 1, "image_path": value, "text": "a red square"})


def text(value: object) -> str:
    return json.dumps({"id": 1, "image_path": "good.png", "text": value})


BAD_ROWS = {
    "not JSON": (
        "{'image_path': 'good.png'}",
        "line {n}: not JSON: Expecting property name enclosed in double quotes at column 2",
    ),
    "a brace forgotten": (
        '{"image_path": "good.png", "text": "a"',
        "line {n}: not JSON: Expecting ',' delimiter at column 39",
    ),
    "a line cut short": ('{"image_path": "good.png", "te', "line {n}: not JSON: "),
    "not UTF-8": (b'{"image_path": "good.png", "text": "caf\xe9"}', "line {n}: not JSON: 'utf-8' codec can't decode"),
    "a list": ('["good.png", "a red square"]', "line {n}: not a JSON object: it is a list"),
    "a number": ("17", "line {n}: not a JSON object: it is a number"),
    "nested too deeply": ('{"a":' * 2000 + "1" + "}" * 2000, "line {n}: nested too deeply: "),
    "no image": ('{"text": "a red square"}', "image: no field 'image_path'"),
    "null image": (image(None), "image: not a path: 'image_path' is null"),
    "number as image": (image(3), "image: not a path: 'image_path' is a number"),
    "object as image": (image({"file": "good.png"}), "image: not a path: 'image_path' is an object"),
    "blank image": (image(" "), "image: not a path: 'image_path' is blank"),
    "empty list of images": (image([]), "image: an empty list: 'image_path'"),
    "two images and two texts": (
        json.dumps({"image_path": ["good.png"] * 2, "text": ["a red square"] * 2}),
        "row: several images and several texts: 2 images, 2 texts",
    ),
    "number in a list": (image([3]), "image: not a path: 'image_path' is a number"),
    "URL": (image("http://127.0.0.1:9/a.png"), "image: URLs are not read: http://127.0.0.1:9/a.png"),
    "file URL": (image("file:///etc/hostname"), "image: URLs are not read: file:///etc/hostname"),
    "no such file": (image("a/b.png"), "image: no such file: a/b.png"),
    "a file for a folder": (image("good.png/b.png"), "image: cannot be opened: good.png/b.png (Not a directory)"),
    "NUL in the path": (image("a\0b.png"), "image: cannot be opened: a\0b.png (embedded null byte)"),
    "lone surrogate in the path": (image("\ud800.png"), "image: cannot be opened: \\ud800.png ("),
    "path too long": (image("a" * 5000), "image: cannot be opened: aaa"),
    "symbolic link to itself": (image("loop.png"), "image: cannot be opened: loop.png (Too many levels"),
    "folder": (image("folder.png"), "image: a folder, not a file: folder.png"),
    "FIFO": (image("fifo.png"), "image: a FIFO, not a file: fifo.png"),
    "socket": (image("socket.png"), "image: a socket, not a file: socket.png"),
    "device": (image("/dev/zero"), "image: a device, not a file: /dev/zero"),
    "file without a size": (image("/proc/self/status"), "image: an empty file: /proc/self/status"),
    "empty file": (image("empty.png"), "image: an empty file: empty.png"),
    "no image in the file": (image("notes.png"), "image: not an image format that can be read: notes.png"),
    "format that runs a program": (image("page.eps"), "image: not an image format that can be read: page.eps"),
    "truncated JPEG": (image("truncated.jpg"), "image: cannot be decoded: truncated.jpg (image file is truncated"),
    "truncated PNG": (image("truncated.png"), "image: cannot be decoded: truncated.png ("),
    "damaged PNG": (image("damaged.png"), "image: cannot be decoded: damaged.png ("),
    "20,000 x 20,000 PNG": (
        image("huge.png"),
        "image: too many pixels: huge.png has 400000000 pixels, --max-pixels is 100000000",
    ),
    "1 x 2,000,000 PNG": (
        image("sliver.png"),
        "image: too many pixels: sliver.png has 25088000000 pixels once resized",
    ),
    "no text": ('{"image_path": "good.png"}', "text: no field 'text'"),
    "null text": (text(None), "text: not a string: 'text' is null"),
    "object as text": (text({"a": "a red square"}), "text: not a string: 'text' is an object"),
    "empty list of texts": (text([]), "text: an empty list: 'text'"),
    "boolean as text": (text(True), "text: not a string: 'text' is a boolean"),
    "empty text": (text(""), "text: blank: 'text'"),
    "blank text": (text(" \t\u3000\n"), "text: blank: 'text'"),
}
if sys.platform != "linux":
    del BAD_ROWS["file without a size"]  # there is no /proc


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    make_files(path)
    return path


@pytest.fixture(scope="module")
def run(folder, checkpoint):
    """Score all bad rows, each between two good ones, in one run with several rows a batch."""
    good = json.dumps(GOOD).encode()
    lines = [good]
    for line, _ in BAD_ROWS.values():
        lines += [line if isinstance(line, bytes) else line.encode(), good]
    return longclip_score("-m", checkpoint, "-b", 8, input=b"\n".join(lines), cwd=folder), lines


@pytest.fixture(scope="module")
def good_score(folder, checkpoint):
    run = longclip_score("-m", checkpoint, input=jsonl(GOOD), cwd=folder)
    return parse_jsonl(run.stdout)[0]["clip_score"]


def test_a_run_with_bad_rows_completes_with_status_3(run):
    completed, lines = run
    assert completed.returncode == 3
    assert completed.stdout.count(b"\n") == len(lines)
    summary = completed.stderr.decode()
    assert f"{len(lines)} rows in" in summary
    assert f"{len(BAD_ROWS) + 1} scored, {len(BAD_ROWS)} failed" in summary
    assert "1 image: no such file" in summary


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_keeps_its_line_and_gets_null_and_a_reason(name, run, good_score):
    completed, lines = run
    i = 2 * list(BAD_ROWS).index(name) + 1
    outputs = completed.stdout.split(b"\n")
    output = json.loads(outputs[i])
    assert output["clip_score"] is None
    assert output["clip_score_error"].startswith(BAD_ROWS[name][1].format(n=i + 1))
    if BAD_ROWS[name][1].startswith("line"):
        assert output["clip_score_input"] == lines[i].decode("utf-8", "backslashreplace")
    else:
        assert outputs[i].startswith(lines[i][:-1])
    for neighbour in (json.loads(outputs[i - 1]), json.loads(outputs[i + 1])):
        assert neighbour == GOOD | {"clip_score": pytest.approx(good_score, abs=2e-6)}


def test_unusual_but_valid_paths_are_scored(folder, checkpoint, good_score):
    values = ["link.png", ["good.png"], {"path": "good.png"}, "目录 with spaces.png", "./good.png"]
    run = longclip_score("-m", checkpoint, input="\n".join(map(image, values)), cwd=folder)
    scores = [row["clip_score"] for row in parse_jsonl(run.stdout)]
    assert scores == [pytest.approx(good_score, abs=2e-6)] * len(values)
    assert run.returncode == 0


def test_relative_paths_start_at_the_image_root(folder, checkpoint, good_score, tmp_path):
    rows = jsonl(GOOD, GOOD | {"image_path": str(folder / "good.png")}, GOOD | {"image_path": "a.png"})
    run = longclip_score("-m", checkpoint, "--image-root", folder, input=rows, cwd=tmp_path)
    relative, absolute, missing = parse_jsonl(run.stdout)
    assert relative["clip_score"] == absolute["clip_score"] == pytest.approx(good_score, abs=2e-6)
    assert missing["clip_score_error"] == f"image: no such file: {folder}/a.png"


def test_blank_lines_give_no_row_and_line_ends_stay(folder, checkpoint):
    line = json.dumps(GOOD).encode()
    content = b"\n" + line + b"\r\n  \n\t\r\n" + line + b"\n\nno row\n" + line
    first, second, bad, third, end = longclip_score("-m", checkpoint, input=content, cwd=folder).stdout.split(b"\n")
    assert first.endswith(b"}\r")
    assert second.endswith(b"}")
    assert second == third
    assert json.loads(bad)["clip_score_error"].startswith("line 7: not JSON")
    assert end == b""


def test_the_field_names_can_be_chosen(folder, checkpoint, good_score):
    row = {"picture": "good.png", "caption": "a red square", "clip_score": 7}
    keys = ("--image-key", "picture", "--text-key", "caption", "--output-key", "fit")
    run = longclip_score("-m", checkpoint, *keys, input=jsonl(row, {}), cwd=folder)
    scored, failed = parse_jsonl(run.stdout)
    assert scored == row | {"fit": pytest.approx(good_score, abs=2e-6)}
    assert failed == {"fit": None, "fit_error": "image: no field 'picture'"}
