"""The page: what is in it is text, it needs nothing else, and it is small."""

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from random import Random

import pytest
from helpers import IMAGES, encoded_image
from PIL import Image

from longclip_cli.errors import Reason, RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.reporting.about import About, RunFacts
from longclip_cli.reporting.examples import Origin
from longclip_cli.reporting.report_page import percent, render_page, short
from longclip_cli.reporting.report_rows import ReportRows
from longclip_cli.reporting.report_values import place_of_top, select_command
from longclip_cli.rows import EncodedImage, Row, RowInputs

HOSTILE = [
    "<script>alert(1)</script>",
    '</script><img src=x onerror="alert(1)">',
    "</textarea></style></title><svg onload=alert(1)>",
    "{{7*7}}{% raw %}{# #}",
    "\" onmouseover='alert(1)' x=\"",
    "&lt;b&gt; &amp;amp;",
    "\u202eright to left",
    "\ud800 alone",
    "<!-- comment",
]
ABOUT = About(("scored.jsonl",), ("scored.jsonl",), 1, (), Counter({4000 + i: 10 for i in range(100)}))


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.within = [], [], []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_data(self, data):
        self.texts.append((self.within[-1] if self.within else "", data))

    def texts_of(self, tag):
        return [text for within, text in self.texts if within == tag]


def rows_with(*values, image="rgb.png", file="scored.jsonl"):
    rows = ReportRows()
    origin = Origin(file, ScoringOptions(image_root=IMAGES))
    for number, text in enumerate(values, 1):
        rows.add(origin, Row(number, RowInputs((image,), (text,))), round(0.3 + 0.4 * number / len(values), 6))
    return rows


def tags(content):
    return Counter(tag for tag, _ in Page(content).elements)


def test_hostile_values_are_text_wherever_they_stand():
    harmless, hostile = [], []
    for kept, values in ((harmless, ["word"] * len(HOSTILE)), (hostile, HOSTILE)):
        for value in values:
            rows = rows_with(value, image=value, file=value)
            origin = Origin(value, ScoringOptions())
            error = RowError.from_message(f"{Reason.NO_TEXT_FIELD} '{value}'")
            rows.add(origin, Row(9, RowInputs((value,), (value,))), error)
            facts = RunFacts(*[value] * 6)
            kept.append(render_page(rows, About((value,), (value,), 1, (facts,), Counter(), output_key=value)))
    for value, page, other in zip(HOSTILE, hostile, harmless, strict=True):
        assert tags(page) == tags(other)
        shown = value.encode("utf-8", "backslashreplace").decode()
        assert any(shown in text for _, text in Page(page).texts)
        attributes = {name for _, attrs in Page(page).elements for name in attrs}
        assert not any(name.startswith("on") or name == "style" for name in attributes)


def test_the_policy_allows_the_pages_own_script_and_style_only():
    content = render_page(rows_with("one", "two"), ABOUT)
    page = Page(content)
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "eval" not in policy
    for kind in ("script", "style"):
        (own,) = re.findall(rf"<{kind}>(.*?)</{kind}>".encode(), content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_the_page_refers_to_nothing_outside():
    page = Page(render_page(rows_with("https://example.org/", "two"), ABOUT))
    for _, attrs in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:image/webp;base64,"))
    assert "url(" not in "".join(page.texts_of("style"))
    assert "@import" not in "".join(page.texts_of("style"))


def test_the_same_rows_give_the_same_page():
    values = [f"text {number}" for number in range(500)]
    assert render_page(rows_with(*values), ABOUT) == render_page(rows_with(*values), ABOUT)


def test_the_page_stays_below_two_megabytes():
    rows = ReportRows()
    random = Random(0)
    noise = Image.frombytes("RGB", (192, 192), random.randbytes(192 * 192 * 3))
    image = EncodedImage(encoded_image(noise, "PNG"), "<" * 80)
    origin = Origin("<" * 200, ScoringOptions())
    for number in range(3000):
        score = random.randrange(10_000) / 10_000
        rows.add(origin, Row(number, RowInputs((image,), ("'<&" * 2000,))), score)
    for reason in Reason:
        rows.add(origin, Row(1, RowInputs((image,), ("'<&" * 2000,))), RowError(reason, "<" * 1000))
    for number in range(200):
        error = RowError.from_message(f"{Reason.NO_TEXT_FIELD} '{number}' {'<' * 1000}")
        rows.add(origin, Row(1, RowInputs((image,), ("'<&" * 2000,))), error)
    about = replace(ABOUT, mismatched=Counter(dict.fromkeys(range(10001), 1000000)))
    assert len(render_page(rows, about)) < 2_000_000


def test_the_histograms_hold_all_scores_and_nothing_else():
    page = Page(render_page(rows_with("</script>", "two"), ABOUT))
    (values,) = [json.loads(text) for text in page.texts_of("script") if text.startswith("{")]
    assert values["bins"] == 10_000
    assert values["pairs"] == [5000, 1, 7000, 1]
    assert values["mismatched"][:4] == [4000, 10, 4001, 10]


def test_the_page_opens_with_the_threshold_of_one_percent():
    # Of 1,000 mismatched pairs ten are in the last bin, 0.4099.
    text = " ".join(text for _, text in Page(render_page(rows_with("one", "two"), ABOUT)).texts)
    assert "longclip-select scored.jsonl --min 0.4099 -o kept.jsonl" in " ".join(text.split())


@pytest.mark.parametrize("scores", [[], [0.0], [1.0], [0.5, 0.5]])
def test_a_page_of_hardly_any_scores_is_made(scores):
    rows = ReportRows()
    rows.add(Origin("a", ScoringOptions()), Row(1, RowInputs(("a",), ("b",))), RowError(Reason.NO_SUCH_FILE, "a"))
    for score in scores:
        rows.add(Origin("a", ScoringOptions()), Row(2, RowInputs(("a",), ("b",))), score)
    assert b"</html>" in render_page(rows, replace(ABOUT, mismatched=Counter()))


@pytest.mark.parametrize(
    ("about", "command"),
    [
        (ABOUT, "longclip-select scored.jsonl --min 0.5 -o kept.jsonl"),
        (
            replace(ABOUT, inputs=("a b.csv.gz",), files=("a b.csv.gz",)),
            "longclip-select 'a b.csv.gz' --min 0.5 -o kept.csv.gz",
        ),
        (replace(ABOUT, inputs=("out",), files=("out/a.jsonl",)), "longclip-select out --min 0.5 -o kept/"),
        (
            replace(ABOUT, output_key="my key", has_lists=True),
            "longclip-select scored.jsonl --output-key 'my key' --reduce mean --min 0.5 -o kept.jsonl",
        ),
        (
            replace(ABOUT, inputs=("$(rm -r x)",), files=("$(rm -r x)",)),
            "longclip-select '$(rm -r x)' --min 0.5 -o kept",
        ),
    ],
)
def test_the_command_selects_the_same_rows(about, command):
    assert " 0.5 ".join(select_command(about)) == command


def test_the_top_share_starts_at_a_bin():
    counts = Counter({1000: 50, 2000: 30, 3000: 20})
    assert [place_of_top(share, counts) for share in (0.1, 0.2, 0.3, 0.5, 1)] == [3000, 3000, 2000, 2000, 1000]


def test_numbers_are_short_on_an_axis():
    assert [short(number) for number in (0.84, 64, 362.04, 1024, 65536, 131072, 2**20)] == [
        "0.84", "64", "362", "1k", "66k", "131k", "1.05M",
    ]  # fmt: skip
    assert percent(0.5) == "50.0 %"
