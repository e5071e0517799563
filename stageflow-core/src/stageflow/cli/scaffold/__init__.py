"""Making a package: what ``stageflow plugins new`` writes, from plain templates that the core brings along.

The way of a new plugin::

    PluginName ──► render ──► write_tree ──► the folder
     naming        templates    whole or not at all

``kinds`` knows what a plugin may contribute, and which templates belong to that.
"""

__all__: list[str] = []
