"""The report in a real browser, on 1,000 drawn scenes that the built-in model has scored.

It needs Chromium and the packages playwright and axe-playwright-python. Screenshots are left in
build/report.
"""

import json
import random
import re
import shutil
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import COMMAND, ENVIRONMENT, EXAMPLES, ROOT, jsonl, longclip_score
from playwright.sync_api import sync_playwright

from longclip_cli.jobs.report import write_report
from longclip_cli.jobs.report_options import ReportOptions

SCENES = 1000
SCREENSHOTS = ROOT / "build" / "report"
HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "</script><img src=x onerror=\"document.title = 'owned'\">",
    "{{7*7}}",
    "\u202eright to left",
]
SIZES = {"desktop": (1280, 900, "light"), "phone": (360, 740, "light"), "dark": (1280, 900, "dark")}


def drawn_rows(folder):
    """Draw scenes, and return a row for each; one in ten has a mistake in its caption."""
    sys.path.insert(0, str(EXAMPLES / "demo_model"))
    import scenes

    rng = random.Random(15)
    rows = []
    for number in range(SCENES):
        scene = scenes.random_scene(rng)
        image = scenes.draw(rng, scene)
        if number % 3 == 0:
            image = image.resize((image.width * rng.randint(1, 4), image.height * rng.randint(1, 4)))
        image.save(folder / f"{number:04}.png")
        wording = scenes.long_wording(rng, scene) if number % 2 else scenes.short_wording(rng, scene)
        told = scenes.change_one_attribute(rng, scene) if number % 10 == 0 else scene
        rows.append({"image_path": f"{number:04}.png", "text": scenes.caption(told, wording)})
    return rows


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The scored rows, in a folder with their report."""
    folder = tmp_path_factory.mktemp("report")
    rows = drawn_rows(folder)
    for number, text in enumerate(HOSTILE):
        rows[number]["text"] = text
    rows[20]["text"] = rows[21]["text"] * 6
    rows[30]["image_path"] = "<b>missing</b>.png"
    rows[31]["text"] = " "
    (folder / "in.jsonl").write_text(jsonl(*rows))
    # Hostile captions have no scores that matter, but have to be shown: these are the highest and the lowest.
    run = longclip_score("in.jsonl", "-m", "demo", "-o", "scored.jsonl", "--summary", "s.json", cwd=folder)
    assert run.returncode == 3, run.stderr
    found = [json.loads(line) for line in (folder / "scored.jsonl").read_text().splitlines()]
    for row, score in zip(found, (1.0, 0.999999, 0.0, 0.000001), strict=False):
        row["clip_score"] = score
    (folder / "scored.jsonl").write_text(jsonl(*found))
    options = ReportOptions((str(folder / "scored.jsonl"),), str(folder / "report.html"), (folder / "s.json",))
    assert write_report(options) < 2_000_000
    return folder, found


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, scored):
    """Open the report; nothing may be written to the console or requested, whatever the test does."""
    problems = []
    contexts = []

    def open_page(size="desktop", **options):
        width, height, scheme = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        url = (scored[0] / "report.html").as_uri()
        page.on("request", lambda request: request.url.startswith((url, "data:")) or problems.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def counts_on(page, name="pairs"):
    """Return the share kept in percent and the counts from the threshold on and below it, as the page shows them."""
    cells = page.locator(f"#{name} td").all_inner_texts()
    return float(cells[0].split()[0]), *(int(cell.replace(",", "")) for cell in cells[1:])


def check_counts(page, rows):
    """Compare the page with a count over the rows, and return the threshold."""
    threshold = page.locator("#command .threshold-value").inner_text()
    scores = [row["clip_score"] for row in rows if row["clip_score"] is not None]
    above = sum(score >= float(threshold) for score in scores)
    share, *counts = counts_on(page)
    assert counts == [above, len(scores) - above]
    assert share == pytest.approx(100 * above / len(scores), abs=0.051)
    return float(threshold)


def test_the_threshold_moves_by_keys_and_counts_are_exact(open_page, scored):
    page, (folder, rows) = open_page(), scored
    start = check_counts(page, rows)
    thresholds = json.loads((folder / "s.json").read_text())["mismatched"]["thresholds"]
    assert start == thresholds["1%"]["threshold"]
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    for key, step in (("ArrowRight", 1), ("ArrowRight", 1), ("ArrowLeft", -1)):
        before = check_counts(page, rows)
        slider.press(key)
        assert check_counts(page, rows) == pytest.approx(before + step / 10_000, abs=1e-9)
    slider.press("PageUp")
    assert check_counts(page, rows) > start + 0.01
    slider.press("Home")
    assert check_counts(page, rows) == 0
    slider.press("End")
    assert check_counts(page, rows) == 1
    assert slider.get_attribute("aria-valuetext").startswith("1.0000, keeps 0.1 %")


def test_the_threshold_moves_by_mouse_and_by_number(open_page, scored):
    page, (folder, rows) = open_page(), scored
    chart = page.locator("#distribution").bounding_box()
    middle = chart["y"] + chart["height"] / 2
    page.mouse.move(chart["x"] + chart["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] * 0.7, middle, steps=5)
    page.mouse.up()
    assert check_counts(page, rows) == pytest.approx(0.7, abs=0.01)
    slider = page.locator("#slider").bounding_box()
    page.mouse.click(slider["x"] + slider["width"] * 0.25, slider["y"] + slider["height"] / 2)
    assert check_counts(page, rows) == pytest.approx(0.25, abs=0.02)
    page.get_by_label("Threshold as a number").fill("0.6543")
    assert check_counts(page, rows) == 0.6543
    histogram = json.loads((folder / "s.json").read_text())["mismatched"]["histogram"]
    above = sum(n for place, n in enumerate(histogram["counts"], histogram["first"]) if place >= 6543)
    assert counts_on(page, "mismatched")[1:] == (above, sum(histogram["counts"]) - above)
    page.get_by_role("button", name="top 30 %").click()
    assert check_counts(page, rows) > 0.6543
    assert counts_on(page)[0] == pytest.approx(30, abs=0.5)


def test_the_line_of_the_threshold_is_above_the_thumb_of_the_slider(open_page):
    page = open_page()
    for value in ("0", "0.25", "1"):
        page.get_by_label("Threshold as a number").fill(value)
        line = page.evaluate("document.getElementById('line').getBoundingClientRect().x")
        slider = page.locator("#slider").bounding_box()
        assert line == pytest.approx(slider["x"] + 10 + (slider["width"] - 20) * float(value), abs=1.5)


def test_galleries_show_the_right_rows(open_page, scored):
    page, (_, rows) = open_page(), scored
    for name, sign in (("best", -1), ("worst", 1)):
        scores = sorted(sign * row["clip_score"] for row in rows if row["clip_score"] is not None)[:12]
        shown = page.locator(f"#{name} .card strong").all_inner_texts()
        assert shown == [f"{abs(score):.4f}" for score in scores]
    for card in page.locator(".gallery .card").all():
        row = rows[int(re.search(r"row ([\d,]+)", card.inner_text())[1].replace(",", "")) - 1]
        caption = card.locator(".caption")
        text = caption.evaluate(
            "p => [...p.childNodes].filter(n => n.nodeName !== 'B').map(n => n.textContent).join('')"
        )
        assert text == row["text"]
        assert card.locator("strong").inner_text() == f"{row['clip_score']:.4f}"
        assert row["image_path"] in card.inner_text()
        assert card.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")


def test_examples_say_on_which_side_of_the_threshold_they_are(open_page):
    page = open_page()
    page.get_by_label("Threshold as a number").fill("0.6")
    for card in page.locator(".gallery .card").all():
        is_kept = float(card.locator("strong").inner_text()) >= 0.6
        assert card.locator(".side").inner_text() == ("kept" if is_kept else "rest")


def test_hostile_captions_are_text(open_page):
    page = open_page()
    assert page.title().startswith("LongCLIP scores")
    body = page.locator("main").inner_text()
    for text in HOSTILE:
        assert text in body
    assert "<b>missing</b>.png" in body
    assert page.locator("main img:not([src^='data:image/webp;base64,'])").count() == 0


@pytest.mark.parametrize("size", SIZES)
def test_no_accessibility_rule_is_broken(open_page, size):
    page = open_page(size, bypass_csp=True)  # axe is a script of its own
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in violations] == []


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen(open_page, size):
    page = open_page(size)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{size}.png", full_page=True)


def test_dark_is_dark_and_print_is_light(open_page):
    page = open_page("dark")
    colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + +part, 0)"
    assert page.evaluate(colour) < 150
    page.emulate_media(media="print")
    assert page.evaluate(colour) > 600
    assert not page.locator("#slider").is_visible()
    assert page.locator("#counts").is_visible()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.pdf(path=SCREENSHOTS / "print.pdf", format="A4")
    assert (SCREENSHOTS / "print.pdf").read_bytes().count(b"/Type /Page\n") > 3


def test_without_scripts_the_counts_of_the_first_threshold_are_there(open_page, scored):
    page = open_page(java_script_enabled=False)
    assert not page.locator("#slider").is_visible()
    check_counts(page, scored[1])


def test_the_command_on_the_page_selects_as_many_rows(open_page, scored):
    page, (folder, _) = open_page(), scored
    command = page.locator("#command").inner_text().split()
    assert command[0] == "longclip-select"
    kept = folder / "kept.jsonl"
    command = [COMMAND.with_name(command[0]), *command[1:-1], kept]
    run = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=120, check=False)
    assert run.returncode in (0, 3), run.stderr
    assert len(kept.read_text().splitlines()) == counts_on(page)[1]
