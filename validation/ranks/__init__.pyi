from .launch import run as run
from .placement import RankPlacement as RankPlacement
from .placement import leads as leads
from .placement import placements as placements
from .rank import STEPS as STEPS
from .rank import Rank as Rank
from .rank import peak_resident_bytes as peak_resident_bytes
