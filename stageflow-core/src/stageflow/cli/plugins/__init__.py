"""``stageflow plugins``: what is installed, and what becomes of it; a module per kind of question."""

from __future__ import annotations

import click

from stageflow.cli.plugins.listing import list_plugins, show, why

__all__ = ["command"]


@click.group("plugins", commands=[list_plugins, show, why])
def command() -> None:
    """List the installed plugins, show one, or say where a name comes from."""
