"""Checkpoints that the tests share, and the mark for tests that start processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
import torch
from helpers import CPU, MISSING, jsonl, load_checkpoint_maker
from safetensors.torch import save_file

from longclip_cli.checkpoints.load import load_model
from longclip_cli.models.clip import LongCLIP


@pytest.fixture(scope="session")
def checkpoint_maker():
    return load_checkpoint_maker()


@pytest.fixture(scope="session")
def weights(checkpoint_maker) -> dict[str, torch.Tensor]:
    """Return the golden checkpoint's state dict."""
    return checkpoint_maker.longclip(**checkpoint_maker.SMALL)


@pytest.fixture(scope="session")
def checkpoint(weights, tmp_path_factory) -> Path:
    """Return the golden checkpoint as a `.pt` file."""
    path = tmp_path_factory.mktemp("checkpoint") / "golden.pt"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="session")
def model(checkpoint) -> LongCLIP:
    """Return the golden checkpoint's network."""
    return load_model(str(checkpoint), CPU, torch.float32)


@pytest.fixture(scope="session")
def checkpoint_safetensors(weights, tmp_path_factory) -> Path:
    """Return the same weights as a `.safetensors` file."""
    path = tmp_path_factory.mktemp("checkpoint") / "golden.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoint_maker, tmp_path_factory) -> Path:
    """Return a checkpoint that runs fast, for tests that do not look at scores."""
    sizes = dict(embed_dim=32, image_size=32, patch=16, image_width=64, image_layers=1, text_width=64, text_layers=1)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    torch.save(checkpoint_maker.longclip(7, **sizes), path)
    return path


@pytest.fixture(scope="session")
def base_checkpoint(checkpoint_maker, tmp_path_factory):
    """Return random weights with the shapes of LongCLIP-B, a ViT-B/16."""
    sizes = dict(image_width=768, image_layers=12, text_width=512, text_layers=12)
    path = tmp_path_factory.mktemp("base") / "longclip-b.pt"
    torch.save(checkpoint_maker.longclip(1, embed_dim=512, image_size=224, patch=16, **sizes), path)
    yield path
    path.unlink()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark a test as `process` if its code or that of its fixtures leads to the module subprocess."""
    for item in items:
        fixtures = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        functions = [getattr(item, "function", None), *(found[-1].func for found in fixtures.values())]
        if any(starts_process(function, set()) for function in functions):
            item.add_marker("process")


def starts_process(function: object, seen: set[object]) -> bool:
    """Return whether a function names `subprocess`, directly or through functions that it names."""
    function = getattr(function, "hypothesis", function)
    function = getattr(function, "inner_test", function)
    if not isinstance(function, FunctionType) or function in seen:
        return False
    seen.add(function)
    named = [function.__globals__.get(name) for name in names_of(function.__code__)]
    return subprocess in named or any(starts_process(other, seen) for other in named)


def names_of(code: CodeType) -> Iterator[str]:
    """Yield the global names in a function's code, and in that of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_of(constant)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the current folder, which holds an input whose row fails and an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(jsonl(MISSING))
    (tmp_path / "sub").mkdir()
    return tmp_path
