"""`longclip-select`: options, pipes, statuses and messages."""

import json
import random
import signal
import subprocess

import pytest
from helpers import COMMAND, ENVIRONMENT, EXAMPLES, TIMEOUT, hear_signals, jsonl, longclip_score, parquet, parse_jsonl

SELECT = COMMAND.with_name("longclip-select")
FAILURE = {"clip_score": None, "clip_score_error": "image: no such file: a.png"}
ROWS = [{"id": place, "clip_score": score} for place, score in enumerate((0.5, 0.6123, 0.7, 0.612299))]
ROWS.insert(2, {"id": 9} | FAILURE)
CSV = 'id,clip_score,clip_score_error\r\n1,0.5,\r\n"2",0.7,\r\n3,,image: no such file: a.png\r\n'


def select(*arguments, input: str = "", cwd=None):
    return subprocess.run(
        [SELECT, *map(str, arguments)],
        input=input.encode(),
        capture_output=True,
        env=ENVIRONMENT,
        cwd=cwd,
        timeout=TIMEOUT,
        check=False,
    )


def start(*arguments, **streams):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [SELECT, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, preexec_fn=hear_signals, **(pipes | streams))


def ids_in(content: bytes):
    return [row["id"] for row in parse_jsonl(content)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scored.jsonl").write_text(jsonl(*ROWS))
    (tmp_path / "scored.csv").write_text(CSV, newline="")
    (tmp_path / "scored.json").write_text(json.dumps(ROWS))
    return tmp_path


@pytest.mark.parametrize("is_piped", [False, True])
def test_rows_in_a_range_go_to_standard_output(folder, is_piped):
    source = ("-",) if is_piped else ("scored.jsonl",)
    command = (*source, "--min", 0.6123, "--max", 0.7, "--rest", "rest.jsonl")
    run = select(*command, input=jsonl(*ROWS), cwd=folder)
    assert run.returncode == 0 and ids_in(run.stdout) == [1, 2]
    assert ids_in((folder / "rest.jsonl").read_bytes()) == [0, 9, 3]
    counts = "kept 2 of 4 scored rows (0.6123 <= score <= 0.7); 1 row without a score went to the rest"
    assert run.stderr.decode() == f"longclip-select: {counts}\n"


def test_the_top_goes_to_standard_output_quietly(folder):
    run = select("scored.jsonl", "--top", 2, "-q", cwd=folder)
    assert (run.returncode, ids_in(run.stdout), run.stderr) == (0, [1, 2], b"")


def test_records_on_standard_output_have_their_header(folder):
    header, first, second, third = CSV.splitlines(keepends=True)
    assert select("scored.csv", "--top", 1, cwd=folder).stdout.decode() == header + second
    piped = select("--input-format", "csv", "--max", 0.6, "--rest", "rest.csv", input=CSV, cwd=folder)
    assert piped.stdout.decode() == header + first
    assert (folder / "rest.csv").read_bytes().decode() == header + second + third
    empty = select("--input-format", "csv", "--min", 0.6, input=header, cwd=folder)
    assert empty.stdout.decode() == header


def test_rows_from_a_pipe_go_into_a_file(folder):
    run = select("--min", 0.6, "-o", "kept.jsonl", "-q", input=jsonl(*ROWS), cwd=folder)
    assert run.returncode == 0 and run.stdout == b""
    assert ids_in((folder / "kept.jsonl").read_bytes()) == [1, 2, 3]


def test_each_row_is_written_as_soon_as_it_arrives(folder):
    with start("--min", "0.6") as process:
        for row in ROWS[1], ROWS[3]:
            process.stdin.write(jsonl(ROWS[0], row).encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == row
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


def test_two_pipes_are_read_one_after_the_other(folder):
    line = f'"{SELECT}" <(cat scored.jsonl) <(cat scored.jsonl) --min 0.7'
    run = subprocess.run(["bash", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
    assert run.returncode == 0 and ids_in(run.stdout) == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["scored.jsonl"], "which rows are kept? give --min, --max, --top or --mismatched"),
        (["scored.jsonl", "--top", "2", "--min", "0.5"], "--min and --top exclude each other"),
        (["scored.jsonl", "--top", "2", "--mismatched", "1%"], "--top and --mismatched exclude each other"),
        (["scored.jsonl", "--min", "0.5", "--max", "0.4"], "--min 0.5 is above --max 0.4"),
        (["scored.jsonl", "--min", "50"], "--min 50.0: scores are from 0 to 1"),
        (["scored.jsonl", "--top", "0.3"], "--top 0.3: give a number of rows, such as 1000, or percent, such as 30%"),
        (["scored.jsonl", "--mismatched", "1%"], "--mismatched needs --summary FILE"),
        (["scored.jsonl", "--min", "0.5", "--summary", "s.json"], "--summary is for --mismatched"),
        (["--top", "30%"], "--top reads its inputs twice; give files"),
        (["scored.json", "--min", "0.5"], "scored.json: json is not written to a stream; give a file with -o"),
        (["scored.jsonl", "--min", "0.5", "-o", "x.csv"], "-o x.csv: rows keep the format of scored.jsonl"),
        (["scored.jsonl", "--min", "0.5", "-o", "scored.jsonl"], "-o would overwrite scored.jsonl, which is an input"),
        (["scored.jsonl", "--min", "0.5", "-o", ""], "--output is empty; is a shell variable unset?"),
        (["scored.jsonl", "-", "--min", "0.5"], "- (standard input) cannot be combined with other inputs"),
        (["scored.jsonl", "--min", "0.5", "--rest", "-"], "--rest would overwrite -, which -o names"),
        (["--min", "0.5", "--rest", "rest/"], "--rest rest/ is a folder; give a file for what standard input brings"),
    ],
)
def test_a_wrong_command_ends_with_status_2(folder, arguments, problem):
    run = select(*arguments, input=jsonl(*ROWS), cwd=folder)
    assert (run.returncode, run.stdout) == (2, b"") and f"longclip-select: {problem}" in run.stderr.decode()
    assert b"Traceback" not in run.stderr and len(run.stderr.splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == {"scored.jsonl", "scored.json", "scored.csv"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["missing.jsonl", "--top", "2"], "cannot read missing.jsonl: No such file or directory"),
        (["scored.jsonl", "--top", "2", "--output-key", "other"], "scored.jsonl: row 1 has no 'other'"),
        (["scored.jsonl", "--min", "0.5", "-o", "sub/x.jsonl"], "cannot write sub/x.jsonl: no such folder"),
        (["scored.jsonl", "--mismatched", "1%", "--summary", "scored.csv"], "scored.csv: no summary with histograms"),
    ],
)
def test_what_cannot_be_read_or_written_ends_with_status_1(folder, arguments, problem):
    run = select(*arguments, cwd=folder)
    assert (run.returncode, run.stdout) == (1, b"") and f"longclip-select: {problem}" in run.stderr.decode()
    assert len(run.stderr.splitlines()) == 1


def test_a_full_disk_leaves_no_output(folder):
    run = select("scored.jsonl", "--top", 2, "-o", "/dev/full", "--rest", "rest.jsonl", cwd=folder)
    assert run.returncode == 1 and b"cannot write /dev/full: No space left on device" in run.stderr
    assert not (folder / "rest.jsonl").exists()


@pytest.mark.parametrize("criterion", ["--top 100%", "--min 0.5"])
@pytest.mark.parametrize("name", ["kept.jsonl", "kept.jsonl.gz"])
def test_a_file_that_cannot_grow_leaves_no_output(folder, criterion, name):
    draw = random.Random(0)
    rows = [{"id": place, "clip_score": 0.5, "text": draw.randbytes(100).hex()} for place in range(2000)]
    source = "many.jsonl" if "top" in criterion else "<(cat many.jsonl)"
    (folder / "many.jsonl").write_text(jsonl(*rows))
    line = f'ulimit -f 40; "{SELECT}" {source} {criterion} -o {name} --rest rest.jsonl'
    run = subprocess.run(["bash", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
    assert run.stderr.decode() == f"longclip-select: cannot write {name}: File too large\n"
    assert run.returncode == 1 and len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("is_piped", [False, True])
def test_a_reader_that_has_gone_ends_it_silently(folder, is_piped):
    rows = folder / "many.jsonl"
    rows.write_text(jsonl(*ROWS) * 30_000)
    source = "-" if is_piped else rows
    with rows.open("rb") as file, start(source, "--min", "0.5", "--rest", folder / "rest", stdin=file) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(TIMEOUT) == 141
        assert process.stderr.read() == b""
    assert not (folder / "rest").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_no_output(folder, number, status):
    with start("--min", "0.5", "-o", folder / "kept.jsonl", "--rest", folder / "rest.jsonl") as process:
        process.stdin.write(jsonl(*ROWS).encode())
        process.stdin.flush()
        while not list(folder.glob(".longclip-*")):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(TIMEOUT) == status
        assert process.stderr.read() == b"longclip-select: interrupted\n"
    assert {path.name for path in folder.iterdir()} == {"scored.jsonl", "scored.json", "scored.csv"}


def test_a_closed_standard_output_is_no_file(folder):
    line = f'"{SELECT}" scored.jsonl --top 2 >&-'
    run = subprocess.run(["bash", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
    assert run.returncode == 1 and b"it is closed; give a file with -o" in run.stderr


def test_the_file_behind_standard_input_is_not_overwritten(folder):
    line = f'"{SELECT}" --min 0.6 -o scored.jsonl < scored.jsonl'
    run = subprocess.run(["bash", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
    assert run.returncode == 2 and b"-o would overwrite standard input, which is an input" in run.stderr
    assert (folder / "scored.jsonl").read_text() == jsonl(*ROWS)


def test_several_inputs_go_into_folders(folder):
    (folder / "other.jsonl").write_text(jsonl({"id": 7, "clip_score": 0.9}))
    run = select("scored.jsonl", "other.jsonl", "--top", 2, "-o", "kept", "--rest", "rest/", cwd=folder)
    assert run.returncode == 0, run.stderr
    found = {str(path.relative_to(folder)): ids_in(path.read_bytes()) for path in folder.glob("[kr]*/*.jsonl")}
    assert found == {
        "kept/scored.jsonl": [2],
        "kept/other.jsonl": [7],
        "rest/scored.jsonl": [0, 1, 9, 3],
        "rest/other.jsonl": [],
    }


def test_a_folder_becomes_one_stream(folder):
    (folder / "scored").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (folder / "scored" / name).write_text(jsonl(*ROWS))
    run = select("scored", "--top", 3, cwd=folder)
    assert run.returncode == 0 and ids_in(run.stdout) == [1, 2, 2]


def test_inputs_with_other_suffixes_go_into_a_folder_by_name(folder):
    (folder / "scored.txt").write_text(CSV, newline="")
    run = select("scored.txt", "--input-format", "csv", "--min", 0.6, "-o", "kept/", cwd=folder)
    header, _, second, _ = CSV.encode().splitlines(keepends=True)
    assert run.returncode == 0 and (folder / "kept/scored.txt").read_bytes() == header + second


def test_an_array_needs_a_file(folder):
    run = select("--min", 0.6, "-o", "kept.json", input=json.dumps(ROWS), cwd=folder)
    assert run.returncode == 2 and b"standard input: json is not read from a pipe; give a file" in run.stderr


def test_parquet_goes_into_files_only(folder):
    (folder / "scored.parquet").write_bytes(parquet(ROWS))
    for arguments, problem in (
        ((), "scored.parquet: parquet is not written to a stream; give a file with -o"),
        (("-o", "kept.jsonl"), "-o kept.jsonl: rows keep the format of scored.parquet, which is parquet"),
        (("-o", "kept.parquet.gz"), "-o kept.parquet.gz: parquet is not compressed as a whole; remove .gz"),
    ):
        run = select("scored.parquet", "--min", 0.6, *arguments, cwd=folder)
        assert run.returncode == 2 and problem in run.stderr.decode()
    assert select("scored.parquet", "--min", 0.6, "-o", "kept.parquet", cwd=folder).returncode == 0
    assert (folder / "kept.parquet").read_bytes().startswith(b"PAR1")


def test_a_link_as_output_stays_a_link(folder):
    (folder / "link.jsonl").symlink_to("kept.jsonl")
    assert select("scored.jsonl", "--top", 2, "-o", "link.jsonl", cwd=folder).returncode == 0
    assert (folder / "link.jsonl").is_symlink() and ids_in((folder / "kept.jsonl").read_bytes()) == [1, 2]


def test_the_threshold_of_mismatched_pairs_is_taken_from_a_run(tmp_path):
    rows = parse_jsonl((EXAMPLES / "scenes.jsonl").read_bytes()) * 5
    (tmp_path / "in.jsonl").write_text(jsonl(*rows))
    scored, summary = tmp_path / "scored.jsonl", tmp_path / "s.json"
    arguments = ("--image-root", EXAMPLES, "-m", "demo", "-q", "-o", scored, "--summary", summary)
    assert longclip_score(tmp_path / "in.jsonl", *arguments).returncode == 0
    run = select(scored, "--mismatched", "10%", "--summary", summary, "-o", tmp_path / "kept.jsonl")
    assert run.returncode == 0, run.stderr
    text = run.stderr.decode()
    threshold = float(text.partition("score >= ")[2].partition(",")[0])
    assert ", reached by " in text and " % of mismatched pairs)" in text
    expected = [row for row in parse_jsonl(scored.read_bytes()) if row["clip_score"] >= threshold]
    assert parse_jsonl((tmp_path / "kept.jsonl").read_bytes()) == expected and expected


def test_the_version_and_the_help_are_shown():
    from longclip_cli import __version__

    assert select("--version").stdout.decode() == f"longclip-select {__version__}\n"
    run = select("--help")
    assert run.returncode == 0 and b"--mismatched" in run.stdout
