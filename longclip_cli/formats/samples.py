"""The samples of a WebDataset: consecutive members of a tar archive whose names have one key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from longclip_cli.errors import InputError, Reason, RowError, cut
from longclip_cli.formats.lines import reject_compressed
from longclip_cli.formats.sniffing import looks_like
from longclip_cli.formats.tar import Member, NoTarError, TarError, TarReader
from longclip_cli.rows import EncodedImage, Mark
from longclip_cli.storage.source import UNREADABLE, Input

Kind = Literal["text", "json", "image"]
TEXTS = "txt text transcript caption cap cls cls2 class count index inx id"
# Those of the formats in `pipeline.image_formats.FORMATS`, as Pillow has them, and two that webdataset writes JPEG to.
IMAGES = (
    "apng avif avifs bmp bw dib gif icb ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpo pbm pcx pfm pgm png pnm ppm "
    "psd qoi ras rgb rgba sgi tga tif tiff vda vst webp img image"
)
TEXT_EXTENSIONS = frozenset(TEXTS.split())
JSON_EXTENSIONS = frozenset(("json", "jsn"))
IMAGE_EXTENSIONS = frozenset(IMAGES.split())
NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
META = re.compile(r"__[^/]*__(?:$|/)")
MOST_SAMPLE_BYTES = 64 * 2**20
MEMBER_BYTES = 256  # that a member's name takes, besides its length
REMEMBERED_KEYS = 100_000  # about 15 MB; datasets have up to 10,000 samples in an archive
DIGEST_BYTES = 16


@dataclass(slots=True)
class Sample:
    """One sample, while its members are read.

    `contents` are members of text and JSON, by their extensions, and `images` those that may be the row's image.
    `others` are the extensions of members that are not read. `error` says why the sample cannot be scored. `size` is
    what all that takes, in bytes. `number` counts the samples from 1 and `offset` the bytes of the input.
    """

    key: str
    contents: dict[str, bytes] = field(default_factory=dict)
    images: dict[str, EncodedImage] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    error: RowError | None = None
    size: int = 0
    number: int = 0
    offset: int = 0

    def add(self, extension: str, kind: Kind | None, member: Member, read: Callable[[], bytes]) -> None:
        """Add a member; `read` gives its content. What is wrong with it is the sample's error if it has none."""
        if extension in self.contents or extension in self.images or extension in self.others:
            self.fail(Reason.DUPLICATE_MEMBER, "", member)
            return
        is_wanted = kind is not None and not member.problem
        size = self.size + MEMBER_BYTES + len(extension) + is_wanted * member.size
        if size > MOST_SAMPLE_BYTES:
            self.fail(Reason.SAMPLE_TOO_LARGE, f"members of more than {MOST_SAMPLE_BYTES} bytes are not read", member)
            return
        self.size = size
        if kind is None or member.problem:
            self.others.add(extension)
            if kind:
                self.fail(Reason.NOT_A_FILE, f"it is {member.problem}", member)
        elif kind == "image":
            self.images[extension] = EncodedImage(read(), cut(member.name))
        else:
            self.contents[extension] = read()

    def fail(self, reason: Reason, detail: str, member: Member) -> None:
        """Note why the sample cannot be scored, unless it has an error already."""
        self.error = self.error or RowError(reason, f"{cut(member.name)}{', ' * bool(detail)}{detail}")


class Keys:
    """The keys of the last samples, by which one that comes back is noticed."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}

    def add(self, key: str) -> bool:
        """Add a key, and return whether it is new."""
        digest = blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()
        is_new = digest not in self._digests
        self._digests[digest] = None
        if len(self._digests) > REMEMBERED_KEYS:
            del self._digests[next(iter(self._digests))]
        return is_new


def split_name(name: str) -> tuple[str, str] | None:
    """Return the key of a member's sample, and the member's extension in lower case; `None` if it is of no sample.

    As in webdataset (`tariterators.py`: `base_plus_ext`, `tar_file_iterator`, `group_by_keys` with `lcase`), the key
    ends at the first dot of the base name, and there is no sample for names without a dot or with a first folder
    such as `__meta__`. Unlike there, hidden files such as macOS's `._0001.jpg` are of no sample in folders, either.
    """
    found = None if META.match(name) else NAME.fullmatch(name)
    return (found[1], found[2].lower()) if found else None


def kind_of(extension: str) -> Kind | None:
    """Return how the content of members with this extension is read; `None` if it is not.

    The part after the last dot counts, as in webdataset (`autodecode.py`: `basichandlers`). Numbers are text.
    """
    last = extension.rpartition(".")[2]
    if last in TEXT_EXTENSIONS:
        return "text"
    if last in JSON_EXTENSIONS:
        return "json"
    return "image" if last in IMAGE_EXTENSIONS else None


def read_samples(source: Input, kind: Callable[[str], Kind | None]) -> Iterator[Sample | Literal[Mark.PAUSE]]:
    """Yield the samples of an input, and `PAUSE` where the next may take long.

    `kind` gives, for an extension, how its members are read, as `kind_of` does. The thread that reads closes the file
    at the end. Raise `InputError` if the input is no archive, or becomes unreadable.
    """
    number = 0
    with source.file:
        start = source.peek()
        try:
            archive = TarReader(source.stream)
            for sample in group_members(pausing(source, archive), kind, archive.read):
                if sample is not Mark.PAUSE:
                    number += 1
                    sample.number, sample.offset = number, 0 if source.is_live else source.file.tell()
                yield sample
        except NoTarError as error:
            raise no_archive(source, start, error) from error
        except (TarError, *UNREADABLE) as error:
            raise InputError(f"{source.name}: unreadable after sample {number}: {error}") from error


def no_archive(source: Input, start: bytes, error: TarError) -> InputError:
    """Return the error of an input that begins with `start`, and not with a tar header."""
    reject_compressed(source, start)
    seems = looks_like(start)
    seems = "JSON" if seems.startswith("JSON") else seems  # which is not looked at here
    what = str(error) if not start or seems == "a tar file" else f"it looks like {seems}"
    return InputError(f"{source.name}: not a tar archive; {what}")


def pausing(source: Input, archive: TarReader) -> Iterator[Member | Literal[Mark.PAUSE, Mark.END]]:
    """Yield what an archive gives, with fewer pauses, and one more where a program that writes it is slow at first.

    Each pause ends a batch of the model, so none is given for bytes among which a member begins. The one more lets the
    first rows be scored before the sample after them is complete.
    """
    begins_member = False  # since the last pause
    is_first = source.is_live
    for member in archive:
        if member is not Mark.PAUSE or not begins_member:
            yield member
        begins_member = member is not Mark.PAUSE
        if begins_member and is_first and not source.has_arrived():
            is_first = False
            yield Mark.PAUSE


def group_members(
    members: Iterable[Member | Literal[Mark.PAUSE, Mark.END]],
    kind: Callable[[str], Kind | None],
    read: Callable[[], bytes],
) -> Iterator[Sample | Literal[Mark.PAUSE]]:
    """Yield the samples that consecutive members are, and `PAUSE` where it is among them.

    `read` gives the content of the last member. A sample whose key came before in the same archive has an error, if
    that was among the last `REMEMBERED_KEYS`.
    """
    keys = Keys()
    sample: Sample | None = None
    for member in members:
        if member is Mark.PAUSE:
            yield Mark.PAUSE
            continue
        if member is Mark.END:
            if sample:
                yield sample
            sample, keys = None, Keys()
            continue
        if not (parts := split_name(member.name)):
            continue
        key, extension = parts
        if sample and key != sample.key:
            yield sample
            sample = None
        if not sample:
            sample = Sample(key, size=2 * len(key))
            if not keys.add(key):
                sample.fail(Reason.SPLIT_SAMPLE, "the members of a sample must be consecutive", member)
        sample.add(extension, kind(extension), member, read)
