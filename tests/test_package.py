"""What importing the package gives, and what it leaves alone."""

import pytest
from helpers import run_python

import longclip_cli

HEAVY = {"torch", "PIL", "numpy", "pandas"}


@pytest.mark.parametrize("module", ["longclip_cli", "longclip_cli.cli.score", "longclip_cli.cli.convert"])
def test_importing_the_package_imports_nothing_heavy(module):
    run = run_python(f"import {module}, sys; print({HEAVY} & set(sys.modules))")
    assert run.stdout == b"set()\n"


@pytest.mark.parametrize("name", longclip_cli.__all__)
def test_every_public_name_can_be_imported_from_the_package(name):
    assert run_python(f"from longclip_cli import {name}; print({name})").stdout
