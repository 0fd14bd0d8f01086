"""What users have already: logs and files of other tools, turned into tables and profiles."""

from isotune.validation.importers.derive import from_aiconfigurator, from_topology
from isotune.validation.importers.nccl_tests import read_log, table_text
from isotune.validation.importers.topo import PCIE, read_topology
from isotune.validation.importers.wheel_tables import OPERATIONS, KernelTables, kernel_tables

__all__ = [
    "OPERATIONS",
    "PCIE",
    "KernelTables",
    "from_aiconfigurator",
    "from_topology",
    "kernel_tables",
    "read_log",
    "read_topology",
    "table_text",
]
