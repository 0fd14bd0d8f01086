"""A plan run for real: setup, the job of every rank, comparison, quality gate."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
