"""What the tests of recovery share: small models that have learned, and all their syncs dropped."""

from _support.learned import save_learned_model, windows
from isotune.simulator.schedule import STEPS
from isotune.validation.spd.checkpoint import Perplexities, Record
from isotune.validation.spd.model import load_network
from isotune.validation.spd.recover import Settings, Training, recover

FAMILIES = ("llama", "opt", "qwen2")
DROPPED = (0, 1, 2)
SETTINGS = Settings(batch=16, training=Training(epochs=3))


def learned_models(place):
    return {family: save_learned_model(place / family, family) for family in FAMILIES}


def recovered_models(models):
    """Each family with every sync dropped and every step tried."""
    found = {}
    for family, folder in models.items():
        network = load_network(folder, 4)
        found[family] = (
            network,
            recover(network, windows(48, 1), windows(32, 2), DROPPED, STEPS, settings=SETTINGS),
        )
    return found


def record_of(network, found, tp=4) -> Record:
    nothing = Perplexities(tokens=1, whole=1.0, zero_shot=1.0, recovered=1.0, synced=1.0)
    return Record(
        model=network.shape.name,
        tp=tp,
        dropped=found.dropped,
        blocks=tuple(block.record for block in found.blocks),
        held_back=nothing,
        text="",
        context=24,
        seed=0,
    )
