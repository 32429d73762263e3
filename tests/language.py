#!/usr/bin/env python3
"""Measures how plain the language of this repository is, in documents, comments and code. Prints one table.

    language.py [--by-file]

--by-file   also a row for each document, and the names of the long files and functions

Words of dialect are counted in *.md and in the comments of src/**/*.rs; sentences in *.md. Code, paths, URLs and text in
double quotes are no prose: a span of code counts as one word, and blocks of code as none. Sentences are looked for in
paragraphs and list items, not in tables and headings. The other rows measure src/**/*.rs without comments, text and tests.
STYLE.md says which rule each row belongs to. Needs Python 3.9 and nothing else; reads files and writes none.
"""
import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIALECT = re.compile(r"\b(?:what|whatever|who|whoever|whose|of it|of that)\b", re.IGNORECASE)
WORD = re.compile(r"[\w'’\-]*\w")
LONG_SENTENCE_WORDS = 25
SHORT_SENTENCE_WORDS = 3  # fewer are labels, not sentences
LONG_FILE_LINES = 400
LONG_FUNCTION_LINES = 60

# --- prose

CODE_SPAN = re.compile(r"(`+)(?:(?!\1).)+\1")
LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?")
QUOTED = re.compile(r'"[^"]*"|“[^”]*”')
ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_“]*[A-Z0-9])")


@dataclass
class Prose:
    """Text for people: all of it, and its paragraphs and list items alone."""

    text: str
    paragraphs: list

    def words(self):
        return len(WORD.findall(self.text))

    def dialect(self):
        return len(DIALECT.findall(QUOTED.sub('""', self.text)))

    def sentences(self):
        """The number of words of each sentence."""
        lengths = [len(WORD.findall(part)) for p in self.paragraphs for part in SENTENCE_END.split(p)]
        return [words for words in lengths if words >= SHORT_SENTENCE_WORDS]


def plain(text):
    """Marks of Markdown removed, and a word in the place of each span of code."""
    text = CODE_SPAN.sub("Code", text)
    text = LINK.sub(r"\1", text)
    return re.sub(r"<!--.*?-->|https?://\S+", " ", text)


def read_markdown(source):
    source = re.sub(r"<!--.*?-->", "", source, flags=re.DOTALL)
    source = re.sub(r"\A---\n.*?\n---\n", "", source, flags=re.DOTALL)  # the head of a template
    others, paragraphs, open_lines = [], [], []

    def close():
        if open_lines:
            paragraphs.append(plain(" ".join(open_lines)))
            open_lines.clear()

    is_code = False
    for line in source.splitlines():
        bare = line.strip()
        if bare.startswith(("```", "~~~")):
            close()
            is_code = not is_code
        elif is_code:
            continue
        elif not bare:
            close()
        elif bare.startswith(("#", "|")):
            close()
            # a quotation ends with its cell
            others.extend(plain(cell) for cell in bare.split("|"))
        else:
            item = ITEM.match(line)
            if item:
                close()
            open_lines.append(line[item.end() if item else 0 :].strip())
    close()
    return Prose("\n".join(others + paragraphs), paragraphs)


# --- Rust

TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<raw>\bb?r(?P<hashes>\#*)".*?"(?P=hashes))
    |(?P<string>b?"(?:\\.|[^"\\])*")
    |(?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\])')""",
    re.DOTALL | re.VERBOSE,
)
MATCH_ON_BOOL = re.compile(r"\bmatch\b[^{};]*\{\s*(?:true|false)\b[^=]*=>")
OPENING, CLOSING = "([{", ")]}"


def spaces(text):
    return re.sub(r"[^\n]", " ", text)


def end_of(code, start, ends):
    """The end of the item or field that begins at `start`: behind its body, or behind one of the characters `ends`."""
    depth = 0
    for place in range(start, len(code)):
        character = code[place]
        if character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
            if depth < 0:
                return place
            if depth == 0 and character == "}":
                return place + 1
        elif depth == 0 and character in ends:
            return place + 1
    return len(code)


ITEM_BEGINS = re.compile(
    r"\s*(?:pub(?:\([^)]*\))? )?(?:async |const )*(?:fn|mod|impl|use|struct|enum|const|static|trait|type|let)\b"
)


def remove_tests(code):
    while (mark := code.find("#[cfg(test)]")) >= 0:
        start = mark + len("#[cfg(test)]")
        ends = ";" if ITEM_BEGINS.match(code, start) else ";,"  # a field, or an element
        code = code[:mark] + code[end_of(code, start, ends) :].removeprefix("\n")
    return code


def end_of_generics(code, start):
    """The place behind the `<…>` at `start`, or `start`."""
    if code[start] != "<":
        return start
    depth = 0
    for place in range(start, len(code)):
        depth += (code[place] == "<") - (code[place] == ">" and code[place - 1] != "-")
        if depth == 0:
            return place + 1
    return len(code)


def end_of_brackets(code, start):
    """The place behind the brackets that open at `start`."""
    depth = 0
    for place in range(start, len(code)):
        depth += (code[place] in OPENING) - (code[place] in CLOSING)
        if depth == 0:
            return place + 1
    return len(code)


def is_tuple(code, start, end):
    """Whether the brackets have a comma that stands in no other brackets."""
    inside = code[start + 1 : end - 1]
    while inside != (inside := re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "", inside)):
        pass
    return "," in inside


@dataclass
class Rust:
    path: Path
    code: str  # comments and text blanked, tests removed
    comments: Prose
    test_modules: list  # paths without their ending

    def lines(self):
        return self.code.count("\n")

    def functions(self):
        """Name, parameters and number of lines of each."""
        for match in re.finditer(r"\bfn (\w+)", self.code):
            opening = end_of_generics(self.code, match.end())
            if self.code[opening] != "(":
                continue
            behind = end_of_brackets(self.code, opening)
            whole = self.code[match.start() : end_of(self.code, behind, ";")]
            yield match[1], self.code[opening + 1 : behind - 1], whole.count("\n") + 1

    def tuple_lets(self):
        """The number of `let (a, b) = (x, y);`."""
        count = 0
        for match in re.finditer(r"(?<!if )(?<!while )(?<!&& )\blet (?=\()", self.code):
            equals = end_of_brackets(self.code, match.end())
            value = re.compile(r"\s*=\s*(?=\()").match(self.code, equals)
            if value:
                end = end_of_brackets(self.code, value.end())
                count += self.code[end : end + 1] == ";" and is_tuple(self.code, value.end(), end)
        return count


def tuple_parameters(parameters):
    openings = (match.end() for match in re.finditer(r":\s*&?(?:'\w+ )?(?:mut )?(?=\()", parameters))
    return sum(is_tuple(parameters, opening, end_of_brackets(parameters, opening)) for opening in openings)


def read_rust(path):
    source = path.read_text()
    texts, code, behind = [], [], 0
    for token in TOKEN.finditer(source):
        if token["comment"]:
            texts.append((source.count("\n", 0, token.start()), re.sub(r"^/[/*][/!]? ?|\*/$", "", token[0])))
        code += [source[behind : token.start()], spaces(token[0])]
        behind = token.end()
    code = "".join(code) + source[behind:]
    folder = path.parent if path.name in ("lib.rs", "main.rs", "mod.rs") else path.with_suffix("")
    names = re.findall(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod (\w+);", code)
    test_modules = [folder / name for name in names]
    return Rust(path, remove_tests(code), read_comments(texts), test_modules)


def read_comments(texts):
    """Lines that follow each other are one text."""
    lines, last = [], None
    for number, text in texts:
        if last is not None and number > last + 1:
            lines.append("")
        lines.append(text)
        last = number
    return read_markdown("\n".join(lines))


def is_for_tests(path, modules):
    return any(path.with_suffix("") == module or module in path.parents for module in modules)


# --- the table


@dataclass
class Table:
    rows: list = field(default_factory=lambda: [("measure", "where", "here", "aim")])

    def add(self, measure, where, here, aim=""):
        self.rows.append((measure, where, str(here), str(aim)))

    def print(self):
        widths = [max(len(row[column]) for row in self.rows) for column in range(4)]
        for number, (measure, where, here, aim) in enumerate(self.rows):
            cells = [measure.ljust(widths[0]), where.ljust(widths[1]), here.rjust(widths[2]), aim.rjust(widths[3])]
            print("| " + " | ".join(cells) + " |")
            if number == 0:
                marks = ["-" * widths[0], "-" * widths[1], "-" * (widths[2] - 1) + ":", "-" * (widths[3] - 1) + ":"]
                print("| " + " | ".join(marks) + " |")


def per_thousand(count, of):
    return f"{1000 * count / max(of, 1):.1f}"


def mean(numbers):
    return f"{sum(numbers) / max(len(numbers), 1):.1f}"


def measure_prose(table, documents, comments, by_file):
    measure, aim = "words of dialect per 1,000", "at most 1"
    table.add(measure, "comments of src", per_thousand(sum(c.dialect() for c in comments), sum(c.words() for c in comments)), aim)
    every = list(documents.values())
    table.add(measure, "documents", per_thousand(sum(d.dialect() for d in every), sum(d.words() for d in every)), aim)
    if by_file:
        for name, document in documents.items():
            table.add(measure, name, per_thousand(document.dialect(), document.words()), aim)
    lengths = [words for document in every for words in document.sentences()]
    table.add("mean sentence, words", "documents", mean(lengths), "at most 18")
    if by_file:
        for name, document in documents.items():
            table.add("mean sentence, words", name, mean(document.sentences()), "at most 18")
    long = [words for words in lengths if words > LONG_SENTENCE_WORDS]
    table.add(f"sentences over {LONG_SENTENCE_WORDS} words, %", "documents", mean([100 * len(long) / max(len(lengths), 1)]), 0)


def measure_code(table, sources, by_file):
    lines = sum(source.lines() for source in sources)
    table.add("lines without tests", f"src, {len(sources)} files", f"{lines:,}")

    lets = sum(source.tuple_lets() for source in sources)
    table.add("`let (a, b) = (x, y)` per 1,000 lines", "src", per_thousand(lets, lines), 0)
    functions = [(source.path, *function) for source in sources for function in source.functions()]
    tuples = sum(tuple_parameters(parameters) for _, _, parameters, _ in functions)
    table.add("parameters that are tuples", "src", tuples, 0)
    matches = sum(len(MATCH_ON_BOOL.findall(source.code)) for source in sources)
    table.add("`match` on a bool per 1,000 lines", "src", per_thousand(matches, lines), 0)
    long_files = [source for source in sources if source.lines() > LONG_FILE_LINES]
    table.add(f"files over {LONG_FILE_LINES} lines", "src", len(long_files), 0)
    if by_file:
        for source in sorted(long_files, key=lambda source: -source.lines()):
            table.add(f"file over {LONG_FILE_LINES} lines", str(source.path.relative_to(ROOT)), source.lines())
    long_functions = [f for f in functions if f[3] > LONG_FUNCTION_LINES]
    table.add(f"functions over {LONG_FUNCTION_LINES} lines", "src", len(long_functions), 0)
    if by_file:
        for path, name, _, length in sorted(long_functions, key=lambda f: -f[3]):
            table.add(f"function over {LONG_FUNCTION_LINES} lines", f"{path.relative_to(ROOT)}: {name}", length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by-file", action="store_true", help="a row for each document, long file and long function")
    by_file = parser.parse_args().by_file

    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    paths = sorted(path for path in paths if not {"target", ".git"} & set(path.parts))
    documents = {str(path): read_markdown((ROOT / path).read_text()) for path in paths}
    sources = [read_rust(path) for path in sorted((ROOT / "src").rglob("*.rs"))]
    test_modules = [module for source in sources for module in source.test_modules]
    without_tests = [source for source in sources if not is_for_tests(source.path, test_modules)]

    table = Table()
    measure_prose(table, documents, [source.comments for source in sources], by_file)
    measure_code(table, without_tests, by_file)
    table.print()


if __name__ == "__main__":
    main()
