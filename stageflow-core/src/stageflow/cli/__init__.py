"""The ``stageflow`` program: ``run``, ``graph``, ``lint``, ``plugins``, ``doctor``, and what plugins add.

The way of a command line::

    main ──► program ──► session ──► a command module ──► exit code
    extras?   click       plugins     imported now

``main`` imports nothing; ``program`` builds its help from what the core's own plugin contributes and the names of
the others, and with ``--help-all`` from what those contribute, without importing a command. Everything that a
command prints as its result goes to standard output, everything else to standard
error. ``pictures`` draws graphs and timelines, and can be used without the program.
"""

__all__: list[str] = []
