"""``stageflow plugins``: what is installed, and what becomes of it; a module per kind of question."""

from __future__ import annotations

import click

from stageflow.cli.plugins.check import check
from stageflow.cli.plugins.disable import disable, enable
from stageflow.cli.plugins.listing import list_plugins, show, why
from stageflow.cli.plugins.new import new

__all__ = ["command"]


@click.group("plugins", commands=[check, disable, enable, list_plugins, new, show, why])
def command() -> None:
    """Write a plugin; list the installed ones, show, check or disable one, or say where a name comes from."""
