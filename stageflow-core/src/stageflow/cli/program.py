"""The ``stageflow`` program: its commands by name, and what becomes of whatever goes wrong in them."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import click

from stageflow.cli import options
from stageflow.cli.failure import as_stageflow_error, error_record, leaves, show_error
from stageflow.cli.interruption import INTERRUPTED
from stageflow.cli.jsonable import dump
from stageflow.cli.output import finish, forget_stdout, reserved_stdout
from stageflow.cli.session import Session
from stageflow.cli.terminal import prepare_streams
from stageflow.errors import ContributionNotFoundError, PluginError, close_matches

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from stageflow.plugins.contributions import CommandContribution
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.registry import Registry

__all__ = ["FAILED", "OK", "PROGRAM", "USAGE", "Program", "execute", "unloaded_host"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

_EVERYBODY: Final = f"{__name__}.everybody"
_NAMED: Final = 10

_EPILOG: Final = (
    "Exit codes: 0 it went well; 1 it failed; 2 the command line is wrong; 130 it was interrupted "
    "(Ctrl-C, SIGTERM). Errors and progress go to standard error, results to standard output."
)


@final
class Program(click.Group):
    """The commands that plugins contribute, each imported only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names: the core's in its own order, then those of plugins."""
        return list(_all_commands(ctx.ensure_object(Session)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if nobody contributes it."""
        session = ctx.ensure_object(Session)
        # The core's own first: they run without the import of a single plugin, unless they want plugins.
        registry = session.core_host.commands()
        if cmd_name not in registry:
            registry = _all_commands(session)
            if cmd_name not in registry:
                _explain_broken(registry, cmd_name)
                return None
        entry = registry[cmd_name]
        with reserved_stdout():  # what a module prints while it is imported is no result
            command: object = entry.resolve()
        if not isinstance(command, click.Command):
            what = f"The target of {entry} is {command!r}, which is no click command"
            fix = "Decorate the function with @click.command(), and name it in the contribution"
            provenance = entry.provenance
            raise PluginError(what, plugin=provenance.plugin, distribution=provenance.release, fix=fix)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and say what is near where there is none of that name."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = (
                close_matches(name, self.list_commands(ctx)) or "'stageflow --help-all' lists the commands."
            )
            msg = f"No such command {name!r}. {hint}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the core's commands, and name the plugins; or, with ``--help-all``, list everybody's commands.

        The names of plugins are in the metadata of what is installed, so that help imports none of them.
        """
        session = ctx.ensure_object(Session)
        everybody = bool(ctx.meta.get(_EVERYBODY))
        commands = _all_commands(session) if everybody else session.core_host.commands()
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.contribution.summary) for name, entry in commands.items()])
        plugins = [] if everybody else _installed_plugins(session)
        if plugins:
            names = ", ".join(plugins[:_NAMED])
            more = f" and {len(plugins) - _NAMED} more" if len(plugins) > _NAMED else ""
            with formatter.section("Plugins"):
                formatter.write_text(
                    f"{names}{more}. '{ctx.command_path} --help-all' lists what commands they add."
                )


def _print_all(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it
    if wanted and not ctx.resilient_parsing:
        ctx.meta[_EVERYBODY] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it
    if wanted and not ctx.resilient_parsing:
        from stageflow.plugins.discovery import CORE_DISTRIBUTION, core_version

        python = ".".join(map(str, sys.version_info[:3]))
        click.echo(f"{CORE_DISTRIBUTION} {core_version()} (Python {python})")
        ctx.exit()


@click.group(cls=Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_all,
    help="Show this message with the commands of plugins and exit.",
)
@options.config_file
@options.no_plugins
def _program() -> None:
    """Run, draw and check Stageflow pipelines."""


PROGRAM: Final = _program


def execute(arguments: Sequence[str], *, program_name: str = "stageflow") -> int:
    """Run the program with *arguments*, report what goes wrong, and return its exit code.

    Args:
        arguments: The command line without the program.
        program_name: What the program is called in its help.
    """
    prepare_streams()
    session = Session()
    try:
        with _terminable():
            code: object = PROGRAM.main(
                list(arguments), prog_name=program_name, standalone_mode=False, obj=session
            )
            finish()
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt) as exc:
        # click puts its own exception in the place of Python's.
        notes: list[str] = getattr(exc.__cause__ or exc, "__notes__", [])
        print(" ".join(["Interrupted.", *notes]), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        forget_stdout()
        return FAILED
    except SystemExit as exc:
        # Of a plugin's command; or of click, after nobody read standard output any more.
        return exc.code if isinstance(exc.code, int) else OK if exc.code is None else FAILED
    except Exception as exc:  # noqa: BLE001 - the last resort: whatever it is, it is shown and not raised
        return _fail(exc, session)
    return code if isinstance(code, int) else OK


@contextmanager
def _terminable() -> Generator[None]:
    """Let SIGTERM end the program as Ctrl-C does, with a word and its exit code, until a run takes care of both."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _all_commands(session: Session) -> Registry[CommandContribution]:
    with reserved_stdout():  # what a plugin prints while it is imported is no result
        return session.host.commands()


def _installed_plugins(session: Session) -> list[str]:
    from stageflow.cli.silence import reported_once
    from stageflow.config.problems import SettingsError

    with reported_once():  # of help, nobody wants to know what is wrong
        try:
            host = unloaded_host(session)
        except SettingsError:
            return []
        return sorted({candidate.name for candidate in host.candidates})


def unloaded_host(session: Session) -> PluginHost:
    """Return a host of what the configuration wants, of which nothing is imported yet; never a strict one.

    Args:
        session: The call of the program.

    Raises:
        SettingsError: Something is wrong with the configuration.
    """
    from stageflow.plugins.composition import compose_host

    return compose_host(session.config, disabled=("*",) if session.no_plugins else (), strict=False)


def _explain_broken(registry: Registry[CommandContribution], name: str) -> None:
    """Raise if *name* would be there, were its plugin not broken."""
    try:
        registry[name]
    except ContributionNotFoundError as error:
        if error.plugin:
            raise
    except PluginError:
        raise


def _fail(error: Exception, session: Session) -> int:
    show_error(error, verbose=session.verbose)
    if session.as_json:
        errors = [error_record(as_stageflow_error(one)) for one in leaves(error)]
        record: dict[str, Any] = {"status": "failed", "error": errors[0]}
        if len(errors) > 1:
            record["errors"] = errors
        try:
            print(dump(record))
            sys.stdout.flush()
        except OSError:
            forget_stdout()
    return FAILED
