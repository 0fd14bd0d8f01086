"""A Hugging Face decoder layer driven op by op: its sublayers, and what they keep of a sequence."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
