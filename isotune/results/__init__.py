"""Every result once: one type per kind, saved by `--json`, read back, printed and drawn."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
