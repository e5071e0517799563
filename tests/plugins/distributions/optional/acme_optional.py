import acme_turbo

__all__ = ["acme_turbo"]
