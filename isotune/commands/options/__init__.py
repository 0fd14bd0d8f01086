"""What commands are made of: options and their readers, requests, groups, and what is printed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
