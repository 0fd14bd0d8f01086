"""Files a user touches, schemas, quantities with units: YAML and JSON in, one-line errors out."""

from isotune.simulator.io.number_names import (
    ActivationDtype,
    CommDtype,
    Dtype,
    WeightDtype,
)
from isotune.simulator.io.schema import Schema
from isotune.simulator.io.text_files import (
    check_writable,
    checked,
    read_json,
    read_text,
    read_yaml,
    validate,
    write_text,
)
from isotune.simulator.io.units import (
    BYTES,
    BYTES_PER_SECOND,
    FLOPS,
    SECONDS,
    Bytes,
    BytesPerSecond,
    Flops,
    Seconds,
    format_quantity,
    parse_quantity,
)

__all__ = [
    "BYTES",
    "BYTES_PER_SECOND",
    "FLOPS",
    "SECONDS",
    "ActivationDtype",
    "Bytes",
    "BytesPerSecond",
    "CommDtype",
    "Dtype",
    "Flops",
    "Schema",
    "Seconds",
    "WeightDtype",
    "check_writable",
    "checked",
    "format_quantity",
    "parse_quantity",
    "read_json",
    "read_text",
    "read_yaml",
    "validate",
    "write_text",
]
