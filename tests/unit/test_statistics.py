import random

import numpy as np
import pytest

from kennel.images.preprocess import Preprocessing
from kennel.images.statistics import ChannelStatistics


def random_pixels(count, side=24):
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_mean_and_deviation_are_those_of_all_pixels():
    pixels = random_pixels(200)
    statistics = ChannelStatistics.of(pixels)
    whole = pixels.reshape(-1, 3).astype(np.float64) / 255
    assert statistics.mean == pytest.approx(whole.mean(axis=0), rel=1e-12)
    assert statistics.std == pytest.approx(whole.std(axis=0), rel=1e-12)


def test_parts_in_any_order_add_up_to_the_same_bits():
    pixels = random_pixels(150)
    whole = ChannelStatistics.of(pixels)
    for parts in (2, 3, 7, 150):
        shards = [ChannelStatistics.of(part) for part in np.array_split(pixels, parts)]
        random.Random(parts).shuffle(shards)
        merged = sum(shards, ChannelStatistics())
        assert merged == whole
        assert (merged.mean, merged.std) == (whole.mean, whole.std)


def test_sums_do_not_overflow_where_all_is_white():
    white = np.full((130, 32, 32, 3), 255, np.uint8)
    statistics = ChannelStatistics.of(white)
    assert statistics.squares == (130 * 32 * 32 * 255 * 255,) * 3
    assert statistics.mean == (1.0, 1.0, 1.0)


def test_a_channel_of_one_value_can_be_divided_by():
    pixels = random_pixels(4)
    pixels[..., 1] = 77
    statistics = ChannelStatistics.of(pixels)
    assert statistics.std[1] == 1.0
    normalized = Preprocessing(24, 24, statistics.mean, statistics.std).normalize(pixels)
    assert np.isfinite(normalized).all()
    assert np.abs(normalized[:, 1]).max() < 1e-6
    assert normalized[:, [0, 2]].std() == pytest.approx(1, abs=1e-3)
