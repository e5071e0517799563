import acme_absent.client

__all__ = ["acme_absent"]
