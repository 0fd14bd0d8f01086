"""`isotune models`: the bundled models."""

from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Annotated

import typer

import isotune
from isotune.commands.options import MODELS, HelpfulGroup, OutputOptions, command
from isotune.present import model_section, models_section, section_view
from isotune.results import Answer
from isotune.simulator.architecture import Model, bundled_models, model_config_file
from isotune.validation.extra import require_validate_extra


@dataclass(frozen=True, kw_only=True)
class ListModels(OutputOptions):
    """List the bundled models."""

    def run(self) -> None:
        """Print their names, parameter counts and the number types of their checkpoints."""
        models = [isotune.load_model(name) for name in bundled_models()]

        counts = [
            {
                "name": model.name,
                "parameters": model.parameters,
                "quantisation": stored_as(model),
            }
            for model in models
        ]
        view = section_view(models_section(models))
        self.emit(Answer.of("models", models=counts), view)


@dataclass(frozen=True, kw_only=True)
class ShowModel(OutputOptions):
    """Show one model: its sizes and its parameter count."""

    name: Annotated[
        str,
        typer.Argument(help="Name, folder or config.json.", autocompletion=MODELS.complete),
    ]

    check: Annotated[
        bool, typer.Option("--check", help="Compare every block with transformers' own model.")
    ] = False

    def run(self) -> None:
        """Print the model's fields.

        Raises:
            InputError: the model, or with `check` no extra, or a config that transformers refuses.
        """
        if self.check:
            require_validate_extra()
        model = isotune.load_model(self.name)
        fields = model_fields(model)
        if self.check:
            from isotune.validation.weights import differences

            found = differences(model, model_config_file(self.name))
            fields["differences"] = list(found)
            fields["checked"] = "; ".join(found) or "every block as transformers builds it"
        self.emit(Answer.of("model", **fields), section_view(model_section(model, fields)))


def stored_as(model: Model) -> str:
    """How the model's checkpoint is quantised, or "none"."""
    return "none" if model.quantisation is None else str(model.quantisation)


def model_fields(model: Model) -> dict[str, object]:
    """What there is to know of a model, by name."""
    own = {field.name: getattr(model, field.name) for field in dataclass_fields(model)}
    del own["kinds"], own["layout"]
    return own | {
        "quantisation": stored_as(model),
        "parameters": model.parameters,
        "pattern": model.picture,
        "kinds": [kind.text for kind in model.kinds],
    }


app = typer.Typer(help="Models that isotune knows.", cls=HelpfulGroup)
app.command("list")(command(ListModels))
app.command("show")(command(ShowModel))
