"""Pictures of errors: missed, extra and mistaken pixels in a part of the frame."""

import base64
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stmtrain.report.error_pictures import ERROR_COLOURS, data_uri, error_picture, window


def test_errors_are_coloured_and_the_rest_is_grey():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (60, 80, 3), np.uint8)
    truth, predicted = np.zeros((2, 60, 80), np.uint8)
    truth[10:50, 10:30] = 1
    truth[10:50, 50:70] = 2
    truth[:5] = 255
    predicted[10:50, 20:40] = 1  # left half missed, right of it too much
    predicted[10:50, 50:70] = 2
    predicted[30:50, 50:70] = 1  # mistaken
    predicted[:5] = 2
    picture = error_picture(frame, truth, predicted, (60, 80)).astype(float)

    def mean(rows, columns):
        return picture[rows, columns].reshape(-1, 3).mean(0)

    regions = {
        "missed": (slice(12, 48), slice(12, 18)),
        "extra": (slice(12, 48), slice(32, 38)),
        "mistaken": (slice(32, 48), slice(52, 68)),
    }
    for kind, region in regions.items():
        near = {k: np.abs(mean(*region) - colour).sum() for k, colour in ERROR_COLOURS.items()}
        assert min(near, key=near.get) == kind
    right = mean(slice(12, 28), slice(52, 68))
    outside = mean(slice(52, 60), slice(0, 80))
    void = mean(slice(0, 5), slice(0, 80))
    assert np.ptp(right) < 20
    assert right.mean() > outside.mean() + 60
    extra = np.abs(void - ERROR_COLOURS["extra"]).sum()
    assert extra < np.abs(void - outside).sum(), "void is background, as in scoring"
    assert (picture[10, 10:30] == 255).all(), "the truth's contour"


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01])
)
def test_the_window_shows_everything_in_the_frame_s_proportions(height, width, seed, share):
    shown = np.random.default_rng(seed).uniform(size=(height, width)) < share
    rows, columns = window(shown)
    assert shown[rows, columns].sum() == shown.sum()
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    shares = (rows.stop - rows.start) / height, (columns.stop - columns.start) / width
    assert abs(shares[0] - shares[1]) <= 1 / height + 1 / width


def test_pictures_read_back():
    picture = np.full((90, 160, 3), (10, 200, 90), np.uint8)
    head, _, data = data_uri(picture).partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (160, 90)
        assert np.abs(np.asarray(image).astype(int) - picture).max() < 6
