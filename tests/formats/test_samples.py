"""Members of archives as samples: keys, kinds, bounds and what is wrong with a sample."""

import io
import tarfile

import pytest
from helpers import MEBIBYTE, tar_of
from PIL import Image

from longclip_cli.errors import InputError, Reason
from longclip_cli.formats import samples as module
from longclip_cli.formats.samples import IMAGE_EXTENSIONS, Keys, kind_of, read_samples, split_name
from longclip_cli.pipeline.image_formats import FORMATS
from longclip_cli.rows import Mark
from longclip_cli.storage.source import Input


def read(content, kind=kind_of):
    source = Input("in.tar", io.BytesIO(content), io.BufferedReader(io.BytesIO(content)), len(content), "in.tar")
    return [sample for sample in read_samples(source, kind) if sample is not Mark.PAUSE]


def of_type(name, kind):
    """Return an archive with an image that is no regular file, and a text."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001.jpg", ("0001", "jpg")),
        ("a/b.c/0001.seg.png", ("a/b.c/0001", "seg.png")),
        ("./0001.JPG", ("./0001", "jpg")),
        ("../../etc/0001.txt", ("../../etc/0001", "txt")),
        ("/etc/0001.txt", ("/etc/0001", "txt")),
        ("a\nb.txt", ("a\nb", "txt")),
        ("0001.", ("0001", "")),
        ("README", None),
        ("a.b/README", None),
        ("", None),
        (".hidden", None),
        ("a/._0001.jpg", None),
        ("__MACOSX/._0001.jpg", None),
        ("__meta__/0001.jpg", None),
        ("__info__", None),
        ("a/__x__/0001.jpg", ("a/__x__/0001", "jpg")),
    ],
)
def test_a_name_is_split_at_the_first_dot_of_its_base_name(name, expected):
    assert split_name(name) == expected


def test_a_hostile_name_is_split_in_linear_time():
    assert split_name("a/" * 500_000 + "x") is None
    assert split_name("./" * 500_000) is None


def test_every_extension_of_a_decoded_format_is_an_image():
    known = {suffix[1:] for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known | {"img", "image"} == IMAGE_EXTENSIONS | ({"pfm"} & known)


@pytest.mark.parametrize(
    ("extension", "kind"),
    [("seg.png", "image"), ("a.json", "json"), ("cls", "text"), ("npy", None), ("jpg.txt", "text"), ("", None)],
)
def test_the_part_after_the_last_dot_says_the_kind(extension, kind):
    assert kind_of(extension) == kind


def test_consecutive_members_of_one_key_are_a_sample():
    first, second = read(tar_of({"a.JPG": b"1", "README": b"", "a.txt": b"2", "a.npy": b"3", "b.json": b"{}"}))
    assert (first.key, first.contents, first.others) == ("a", {"txt": b"2"}, {"npy"})
    assert (first.images["jpg"].content, first.images["jpg"].name) == (b"1", "a.JPG")
    assert (second.key, second.number, second.contents) == ("b", 2, {"json": b"{}"})
    assert not first.error
    assert not second.error


def test_samples_of_two_archives_are_not_joined():
    archive = tar_of({"a.txt": b"1"})
    assert [(each.key, each.error) for each in read(archive + archive)] == [("a", None), ("a", None)]


def test_a_key_that_comes_back_is_an_error():
    found = read(tar_of({"a.jpg": b"", "b.jpg": b"", "a.txt": b"", "b.txt": b"", "c.txt": b""}))
    assert [each.key for each in found] == ["a", "b", "a", "b", "c"]
    assert [each.error and each.error.reason for each in found] == [
        None,
        None,
        Reason.SPLIT_SAMPLE,
        Reason.SPLIT_SAMPLE,
        None,
    ]
    assert "a.txt, the members of a sample must be consecutive" in str(found[2].error)


def test_a_bounded_number_of_keys_is_remembered(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_KEYS", 2)
    keys = Keys()
    assert [keys.add(key) for key in "abacaba"] == [True, True, False, True, True, True, False]


def test_two_members_of_one_name_are_an_error():
    (sample,) = read(tar_of([("a.txt", b"1"), ("a.TXT", b"2"), ("a.jpg", b"")]))
    assert str(sample.error) == "sample: two members have one name: a.TXT"
    assert sample.contents == {"txt": b"1"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a FI"),
    ],
)
def test_an_image_that_is_no_regular_file_is_an_error(kind, name):
    (sample,) = read(of_type("a.jpg", kind))
    assert str(sample.error).startswith(f"sample: a member is not a regular file: a.jpg, it is {name}")
    assert sample.contents == {"txt": b""}


def test_a_link_that_would_not_be_read_is_no_error():
    (sample,) = read(of_type("a.npy", tarfile.SYMTYPE))
    assert not sample.error


def test_what_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(module, "MOST_SAMPLE_BYTES", MEBIBYTE)
    big = bytes(MEBIBYTE)
    first, second, third = read(tar_of({"a.jpg": big, "a.txt": b"x", "b.json": big, "c.npy": big, "c.txt": b"y"}))
    assert str(first.error) == "sample: too large: a.jpg, members of more than 1048576 bytes are not read"
    assert (first.images, first.contents) == ({}, {"txt": b"x"})
    assert second.error.reason == Reason.SAMPLE_TOO_LARGE
    assert (third.error, third.contents) == (None, {"txt": b"y"})


def test_members_of_one_sample_are_bounded_together(monkeypatch):
    monkeypatch.setattr(module, "MOST_SAMPLE_BYTES", 100_000)
    many = {f"a.{index}.npy": b"" for index in range(1000)}
    (sample,) = read(tar_of(many))
    assert sample.error.reason == Reason.SAMPLE_TOO_LARGE
    assert len(sample.others) < 400
    assert sample.size <= 100_000


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "in.tar: not a tar archive; it is empty"),
        (b'{"a": 1}\n' * 100, "in.tar: not a tar archive; it looks like JSON"),
        (b"PAR1" + bytes(1000), "in.tar: not a tar archive; it looks like a Parquet file"),
        (b"\x1f\x8b\x08" + bytes(1000), "in.tar: is compressed; pipe it through zcat"),
    ],
)
def test_an_input_that_is_no_archive_is_an_error(content, problem):
    with pytest.raises(InputError, match=f"^{problem}$"):
        read(content)


def test_an_archive_may_begin_as_other_files_do():
    assert [sample.key for sample in read(tar_of({"{a}.txt": b"", "PAR1.txt": b""}))] == ["{a}", "PAR1"]


def test_an_archive_without_samples_has_none():
    assert read(tar_of({})) == read(bytes(10240)) == read(tar_of({"README": b"x", ".hidden": b"y"})) == []


def test_samples_before_damage_are_given():
    content = tar_of({"a.txt": b"1", "b.txt": b"2", "c.txt": b"3" * 600})[: 5 * 512 + 20]
    stream = io.BufferedReader(io.BytesIO(content))
    samples = read_samples(Input("in.tar", io.BytesIO(), stream, len(content), "in.tar"), kind_of)
    assert [next(samples).key, next(samples).key] == ["a", "b"]
    with pytest.raises(InputError, match=r"^in\.tar: unreadable after sample 2: cut within a member"):
        next(samples)
