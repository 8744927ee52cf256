"""Seeded data: the same seed and count always give the same names, sizes and bytes.

Every file's content is its own, half random and half text that compresses about threefold. Slices of one shared pool
would flatter any program that finds equal content.
"""

import math
import os
import pathlib
import random

FILES = 50_000
MEAN_BYTES = 8_080
_SIGMA = 1.0
_LARGEST_BYTES = 256 << 10
_FOLDERS = 500
_STEP = 1 << 20


def _make_words():
    made = random.Random("words")
    letters = "eeeettaaooinnsshrrdlcumwfgypbvk"
    words = ["".join(made.choices(letters, k=made.randint(1, 9))) for _ in range(256)]
    return [(word + ("\n" if index % 12 == 0 else " ")).encode() for index, word in enumerate(words)]


_WORDS = _make_words()


def text(source, size):
    """`size` bytes of words drawn from `source`, a random.Random."""
    made = b""
    while len(made) < size:
        made += b"".join(map(_WORDS.__getitem__, source.randbytes((size - len(made)) // 5 + 16)))
    return made[:size]


def content(source, size, index):
    return text(source, size) if index % 2 else source.randbytes(size)


def small_files(root, count=FILES, seed=1):
    """Writes `count` files of log-normal sizes with a mean of about 8 KB into 500 folders. Returns the bytes."""
    source = random.Random(seed)
    mean_of_log = math.log(MEAN_BYTES) - _SIGMA * _SIGMA / 2
    total = 0
    for index, path in enumerate(_paths(root, count, _FOLDERS)):
        size = min(_LARGEST_BYTES, int(source.lognormvariate(mean_of_log, _SIGMA)))
        path.write_bytes(content(source, size, index))
        total += size
    return total


def equal_files(root, count, size, seed=1):
    """Writes `count` files of `size` bytes each."""
    source = random.Random(seed)
    for index, path in enumerate(_paths(root, count, _FOLDERS)):
        path.write_bytes(content(source, size, index))


def empty_files(root, count):
    for path in _paths(root, count, max(_FOLDERS, count // 1000)):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def one_file(path, size, seed=1):
    """One file in which a random and a text MiB alternate, so that every stage meets both all the time."""
    source = random.Random(seed)
    with open(path, "wb", buffering=0) as file:
        for index, offset in enumerate(range(0, size, _STEP)):
            file.write(content(source, min(_STEP, size - offset), index))


def _paths(root, count, folders):
    """Names spread over folders, a folder at a time, as a copy of a real tree would write them."""
    folders = min(folders, count)
    for number in range(folders):
        folder = pathlib.Path(root) / f"folder-{number:04}"
        folder.mkdir(parents=True)
        for index in range(number * count // folders, (number + 1) * count // folders):
            yield folder / f"file-{index:07}"
