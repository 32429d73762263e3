#!/usr/bin/env python3
"""Would a similarity index find better bases for delta frames than the same place does?

    python3 -m venv V && V/bin/pip install zstandard && V/bin/python benches/resemblance.py CORPORA

CORPORA is what tests/setup/corpora.sh has made, in its full form. Takes frames of 256 KiB for which nothing around them
is known (the starts of a rebuilt executable, and a model's weights after training), and compresses each as a patch to
what stands at the same place in the version before, and to each frame of that version in turn: the best that any index
could find. Prints the sums.
"""

import multiprocessing
import random
import sys
from pathlib import Path

import zstandard

FRAME = 256 * 1024


def frames_of(path):
    content = path.read_bytes()
    return [content[at : at + FRAME] for at in range(0, len(content), FRAME)]


def compressed(frame, base=None):
    if base is None:
        return len(zstandard.ZstdCompressor(level=3).compress(frame))
    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=21, enable_ldm=True)
    return len(zstandard.ZstdCompressor(dict_data=prefix, compression_params=settings).compress(frame))


def sizes(task):
    """As it is, as a patch to the same place, as a patch to the best of all; none larger than as it is."""
    frame, older, at = task
    plain = compressed(frame)
    place = compressed(frame, b"".join(older[max(0, at - 1) : at + 2]))
    best = min(compressed(frame, b"".join(older[number : number + 2])) for number in range(len(older)))
    return plain, min(plain, place), min(plain, best)


def show(name, tasks):
    with multiprocessing.Pool() as pool:
        plain, place, best = map(sum, zip(*pool.map(sizes, tasks, 1)))
    print(f"{name}: {len(tasks)} frames, {plain} bytes plain, {place} by place, {best} by the best of all")


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    corpora = Path(sys.argv[1])
    random.seed(1)
    for corpus, version, choose in [
        ("binary", 2, lambda count: range(6)),
        ("binary", 4, lambda count: range(6)),
        ("models", 4, lambda count: random.sample(range(count), 6)),
    ]:
        older = frames_of(largest(corpora / corpus / f"v{version - 1}"))
        newer = frames_of(largest(corpora / corpus / f"v{version}"))
        tasks = [(newer[at], older, at) for at in choose(len(newer))]
        show(f"{corpus}, version {version}", tasks)


if __name__ == "__main__":
    main()
