"""The command line: one file per command in `isotune.commands`, no modelling anywhere in it."""

import io
import os
import sys
import time
from typing import Annotated, NoReturn

import typer

from isotune._version import __version__
from isotune.commands import hw, imports, models
from isotune.commands.calibrate import calibrate
from isotune.commands.check import check
from isotune.commands.export import export
from isotune.commands.group import HelpfulGroup
from isotune.commands.measure import measure
from isotune.commands.output import invoked
from isotune.commands.predict import predict
from isotune.commands.recover import recover
from isotune.commands.remeasure import remeasure
from isotune.commands.report import report
from isotune.commands.request import still_taking
from isotune.commands.search import RENAMED, search
from isotune.commands.sensitivity import sensitivity
from isotune.commands.sweep import sweep
from isotune.commands.validate import validate
from isotune.present.phrases import printable
from isotune.simulator.errors import IsotuneError

app = typer.Typer(
    name="isotune",
    help="What overlapping (ISO) or dropping (SPD) all-reduces brings on your hardware.",
    cls=HelpfulGroup,
    pretty_exceptions_enable=False,
)
app.command("search", context_settings=still_taking(RENAMED))(search)
app.command()(predict)
app.command()(calibrate)
app.command()(check)
app.command()(sweep)
app.command()(validate)
app.command()(measure)
app.command()(sensitivity)
app.command()(recover)
app.command()(remeasure)
app.command()(report)
app.command()(export)
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
