"""Headers of CSV and TSV that name no columns, or columns that cannot be read."""

import pytest
from csv_files import HEAD, read

from longclip_cli.errors import InputError
from longclip_cli.formats.csv_text import Tsv


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; its first line should name the columns"),
        (b"\n \r\n", "empty; its first line should name the columns"),
        (
            b"image_path;text\na;b\n",
            "its fields seem to be separated by ;: convert it, for example with pandas.read_csv",
        ),
        (b"image_path\ttext\na\tb\n", "its fields seem to be separated by tabs: use --input-format tsv"),
        (b"image_path,text,text\na,b,c\n", "2 columns have the name 'text', which is to be read; rename them"),
        ("image_path,text,é\n".encode("latin-1"), "not UTF-8: byte 0xe9 at position 17; convert it to UTF-8"),
        ("image_path,text\n".encode("utf-16"), "looks like UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8"),
        ("image_path,text\n".encode("utf-16-le"), "looks like UTF-16 text; convert it with iconv"),
        (b"image_path,text\ra,b\rc,d\r", r"its lines end with CR only; convert them with tr '\r' '\n'"),
        (b'image_path,text\ra,"b\n,"\r', r"its lines end with CR only"),
        (b'image_path,"text"x\n', "line 1: text after a closing quotation mark"),
        (b"image_path,text," + b"x," * 2**19 + b"\n", "has more than 1048576 bytes"),
        (b'image_path,"text\n1,2\n', "the record in lines 1 to 2, the last one lacks a closing quotation mark"),
        (b"\x1f\x8b\x08", "is compressed; pipe it through zcat"),
        (b"PAR1\x15\x04\0\n", "line 1: a NUL byte: at position 7; the file looks like a Parquet file"),
    ],
)
def test_an_input_without_a_usable_header_is_an_error(content, message):
    with pytest.raises(InputError) as error:
        read(content)
    assert str(error.value).startswith("in.csv: ")
    assert message in str(error.value)


def test_tsv_with_commas_names_the_option():
    with pytest.raises(InputError, match="separated by ,: use --input-format csv"):
        read(HEAD, kind=Tsv)
