"""Histograms in summaries, merged."""

import json
from collections import Counter

import pytest

from longclip_cli.errors import InputError, UsageError
from longclip_cli.jobs.criteria import range_without
from longclip_cli.reporting.summary_file import read_histograms
from longclip_cli.reporting.thresholds import dense, threshold_for

PAIRS, MISMATCHED = Counter({6000: 5, 7000: 5}), Counter({4000: 90, 6000: 9, 8000: 1})


def summary(path, pairs, mismatched):
    path.write_text(json.dumps({"histogram": dense(pairs), "mismatched": {"histogram": dense(mismatched)}}))
    return path


def test_histograms_are_those_that_were_written_merged(tmp_path):
    paths = [summary(tmp_path / "a.json", PAIRS, MISMATCHED), summary(tmp_path / "b.json", MISMATCHED, Counter())]
    assert read_histograms(paths) == (PAIRS + MISMATCHED, MISMATCHED)


def test_the_threshold_is_that_of_the_merged_histograms(tmp_path):
    """1 % of the first file's pairs pass 0.6001, and of both files' pairs 0.8."""
    paths = [summary(tmp_path / "a.json", PAIRS, MISMATCHED)]
    assert range_without("1%", paths).least == 600_100
    paths.append(summary(tmp_path / "b.json", PAIRS, Counter({8000: 4})))
    found = range_without("5%", paths)
    assert found.least / 1e6 == threshold_for(0.05, PAIRS, MISMATCHED + Counter({8000: 4})).score == 0.6001
    assert range_without("1%", paths).least == 800_100
    assert found.note == ", reached by 4.8 % of mismatched pairs"


def test_too_few_mismatched_pairs_are_named(tmp_path):
    path = summary(tmp_path / "a.json", PAIRS, MISMATCHED)
    with pytest.raises(UsageError, match=r"a.json: 100 mismatched pairs; --mismatched 0.1% needs 1,000 or more"):
        range_without("0.1%", [path])
    with pytest.raises(UsageError, match="needs --summary FILE"):
        range_without("1%", [])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "7",
        "{}",
        '{"histogram": 7}',
        '{"histogram": {"bins": 10, "first": 0, "counts": []}, "mismatched": {}}',
        '{"histogram": {"bins": 10000, "first": 9999, "counts": [1, 2, 3]}, "mismatched": {}}',
        '{"histogram": {"bins": 10000, "first": 0, "counts": [-1]}, "mismatched": {}}',
        '{"histogram": {"bins": 10000, "first": "0", "counts": [1]}, "mismatched": {}}',
        '{"histogram": {"bins": 10000, "first": 0, "counts": ["1"]}, "mismatched": {}}',
    ],
)
def test_a_file_that_is_no_summary_is_named(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"s.json: no summary with histograms"):
        read_histograms([tmp_path / "s.json"])


def test_a_summary_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*s.json: No such file"):
        read_histograms([tmp_path / "s.json"])
