"""The report of files that the command has scored."""

import gzip
import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers import EXAMPLES, ROW, jsonl, longclip_score, parquet

from longclip_cli.errors import InputError, OutputError, UsageError
from longclip_cli.jobs.report import write_report
from longclip_cli.jobs.report_options import ReportOptions
from longclip_cli.jobs.scored_files import Keys, find_record, find_scored_files, scoring_of
from longclip_cli.options import ScoringOptions

SCORED = ROW | {"clip_score": 0.75}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The example scenes, scored with other keys than the default ones, in a folder and in a single file."""
    folder = tmp_path_factory.mktemp("scenes")
    rows = [json.loads(line) for line in (EXAMPLES / "scenes.jsonl").read_text().splitlines()]
    text = jsonl(*({"pic": row["image_path"], "says": row["text"]} for row in rows), {"pic": "none.png", "says": "A"})
    (folder / "in" / "sub").mkdir(parents=True)
    for name in ("in.jsonl", "in/one.jsonl", "in/sub/two.jsonl"):
        (folder / name).write_text(text)
    options = ("-m", "demo", "--image-key", "pic", "--text-key", "says", "--output-key", "fit")
    for arguments in (("in.jsonl", "-o", "out.jsonl", "--summary", "s.json"), ("in", "-o", "out")):
        run = longclip_score(*arguments, *options, "--image-root", EXAMPLES, cwd=folder)
        assert run.returncode == 3, run.stderr
    return folder


def report(folder, *inputs, **options):
    output = folder / "report.html"
    output.unlink(missing_ok=True)
    write_report(ReportOptions(tuple(str(path) for path in inputs), str(output), **options))
    return output.read_text()


def page_of(tmp_path, content, name="scored.jsonl", **options):
    (tmp_path / name).write_bytes(content)
    return report(tmp_path, tmp_path / name, **options)


def test_fields_and_images_are_found_by_the_run_record(scenes, tmp_path):
    page = report(tmp_path, scenes / "out.jsonl")
    assert page.count("data:image/webp") >= 24
    assert "The image shows several shapes" in page
    assert "demo.safetensors" in page
    assert "none.png" in page
    assert "mismatched pairs were scored" in page


def test_records_of_a_folder_are_found_below_it(scenes, tmp_path):
    page = report(tmp_path, scenes / "out")
    assert "62</dd>" in page
    assert "demo.safetensors" in page
    assert "two.jsonl" in page
    assert find_record(str(scenes / "out" / "sub" / "two.jsonl")).compared["output_key"] == "fit"


def test_a_summary_gives_the_counts_that_rows_lack(scenes, tmp_path):
    page = report(tmp_path, scenes / "out.jsonl", summaries=(scenes / "s.json",))
    assert "images have an EXIF rotation" in page
    drawn = json.loads((scenes / "s.json").read_text())["mismatched"]["scores"]
    assert f"{drawn} mismatched pairs" in page


def test_options_take_the_place_of_a_missing_record(scenes, tmp_path):
    shutil.copy(scenes / "out.jsonl", tmp_path / "moved.jsonl")
    page = report(
        tmp_path, tmp_path / "moved.jsonl", image_key="pic", text_key=("says",), output_key="fit", image_root=EXAMPLES
    )
    assert page.count("data:image/webp") >= 24
    assert "have no run record" in page


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", (json.dumps(SCORED) + "\n").encode()),
        ("a.jsonl.gz", gzip.compress((json.dumps(SCORED) + "\n").encode())),
        ("a.json", json.dumps([SCORED]).encode()),
        ("a.csv", f"image_path,text,clip_score,clip_score_error\n{ROW['image_path']},A cat,0.75,\n".encode()),
    ],
)
def test_all_formats_that_are_written_are_read(tmp_path, name, content):
    page = page_of(tmp_path, content, name)
    assert "0.7500" in page
    assert "A cat" in page
    assert page.count("data:image/webp") == 4  # in each gallery


def test_parquet_is_read_with_the_images_in_it(tmp_path):
    image = Path(ROW["image_path"]).read_bytes()
    page = page_of(tmp_path, parquet([SCORED | {"image_path": image, "clip_score_error": None}]), "a.parquet")
    assert "A cat" in page
    assert page.count("data:image/webp") == 4


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_samples_of_an_archive_show_their_text(tmp_path, output):
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, content in (("one.png", Path(ROW["image_path"]).read_bytes()), ("one.txt", b"A cat in a tar")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    run = longclip_score("in.tar", "-m", "demo", "-o", output, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    page = report(tmp_path, tmp_path / output)
    assert "A cat in a tar" in page
    assert '<bdi class="file">one</bdi>' in page
    assert "the image cannot be read here" in page


def test_a_file_that_is_given_twice_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl(SCORED))
    with pytest.raises(UsageError, match="is given twice"):
        report(tmp_path, tmp_path / "a.jsonl", tmp_path / "a.jsonl")


def test_an_image_that_cannot_be_read_leaves_its_text(tmp_path):
    page = page_of(tmp_path, jsonl(SCORED | {"image_path": "gone.png"}).encode())
    assert "the image cannot be read here" in page
    assert "A cat" in page


def test_a_file_without_results_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no row holds a result in the field 'clip_score'.*--output-key"):
        page_of(tmp_path, jsonl(ROW).encode())
    assert not (tmp_path / "report.html").exists()


def test_what_is_no_summary_is_an_error(tmp_path):
    (tmp_path / "s.json").write_text("[]")
    with pytest.raises(InputError, match="no summary"):
        page_of(tmp_path, jsonl(SCORED).encode(), summaries=(tmp_path / "s.json",))


def test_the_page_never_overwrites_an_input(tmp_path):
    path = tmp_path / "scored.jsonl"
    path.write_text(jsonl(SCORED))
    link = tmp_path / "link.html"
    link.hardlink_to(path)
    with pytest.raises(UsageError, match="is an input"):
        write_report(ReportOptions((str(path),), str(link)))
    with pytest.raises(UsageError, match=r"ends in \.html"):
        write_report(ReportOptions((str(path),), str(path)))
    with pytest.raises(UsageError, match="which --summary names"):
        write_report(ReportOptions((str(path),), str(link), (link,)))
    assert path.read_text() == jsonl(SCORED)


def test_a_page_that_cannot_be_written_is_an_error_before_rows_are_read(tmp_path):
    for output, problem in ((tmp_path, "is a folder"), (tmp_path / "none" / "r.html", "no such folder")):
        with pytest.raises(OutputError, match=problem):
            write_report(ReportOptions(("missing.jsonl",), str(output)))


def test_a_broken_record_is_as_good_as_none(tmp_path):
    (tmp_path / "scored.jsonl.run.json").write_text('{"input": 1, "output_format": [], "version": {}}')
    assert "have no run record" in page_of(tmp_path, jsonl(SCORED).encode())


def test_keys_of_options_win_over_those_of_the_record(scenes):
    record = find_record(str(scenes / "out.jsonl"))
    assert scoring_of(record, None, Keys()).text_key == ("says",)
    assert scoring_of(record, None, Keys(text_key=("other",))).text_key == ("other",)
    assert scoring_of(None, None, Keys()).text_key == ScoringOptions.text_key


def test_the_page_is_no_input_of_a_folder(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(jsonl(SCORED))
    found = [file.path for file in find_scored_files((str(tmp_path),), str(tmp_path / "b.jsonl"), None, Keys())]
    assert found == [str(tmp_path / "a.jsonl")]


def test_the_counts_are_those_of_a_count_over_the_rows(scenes, tmp_path):
    page = report(tmp_path, scenes / "out.jsonl")
    threshold = float(re.search(r'threshold-value">([\d.]+)', page)[1])
    rows = [json.loads(line) for line in (scenes / "out.jsonl").read_text().splitlines()]
    above = sum(row["fit"] is not None and row["fit"] >= threshold for row in rows)
    assert re.search(rf'<tr id="pairs">.*?<td>{above}</td><td>{30 - above}</td>', page)
