"""Long runs: a short form by default, the full one with `make stress`."""

import json
import random
import threading

import pytest
from helpers import MEBIBYTE, TIMEOUT, longclip_score, resident_bytes, rows_of, start_longclip_score
from PIL import Image

COLOURS = "red", "green", "blue", "orange", "grey"


@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.stress)])
def test_memory_is_flat_however_long_the_stream(tiny_checkpoint, tmp_path, rows):
    lines = []
    for i, colour in enumerate(COLOURS):
        path = tmp_path / f"{colour}.{'png' if i % 2 else 'jpg'}"
        Image.new("RGB", (64 + i, 48), colour).save(path)
        lines += [json.dumps({"image_path": str(path), "text": colour + " word" * j}) + "\n" for j in range(8)]

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
            if count % 1000 == 0 and count < rows:  # at the last one it may have ended
                memory.append(resident_bytes(process.pid))
        assert process.wait(TIMEOUT) == 0
    assert count == rows
    print(f"{memory[0] / MEBIBYTE:.0f} MiB after a thousand rows, at most {max(memory) / MEBIBYTE:.0f} MiB later")
    assert max(memory) < memory[0] + 150 * MEBIBYTE


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.stress)])
def test_fuzzed_lines_give_one_output_line_each(tiny_checkpoint, count):
    rng = random.Random(count)
    lines = [json.dumps(row).encode() for row in rows_of(74)]
    for i in range(count):
        line = bytearray(lines[i % 74])
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(line))
            line[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        lines.append(bytes(line))
    content = b"\n".join(lines)
    run = longclip_score("-q", "-m", tiny_checkpoint, input=content)
    assert run.returncode == 3
    assert run.stderr == b""
    outputs = run.stdout.split(b"\n")
    assert outputs.pop() == b""
    assert len(outputs) == sum(1 for line in content.split(b"\n") if line.strip())
    for output in outputs:
        row = json.loads(output)
        assert (row["clip_score"] is None) == ("clip_score_error" in row)
