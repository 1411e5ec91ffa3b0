"""A row's image and text to what the network takes."""

import pytest
import torch
from helpers import PICTURES
from PIL import Image

from longclip_cli.errors import Reason, ResourceError, RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.images import LoadedImage
from longclip_cli.pipeline.load import LoadedRow, RowLoader
from longclip_cli.rows import Row, RowInputs


def loader(root=PICTURES, budget=None):
    return RowLoader(ScoringOptions(image_root=root), image_size=32, context_length=248, budget=budget)


def row(image_path, text):
    return Row(1, RowInputs((image_path,), (text,)))


def pair_of(loaded):
    """Return the only pair of a loaded row, or the row's error."""
    if isinstance(loaded.pairs, RowError):
        return loaded.pairs
    (pair,) = loaded.pairs
    return pair


def test_the_options_decide_how_images_are_resized():
    exact, fast = (
        pair_of(
            RowLoader(ScoringOptions(image_root=PICTURES, fast_resize=fast), image_size=32, context_length=248)(
                row("astronaut.png", "an astronaut")
            ).wait()
        ).image.content
        for fast in (False, True)
    )
    assert not torch.equal(exact, fast)


def test_a_failed_row_holds_no_image_in_memory(tmp_path):
    whole = (PICTURES / "astronaut.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    error = pair_of(loader(tmp_path)(row("a.png", "cut")).wait())
    assert "truncated" in str(error)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_rows_share_an_image_until_its_file_changes(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    load = loader(tmp_path)
    first, second, third = (pair_of(load(row("a.png", text)).wait()) for text in ("one", "two", "one"))
    assert first.image is second.image is third.image
    assert first.text is third.text is not second.text
    Image.new("RGB", (40, 40), "green").save(tmp_path / "new.png")
    (tmp_path / "new.png").replace(tmp_path / "a.png")
    again = pair_of(load(row("a.png", "one")).wait())
    assert again.text is first.text
    assert again.image.content[:, 0, 0].tolist() == [0, 128, 0]


def test_a_shared_image_that_is_broken_fails_each_of_its_rows(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    load = loader(tmp_path)
    errors = [pair_of(load(row("a.png", text)).wait()) for text in ("one", "two")]
    reason = f"image: not an image format that can be read: {tmp_path / 'a.png'}"
    assert [str(error) for error in errors] == [reason, reason]


def test_a_row_that_holds_an_error_is_not_loaded():
    error = RowError(Reason.BLANK_TEXT)
    assert loader()(Row(1, error)).pairs is error


def outcome(load, line):
    loaded = load(line)
    return pair_of(loaded if isinstance(loaded, LoadedRow) else loaded.wait())


@pytest.mark.parametrize("text", ["&#" + "1" * 4301 + ";", "&amp;#" + "0" * 5000 + "65;"])
def test_an_entity_that_python_refuses_is_a_row_error(text):
    error = outcome(loader(), row("astronaut.png", text))
    assert error.reason == "row: unexpected error"
    assert str(error).startswith("row: unexpected error: ValueError: Exceeds the limit")
    assert len(str(error)) < 150


class RustPanic(BaseException):
    """The kind of exception that tokenizers raises if its Rust code panics."""


@pytest.mark.parametrize("error", [RuntimeError("no"), RustPanic("no"), RecursionError("no"), AssertionError("no")])
@pytest.mark.parametrize("where", ["load_image", "load_text", "check_regular_file"])
def test_any_error_while_loading_a_row_is_a_row_error(monkeypatch, where, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"longclip_cli.pipeline.load.{where}", fail)
    failed = outcome(loader(), row("astronaut.png", "A cat"))
    assert str(failed) == f"row: unexpected error: {type(error).__name__}: no"


def test_no_image_is_decoded_for_a_bad_text(monkeypatch):
    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", lambda *_, **__: pytest.fail("was decoded"))
    assert isinstance(outcome(loader(), row("astronaut.png", "&#" + "1" * 4301 + ";")), RowError)


def test_a_row_that_runs_out_of_memory_is_retried_alone(monkeypatch):
    budget = MemoryBudget(100)
    tries = []

    def fail_once(*_, reserve):
        with reserve(90):
            tries.append(budget._work)
            if len(tries) == 1:
                raise MemoryError
            return LoadedImage(torch.zeros(3, 32, 32, dtype=torch.uint8), is_rotated=False)

    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", fail_once)
    assert not isinstance(outcome(loader(budget=budget), row("astronaut.png", "A cat")), RowError)
    assert tries == [90, 100]
    assert budget._work == 0


def test_a_row_that_runs_out_of_memory_twice_has_failed(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", fail)
    assert str(outcome(loader(), row("astronaut.png", "A cat"))) == "row: out of memory"


def test_a_resource_that_every_row_needs_ends_the_run(monkeypatch):
    def fail(*_, **__):
        raise ResourceError("too many open files")

    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", fail)
    with pytest.raises(ResourceError):
        outcome(loader(), row("astronaut.png", "A cat"))


def test_a_row_whose_texts_all_fail_has_an_error_for_each():
    blank = RowError(Reason.BLANK_TEXT)
    loaded = loader()(Row(1, RowInputs(("astronaut.png",), (blank, blank), "none")))
    assert loaded.pairs == (blank, blank)
