"""Appearance policies: what is drawn stays in its range and drifts; wrong policies are refused."""

import dataclasses

import numpy as np
import pytest

from stmdata.synthesis.appearance import apply_frame, draw_deformation
from stmdata.synthesis.appearance_policy import (
    LIGHT,
    NONE,
    POLICIES,
    STRONG,
    AppearancePolicy,
    draw_appearance,
    load_policy,
)
from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, to_mapping, to_toml
from tests.synthesis_inputs import EVERYTHING, picture


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_uses_one_number_of_the_generator_per_draw(name: str) -> None:
    rng, reference = np.random.default_rng(4), np.random.default_rng(4)
    draw_appearance(POLICIES[name], 7, rng)
    draw_deformation(POLICIES[name], 7, rng)
    reference.integers(2**63, size=2)
    assert rng.integers(2**63) == reference.integers(2**63)


def test_policies_are_read_by_name_and_from_toml(tmp_path) -> None:
    assert [load_policy(name) for name in ("none", "light", "strong")] == [NONE, LIGHT, STRONG]
    file = tmp_path / "mine.toml"
    file.write_text(to_toml(STRONG))
    assert load_policy(file) == STRONG
    file.write_text("hue = 3\njpeg = [20, 30]\n")
    assert load_policy(str(file)) == dataclasses.replace(LIGHT, hue=3.0, jpeg=(20, 30))
    assert from_mapping(AppearancePolicy, to_mapping(STRONG), "manifest") == STRONG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr = 1.0", "unknown field 'blurr'"),
        ("noise_p = 1.5", "noise_p: expected 0 to 1"),
        ("jpeg = [0, 50]", "jpeg: expected 1 to 100"),
        ("jpeg = [60, 50]", "jpeg: expected"),
        ("exposure = nan", "exposure: expected"),
        ("period = [10, inf]", "period: expected"),
        ("motion_max = 40", "motion_max: expected 0 to 19"),
        ("hue = 'red'", "hue: expected float"),
        ("hue = ", "expected a readable TOML file"),
    ],
)
def test_bad_policies_are_refused(tmp_path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        load_policy(file)
    assert str(file) in str(error.value)


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="none, light, strong or a TOML file"):
        load_policy("heavy")


def test_lighting_drifts_smoothly() -> None:
    policy = dataclasses.replace(EVERYTHING, noise_p=0.0, jpeg_p=0.0)
    fastest = 2 * np.pi / policy.period[0] * policy.drift
    moved = 0.0
    for seed in range(20):
        looks = draw_appearance(policy, 16, np.random.default_rng(seed))
        for name, reach in (("exposure", policy.exposure), ("hue", policy.hue)):
            track = np.array([getattr(look, name) for look in looks])
            assert np.abs(track).max() <= reach
            assert np.abs(np.diff(track)).max() <= fastest * reach
            assert np.abs(np.diff(track, 2)).max() <= fastest * 2 * np.pi / 8 * reach
            moved = max(moved, np.ptp(track) / reach)
        bright = np.array([apply_frame(look, picture(24)).mean() for look in looks])
        assert np.abs(np.diff(bright)).max() < 0.25 * bright.mean()
    assert moved > policy.drift  # it does drift


def test_ranges_are_used_and_kept() -> None:
    looks = [draw_appearance(EVERYTHING, 1, np.random.default_rng(i))[0] for i in range(300)]
    for name, low, high in (
        ("exposure", -STRONG.exposure, STRONG.exposure),
        ("saturation", 1 - STRONG.saturation, 1 + STRONG.saturation),
        ("shutter", *STRONG.shutter),
        ("jpeg", *STRONG.jpeg),
        ("defocus", STRONG.defocus * 0.2, STRONG.defocus),
        ("shade", STRONG.shade * 0.5, STRONG.shade),
    ):
        values = np.array([getattr(look, name) for look in looks])
        assert low <= values.min() < low + 0.25 * (high - low)
        assert high - 0.25 * (high - low) < values.max() <= high


def test_probabilities_are_per_clip() -> None:
    policy = dataclasses.replace(LIGHT, tone_p=0.0, noise_p=0.25, elastic_p=0.5, piecewise_p=0.0)
    clips = [draw_appearance(policy, 3, np.random.default_rng(i)) for i in range(400)]
    assert all(look.exposure == 0 for looks in clips for look in looks)
    noisy = [[look.noise != 0 for look in looks] for looks in clips]
    assert all(any(clip) == all(clip) for clip in noisy)
    assert 0.18 < np.mean([clip[0] for clip in noisy]) < 0.32
    bent = [draw_deformation(policy, 3, np.random.default_rng(i)) for i in range(400)]
    assert 0.4 < np.mean([d is not None for d in bent]) < 0.6
