"""Runs a compiled graph: nothing here knows how it was described."""

__all__: list[str] = []
