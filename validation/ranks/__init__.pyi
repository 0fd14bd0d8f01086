from .local_launch import RunFailedError as RunFailedError
from .local_launch import launch as launch
from .rank import STEPS as STEPS
from .rank import Rank as Rank
from .rank import peak_resident_bytes as peak_resident_bytes
from .torchrun import place as place
from .torchrun import run_as_rank as run_as_rank
from .torchrun import under_torchrun as under_torchrun
