"""``CommandConformance``: what every command of the ``stageflow`` program promises, as tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

import click
import pytest
from click.testing import CliRunner

from stageflow.cli.session import Session
from stageflow.testing.conformance.body import SCRIPTS
from stageflow.testing.conformance.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.testing import Result

__all__ = ["CommandConformance"]

_OK: Final = 0
_USAGE: Final = 2
_NO_OPTION: Final = "--no-such-option"


class CommandConformance(Suite):
    """Derive from it in a module of tests, say which command it is, and inherit the tests.

    Attributes:
        arguments: A command line, without the command's name, with which it works and does no harm; None if there is
            none that a test could call.

    ```python
    import click
    from stageflow.testing.conformance import CommandConformance


    @click.command()
    @click.option("--loud", is_flag=True, help="Shout.")
    def greet(loud):
        '''Greet whoever asks.'''
        click.echo("HELLO" if loud else "Hello")


    class TestGreet(CommandConformance):
        arguments = ("--loud",)

        def make_command(self):
            return greet
    ```
    """

    contract: ClassVar[str] = "command"
    arguments: ClassVar[Sequence[str] | None] = None

    def make_command(self) -> click.Command:
        """Return the command."""
        raise NotImplementedError

    # --- its form ---------------------------------------------------------------------------------------

    def test_it_is_a_command(self) -> None:
        """It is a click command, or a group of them."""
        assert isinstance(self.make_command(), click.Command)

    def test_everything_is_explained(self) -> None:
        """The command, those inside and every option have a line of help."""
        silent = [
            " ".join((*path, what))
            for path, command in self._commands()
            for what in [
                *([] if (command.help or command.short_help or "").strip() else ["(the command)"]),
                *(
                    one.opts[0]
                    for one in command.params
                    if isinstance(one, click.Option) and not one.hidden and not (one.help or "").strip()
                ),
            ]
        ]
        assert not silent, f"these have no help: {', '.join(silent)}"

    # --- help and mistakes ------------------------------------------------------------------------------

    def test_help_works(self) -> None:
        """``--help`` prints how the command is used, and every option, and exits with 0."""
        for path, command in self._commands():
            done = self._invoke([*path, "--help"])
            assert done.exit_code == _OK, f"{[*path, '--help']} exited with {done.exit_code}: {done.output}"
            assert "Usage:" in done.output
            for one in command.params:
                if isinstance(one, click.Option) and not one.hidden:
                    assert max(one.opts, key=len) in done.output

    def test_a_bad_option_exits_with_2(self) -> None:
        """An option that it does not have is a mistake of whoever typed it: one line about it, and the exit code 2."""
        for path, _ in self._commands():
            done = self._invoke([*path, _NO_OPTION])
            assert done.exit_code == _USAGE, f"{[*path, _NO_OPTION]} exited with {done.exit_code}"
            assert _NO_OPTION in done.stderr, "it does not say which option is wrong"

    def test_a_bad_value_exits_with_2(self) -> None:
        """A text where an option takes a number, or one of a few words, is a mistake, too."""
        for path, command in self._commands():
            for one in command.params:
                picky = isinstance(
                    one.type, (click.types.IntParamType, click.types.FloatParamType, click.Choice)
                )
                if isinstance(one, click.Option) and picky and not one.is_flag and not one.count:
                    line = [*path, one.opts[0], "no such value"]
                    done = self._invoke(line)
                    assert done.exit_code == _USAGE, f"{line} exited with {done.exit_code}"

    def test_too_many_arguments_exit_with_2(self) -> None:
        """More arguments than it takes, of any script, are a mistake, too."""
        for path, command in self._commands():
            takes_many = any(isinstance(one, click.Argument) and one.nargs == -1 for one in command.params)
            loose = bool(command.context_settings.get("allow_extra_args")) or command.allow_extra_args
            if takes_many or loose or isinstance(command, click.Group):
                continue
            count = sum(one.nargs for one in command.params if isinstance(one, click.Argument))
            done = self._invoke([*path, *[SCRIPTS.replace("\0", "")] * (count + 1)])
            assert done.exit_code == _USAGE, f"{' '.join(path)} took {count + 1} arguments"

    # --- at work ----------------------------------------------------------------------------------------

    def test_it_works(self) -> None:
        """With the ``arguments`` of the suite it exits with 0; with ``--json``, if it has that, it prints JSON only."""
        if self.arguments is None:
            pytest.skip("the suite gives no arguments")
        done = self._invoke(self.arguments)
        assert done.exit_code == _OK, f"exited with {done.exit_code}: {done.output}"
        if any("--json" in one.opts for one in self._addressed().params) and "--json" not in self.arguments:
            done = self._invoke([*self.arguments, "--json"])
            assert done.exit_code == _OK, f"with --json, it exited with {done.exit_code}: {done.output}"
            json.loads(done.stdout)

    # --- how it is proved -------------------------------------------------------------------------------

    def _commands(self) -> list[tuple[tuple[str, ...], click.Command]]:
        return list(_walk(self.make_command(), ()))

    def _addressed(self) -> click.Command:
        """Return the command inside that the arguments lead to."""
        command = self.make_command()
        for word in self.arguments or ():
            if not isinstance(command, click.Group) or word not in command.commands:
                break
            command = command.commands[word]
        return command

    def _invoke(self, line: Sequence[str]) -> Result:
        command = self.make_command()

        def call() -> Result:
            return CliRunner().invoke(command, list(line), obj=Session())

        done = self._bounded(call)
        error = done.exception
        assert error is None or isinstance(error, SystemExit), (
            f"{list(line)} raised {type(error).__name__}: {error}"
        )
        assert "Traceback (most recent call last)" not in done.output
        if (
            not done.exit_code
            and isinstance(done.return_value, int)
            and not isinstance(done.return_value, bool)
        ):
            done.exit_code = done.return_value
        return done


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _walk(inner, (*path, name))
