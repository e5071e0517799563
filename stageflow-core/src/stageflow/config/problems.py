"""``SettingsError``: everything that is wrong with a configuration, at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.config.origin import Origin

__all__ = ["FILE_CODE", "KEY_CODE", "SECTION_CODE", "VALUE_CODE", "SettingsError", "SettingsProblem"]

FILE_CODE: Final = "SF-CONFIG-FILE"
SECTION_CODE: Final = "SF-CONFIG-SECTION"
KEY_CODE: Final = "SF-CONFIG-KEY"
VALUE_CODE: Final = "SF-CONFIG-VALUE"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsProblem:
    """One thing that is wrong with a configuration. It holds no value of a secret."""

    code: str
    """The stable code: that of a file, a section, a key or a value."""

    message: str
    """What is wrong, in one sentence without the final full stop."""

    fix: str
    """What to do about it."""

    path: str = ""
    """The key, as ``acme.cache.size``; empty for a file."""

    origin: Origin | None = None
    """Where it was written; None for what is nowhere."""

    def __str__(self) -> str:
        fix = self.fix if self.fix.endswith(("?", ".")) else f"{self.fix}."
        return f"[{self.code}] {self.message}. What to do: {fix}"

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as plain data, for JSON."""
        return {
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "path": self.path,
            "origin": None if self.origin is None else self.origin.to_dict(),
        }


class SettingsError(ConfigurationError, ValueError):
    """A configuration cannot be used; ``problems`` lists everything that is wrong with it.

    Its code is that of its problems where they are all of one kind.

    Args:
        problems: What is wrong; at least one thing.

    ```python
    from pydantic import BaseModel
    from stageflow.config import Configuration, SettingsError


    class AcmeSettings(BaseModel):
        retries: int = 3


    try:
        Configuration({"acme": {"retires": 5}}).read("acme", AcmeSettings)
    except SettingsError as error:
        print(error.what)
        #> Section 'acme' has no key 'retires' (code)
        print(error.fix)
        #> Did you mean 'retries'?
    ```
    """

    code = "SF-CONFIG-INVALID"

    def __init__(self, problems: Sequence[SettingsProblem]) -> None:
        self.problems = tuple(problems)
        only = self.problems[0] if len(self.problems) == 1 else None
        what = f"The configuration has {len(self.problems)} problems" if only is None else only.message
        codes = {problem.code for problem in self.problems}
        super().__init__(
            what,
            fix="" if only is None else only.fix,
            code=self.problems[0].code if len(codes) == 1 else None,
        )

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return super().__str__()
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1)]
        pages = sorted({f"docs/reference/errors/{problem.code}.md" for problem in self.problems})
        return "\n".join([f"[{self.code}] {self.what}:", *lines, f"  Docs: {', '.join(pages)}"])
