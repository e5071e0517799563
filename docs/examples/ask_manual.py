"""Ask the Python manual: a question in, an answer in the manual's own words out, with the lines it stands on.

    stageflow run docs/examples/ask_manual.py --input "What does a with statement do when its body raises?"

The corpus is the language reference that every Python carries (`pydoc_data.topics`), or a folder of Markdown or
plain text. Settings, each as `--set key=value`:

    corpus=DIR      the folder to ask instead of the manual
    level=LEVEL     beginner, intermediate or expert: how much the answer says
    user=NAME       who asks, for the journal
    journal=FILE    where questions and answers are kept; by default in the user's data folder

How a corpus is indexed and searched is in `manual_search.py`, beside this file.
"""

import re
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, ParamSpec, TypeVar

from manual_search import (
    AskError,
    Citation,
    Excerpt,
    Passage,
    cache_file,
    defining,
    read_folder,
    read_manual,
    search_index,
    select,
    terms_of,
    user_folder,
)
from stageflow import Effect, Pipeline, RetryPolicy, StageContext, StageInputs, StageKind, stage, use
from stageflow.errors import close_matches
from stageflow.executors import run_in_thread

P = ParamSpec("P")
T = TypeVar("T")
Kind = Literal["definition", "how_to", "nothing_found"]


# --- what the stages hand to each other -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    text: str
    terms: dict[str, str]
    """The words that carry it, each with what to look for in the index."""


@dataclass(frozen=True)
class Profile:
    user: str
    level: str
    sentences: int
    """How many of them this reader wants to read."""


@dataclass(frozen=True)
class Findings:
    passages: tuple[Passage, ...]
    unread: tuple[str, ...]
    """Files of the corpus that are no UTF-8 text."""


@dataclass(frozen=True)
class Route:
    kind: Kind
    coverage: float
    """How much of the question is in the best passage, from 0 to 1."""
    passages: tuple[Passage, ...]
    """Those that are worth quoting."""


@dataclass(frozen=True)
class Draft:
    excerpts: tuple[Excerpt, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Answer:
    status: Literal["ok", "nothing_found"]
    answer: str
    citations: tuple[Citation, ...]


# --- the pipeline -----------------------------------------------------------------------------------------------------

LEVELS = {"beginner": 6, "intermediate": 4, "expert": 2}
# How much of the question must be in one passage: between what questions about Python reach (from 0.56 on) and what
# questions about the rest of the world do (up to 0.54).
ENOUGH = 0.55


@stage(kind=StageKind.GUARD)
async def check(ctx: StageContext) -> Question:
    """Refuse what is no question."""
    text = ctx.input_text or ""
    refuse_if_unfit(text)
    return Question(" ".join(text.split()), terms_of(text))


@stage(kind=StageKind.ENRICH)
async def profile(ctx: StageContext) -> Profile:
    """Find out who asks; it waits for nothing, so it runs beside everything else."""
    level = str(ctx.snapshot.metadata.get("level", "intermediate"))
    if level not in LEVELS:
        fix = close_matches(level, LEVELS) or f"Take one of: {', '.join(LEVELS)}"
        raise AskError(f"There is no level {level!r}", fix=fix, code="ASK-LEVEL")
    return Profile(str(ctx.snapshot.metadata.get("user", "anonymous")), level, LEVELS[level])


@stage(kind=StageKind.ENRICH)
async def search(ctx: StageContext, question: Question = use(check)) -> Findings:
    """Find passages, in an index that is built once for every state of the corpus."""
    folder = ctx.snapshot.metadata.get("corpus")
    corpus = await (run_in_thread(read_manual) if folder is None else run_in_thread(read_folder, str(folder)))
    cache = cache_file(corpus)
    if cache is None or not cache.exists():
        ctx.try_emit_event("ask_manual.indexing", {"corpus": corpus.name, "topics": len(corpus.texts)})
    passages = await run_in_thread(search_index, corpus, cache, question.terms, ctx.raise_if_cancelled)
    return Findings(tuple(passages), corpus.unread)


@stage(kind=StageKind.ROUTE)
async def route(question: Question = use(check), findings: Findings = use(search)) -> Route:
    """Decide by the form of the question, and by how much of it was found."""
    best = max((passage.coverage for passage in findings.passages), default=0.0)
    if best < ENOUGH:
        return Route("nothing_found", best, ())
    what = re.match(
        r"(what|which|who|define|explain)\b|.*\b(difference|meaning)\b", question.text, re.IGNORECASE
    )
    good = tuple(passage for passage in findings.passages if passage.coverage > 0.45 * best)
    return Route("definition" if what else "how_to", best, good)


def routed(kind: Kind) -> Callable[[StageInputs], bool]:
    return lambda inputs: inputs.get_from(route.name, "kind") == kind


@stage(when=routed("definition"))
async def definition(
    question: Question = use(check), asker: Profile = use(profile), way: Route = use(route)
) -> Draft:
    """Prefer sentences that say what a thing is; of a difference, what each of the things is."""
    things = [[term] for term in question.terms] if "difference" in question.text else [list(question.terms)]
    share = max(2, asker.sentences // len(things))
    excerpts: list[Excerpt] = []
    for thing in things:
        fresh = [one for one in way.passages if not any(told.prose.text in one.text for told in excerpts)]
        excerpts += select(fresh, share, defining(thing))
    return Draft(tuple(excerpts))


@stage(when=routed("how_to"))
async def how_to(asker: Profile = use(profile), way: Route = use(route)) -> Draft:
    """Prefer passages that show code."""
    return Draft(
        tuple(select(way.passages, asker.sentences, lambda passage, _: 1.4 if passage.code else 1.0))
    )


@stage(when=routed("nothing_found"))
async def nothing_found(question: Question = use(check), way: Route = use(route)) -> Draft:
    """Say so, rather than quote what does not answer."""
    sought = ", ".join(question.terms) or "no word that could be looked up"
    return Draft(
        remark=f"Nothing found: the best passage has {way.coverage:.0%} of what was asked about ({sought})."
    )


@stage
async def answer(
    findings: Findings = use(search),
    defined: Draft = use(definition, default=Draft()),
    explained: Draft = use(how_to, default=Draft()),
    nothing: Draft = use(nothing_found, default=Draft()),
) -> Answer:
    """Write down what the one branch that ran has drafted."""
    excerpts = defined.excerpts + explained.excerpts
    said = [*map(str, excerpts), nothing.remark]
    if findings.unread:
        said.append(f"Not searched, for it is no UTF-8 text: {', '.join(findings.unread)}.")
    citations = tuple(cited for one in excerpts for cited in (one.prose, one.code) if cited)
    return Answer("ok" if excerpts else "nothing_found", "\n\n".join(filter(None, said)), citations)


class JournalBusyError(AskError, TimeoutError):
    """Another process holds the journal; as a time-out, it may be tried again."""

    code = "ASK-JOURNAL-BUSY"


@stage(
    kind=StageKind.WORK,
    effect=Effect.IDEMPOTENT,  # a journal that is held has taken nothing, so trying again is safe
    retry=RetryPolicy(4, base_delay=0.1, max_delay=0.2, retry_on=(JournalBusyError,)),
)
async def record(
    ctx: StageContext,
    question: Question = use(check),
    asker: Profile = use(profile),
    reply: Answer = use(answer),
) -> dict[str, Any]:
    """Keep the question and its answer."""
    journal = await run_in_thread(
        write_journal, ctx.snapshot.metadata.get("journal"), asker, question.text, reply
    )
    return {**asdict(reply), "citations": [asdict(one) for one in reply.citations], "journal": journal}


pipeline = Pipeline.from_stages(
    check, profile, search, route, definition, how_to, nothing_found, answer, record, name="ask_manual"
)


# --- the guard's rules ------------------------------------------------------------------------------------------------

MAX_LENGTH = 2000
INJECTION = re.compile(
    r"\b(ignore|disregard|forget|override)\b.{0,40}\b(instructions?|prompts?|guidelines)\b"
    r"|\b(system|developer) prompt\b|\byou are now (a|an|in|the)\b|\bpretend (to be|you are)\b"
    r"|<\|\w+\|>|\[/?INST\]|^[ #]*(system|assistant) *:",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def refuse_if_unfit(text: str) -> None:
    if not text.strip():
        raise refusal("The question is empty", 'Ask one: --input "What does a with statement do?"')
    if len(text) > MAX_LENGTH:
        what = f"The question has {len(text):,} characters, and at most {MAX_LENGTH:,} are allowed"
        raise refusal(
            what, "Ask in a sentence or two; texts to be searched go into a folder: --set corpus=DIR"
        )
    for position, character in enumerate(text, 1):
        unseen = unicodedata.category(character) in {"Cc", "Cs"} or character in BIDI_CONTROLS
        if unseen and character not in "\t\r\n":
            what = f"Character {position} of the question is U+{ord(character):04X}, a control character"
            raise refusal(what, "Remove it: a question is plain text")
    if found := INJECTION.search(text):
        what = (
            f"The question reads like instructions to a language model: {' '.join(found.group().split())!r}"
        )
        raise refusal(what, "Ask about the manual, in other words")


def refusal(what: str, fix: str) -> AskError:
    return AskError(what, fix=fix, code="ASK-REFUSED")


# --- the journal ------------------------------------------------------------------------------------------------------

ANSWERS = """
CREATE TABLE IF NOT EXISTS answers
    (id INTEGER PRIMARY KEY, asked_at TEXT, user TEXT, question TEXT, status TEXT, answer TEXT)
"""
CITATIONS = """
CREATE TABLE IF NOT EXISTS citations (answer_id INTEGER REFERENCES answers, topic TEXT, line INTEGER, text TEXT)
"""


def write_journal(given: Any, asker: Profile, question: str, reply: Answer) -> str:
    """Append to the journal, all of it or nothing, and return where it is."""
    folder = user_folder("XDG_DATA_HOME", ".local/share")
    path = str(given) if given is not None else str(folder / "journal.sqlite3") if folder else ""
    if not path:  # which SQLite takes for a database that it forgets
        raise no_journal(path, "it has no name" if folder else "the user has no home")
    try:
        if given is None and folder:
            folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=0.5, isolation_level=None)) as db, db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(ANSWERS)
            db.execute(CITATIONS)
            entry = (datetime.now(UTC).isoformat(), asker.user, question, reply.status, reply.answer)
            key = db.execute("INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?)", entry).lastrowid
            cited = [(key, one.topic, one.line, one.text) for one in reply.citations]
            db.executemany("INSERT INTO citations VALUES (?, ?, ?, ?)", cited)
    except (sqlite3.Error, OSError) as exc:
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            fix = "Ask again when it is done, or keep another one: --set journal=FILE"
            raise JournalBusyError(f"Another process holds the journal {path!r}", fix=fix) from exc
        raise no_journal(path, str(exc)) from exc
    return path


def no_journal(path: str, why: str) -> AskError:
    fix = "Pass --set journal=FILE with a file in a folder that you may write to"
    return AskError(f"Cannot write the journal {path!r}: {why}", fix=fix, code="ASK-JOURNAL")
