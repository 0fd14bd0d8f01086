"""Runs a program on one rank: layers, attention, KV cache, streams, collectives."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
