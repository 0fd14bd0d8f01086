from .cases import Range as Range
from .microbenchmarks import Measurements as Measurements
from .microbenchmarks import measure as measure
from .microbenchmarks import source_text as source_text
from .table_writer import contention_csv as contention_csv
from .table_writer import measurements_csv as measurements_csv
