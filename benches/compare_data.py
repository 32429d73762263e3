#!/usr/bin/env python3
"""Makes data to compare with, the same at every time, a folder for each version: DIR/CORPUS/v1, v2, …

    compare_data.py [--quick] DIR CORPUS…

large    one incompressible file of 2 GB
small    10,000 incompressible files of 10 KB
With --quick all corpora are made here, a few MB each: `large` and `small` shortened, the others stand-ins that only look
like them. Without, they are made by tests/setup/corpora.sh. What is there already stays. Used by benches/compare.sh.
"""
import pathlib
import random
import sys

PIECE_BYTES = 1 << 20


def write(path, pieces):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)


def noise(random, size_bytes):
    for start in range(0, size_bytes, PIECE_BYTES):
        yield random.randbytes(min(PIECE_BYTES, size_bytes - start))


def large(folder, size_bytes):
    write(folder / "v1/object.bin", noise(random.Random("large"), size_bytes))


def small(folder, count):
    source = random.Random("small")
    for number in range(count):
        write(folder / f"v1/{number // 100:02}/{number:05}.bin", [source.randbytes(10_000)])


def names(folder):
    """Sorted lists, each with a few words more."""
    source = random.Random("names")
    words = [source.randbytes(6).hex() for _ in range(200_000)]
    for version in range(1, 4):
        words += [source.randbytes(6).hex() for _ in range(100)]
        write(folder / f"v{version}/names.json", ["\n".join(sorted(words)).encode()])


def edited(folder, name, size_bytes):
    """Incompressible, of which a tenth is new in the second version."""
    source = random.Random(name)
    body = source.randbytes(size_bytes)
    tenth = size_bytes // 10
    write(folder / "v1" / name, [body])
    write(folder / "v2" / name, [body[:tenth], source.randbytes(tenth), body[2 * tenth :]])


def assets(folder):
    """Small files, of which a tenth is new in the second version."""
    source = random.Random("assets")
    for number in range(200):
        image = source.randbytes(2000)
        write(folder / f"v1/{number:03}.png", [image])
        write(folder / f"v2/{number:03}.png", [image if number % 10 else source.randbytes(2000)])


def main():
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    root, *corpora = [argument for argument in arguments if argument != "--quick"]
    makers = {
        "large": lambda folder: large(folder, 20_000_000 if quick else 2_000_000_000),
        "small": lambda folder: small(folder, 250 if quick else 10_000),
    }
    if quick:
        makers["names"] = names
        makers["models"] = lambda folder: edited(folder, "model.safetensors", 4_000_000)
        makers["binary"] = lambda folder: edited(folder, "ruff", 3_000_000)
        makers["assets"] = assets
    for corpus in corpora:
        folder = pathlib.Path(root) / corpus
        if folder.exists():
            continue
        part = pathlib.Path(root) / f"{corpus}.part"
        makers[corpus](part)
        part.rename(folder)


main()
