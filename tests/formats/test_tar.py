"""Reading tar archives as streams, also hostile ones."""

import io
import struct
import tarfile
from contextlib import suppress

import pytest
from helpers import MEBIBYTE
from hypothesis import assume, given
from hypothesis import strategies as st

from longclip_cli.formats.tar import (
    MOST_NAME_BYTES,
    MOST_PAX_BYTES,
    MOST_ZEROS,
    Member,
    NoTarError,
    TarError,
    TarReader,
)
from longclip_cli.formats.tar_header import number, parse_header
from longclip_cli.rows import Mark

END = bytes(1024)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda name: name.strip("/"))


class Stream(io.BytesIO):
    """A stream that cannot seek, and returns fewer bytes than it is asked for."""

    def read(self, size=-1):
        assert 0 <= size <= 64 * MEBIBYTE
        return super().read(min(size, 100_000) if size > 512 else size)

    def seek(self, *_):
        raise io.UnsupportedOperation


class Zeros(io.RawIOBase):
    """A stream that begins with some bytes and goes on with zeros for ever."""

    def __init__(self, start):
        self.start = start

    def read(self, size=-1):
        taken, self.start = self.start[:size], self.start[size:]
        return taken.ljust(size, b"\0")


def header(name="a.txt", size=0, kind=tarfile.REGTYPE, *, field=None, edit=None):
    """Return a header; `field` replaces its size, and `edit` is called with its bytes, before the checksum is made."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-512:])
    if field is not None:
        block[124:136] = field
    if edit:
        edit(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name="a.txt", content=b"", kind=tarfile.REGTYPE):
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def pax(*records):
    """Return an extended header with these records, each KEY=VALUE."""
    content = b""
    for record in records:
        length = len(record) + 3
        while length != len(b"%d %b\n" % (length, record)):
            length += 1
        content += b"%d %b\n" % (length, record)
    return member("pax", content, tarfile.XHDTYPE)


def read(content):
    """Return the members of an archive with their contents, and its ends."""
    reader = TarReader(Stream(content))
    return [
        (each, reader.read() if each.size < MEBIBYTE else b"") if isinstance(each, Member) else each
        for each in reader
        if each is not Mark.PAUSE
    ]


def names(content):
    return [each[0].name for each in read(content) if each is not Mark.END]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=2000)), max_size=5))
def test_members_are_read_as_tarfile_wrote_them(kind, members):
    if kind == tarfile.USTAR_FORMAT:
        members = [(f"{index}/name.txt", content) for index, (_, content) in enumerate(members)]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = read(file.getvalue())
    assert [(each.name, content) for each, content in found[:-1]] == members
    assert found[-1] is Mark.END


def test_content_that_nobody_reads_is_skipped():
    reader = TarReader(Stream(member("a", b"x" * 3_000_000) + member("b", b"y") + END))
    assert [(each.name, each.size) for each in reader if isinstance(each, Member)] == [("a", 3_000_000), ("b", 1)]


def test_long_skips_pause():
    found = list(TarReader(Stream(member("a", bytes(40 * MEBIBYTE)) + END)))
    assert found.count(Mark.PAUSE) == 2


def test_archives_that_follow_each_other_are_all_read():
    assert read(member("a") + END + bytes(10240) + member("b") + END) == [
        (Member("a", 0), b""),
        Mark.END,
        (Member("b", 0), b""),
        Mark.END,
    ]


def test_long_names_of_gnu_and_pax_are_joined_with_their_member():
    long = "x" * 300 + ".txt"
    assert names(member("././@LongLink", long.encode() + b"\0", tarfile.GNUTYPE_LONGNAME) + member() + END) == [long]
    assert names(pax(b"path=" + long.encode(), b"comment=none") + member() + END) == [long]
    assert names(member("k", b"target\0", tarfile.GNUTYPE_LONGLINK) + member("b") + END) == ["b"]


def test_a_pax_size_counts_instead_of_that_of_the_header():
    content = pax(b"size=3") + header("a.txt", 0) + b"abc".ljust(512, b"\0") + member("b.txt") + END
    assert read(content)[0] == (Member("a.txt", 3), b"abc")
    assert names(content) == ["a.txt", "b.txt"]


def test_global_headers_say_nothing():
    hostile = member("g", b"12 path=/a\n\n" + b"14 size=99999\n", tarfile.XGLTYPE)
    assert names(hostile + member("a.txt", b"x") + END) == ["a.txt"]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6"])
def test_links_devices_and_fifos_have_no_content_to_skip(kind):
    found = read(header("a.txt", 5000, kind) + member("b.txt", b"b") + END)
    assert found[0][0].problem in ("a link", "a device", "a FIFO")
    assert found[0][0].size == 0
    assert found[1] == (Member("b.txt", 1), b"b")


def test_folders_are_not_given():
    assert names(
        header("a.b/", 0, tarfile.DIRTYPE) + member("old.x/", b"", tarfile.AREGTYPE) + member("c.txt") + END
    ) == ["c.txt"]


def test_an_unknown_type_is_a_problem():
    assert read(member("a.txt", b"x", b"Z") + END)[0][0].problem == "of an unknown type"


def test_sparse_members_are_skipped_with_their_maps():
    def continued(block):
        block[482] = 1

    blocks = bytes(504) + b"\1" + bytes(7) + bytes(512)  # the first says that another one follows
    old = header("old.txt", 512, tarfile.GNUTYPE_SPARSE, edit=continued) + blocks + b"x" * 512
    new = pax(b"GNU.sparse.major=1", b"GNU.sparse.name=new.txt", b"GNU.sparse.realsize=99999999999")
    found = read(old + new + member("GNUSparseFile.0/x", b"1\n0\n1\n".ljust(513, b"\0")) + member("c.txt", b"c") + END)
    assert [(each[0].name, each[0].problem) for each in found[:-1]] == [
        ("old.txt", "a sparse file"),
        ("new.txt", "a sparse file"),
        ("c.txt", None),
    ]


def test_names_that_are_not_utf8_are_kept_readable():
    def latin(block):
        block[:5] = b"\xe9.txt"

    assert names(header(edit=latin) + END) == ["\\xe9.txt"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"{}\n" * 1000, "no tar header at byte 0"),
        (b"short", "no tar header at byte 0: it is cut"),
        (member("a", b"x"), "no end"),
        (member("a", b"x" * 600)[:900], "cut within a member"),
        (member("a", b"x")[:513], "cut within a member"),
        (member("a") + END + b"garbage", "it is cut"),
        (member("a") + END + b"garbage" * 100, "no tar header at byte 1536: "),
        (member("a") + b"\xff" * 512 + member("b") + END, "no tar header at byte 512: "),
        (header(field=b"\xff" * 12) + END, "a negative size"),
        (header(field=b"-0000000777\0") + END, "a field that is no number"),
        (header(field=b"99999999999\0") + END, "a field that is no number"),
        (header(field=b"\x80" + b"\xff" * 11) + b"x" * 2000, "cut within a member"),
        (header("n", MOST_NAME_BYTES + 1, tarfile.GNUTYPE_LONGNAME) + END, "an extended header of 65537 bytes"),
        (header("n", field=b"\x80" + b"\x7f" * 11, kind=tarfile.GNUTYPE_LONGNAME) + END, "an extended header of"),
        (header("x", MOST_PAX_BYTES + 1, tarfile.XHDTYPE) + END, "an extended header of 1048577 bytes"),
        (header("x", 2000, tarfile.XHDTYPE) + b"11 path=a\n", "cut within a member"),
        (member("x", b"99 path=a\n", tarfile.XHDTYPE) + member() + END, "a broken extended header"),
        (member("x", b"5 path=a\n", tarfile.XHDTYPE) + member() + END, "a broken extended header"),
        (member("x", b"0 path=a\n", tarfile.XHDTYPE) + member() + END, "a broken extended header"),
        (member("x", b"nonsense\n", tarfile.XHDTYPE) + member() + END, "a broken extended header"),
        (pax(b"size=-1") + member() + END, "a broken size"),
        (pax(b"size=" + b"9" * 5000) + member() + END, "a broken size"),
        (pax(b"size=99999999999999999999") + member() + END, "cut within a member"),
        (pax(b"path=a") + END, "an extended header without a member"),
        (pax(b"path=a"), "an extended header without a member"),
    ],
)
def test_a_broken_archive_is_an_error(content, problem):
    with pytest.raises(TarError, match=problem) as raised:
        list(TarReader(Stream(content)))
    assert isinstance(raised.value, NoTarError) == ("byte 0:" in str(raised.value) or not content)
    assert len(str(raised.value)) < 200


def test_members_before_damage_are_given():
    reader = TarReader(Stream(member("a", b"1") + member("b", b"x" * 600)[:600]))
    members = iter(reader)
    assert [next(members).name, reader.read(), next(members).name] == ["a", b"1", "b"]
    with pytest.raises(TarError):
        reader.read()


def test_zeros_without_end_are_an_error():
    with pytest.raises(TarError, match=f"more than {MOST_ZEROS} zeros"):
        list(TarReader(Zeros(member("a"))))


def test_an_archive_that_is_cut_anywhere_is_an_error():
    content = pax(b"path=long.txt", b"size=3") + member("a", b"abc") + END
    for end in range(len(content) - 1024):
        with pytest.raises(TarError):
            list(TarReader(Stream(content[:end])))


@given(st.binary(min_size=512, max_size=2048))
def test_any_bytes_with_a_right_checksum_are_read_or_an_error(content):
    block = bytearray(content[:512])
    block[148:156] = b" " * 8
    block[148:156] = struct.pack("8s", b"%06o\0 " % sum(block))
    with suppress(TarError):
        read(bytes(block) + content[512:])


@given(
    st.binary(min_size=512, max_size=512), st.sampled_from([b"0", b"\0", b"5", b"L", b"x", b"1", b"S"]), st.booleans()
)
def test_headers_are_read_as_by_tarfile(content, kind, is_signed):
    """What tarfile rejects may be read here, if the name and the size are whole."""
    block = bytearray(content)
    block[100:148] = b"%07o\0" % 1 * 3 + b"%011o\0" % int.from_bytes(content[:3]) + b"%011o\0" % 1
    block[148:156], block[156:157] = b" " * 8, kind
    block[329:345] = b"%07o\0" % 1 * 2
    block[386:512] = bytes(126) if kind == b"S" else block[386:512]
    total = sum(byte - 256 * (is_signed and byte > 127) for byte in block)
    assume(total >= 0)
    block[148:156] = b"%06o\0 " % total
    expected = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "backslashreplace")
    found = parse_header(bytes(block))
    assert found.name.rstrip("/") == expected.name.rstrip("/")  # which tarfile removes from the names of folders
    assert (found.size, found.type) == (expected.size, expected.type)


@given(st.integers(-(2**60), 2**60))
def test_numbers_are_read_as_tarfile_writes_them(value):
    assert number(tarfile.itn(value, 12, tarfile.GNU_FORMAT)) == value
