"""Reasons of failed rows, and what exceptions say about the command's exit status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.errors import Interrupted, Reason, RowError
from longclip_cli.rows import RowErrors

DETAILS = st.text(min_size=1) | st.just("a.png: no such file (image: cannot be read)")


@given(st.sampled_from(Reason), DETAILS, st.integers(1, 10**9))
def test_an_error_is_recovered_from_its_message(reason, detail, number):
    """As `--resume` finds it in a row that is kept."""
    if reason.is_not_a_row:
        error = RowError.of_line(reason, number, detail)
    elif reason.is_missing_field:
        error = RowError.missing_field(reason, detail)
    else:
        error = RowError(reason, detail)
    found = RowError.from_message(str(error))
    assert (found.reason, found.label, str(found)) == (reason, error.label, str(error))


@pytest.mark.parametrize("message", ["", "None", "image", "image: edited", "line 4: edited", "line x: not JSON: a"])
def test_a_message_of_no_error_is_not_recovered(message):
    assert RowError.from_message(message) is None


def test_the_label_names_a_missing_field_but_no_file():
    assert RowError.missing_field(Reason.NO_TEXT_FIELD, "caption").label == "text: no field 'caption'"
    assert RowError(Reason.NO_SUCH_FILE, "a.png").label == "image: no such file"
    assert RowError.of_line(Reason.NOT_JSON, 17, "Expecting value").label == "line: not JSON"


def test_a_signal_is_not_an_error_of_a_row_or_a_library():
    with pytest.raises(Interrupted), RowErrors():
        try:
            raise Interrupted(15)
        except Exception:
            pytest.fail("a library's handler would take it for a failure")
