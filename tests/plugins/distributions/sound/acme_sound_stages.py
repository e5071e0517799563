from stageflow import StageOutput


class Greet:
    async def execute(self, ctx):
        return StageOutput.ok(text=f"Hello, {ctx.input_text}")
