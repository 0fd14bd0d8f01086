"""isotune: what overlapping (ISO) or dropping (SPD) all-reduces brings on your hardware.

    >>> import isotune
    >>> scenario = isotune.scenario("llama-2-70b", "a800", prompt=4096)
    >>> isotune.predict(scenario, isotune.Plan(strategy="iso", chunks=(2048, 2048))).saving

Times are in seconds, sizes in bytes unless a name says otherwise. A name is imported when it is
first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
