"""Starts the processes of a run, watches them, and says which one failed first."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
