"""README and docs: their commands run, and what they say is what the commands do."""

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
from itertools import pairwise

import pyarrow.parquet
import pytest
import yaml
from helpers import COMMAND, ENVIRONMENT, ROOT, jsonl, longclip_score, parse_jsonl, tar_of

from longclip_cli import LongCLIPScorer, __version__

README, GUARANTEES = ROOT / "README.md", ROOT / "docs/guarantees.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS_NETWORK = "pip install"
TYPES = {"<int range>": "N"}  # what the help shows for an option without a metavar
SCENE = "examples/scenes/04.png"
CAPTIONS = {"short": "A star.", "long": "There is a large green star.", "text": "There is a large green ring."}


def page_id(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    """The fenced blocks of a page in a language, each with the block that follows: its language and content."""
    found = [*FENCE.findall(page.read_text()), ("", "")]
    return [(content, after) for (kind, content), after in pairwise(found) if kind == language]


def shell_commands(*, with_network):
    """The shell blocks of all pages, with their output where the next block shows it."""
    for page in PAGES:
        for command, (language, shown) in blocks(page, "sh"):
            if (NEEDS_NETWORK in command) == with_network:
                output = shown if language in ("json", "text") else None
                needs_jq = pytest.mark.skipif("jq " in command and not shutil.which("jq"), reason="jq is not installed")
                yield pytest.param(command, output, id=f"{page_id(page)}: {command[:30]}", marks=needs_jq)


@pytest.fixture
def folder(tmp_path):
    """A folder with all that the commands of the docs read."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    row = {"image_path": SCENE, **CAPTIONS}
    failed = {"clip_score": None, "clip_score_error": "image: no such file"}
    (tmp_path / "in.jsonl").write_text(jsonl(row))
    (tmp_path / "out.jsonl").write_text(jsonl(row | {"clip_score": 0.5}, row | failed))
    subprocess.run(["gzip", "--keep", "in.jsonl"], cwd=tmp_path, check=True)
    shutil.copy(tmp_path / "out.jsonl", tmp_path / "both.jsonl")
    (tmp_path / "scored").mkdir()
    shutil.copy(tmp_path / "out.jsonl", tmp_path / "scored" / "a.jsonl")
    histogram = {"bins": 10_000, "first": 4000, "counts": [100, 100]}
    for name in ("s.json", "a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps({"histogram": histogram, "mismatched": {"histogram": histogram}}))
    make_data_sets(tmp_path)
    make_tables(tmp_path)
    return tmp_path


def make_data_sets(folder):
    """Make a small file in the shape of each data set that the docs name."""
    (folder / "shards").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        shutil.copy(folder / "in.jsonl", folder / "shards" / name)
    for path in ("coco/train2017/1.jpg", "data/coco/train2017/1.jpg", "docci_images/test_1.jpg", "images/1.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests/golden/images/photo.jpg", folder / path)
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": CAPTIONS["text"]}]
    llava = {"id": "1", "image": "1.jpg", "conversations": turns}
    (folder / "llava_instruct.json").write_text(json.dumps([llava]))
    (folder / "sharegpt4v.json").write_text(json.dumps([llava | {"image": "coco/train2017/1.jpg"}], indent=2))
    dj_text = f"<__dj__image> {CAPTIONS['text']} <|__dj__eoc|>"
    (folder / "dj.jsonl").write_text(jsonl({"text": dj_text, "images": ["images/1.jpg"]}))
    iiw = {"image/key": "test_1", "IIW": CAPTIONS["long"], "IIW-P5B": CAPTIONS["text"]}
    (folder / "iiw400.jsonl").write_text(jsonl(iiw))
    laion = {"file": "1.jpg", "all_captions": [CAPTIONS["short"], CAPTIONS["text"]]}
    (folder / "laion_coco.jsonl").write_text(jsonl(laion))
    docci = {"split": "test", "example_id": "test_1", "image_file": "test_1.jpg", "description": CAPTIONS["text"]}
    (folder / "docci_descriptions.jsonlines").write_text(jsonl(docci))


def make_tables(folder):
    """Make the files of the page about formats."""
    table = pyarrow.table({"image": [(ROOT / SCENE).read_bytes()], "text": [CAPTIONS["text"]]})
    pyarrow.parquet.write_table(table, folder / "scenes.parquet")
    texts = ["a red circle, left of a square", "a blue star", 'a "ring"\nand a cross', "a star"]
    paths = ["scenes/01.png"] * 3 + ["scenes/none.png"]
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("image_path", "text"), *zip(paths, texts, strict=True)])
    meta = json.dumps({"file": "scenes/01.png", "captions": ["A cat", "A dog"]})
    with (folder / "meta.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("id", "meta"), (1, meta)])
    (folder / "laion").mkdir()
    samples = {f"{i:09}": ("A star.", "A red star.") for i in range(2)}
    for i, (key, (text, caption)) in enumerate(samples.items()):
        members = {
            f"{key}.png": (ROOT / SCENE).read_bytes(),
            f"{key}.txt": text.encode(),
            f"{key}.json": json.dumps({"caption": caption}).encode(),
        }
        (folder / "laion" / f"{i:05}.tar").write_bytes(tar_of(members))
        (folder / "laion" / f"{i:05}_stats.json").write_text("{}")


def test_the_recipes_score_what_they_say(folder, monkeypatch):
    """Each recipe of the inputs page: what it writes has these scores."""
    monkeypatch.chdir(folder)
    page = (ROOT / "docs/guides/inputs.md").read_text()
    (section,) = re.findall(r"^## Recipes\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    commands = [command for _, command in FENCE.findall(section)]
    environment = ENVIRONMENT | {"PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}", "LONGCLIP_MODEL": "demo"}
    for command in commands:
        if "jq " not in command or shutil.which("jq"):
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command], env=environment, check=True, capture_output=True
            )
    photo = ROOT / "tests/golden/images/photo.jpg"
    texts = [CAPTIONS["text"], "What is it?", CAPTIONS["long"], CAPTIONS["short"]]
    right, question, long, short = LongCLIPScorer.from_pretrained("demo", "cpu").score([photo] * 4, texts)
    expected = {
        "llava_scored.json": right,
        "sharegpt4v_scored.json": (right + question) / 2,
        "dj_scored.jsonl": right,
        "iiw400_scored.jsonl": [long, right],
        "laion_coco_scored.jsonl": max(short, right),
        "docci_scored.jsonl": right,
    }
    assert len(commands) == len(expected)
    for name, score in expected.items():
        if (folder / name).exists() or shutil.which("jq"):
            content = json.loads((folder / name).read_text())
            row = content[0] if isinstance(content, list) else content
            assert row["clip_score"] == pytest.approx(score, abs=1e-5), name


@pytest.mark.parametrize(("command", "output"), [*shell_commands(with_network=False)])
def test_each_shell_command_of_the_docs_runs(command, output, folder):
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path, "LONGCLIP_MODEL": "demo"}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    run = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    if output is not None:
        assert comparable(run.stdout.decode()) == comparable(output)


def comparable(output):
    """The lines of an output; scores differ by 1e-6 between processors."""
    return [re.sub(r"0\.\d{5,6}", lambda score: f"{float(score[0]):.4f}", line) for line in output.splitlines()]


def test_only_the_install_commands_are_not_run():
    (install,) = shell_commands(with_network=True)
    assert install.id == "README.md: python3 -m venv .venv\n. .venv/"


def test_the_python_of_the_readme_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ((code, _),) = blocks(README, "python")
    *statements, expression = code.strip().splitlines()
    names = {}
    exec("\n".join(statements), names)
    assert eval(expression, names) == pytest.approx([0.75688], abs=1e-4)


def test_the_scores_of_the_picture_are_the_demo_model_s():
    rows = parse_jsonl((ROOT / "examples/scenes.jsonl").read_bytes())
    texts = [row["text"] for row in rows if row["image_path"] in SCENE and row["caption"] in ("right", "wrong late")]
    scores = LongCLIPScorer.from_pretrained("demo", "cpu").score([ROOT / SCENE] * 2, texts)
    for page in (README, ROOT / "docs/index.md"):
        description, *_ = re.findall(r"!\[(.*?)\]", page.read_text(), re.DOTALL)
        assert [float(score) for score in re.findall(r"\d\.\d+", description)] == pytest.approx(scores, abs=5e-4)


def test_the_option_tables_are_up_to_date():
    """`make docs` writes them."""
    spec = importlib.util.spec_from_file_location("option_tables", ROOT / "docs/option_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text()
    assert module.with_tables(page) == page


def without_blanks(text):
    return "".join(text.split())


def options_in_help(text):
    """Each option, its names and metavar, with its default and its environment variables."""
    entries = {}
    for line in text.splitlines():
        if option := re.match(r"  (-(?:\S| (?! ))+)(?: {2,}(.*))?$", line):
            entry = entries.setdefault(re.sub("<.*>", lambda kind: TYPES.get(kind[0], kind[0]), option[1]), [])
            entry.append(option[2] or "")
        elif entries and line.startswith(" " * 10):
            entry.append(line.strip())
    helps = {name: " ".join(lines) for name, lines in entries.items()}
    default = re.compile(r"default: \(?(.*?)\)?[;\]]|$")
    return {
        name: (without_blanks(default.search(h)[1] or ""), re.findall(r"LONGCLIP_\w+", h)) for name, h in helps.items()
    }


def options_in_docs(text):
    """The same from the tables of a page."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `-")]
    names = [name.strip(" `").replace("\\|", "|") for name, _, _ in rows]
    return {
        name: (without_blanks(default.strip(" `")), re.findall(r"LONGCLIP_\w+", meaning))
        for name, (_, meaning, default) in zip(names, rows, strict=True)
    }


@pytest.mark.parametrize("command", ["longclip-score", "longclip-select", "longclip-report", "longclip-convert"])
def test_the_docs_list_the_options_that_the_help_lists(command):
    page = (ROOT / "docs/cli.md").read_text()
    section = page.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    shown = subprocess.run([COMMAND.with_name(command), "--help"], env=ENVIRONMENT, capture_output=True, check=True)
    usage, _, options = shown.stdout.decode().partition("\n")
    assert options_in_help(options) == options_in_docs(section)
    assert f"```text\n{re.sub('[{}]', '', usage.removeprefix('Usage: '))}\n```" in section


def test_the_docs_show_failed_rows_and_name_all_summary_fields(tmp_path):
    ((shown, _),) = blocks(GUARANTEES, "json")
    added = ("clip_score", "clip_score_error")
    rows = [{key: row[key] for key in row if key not in added} for row in parse_jsonl(shown.encode())]
    scored = {"image_path": "scenes/04.png", "text": "A star."}
    options = ("-m", "demo", "--summary", tmp_path / "summary.json")
    run = longclip_score(*options, input=jsonl(*rows, scored), cwd=ROOT / "examples")
    assert "".join(run.stdout.decode().splitlines(keepends=True)[:-1]) == shown
    fields = json.loads((tmp_path / "summary.json").read_text()).keys()
    table = re.findall(r"^\| (`.*?) \|", GUARANTEES.read_text().partition("## Messages")[2], re.MULTILINE)
    percentiles = {"p5", "p25", "p50", "p75", "p95"}  # the table has p1 … p99
    assert fields - set(re.findall(r"\w+", " ".join(table))) - percentiles == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_prose_ends_at_column_100(page):
    prose = FENCE.sub("", page.read_text())
    assert [line for line in prose.splitlines() if len(line) > 100 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY"))], ids=page_id)
def test_links_and_pictures_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_the_files_that_name_a_version_name_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert f"\n## {__version__} - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()
    (torch,) = re.findall(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    for page in (README, ROOT / "CONTRIBUTING.md"):
        assert f"pip install {torch} --index-url" in page.read_text()


def test_the_workflow_runs_every_supported_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    assert tested == re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=page_id)
def test_issue_forms_are_valid_yaml(form):
    assert isinstance(yaml.safe_load(form.read_text()), dict)
