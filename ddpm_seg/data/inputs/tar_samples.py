"""Which members of a tar are images, by WebDataset's names: a sample's files are equal up to the first dot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.container import Member
from ddpm_seg.data.inputs.hidden import is_hidden_name
from ddpm_seg.data.inputs.tar import TarError

MASK = ".mask.png"  # as `ddpm-seg export --to webdataset` writes them, and `ddpm-seg train` reads them
MOST_IN_SAMPLE = 10_000  # members that are held in memory together


def images(members: Iterable[Member], image_key: str | None = None, *, every: bool = False) -> Iterator[Member]:
    """Yields the members that are images, each with a unique name: the second `a.jpg` becomes `a.jpg?2`, whichever
    members are chosen.

    Consecutive members whose names are equal up to the first dot are one sample, as in WebDataset. If some of them have
    only an image's extension (`0001.jpg`), the first of these is the sample's image, and others, such as
    `0001.seg.png`, belong to it. Else (`0001.left.jpg`, `0001.right.jpg`) each is an image, except for masks
    (`0001.mask.png`). `image_key` selects images by what follows the first dot (`jpg`, `left.jpg`), ignoring case;
    `every` takes all, images or not. Leaves out hidden and system files, such as `._a.jpg`.
    """
    seen: dict[str, int] = {}
    for sample in _samples(members):
        unique = {}
        for member in sample:
            name = _unique(member.name, seen)
            unique[member.start] = member if name == member.name else replace(member, name=name)
        keyed = [(member, _cut(member.name)[1].lower()) for member in sample]
        if every:
            chosen = sample
        elif image_key is not None:
            chosen = [member for member, key in keyed if key == image_key.lower().lstrip(".")]
        else:
            plain = [member for member, key in keyed if f".{key}" in EXTENSIONS]
            chosen = plain[:1] or [
                member
                for member, key in keyed
                if f".{key.rpartition('.')[2]}" in EXTENSIONS and not f".{key}".endswith(MASK)
            ]
        yield from (unique[member.start] for member in chosen)


def split_name(name: str) -> tuple[str, str]:
    """The key of a member by the unique name that `images` gave it, and the part after the first dot. Members whose
    names came a second time have a key of their own, which ends with `?2`."""
    plain, mark, again = name.rpartition("?")
    if not (mark and again.isdigit()):
        plain, again = name, ""
    key, rest = _cut(plain)
    return key + (f"?{again}" if again else ""), rest


def _unique(name: str, seen: dict[str, int]) -> str:
    """The name with a number if it is in `seen`, where names and how often each came are kept."""
    count = seen[name] = seen.get(name, 0) + 1
    if count == 1:
        return name
    while (numbered := f"{name}?{count}") in seen:  # a member may really be called that
        count = seen[name] = count + 1
    seen[numbered] = 1
    return numbered


def _samples(members: Iterable[Member]) -> Iterator[list[Member]]:
    sample: list[Member] = []
    names: set[str] = set()
    key, damage = None, None
    walked = iter(members)
    while True:
        try:
            member = next(walked, None)
        except TarError as error:
            member, damage = None, error
        if member is None:
            break
        if any(part not in (".", "..") and is_hidden_name(part) for part in member.name.split("/")):
            continue
        own = _cut(member.name)[0]
        # A name that comes again is another sample's: no image may get lost.
        if sample and (own != key or member.name in names or len(sample) == MOST_IN_SAMPLE):
            yield sample
            sample, names = [], set()
        key = own
        sample.append(member)
        names.add(member.name)
    if sample:
        yield sample
    if damage is not None:
        raise damage  # only now: the members before it are whole


def _cut(name: str) -> tuple[str, str]:
    """WebDataset's key, which includes the folder, and the part after the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    first, _, rest = file.partition(".")
    return folder + slash + first, rest
