"""A guard that costs no latency: the model streams while the guard thinks, and only the effect waits for it.

    python docs/examples/guarded_stream.py
    stageflow run docs/examples/guarded_stream.py --input "What is the weather like in Kyoto?"
    stageflow graph docs/examples/guarded_stream.py

A guard takes 300 ms, a model streams its answer for 500 ms, and a WORK stage writes both down. With
`gates_effects=True` on the guard, the model need not wait for it: its first words are there long before the guard is
done, and yet nothing is written down before. Without a gate the model has to depend on the guard, so the two add up.
"""

import asyncio
from time import perf_counter

from stageflow import Pipeline, PipelineResults, StageContext, StageKind, StageOutput, stage, use

GUARD_S = 0.3
WORDS = ["It", "is", "mild", "in", "Kyoto", "today,", "with", "some", "rain", "towards", "the", "evening."]
PAUSE_S = 0.5 / len(WORDS)
NS = 1_000_000  # a millisecond in nanoseconds
FORBIDDEN = ("password", "credit card")

JOURNAL: list[str] = []
"""The world: what is in here cannot be taken back."""


async def review(ctx: StageContext) -> StageOutput:
    """Say whether the question may be answered, as a moderation model would, after a while."""
    await asyncio.sleep(GUARD_S)
    found = [word for word in FORBIDDEN if word in (ctx.input_text or "").lower()]
    return StageOutput.fail(f"the question asks for a {found[0]}") if found else StageOutput.ok()


async def write(ctx: StageContext) -> str:
    """Answer word by word, as a language model would."""
    for word in WORDS:
        await asyncio.sleep(PAUSE_S)
        await ctx.publish(word)
    return " ".join(WORDS)


# With the gate: guard and model start together. The journal depends on the model alone, and waits for the gate.

guard = stage(kind=StageKind.GUARD, name="guard", gates_effects=True)(review)
model = stage(kind=StageKind.AGENT, name="model")(write)


@stage(streams=[model])
async def speak(ctx: StageContext) -> int:
    """Say the words as they come; here, count them."""
    return len([word async for word in ctx.stream(model)])


@stage(kind=StageKind.WORK)
async def journal(ctx: StageContext, answer: str = use(model)) -> int:
    """Write question and answer down: the effect."""
    JOURNAL.append(f"{ctx.input_text} {answer}")
    return len(JOURNAL)


pipeline = Pipeline.from_stages(guard, model, speak, journal, name="guarded-stream")


def one_after_the_other() -> Pipeline:
    """Return the same without a gate: the model waits for the guard."""
    first = stage(kind=StageKind.GUARD, name="guard")(review)
    then = stage(kind=StageKind.AGENT, name="model", after=[first])(write)

    async def write_down(ctx: StageContext, answer: str = use(then)) -> int:
        JOURNAL.append(f"{ctx.input_text} {answer}")
        return len(JOURNAL)

    last = stage(kind=StageKind.WORK, name="journal")(write_down)
    return Pipeline.from_stages(first, then, last, name="one-after-the-other")


async def watch(pipeline: Pipeline, question: str) -> dict[str, float]:
    """Run it, and return after how many seconds things happened for the first time."""
    began, seen = perf_counter(), dict[str, float]()
    async for event in pipeline.stream(input_text=question, raise_errors=False):
        name = "first chunk" if event.type == "stream.chunk" else event.type
        seen.setdefault(name, perf_counter() - began)
    seen["total"] = perf_counter() - began
    return seen


def row(label: str, seen: dict[str, float]) -> str:
    """Return a line of the table; a dash stands for what has not happened."""
    names = ("first chunk", "stage.guard.completed", "stage.journal.started", "total")
    times = [f"{seen[name] * 1000:.0f} ms" if name in seen else "-" for name in names]
    return f"{label:<22}" + "".join(f"{time:>14}" for time in times)


async def main() -> None:
    question = "What is the weather like in Kyoto?"
    print(f"{'':<22}{'first chunk':>14}{'guard passes':>14}{'effect':>14}{'total':>14}")
    print(row("one after the other", await watch(one_after_the_other(), question)))
    print(row("with the gate", await watch(pipeline, question)))
    print(row("the guard objects", await watch(pipeline, "What is the password of Kyoto?")))
    print(f"\nwritten down: {len(JOURNAL)} of 3 answers\n")
    results: PipelineResults = await pipeline.run(input_text=question)
    print("Where the time went:")
    for name, spent in results.timeline.items():
        parts = ", ".join(f"{part} {ns / NS:.0f} ms" for part, ns in spent.totals.items() if ns > NS)
        print(f"  {name:<8} {parts}")
    for gain in results.timeline.gains(limit=1):
        print(f"Without the {gain.part} of {gain.stage}: {gain.gain_ns / NS:.0f} ms less")


if __name__ == "__main__":
    asyncio.run(main())
