"""`python -m isotune`: the same as `isotune`, also for launchers such as `torchrun -m`."""

from isotune.cli import main

if __name__ == "__main__":
    main()
