"""Compare longclip-score with a plain loop over `transformers.CLIPModel` with the same weights: `make bench`.

Each measurement is a process of its own, and only one runs at a time. Alternatives run alternately, and the best
round of each counts. The tables are in Markdown; docs/performance.md explains their columns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from corpus import captions, checkpoint_path, write_rows
from operations import image_operations, text_operations
from processes import COMMAND, ToolRun, run_script, run_tool, seconds_to_first_line

from longclip_cli.checkpoints.sizes import sizes_from_shapes
from longclip_cli.checkpoints.state_dict import read_state_dict
from longclip_cli.models.tokenizer import byte_pair_encoder, tokenize
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.images import load_image

SHAPES = ("ViT-B/16", "ViT-L/14@336")
LONG, SHORT = 88, 10  # words in a caption, on average
DECODED, REMEMBERED = 1200, 100_000  # rows
FASTER = (("--fast-resize",), ("--fast-decode",), ("--fast-decode", "--fast-resize"))
IMPORT_AND_READ = """
import sys, torch
with open(sys.argv[1], "rb", buffering=0) as file:
    block = bytearray(2**24)
    while file.readinto(block):
        pass
print()
"""


@dataclass(frozen=True)
class Case:
    """Rows to score with a network."""

    name: str
    shape: str
    rows: Path
    checkpoint: Path

    def operations(self) -> int:
        """Return the operations that the rows need, with each image counted once."""
        sizes = sizes_from_shapes(read_state_dict(self.checkpoint).tensors, {})
        rows = [json.loads(line) for line in self.rows.read_text().splitlines()]
        lengths = [len(tokenize(row["text"], sizes.context_length).ids) for row in rows]
        return len({row["image_path"] for row in rows}) * image_operations(sizes) + text_operations(sizes, lengths)


class Benchmark:
    """All cases on one device, with their files in one folder."""

    def __init__(self, folder: Path, device: str, pairs: int, rounds: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        say("photographs and weights")
        # In a separate process: the peak memory of this one would count for the processes that it starts.
        run_script("corpus.py", folder, max(DECODED, pairs))
        self.folder, self.device, self.pairs, self.rounds = folder, device, pairs, rounds
        self.photographs = sorted(folder.glob("*.jpg"))
        self.dtype = "float32" if device == "cpu" else "float16"

    def case(self, name: str, shape: str, pairs: int, *, words: int = LONG, captions_an_image: int = 1) -> Case:
        """Return the rows of `pairs` pairs, and the network's weights."""
        images = self.photographs[: -(-pairs // captions_an_image)]
        rows = write_rows(self.folder / f"{name.replace(' ', '-')}-{pairs}.jsonl", images, captions(pairs, words))
        return Case(name, shape, rows, checkpoint_path(self.folder, shape))

    def tool(self, case: Case, *options: object) -> ToolRun:
        """Run longclip-score once."""
        say(f"longclip-score: {case.shape}, {case.name} {' '.join(map(str, options))}")
        return run_tool(case.rows, case.checkpoint, "--device", self.device, *options)

    def plain_loop(self, case: Case, batch_size: int, tool: ToolRun) -> float:
        """Return the milliseconds per pair of the plain loop; exit if its scores differ from those of `tool`."""
        say(f"CLIPModel: {case.shape}, {case.name}, batches of {batch_size}")
        arguments = (case.checkpoint.with_suffix(""), case.rows, "--batch-size", batch_size, "--device", self.device)
        result = run_script("reference.py", *arguments)
        if largest_difference(result["scores"], tool.scores) > (1e-5 if self.device == "cpu" else 5e-3):
            raise SystemExit("scores: longclip-score and CLIPModel differ")
        return 1000 * float(result["seconds"]) / tool.rows

    def against_the_plain_loop(self) -> None:
        """Measure photographs with long captions, with short ones, and with five captions each."""
        head(
            "network",
            "case",
            "ms per pair",
            "loop, one pair",
            "ratio",
            "loop, eight pairs",
            "ratio",
            "share of product rate",
        )
        for shape, pairs in zip(SHAPES, (self.pairs, -(-self.pairs // 3)), strict=True):
            for case in (
                self.case("unique images", shape, pairs),
                self.case("short captions", shape, pairs, words=SHORT),
                self.case("five captions per image", shape, pairs, captions_an_image=5),
            ):
                rates, tool, ones, eights = [], [], [], []
                for _ in range(self.rounds):
                    rates.append(run_script("operations.py", self.device, self.dtype))
                    tool.append(self.tool(case))
                    ones.append(self.plain_loop(case, 1, tool[-1]))
                    eights.append(self.plain_loop(case, 8, tool[-1]))
                ms = min(run.ms for run in tool)
                rate = case.operations() / pairs / (ms / 1000)
                share = f"{rate / max(rates):.0%} of {max(rates) / 1e9:,.0f} GFLOP/s"
                versus = [f"{min(ones):.0f}", f"{ms / min(ones):.2f}", f"{min(eights):.0f}", f"{ms / min(eights):.2f}"]
                row(shape, case.name, f"{ms:.0f}", *versus, share)

    def where_the_time_goes(self) -> None:
        """Measure what the command waits for, its start and its memory."""
        head(
            "network",
            "waiting for images",
            "model",
            "writing",
            "first score",
            "import and read",
            "memory beyond weights",
        )
        for shape in SHAPES:
            case, one = self.case("unique images", shape, self.pairs // 3), self.case("one row", shape, 1)
            command = [COMMAND, one.rows, "-m", one.checkpoint, "-q", "--device", self.device]
            alone = [sys.executable, "-c", IMPORT_AND_READ, one.checkpoint]
            first, read = [], []
            for _ in range(3):  # the first run fills the disk cache
                read.append(seconds_to_first_line(alone))
                first.append(seconds_to_first_line(command))
            run = self.tool(case)
            spent = [f"{run.spent.get(name, 0) / run.seconds:.1%}" for name in ("images", "model", "writing")]
            beyond = f"{(run.peak_bytes - case.checkpoint.stat().st_size) / 2**20:.0f} MiB"
            row(shape, *spent, f"{min(first):.2f} s", f"{min(read):.2f} s", beyond)

    def precisions(self) -> None:
        """Measure the time that bfloat16 takes, with decoding and without, and how far it moves scores."""
        head("network", "fp32", "bf16", "ratio", "network alone, fp32", "bf16", "ratio", "largest change of a score")
        for shape, pairs in zip(SHAPES, (self.pairs, -(-self.pairs // 3)), strict=True):
            case = self.case("unique images", shape, pairs)
            runs: dict[str, list[ToolRun]] = {"fp32": [], "bf16": []}
            alone: dict[str, list[float]] = {"fp32": [], "bf16": []}
            for _ in range(self.rounds):
                for precision in runs:
                    runs[precision].append(self.tool(case, "--precision", precision))
                    alone[precision].append(1000 / self.network_alone(case, precision, pairs)["pairs_per_second"])
            single, half = (min(run.ms for run in runs[precision]) for precision in runs)
            single_alone, half_alone = (min(alone[precision]) for precision in alone)
            difference = largest_difference(runs["fp32"][0].scores, runs["bf16"][0].scores)
            times = [f"{single:.0f} ms", f"{half:.0f} ms", f"{half / single:.2f}"]
            times += [f"{single_alone:.0f} ms", f"{half_alone:.0f} ms", f"{half_alone / single_alone:.2f}"]
            row(shape, *times, f"{difference:.1e}")

    def network_alone(self, case: Case, precision: str, pairs: int) -> dict[str, float]:
        """Return the rates of the network with inputs from memory."""
        say(f"network alone: {case.shape}, {precision}")
        options = ("--device", self.device, "--precision", precision, "--pairs", pairs)
        result: dict[str, float] = run_script("network.py", case.checkpoint, *options)
        return result

    def on_a_gpu(self) -> None:
        """Measure the network with inputs from memory, and the command with decoding."""
        head("network", "pairs/s from memory", "share of fp16 product rate", "pairs/s with decoding")
        for shape in SHAPES:
            case = self.case("unique images", shape, self.pairs)
            alone = self.network_alone(case, "fp16", 4096)
            share = f"{alone['operations_per_second'] / alone['product_rate']:.0%}"
            share += f" of {alone['product_rate'] / 1e12:.0f} TFLOP/s"
            row(shape, f"{alone['pairs_per_second']:.0f}", share, f"{1000 / self.tool(case).ms:.0f}")

    def without_a_network(self) -> None:
        """Measure reading, decoding, tokenising and writing, with a tiny network."""
        head("case", "rows/s", "compared with", "ratio")
        case = self.case("decoding", "tiny", DECODED)
        one_thread, runs, single = [], [], []
        for _ in range(self.rounds):
            one_thread.append(rate_of_one_thread(case))
            runs.append(self.tool(case))
            single.append(1000 / self.tool(case, "--workers", 1).ms)
        rate = max(1000 / run.ms for run in runs)
        row("decoding", f"{rate:.0f}", f"{max(one_thread):.0f}, a loop in one thread", f"{rate / max(one_thread):.2f}")
        row("", "", f"{max(single):.0f}, --workers 1", f"{rate / max(single):.2f}")
        for options in FASTER:
            fast = max(1000 / self.tool(case, *options).ms for _ in range(self.rounds))
            row(f"decoding, {' '.join(options)}", f"{fast:.0f}", f"{rate:.0f}, without", f"{fast / rate:.2f}")
        row("remembered images and texts", f"{1000 / self.tool(self.remembered()).ms:,.0f}", "", "")

    def remembered(self) -> Case:
        """Return many rows of few images and texts, in random order."""
        rng, texts = random.Random(0), captions(200, LONG)
        path = self.folder / f"remembered-{REMEMBERED}.jsonl"
        with path.open("w") as file:
            for _ in range(REMEMBERED):
                image = str(rng.choice(self.photographs[:100]))
                file.write(json.dumps({"image_path": image, "text": rng.choice(texts)}) + "\n")
        return Case("remembered", "tiny", path, checkpoint_path(self.folder, "tiny"))

    def what_faster_images_change(self) -> None:
        """Measure how far `--fast-resize` and `--fast-decode` move scores, for random weights and the demo model."""
        head("network", "option", "mean change of a score", "largest", "standard deviation of scores")
        case = self.case("unique images", "ViT-B/16", self.pairs)
        for name, checkpoint in (("ViT-B/16, random weights", case.checkpoint), ("demo", Path("demo"))):
            exact = run_tool(case.rows, checkpoint).scores
            deviation = torch.tensor(exact).std().item()
            for options in FASTER:
                fast = run_tool(case.rows, checkpoint, *options).scores
                mean = sum(abs(a - b) for a, b in zip(exact, fast, strict=True)) / len(exact)
                largest = largest_difference(exact, fast)
                row(name, " ".join(options), f"{mean:.6f}", f"{largest:.6f}", f"{deviation:.3f}")


def rate_of_one_thread(case: Case) -> float:
    """Return the rows per second of a loop that only reads, decodes, tokenises and writes."""
    say("decoding in one thread")
    byte_pair_encoder()
    start = time.perf_counter()
    with case.rows.open() as lines, case.rows.with_suffix(".copy").open("w") as copy:
        for line in lines:
            fields = json.loads(line)
            load_image(Path(fields["image_path"]), 224, ScoringOptions())
            tokenize(fields["text"], 248)
            copy.write(json.dumps(fields | {"clip_score": 0.5}) + "\n")
    return DECODED / (time.perf_counter() - start)


def largest_difference(scores: list[float], others: list[float]) -> float:
    """Return the largest difference between two scores of one row."""
    return max(abs(score - other) for score, other in zip(scores, others, strict=True))


def head(*cells: str) -> None:
    """Print the first two lines of a table."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def row(*cells: str) -> None:
    """Print one line of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def say(what: str) -> None:
    """Print the current step on standard error."""
    print(f"... {what}", file=sys.stderr, flush=True)


def processor() -> str:
    """Return the name and the number of this machine's processors."""
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    ]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure longclip-score.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmark"), help="folder for corpus and weights")
    parser.add_argument(
        "--pairs", type=int, default=45, help="pairs in a case of ViT-B/16; the larger network gets a third"
    )
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    where = torch.cuda.get_device_name(options.device) if options.device != "cpu" else processor()
    print(f"{where}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    benchmark = Benchmark(options.folder, options.device, options.pairs, options.rounds)
    benchmark.against_the_plain_loop()
    benchmark.where_the_time_goes()
    if options.device == "cpu":
        benchmark.precisions()
        benchmark.without_a_network()
        benchmark.what_faster_images_change()
    else:
        benchmark.on_a_gpu()


if __name__ == "__main__":
    main()
