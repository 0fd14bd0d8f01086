"""A causal language model run block by block on virtual ranks, and the sensitivity scan."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
