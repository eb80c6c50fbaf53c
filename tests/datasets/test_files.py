"""Names of files: the order of frames, whatever their numbers look like."""

from hypothesis import given
from hypothesis import strategies as st

from stmtrain.datasets.files import list_images, natural_key
from tests.datasets.trees import touch
from tests.profiles import examples

NUMBERS = st.lists(st.lists(st.integers(0, 120), min_size=2, max_size=2), min_size=2, max_size=20)


@given(NUMBERS, st.sampled_from(["{}_{}", "a{}-b{}", "{:03d}x{}", "f{:05d}_{:05d}.x"]))
@examples(40)
def test_names_sort_by_every_number_in_them_with_or_without_zeros(numbers, pattern):
    names = [pattern.format(*pair) for pair in numbers]
    assert sorted(names, key=natural_key) == [pattern.format(*pair) for pair in sorted(numbers)]


@given(st.lists(st.text(st.sampled_from("0129ab_-"), max_size=6), max_size=12))
@examples(60)
def test_any_names_have_an_order(names):
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def test_images_are_listed_in_that_order(tmp_path):
    names = [f"{a}_{b}" for a in (9, 10) for b in range(1, 13)]
    touch(tmp_path, [f"{name}.jpg" for name in reversed(names)])
    assert list(list_images(tmp_path, (".jpg",))) == names
