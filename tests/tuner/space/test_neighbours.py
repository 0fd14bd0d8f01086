"""Splits one step away from a split."""

from hypothesis import given
from hypothesis import strategies as st

from isotune.tuner.space.neighbours import coarse, fine

GRAIN = 128
CUTS = st.builds(
    lambda tiles, rest: (*(GRAIN * n for n in tiles), rest),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 40 * GRAIN),
)


@given(sizes=CUTS, most=st.integers(2, 6))
def test_moved_cuts_add_up_and_split_on_the_grain(sizes, most):
    for other in (*fine(sizes, GRAIN), *coarse(sizes, GRAIN, most)):
        assert sum(other) == sum(sizes)
        assert min(other) > 0
        assert all(size % GRAIN == 0 for size in other[:-1])
        assert 2 <= len(other) <= max(most, len(sizes))


def test_a_good_chunk_is_tried_in_the_other_place():
    assert (3200, 6812) in fine((6912, 3100), GRAIN)
    assert (3072, 6940) in fine((6912, 3100), GRAIN)


def test_chunks_are_halved_while_more_are_allowed_and_made_one_while_two_are_left():
    assert (1024, 512, 512) in coarse((1024, 1024), GRAIN, 3)
    assert all(len(other) == 2 for other in coarse((1024, 1024), GRAIN, 2))
    assert (1536, 512) in coarse((1024, 512, 512), GRAIN, 3)
