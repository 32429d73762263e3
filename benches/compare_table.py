#!/usr/bin/env python3
"""Makes Markdown tables of the results of benches/compare.sh: a column for each way, and ours in relation to plain.

    compare_table.py FILE

Every figure is the median of all rounds; "each later push" is the mean of the pushes after the first one, in each round.
"""
import collections
import json
import statistics
import sys

WAYS = ["plain", "file", "restic", "ours", "ours-s3"]
CORPORA = ["names", "models", "binary", "assets", "large", "small"]
STEPS = ["first push", "each later push", "clone", "pull"]
OURS = ["ours", "ours-s3"]


def load(path):
    """What the file says of itself, and all other lines."""
    about, lines = {}, []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
            except ValueError:
                sys.exit(f"error: {path}:{number} is no JSON\n  remedy: remove that line, it may have been cut off")
            if "about" in line:
                about = line
            else:
                lines.append(line)
    return about, lines


def step_of(line):
    if line["step"] == "push":
        return STEPS[0] if line["version"] == 1 else STEPS[1]
    return line["step"]


def medians(lines, key_of, value_of):
    """For each key the median over rounds, of the mean in each round; lines without a value don't count."""
    rounds = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        value = value_of(line)
        if value is not None:
            rounds[key_of(line)][line["round"]].append(value)
    return {
        key: statistics.median(statistics.fmean(values) for values in by_round.values()) for key, by_round in rounds.items()
    }


def figure(value, digits):
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(ours, theirs):
    return "" if ours is None or not theirs else f"{ours / theirs:.2f}"


def table(title, first, rows, columns, cell, digits):
    """cell(row, column): a number, or None. Without a title's worth of numbers there is no table."""
    columns = [column for column in columns if any(cell(row, column) is not None for row in rows)]
    rows = [row for row in rows if any(cell(row, column) is not None for column in columns)]
    if not rows:
        return
    compared = [way for way in OURS if way in columns and "plain" in columns]
    heads = columns + [f"{way} / plain" for way in compared]
    print(f"\n**{title}**\n")
    print(f"| {first} | " + " | ".join(heads) + " |")
    print("| --- |" + " ---: |" * len(heads))
    for row in rows:
        cells = [figure(cell(row, column), digits) for column in columns]
        cells += [ratio(cell(row, way), cell(row, "plain")) for way in compared]
        name = row if isinstance(row, str) else ", ".join(str(part) for part in row)
        print(f"| {name} | " + " | ".join(cells) + " |")


def scaled(field, unit):
    return lambda line: line[field] / unit if field in line else None


def all_requests(line):
    return sum(line["requests"].values()) if "requests" in line else None


QUANTITIES = [
    ("Wall time, s", scaled("wall_seconds", 1), 2),
    ("CPU time of git, git-lfs and agents, user and system, s", scaled("cpu_seconds", 1), 2),
    ("CPU time of the server meanwhile, s", scaled("server_seconds", 1), 2),
    ("Memory: the largest process, MB", scaled("peak_bytes", 1e6), 0),
    ("Memory: the largest agent, MB", scaled("agent_bytes", 1e6), 0),
    ("Memory: all processes at one time, without what they share, MB", scaled("together_bytes", 1e6), 0),
    ("Requests", all_requests, 0),
]


def steps_tables(lines):
    timed = [line for line in lines if line["step"] != "stored"]
    rows = [(corpus, step) for corpus in CORPORA for step in STEPS]
    for title, value_of, digits in QUANTITIES:
        if title == QUANTITIES[1][0]:
            stored_table(lines)
        found = medians(timed, lambda line: (line["corpus"], step_of(line), line["way"]), value_of)
        table(title, "data, step", rows, WAYS, lambda row, way: found.get((*row, way)), digits)


def verbs_table(lines):
    """Which requests they were. One that is missing in a round was not made in it."""
    counted = [line for line in lines if "requests" in line]
    verbs = sorted({verb for line in counted for verb in line["requests"]})
    rows = [(corpus, step) for corpus in CORPORA for step in STEPS]
    columns = [(way, verb) for way in WAYS for verb in verbs]
    found = {}
    for verb in verbs:
        counts = medians(
            counted, lambda line: (line["corpus"], step_of(line), line["way"]), lambda line: line["requests"].get(verb, 0)
        )
        found |= {(*key, verb): count for key, count in counts.items()}
    columns = [column for column in columns if any(found.get((*row, *column)) for row in rows)]
    rows = [row for row in rows if any(found.get((*row, *column)) is not None for column in columns)]
    if not rows:
        return
    print("\n**Requests by verb**\n")
    print("| data, step | " + " | ".join(" ".join(column) for column in columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for row in rows:
        print(f"| {', '.join(row)} | " + " | ".join(figure(found.get((*row, *column)), 0) for column in columns) + " |")


def stored_table(lines):
    stored = [line for line in lines if line["step"] == "stored"]
    last = {}
    for line in stored:
        last[line["corpus"]] = max(last.get(line["corpus"], 1), line["version"])

    def name(corpus, version):
        return f"{corpus}, 1 version" if version == 1 else f"{corpus}, {version} versions"

    found = medians(
        stored, lambda line: (name(line["corpus"], line["version"]), line["way"]), scaled("stored_bytes", 1e6)
    )
    rows = [name(corpus, version) for corpus in CORPORA if corpus in last for version in sorted({1, last[corpus]})]
    table("Stored, MB", "data", rows, WAYS, lambda row, way: found.get((row, way)), 1)


def transfers_tables(lines):
    pushes = [line for line in lines if line["step"] == "push"]
    rows = [str(count) for count in sorted({line["transfers"] for line in pushes})]
    for title, value_of, digits in QUANTITIES:
        found = medians(pushes, lambda line: (str(line["transfers"]), line["way"]), value_of)
        table(title, "lfs.concurrenttransfers", rows, WAYS, lambda row, way: found.get((row, way)), digits)


def heading(about, lines):
    rounds = len({line["round"] for line in lines})
    print(
        f"{about.get('agent', '')} (commit {about.get('commit') or 'unknown'}), {about.get('git_lfs', '')}, {about.get('git', '')}; "
        f"{about.get('processor', '')}, {about.get('cores', '')} cores, load {about.get('load', 0):.1f} at the start; "
        f"{'a link of ' + about['link'] if about.get('link') else 'servers on the same machine'}, "
        f"{'all in memory' if about.get('tmpfs') else 'on disk'}; {about.get('time', '')}; "
        f"{'one round' if rounds == 1 else f'median of {rounds} rounds'}."
    )
    if about.get("quick"):
        print("\nSmall stand-ins for the corpora: this shows that the script works, and nothing else.")
    ways = {line["way"] for line in lines}
    notes = {
        "plain": "plain: git-lfs's own transfers over HTTP, with giftless, whose CPU time is most of the wall time of many small objects.",
        "file": "file: git-lfs's own transfers in a folder, hard links on the same file system: no byte is moved, none is stored twice.",
        "restic": "restic: no git; backup, restore to an empty folder, restore over the version before.",
        "ours": "ours: a store in a folder. ours-s3: a store in SeaweedFS. Set up by `git lfs-cdc init`; the others by git-lfs's defaults.",
    }
    print()
    for way, note in notes.items():
        if way in ways or (way == "ours" and "ours-s3" in ways):
            print(f"* {note}")
    transfers = sorted({(line["way"], line["transfers"]) for line in lines if line.get("step") == "push" and line["transfers"]})
    print("* Parallel transfers of a push: " + ", ".join(f"{way} {count}" for way, count in transfers) + "; of clones and pulls 8.")
    print("* git-lfs asks for objects in batches of 100, and takes the SHA-256 of each; both are in all figures but restic's.")
    print("* Requests are counted by the servers; SeaweedFS counts HEAD as GET.")
    print("* In clones and pulls the largest process is often git, which holds a file from git-lfs in memory as a whole.")


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FILE")
    about, lines = load(sys.argv[1])
    if not lines:
        sys.exit(f"error: {sys.argv[1]} has no results\n  remedy: benches/compare.sh makes some")
    heading(about, lines)
    if about.get("transfers"):
        transfers_tables(lines)
    else:
        steps_tables(lines)
        verbs_table(lines)


main()
