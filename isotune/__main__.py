"""The program `isotune`, also as `python -m isotune` for launchers such as `torchrun -m`."""

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C while it is imported is one line, too."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    from isotune.cli import main as run

    run()


def _interrupted(*_: object) -> NoReturn:
    os.write(2, b"isotune: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
