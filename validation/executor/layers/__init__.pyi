from .contract import Heads as Heads
from .contract import Place as Place
from .contract import Rotations as Rotations
from .decoder_layer import DecoderLayer as DecoderLayer
from .decoder_layer import pieces as pieces
