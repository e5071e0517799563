import acme_nowhere

__all__ = ["acme_nowhere"]
