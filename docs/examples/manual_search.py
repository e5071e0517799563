"""Full-text search in a corpus of texts: what `ask_manual.py` asks. Plain Python and SQLite, no pipelines here.

A text is cut into paragraphs, and these are kept in an FTS5 table: built once for every state of the corpus, in the
user's cache folder, or in memory where there is no such place. A question becomes terms; bm25 finds the passages.
"""

import hashlib
import math
import os
import platform
import re
import sqlite3
import tempfile
from bisect import bisect
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from keyword import iskeyword
from pathlib import Path

from stageflow import StageflowError


class AskError(StageflowError):
    """A question gets no answer: what is wrong, and what to do about it."""

    code = "ASK"

    @property
    def docs(self) -> str:
        return "docs/examples/ask_manual.py"


@dataclass(frozen=True)
class Citation:
    topic: str
    line: int
    text: str
    """What stands there, to the letter."""


@dataclass(frozen=True)
class Passage:
    """A paragraph that speaks of what was asked about."""

    topic: str
    term: str
    """What it describes, such as the signature of a method."""
    line: int
    text: str
    spans: tuple[tuple[int, int], ...]
    """Where its sentences begin and end."""
    relevance: tuple[float, ...]
    """How much of the question is in each sentence."""
    code: Citation | None
    terms: frozenset[str]
    coverage: float
    """How much of the question is in the passage, from 0 to 1; rare words weigh more."""
    score: float

    @property
    def sentences(self) -> list[str]:
        return [self.text[start:end] for start, end in self.spans]

    def quote(self, first: int, last: int) -> Citation:
        """Cite the sentences from *first* to *last*."""
        start, end = self.spans[first][0], self.spans[last][1]
        return Citation(self.topic, self.line + self.text.count("\n", 0, start), self.text[start:end])


# --- the corpus -------------------------------------------------------------------------------------------------------

SUFFIXES = (".markdown", ".md", ".rst", ".txt")
MAX_CORPUS = 32 * 2**20


@dataclass(frozen=True)
class Corpus:
    name: str
    texts: dict[str, str]
    unread: tuple[str, ...] = ()
    """Files that are no UTF-8 text."""


def read_manual() -> Corpus:
    try:
        from pydoc_data.topics import topics
    except ImportError as exc:
        fix = "Install the whole standard library, or pass --set corpus=DIR"
        raise AskError(
            "This Python comes without its manual, pydoc_data", fix=fix, code="ASK-CORPUS"
        ) from exc
    # Some topics contain others: with the short ones first, a paragraph is cited from the topic that is about it.
    return Corpus(
        f"python-{platform.python_version()}", dict(sorted(topics.items(), key=lambda item: len(item[1])))
    )


def read_folder(name: str) -> Corpus:
    folder = Path(name)
    texts: dict[str, str] = {}
    unread: list[str] = []
    try:
        for path in _files(name):
            topic = path.relative_to(folder).as_posix().encode("utf-8", "replace").decode()
            try:
                texts[topic] = path.read_text("utf-8-sig")
            except UnicodeDecodeError:
                unread.append(topic)
    except OSError as exc:
        fix = "Pass --set corpus=DIR with a folder of texts that you may read"
        raise AskError(
            f"Cannot read the corpus {name!r}: {exc.strerror or exc}", fix=fix, code="ASK-CORPUS"
        ) from exc
    if not any(text.strip() for text in texts.values()):
        no_text = f"; no UTF-8 text: {', '.join(unread)}" if unread else ""
        fix = f"Pass --set corpus=DIR with a folder of UTF-8 files whose names end in {', '.join(SUFFIXES)}"
        raise AskError(f"The corpus {name!r} holds nothing to read{no_text}", fix=fix, code="ASK-CORPUS")
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]
    return Corpus(f"folder-{place}", texts, tuple(unread))


def _files(folder: str) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    found = [
        path
        for root, _, names in os.walk(folder, onerror=fail)
        for name in names
        if (path := Path(root, name)).suffix.lower() in SUFFIXES and path.is_file()
    ]
    if sum(path.stat().st_size for path in found) > MAX_CORPUS:
        raise OSError(f"its texts have more than {MAX_CORPUS // 2**20} MB")
    return sorted(found)


# --- the index --------------------------------------------------------------------------------------------------------

SCHEMA = """
CREATE VIRTUAL TABLE passages USING fts5(topic, heading, body, code, term UNINDEXED, lead UNINDEXED,
    line UNINDEXED, code_line UNINDEXED, tokenize = 'porter unicode61')
"""
BLOCK = re.compile(
    r"^ *```(?s:.*?)^ *``` *$"  # code between fences
    r"|^#+ .*$"  # a title
    r"|(?:^[ \t]*\|.*\n?)+|^[ \t]*\+.*$"  # a row of a table, and the line between two
    r"|(?:^[ \t]*[^\s+|].*\n?)+",  # lines with nothing between them
    re.MULTILINE,
)
TITLE = re.compile(r"#+ +(?P<marked>.+?)[# ]*|(?P<underlined>\S.*)\n([=*~^\"-])\3{2,}")
TERM = re.compile(r"(class )?[\w.]+[\[(].*|\S+|[A-Z\"*_]\S*( \S+){1,2}", re.DOTALL)
BULLET = re.compile(r" *([*+-]|\d+[.)]) ")
NOTES = {"note:", "tip:", "important:", "warning:"}
NO_PROSE = re.compile(r"\+-|\|=|.*::=", re.DOTALL)  # borders of tables, formal grammar


@dataclass
class Paragraph:
    heading: str
    term: str
    leads: bool
    """Whether it is the first one below its heading."""
    indent: int
    body: slice
    code: slice


def paragraphs(text: str) -> list[Paragraph]:
    """Cut a text into paragraphs.

    A list belongs to the sentence before it, code to the prose that introduces it, and what is indented below a
    term (as a method's description below its signature) has the term in its heading.
    """
    found: list[Paragraph] = []
    blocks = [(match.start(), match.group().rstrip()) for match in BLOCK.finditer(text)]
    section, terms, leads = "", dict[int, str](), True
    current: Paragraph | None = None
    code_indent = skipped_indent = math.inf
    for (start, raw), (_, following) in pairwise([*blocks, (0, "")]):
        bare, end = raw.strip(), start + len(raw)
        indent = raw.index(bare)
        if indent >= skipped_indent or NO_PROSE.match(bare):
            continue
        skipped_indent = math.inf
        if title := TITLE.fullmatch(raw):
            section, terms, leads, current = title["marked"] or title["underlined"], {}, True, None
            continue
        if current is not None:
            said = text[current.body]
            listed = BULLET.match(raw) is not None
            introduced = indent > current.indent and said[-1] not in ".!?)" and not listed and bare[0] != "|"
            if bare.startswith((">>>", "```")) or introduced or indent >= code_indent:
                current.code = slice(current.code.start or start, end)
                code_indent = min(code_indent, indent) if introduced else code_indent
                continue
            if listed and current.code.stop == 0 and (said[-1] == ":" or BULLET.search(said)):
                current.body = slice(current.body.start, end)
                continue
        current, code_indent = None, math.inf
        terms = {level: term for level, term in terms.items() if level < indent}
        if bare.lower() == "see also:":
            skipped_indent = indent + 1
        elif following.startswith(" " * (indent + 1)) and TERM.fullmatch(bare) and bare[-1] not in ".:;,":
            terms[indent], leads = " ".join(bare.split()), True
        elif bare.lower() not in NOTES:
            names = [section, *terms.values()]
            current = Paragraph(
                " ".join(names), "".join(names[1:][-1:]), leads, indent, slice(start, end), slice(0)
            )
            found.append(current)
            leads = False
    return found


def cache_file(corpus: Corpus) -> Path | None:
    """Return where the index of this very state of the corpus is kept; None if the user has no home."""
    digest = hashlib.sha256(SCHEMA.encode())
    for part in (part for pair in corpus.texts.items() for part in pair):
        digest.update(part.encode() + b"\0")
    folder = user_folder("XDG_CACHE_HOME", ".cache")
    return folder / f"{corpus.name}-{digest.hexdigest()[:16]}.sqlite3" if folder else None


def user_folder(variable: str, default: str) -> Path | None:
    """Return our folder in one of the XDG base directories."""
    home = os.path.expanduser("~")  # noqa: PTH111 - stays as it is where there is no home; Path.home() would raise
    bases = (Path(os.environ.get(variable, "")), Path(home, default))
    return next((base / "stageflow" / "ask_manual" for base in bases if base.is_absolute()), None)


def open_index(corpus: Corpus, cache: Path | None, checkpoint: Callable[[], None]) -> sqlite3.Connection:
    """Return the cached index, or build it and keep a copy, if there is a place for one.

    Args:
        corpus: What to index.
        cache: Where the index is, or will be.
        checkpoint: Called now and then; raises if nobody wants the index any more.
    """
    if cache and cache.exists():
        with suppress(sqlite3.Error), ExitStack() as undo:  # a damaged one is built again
            cached = sqlite3.connect(f"{cache.as_uri()}?mode=ro&immutable=1", uri=True)
            undo.callback(cached.close)
            cached.execute("SELECT count(*) FROM passages")
            undo.pop_all()
            return cached
    with ExitStack() as undo:
        db = sqlite3.connect(":memory:")
        undo.callback(db.close)
        fill_index(db, corpus, checkpoint)
        undo.pop_all()
    if cache:
        with suppress(sqlite3.Error, OSError):  # nowhere to keep it: the next question builds it again
            cache.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
                draft = Path(folder, "index")
                with closing(sqlite3.connect(draft)) as copy:
                    db.backup(copy)
                draft.replace(cache)  # whole or not at all, whoever else is building it
            for other in cache.parent.iterdir():
                if other != cache and other.name.startswith(f"{corpus.name}-"):
                    other.unlink()  # of an earlier state
    return db


def fill_index(db: sqlite3.Connection, corpus: Corpus, checkpoint: Callable[[], None]) -> None:
    """Write every passage of the corpus into an empty database."""
    db.execute(SCHEMA)
    seen: set[str] = set()
    for topic, text in corpus.texts.items():
        checkpoint()
        line_ends = [found.start() for found in re.finditer("\n", text)]
        for one in paragraphs(text):
            body, code = text[one.body], text[one.code]
            if body not in seen:
                seen.add(body)
                lines = [bisect(line_ends, part.start or 0) + 1 for part in (one.body, one.code)]
                row = (topic, one.heading, body, code, one.term, one.leads, *lines)
                db.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    db.commit()


# --- from a question to terms -----------------------------------------------------------------------------------------

COMMON = """
a about after all am an and another any anything are as at be because been before being between but by call called can
could define definition describe did difference do does doing done else exactly example explain for from get give going
had happen happens has have having he her here his how i if in into is it its itself just let like make many me mean
meaning means more most much my need no not of off on one only or other our out over please python s same she should
show so some t tell than thanks that the their them then there these they thing this those to too under until up us use
used using very want was way we were what when where which while who whom whose why will with work works would write
you your
"""
STOP_WORDS = frozenset(COMMON.split())
SYNONYMS = {
    "**": "keyword arguments", ":=": "assignment expression", "==": "equality", "add": "append", "block": "suite",
    "body": "suite", "catch": "except", "constructor": "__init__", "debug": "debugger", "dictionaries": "dict",
    "dictionary": "dict", "dunder": "special method", "error": "exception", "errors": "exception",
    "fstring": "formatted string literal", "fstrings": "formatted string literal", "inherit": "base class",
    "inheritance": "base class", "integer": "int", "is": "identity", "private": "mangling", "raise": "exception",
    "raises": "exception", "remove": "delete", "subclass": "base class", "ternary": "conditional expression",
    "walrus": "assignment expression",
}  # fmt: skip
OPENING = re.compile(
    r"^\W*((what|who|how|when|where|why|which|can|could|should|is|are|do|does|happens|if|i|we|you) )+"
)
STRUCTURE = r"(?:statement|clause|loop|block|keyword|operator|expression)s?\b"


def terms_of(question: str) -> dict[str, str]:
    """Return the words that carry the question, each with what to look for, in FTS5's language.

    Words that belong to English and to Python (with, if, is, ...) count where the question uses them as Python, and
    are looked for in topics and headings.
    """
    text = OPENING.sub("", " ".join(question.lower().split()), count=1).replace("f-string", "fstring")
    groups: list[Iterable[str]] = re.findall(rf"(\S+)(?: (?:and|or) (\S+))? {STRUCTURE}", text)
    groups += re.findall(r"between (?:an? |the )?(\S+) and (?:an? |the )?(\w+)?", text)
    as_python = {
        *re.findall(r"[`'\"“\u2018](\w+)[`'\"”\u2019]", text),
        *(word for group in groups for word in group),
    }
    terms: dict[str, str] = {}
    for word in re.findall(r"\w[\w.]*\w|\w|:=|\*\*|==", text):
        common = word in STOP_WORDS
        if not common or (word in as_python and iskeyword(word)):
            columns = "{topic heading} : " if common else ""
            synonym = f' OR "{SYNONYMS[word]}"' if word in SYNONYMS else ""
            terms[word] = f'({columns}"{word}"{synonym})'
    return terms


# --- from terms to passages -------------------------------------------------------------------------------------------

SENTENCE = re.compile(
    r"(?:\d+[.)] )?\S.*?"
    r"(?:(?<!e\.g)(?<!i\.e)(?<!etc)[.!?][)”\"'*]*(?=\s+[*\d\"“(\u2018'_A-Z-])"  # the next begins like a sentence
    r"|(?=\n\s*(?:[*+-]|\d+[.)]) )"  # or like an item of a list
    r"|\s*\Z)",
    re.DOTALL,
)
SECONDARY = re.compile(
    r"\(?(See|For (more|full|a detailed)|New in|Changed in|Added in|Deprecated|Additional info)\b"
)


def search_index(
    corpus: Corpus, cache: Path | None, terms: dict[str, str], checkpoint: Callable[[], None]
) -> list[Passage]:
    """Return the passages that bm25 finds best, with what in them speaks of which term; best first."""
    if not terms:
        return []
    with closing(open_index(corpus, cache, checkpoint)) as db:
        (total,) = db.execute("SELECT count(*) FROM passages").fetchone()
        marking = (
            "SELECT rowid, highlight(passages, 2, char(1), char(2)) FROM passages WHERE passages MATCH ?"
        )
        marked = {
            word: dict[int, str](db.execute(marking, (sought,)).fetchall()) for word, sought in terms.items()
        }
        neighbours = [f'"{one} {two}"' for one, two in pairwise(terms)]
        rows = db.execute(
            "SELECT rowid, topic, heading, body, code, term, lead, line, code_line, -bm25(passages, 6, 5, 1, 0.3) "
            "FROM passages WHERE passages MATCH ? ORDER BY 10 DESC LIMIT 100",
            (" OR ".join([*terms.values(), *neighbours]),),
        ).fetchall()
    rarity = {word: math.log((total + 1) / (len(found) + 0.5)) for word, found in marked.items()}
    rarity = {
        word: value if marked[word] else value * 1.3 for word, value in rarity.items()
    }  # nowhere: off topic
    passages: list[Passage] = []
    for key, topic, heading, body, code, term, leads, line, code_line, bm25 in rows:
        everything = f"{topic} {heading} {body} {code}".lower()
        weights = {  # the word itself counts more than others of the same stem
            word: rarity[word]
            * (1 if word in SYNONYMS or re.search(rf"\b{plural(word)}\b", everything) else 0.7)
            for word in terms
            if key in marked[word]
        }
        spans = [one.span() for one in SENTENCE.finditer(body)]
        known = sum(weights.values())
        relevance = [
            (0.2 if number else 0.3) * known for number in range(len(spans))
        ]  # what the heading says
        for word, weight in weights.items():
            ahead = accumulate(len(part.replace("\2", "")) for part in marked[word][key].split("\1")[:-1])
            for number in {bisect(spans, (place, math.inf)) - 1 for place in ahead}:
                relevance[number] += weight * (0.4 if SECONDARY.match(body, spans[number][0]) else 1)
        coverage = known / sum(rarity.values())
        score = (1 + bm25) * (0.3 + coverage) * (1.25 if leads else 1) * (1.5 if topic in terms else 1)
        score *= 0.4 if SECONDARY.match(body) else 1
        cited = Citation(topic, code_line, code) if code else None
        found = (tuple(spans), tuple(relevance), cited, frozenset(weights), coverage, score)
        passages.append(Passage(topic, term, line, body, *found))
    return sorted(passages, key=lambda passage: -passage.score)


def plural(word: str) -> str:
    """Return a pattern for a word and its plural."""
    return re.escape(word.removesuffix("s")) + "s?"


# --- from passages to excerpts ----------------------------------------------------------------------------------------

DANGLING = re.compile(
    r"(Th(is|at|ese|ose|ey|us|en|erefore)|Its?|Otherwise|However|Hence|If so|Note|Such|Also|But|So|For)\b"
)
MOST_CODE = 800  # characters
CLEARLY = 0.9  # of the question in one passage: it may speak alone


@dataclass(frozen=True)
class Excerpt:
    """Sentences that stand together, and the code that follows them."""

    term: str
    prose: Citation
    code: Citation | None

    def __str__(self) -> str:
        said = " ".join(self.prose.text.replace(" |", " ").strip("| ").split())
        text = f"{self.term}: {said}" if self.term else said
        text += f" [{self.prose.topic}:{self.prose.line}]"
        return f"{text}\n\n{self.code.text}" if self.code else text


def select(passages: Iterable[Passage], limit: int, bonus: Callable[[Passage, int], float]) -> list[Excerpt]:
    """Choose up to *limit* sentences: the best of the best passages, with those that follow.

    Args:
        passages: Where to choose.
        limit: How many sentences to take.
        bonus: How much more a sentence of a passage counts, for what the question wants.
    """
    left = {
        passage: [value * bonus(passage, number) for number, value in enumerate(passage.relevance)]
        for passage in passages
    }
    excerpts: list[Excerpt] = []
    told: set[str] = set()
    floor = 0.0

    def worth(passage: Passage) -> float:
        return passage.score * max(left[passage]) * (1 if passage.terms - told else 0.6)

    while left and limit > 0:
        passage = max(left, key=worth)
        if worth(passage) < floor:
            break
        floor = floor or worth(passage) * 0.4
        relevance, sentences = left.pop(passage), passage.sentences
        first = relevance.index(max(relevance))
        while first and DANGLING.match(sentences[first]):
            first -= 1
        room = limit if not excerpts and passage.coverage > CLEARLY else min(limit, 2)
        last = min(first + room, len(sentences)) - 1
        while last > first and SECONDARY.match(sentences[last]):
            last -= 1
        code = passage.code if passage.code and last == len(sentences) - 1 else None
        excerpts.append(
            Excerpt(
                passage.term,
                passage.quote(first, last),
                code if code and len(code.text) < MOST_CODE else None,
            )
        )
        told |= passage.terms
        limit -= last - first + 1
    topics = list(dict.fromkeys(one.prose.topic for one in excerpts))
    return sorted(
        excerpts, key=lambda one: (topics.index(one.prose.topic), one.prose.line)
    )  # as one would read on


def defining(terms: Iterable[str]) -> Callable[[Passage, int], float]:
    """Return a bonus for sentences that say what the terms are."""
    words = set(terms)
    phrase = r"[*\"”]*[ -][*\"“]*".join(plural(term) for term in terms)
    says = re.compile(
        rf"(?:[\w,\u2019\"]+\s){{0,4}}\(?[*\"“\u2018]*{phrase}[*\"”\u2019]*(?P<defines>\s(\w+\s)?(is|are|causes|means|refers)\b)?",
        re.IGNORECASE,
    )
    names = re.compile(rf"\*{phrase}[^*]{{0,12}}\*", re.IGNORECASE)

    def bonus(passage: Passage, number: int) -> float:
        sentence = " ".join(passage.sentences[number].split())
        about = 3.0 if {passage.topic} == words else 1.0
        if found := says.match(sentence):
            return about * (2.5 if found["defines"] else 1.7)
        return about * (1.8 if names.search(sentence) else 1.0)

    return bonus
