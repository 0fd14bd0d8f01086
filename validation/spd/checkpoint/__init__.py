"""What `isotune recover` writes into a model folder, and what an interrupted run leaves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
