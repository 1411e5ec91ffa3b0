"""Long runs: a short form by default, the full one with `make stress`."""

import json
import threading
from pathlib import Path

import pytest
from conftest import GOLDEN, start_longclip_score

MEBIBYTE = 2**20
PICTURES = ["photo.jpg", "rgb.png", "palette.png", "lossy.webp", "wide.png"]


def resident_bytes(pid: int) -> int:
    """The memory a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.stress)])
def test_memory_is_flat_however_long_the_stream(tiny_checkpoint, rows):
    lines = [
        json.dumps({"image_path": str(GOLDEN / "images" / name), "text": f"caption {i}, " + "a word " * i}) + "\n"
        for i, name in enumerate(PICTURES * 8)
    ]

    def write(stream):
        for i in range(rows):
            stream.write(lines[i % len(lines)].encode())
        stream.close()

    with start_longclip_score("-q", "-m", tiny_checkpoint) as process:
        threading.Thread(target=write, args=(process.stdin,), daemon=True).start()
        memory = []
        count = 0
        for count, line in enumerate(process.stdout, 1):
            assert line.startswith(lines[(count - 1) % len(lines)][:-2].encode())
            if count % 1000 == 0:
                memory.append(resident_bytes(process.pid))
        assert process.wait(60) == 0
    assert count == rows
    print(f"{memory[0] / MEBIBYTE:.0f} MiB after a thousand rows, at most {max(memory) / MEBIBYTE:.0f} MiB later")
    assert max(memory) < memory[0] + 150 * MEBIBYTE
