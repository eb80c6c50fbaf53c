"""Still-image sources: pictures, label maps and cut-outs."""

import numpy as np

from stmdata.stills.source import label_map


def test_the_earliest_instance_wins_an_overlap() -> None:
    ones = np.ones((4, 4), np.uint8)
    labels = label_map([(ones, (0, 0)), (ones, (2, 2))], 6, 7)
    assert labels.shape == (6, 7)
    assert (labels[:4, :4] == 1).all()
    assert labels[4, 4] == labels[5, 5] == 2
    assert labels[0, 5] == 0
