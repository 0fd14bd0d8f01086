"""The command line: one file per command in `isotune.commands`, no modelling anywhere in it."""

import io
import os
import sys
import time
from typing import Annotated, NoReturn

import typer

from isotune._version import __version__
from isotune.commands import hw, imports, models, search
from isotune.commands.calibrate import Calibrate
from isotune.commands.check import Check
from isotune.commands.export import Export
from isotune.commands.group import HelpfulGroup
from isotune.commands.measure import Measure
from isotune.commands.output import invoked
from isotune.commands.predict import Predict
from isotune.commands.recover import Recover
from isotune.commands.remeasure import Remeasure
from isotune.commands.report import Report
from isotune.commands.request import command, still_taking
from isotune.commands.sensitivity import Sensitivity
from isotune.commands.sweep import Sweep
from isotune.commands.validate import Validate
from isotune.present.phrases import printable
from isotune.simulator.errors import IsotuneError

app = typer.Typer(
    name="isotune",
    help="What overlapping (ISO) or dropping (SPD) all-reduces brings on your hardware.",
    cls=HelpfulGroup,
    pretty_exceptions_enable=False,
)
app.command("search", context_settings=still_taking(search.RENAMED))(search.search)
for request, renamed in (
    (Predict, {}),
    (Sweep, {}),
    (Calibrate, {}),
    (Check, {}),
    (Measure, {}),
    (Validate, {}),
    (Sensitivity, {"batch": "eval-batch", "budget": "accuracy-budget"}),
    (Recover, {"batch": "eval-batch", "held-back": "held-back-share"}),
    (Remeasure, {"batch": "eval-batch"}),
    (Report, {}),
    (Export, {}),
):
    name = request.__name__.lower()
    app.command(name, context_settings=still_taking(renamed))(command(request))
app.add_typer(hw.app, name="hw")
app.add_typer(models.app, name="models")
app.add_typer(imports.app, name="import")

_FIRST_RANK_S = 30.0
"""How long the other ranks leave a complaint to the first one of their machine."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    invoked.set(tuple(given))
    try:
        sys.exit(app(args=given, prog_name="isotune", standalone_mode=False) or 0)
    except typer.BadParameter as error:
        _fail(_in_one_line(error))
    except typer.TyperException as error:
        _fail(" ".join(error.format_message().split()))
    except IsotuneError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("isotune: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _fail(f"cannot write the output ({error.strerror})")


def _in_one_line(error: typer.BadParameter) -> str:
    """`--prompt: what is wrong with it`; what is missing says so itself."""
    if type(error) is not typer.BadParameter or error.param is None:
        return " ".join(error.format_message().split())
    flags = [flag for flag in error.param.opts if flag.startswith("--")]
    return f"{(flags or error.param.opts)[-1]}: {error.message}"


def _fail(message: str) -> NoReturn:
    _let_the_first_rank_say_it()
    print(f"isotune: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def _let_the_first_rank_say_it() -> None:
    """Under torchrun all ranks of a machine meet the same bad input, and one line is enough.

    The others wait for torchrun, which ends them when the first has ended. One that nobody ends
    is alone with its complaint, and makes it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_FIRST_RANK_S)


def _version(asked: bool) -> None:
    if asked:
        print(f"isotune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What overlapping (ISO) or dropping (SPD) all-reduces brings on your hardware."""
