"""The networks have the shapes, the sizes and the quiet start that they promise."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.tiny_run import TINY
from training.config import list_recipes, load_recipe
from training.model import (
    CodeStatistics,
    Decoder,
    FaceAutoencoder,
    ModelConfig,
    Residual,
    Side,
    Up,
)
from training.models import count_macs, count_parameters

LIGHT_MACS = 0.60e9
"""Budget of one swap with light-128: real time on two processor cores."""
ROUNDING = 1e-5
"""Equal weights in another place of the kernel: float32 sums in another order."""
RECIPES = list_recipes()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.name for recipe in RECIPES])
def test_every_recipe_makes_a_model_that_paints_its_resolution(recipe: object) -> None:
    config = next(each for each in RECIPES if each is recipe).model
    with torch.device("meta"):  # shapes without arithmetic
        model = FaceAutoencoder(config)
        size = config.resolution
        maps, code = model.encoder(torch.zeros(2, 3, size, size))
        painted, input_mask = model(torch.zeros(2, 3, size, size), "identity")
    assert [tuple(x.shape) for x in maps] == [
        (2, width, size >> level, size >> level) for level, width in enumerate(config.encoder, start=1)
    ]
    assert code.shape == (2, config.code_channels, config.bottleneck, config.bottleneck)
    assert painted.face.shape == (2, 3, size, size)
    assert painted.mask.shape == input_mask.shape == (2, 1, size, size)


def test_pictures_and_masks_lie_between_nothing_and_one_and_are_float32() -> None:
    model = FaceAutoencoder(TINY.model)
    wild = torch.randn(2, 3, 32, 32) * 100
    with torch.autocast("cpu", torch.bfloat16):
        painted, input_mask = model(wild, "performer")
    for picture in (painted.face, painted.mask, input_mask):
        assert picture.dtype == torch.float32
        assert 0 <= float(picture.detach().min()) <= float(picture.detach().max()) <= 1


def test_a_fresh_model_paints_grey() -> None:
    painted, _ = FaceAutoencoder(TINY.model)(torch.rand(4, 3, 32, 32), "identity")
    assert float((painted.face.detach() - 0.5).abs().mean()) < 0.15


def test_a_residual_block_starts_as_the_identity_of_what_passed_an_activation() -> None:
    x = torch.rand(1, 6, 8, 8)
    assert torch.equal(Residual(6)(x), x)


def test_doubling_the_size_starts_without_a_checkerboard() -> None:
    y = Up(5, 3)(torch.rand(1, 5, 8, 8))
    assert y.shape == (1, 3, 16, 16)
    corners = [y[..., i::2, j::2].detach() for i in (0, 1) for j in (0, 1)]
    assert all(torch.allclose(corner, corners[0], atol=ROUNDING) for corner in corners)
    assert float(corners[0].std()) > 100 * ROUNDING


def test_a_whole_decoder_starts_without_a_checkerboard_too() -> None:
    painted = Decoder(TINY.model)(torch.rand(1, TINY.model.code_channels, 8, 8))
    assert torch.allclose(painted.face[..., ::2, ::2], painted.face[..., 1::2, 1::2], atol=ROUNDING)


def test_the_two_decoders_share_the_code_and_nothing_else() -> None:
    model = FaceAutoencoder(TINY.model)
    faces = torch.rand(1, 3, 32, 32)
    (identity, mask_a), (performer, mask_b) = model(faces, "identity"), model(faces, "performer")
    assert not torch.equal(identity.face, performer.face)
    assert torch.equal(mask_a, mask_b)  # of the input, whoever paints
    model(faces, "identity")[0].face.mean().backward()
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and "decoders" in name}
    assert trained == {"identity"}


def test_the_painting_depends_on_the_code_alone() -> None:
    """No shortcut around the code: the performer's pixels cannot reach the painting."""
    model = FaceAutoencoder(TINY.model)
    with torch.no_grad():
        model.encoder.from_code.weight.zero_()
    first, second = (model(torch.rand(1, 3, 32, 32), "identity")[0].face for _ in range(2))
    assert torch.equal(first, second)


def test_light_128_keeps_its_budget() -> None:
    assert 0.4e9 < count_macs(load_recipe("light-128").model) <= LIGHT_MACS


@pytest.mark.parametrize("name", ["light-128", "df-256"])
def test_a_recipe_says_how_much_arithmetic_it_takes(name: str) -> None:
    recipe = load_recipe(name)
    said = re.search(r"([\d.]+) GMAC", recipe.about)
    assert said is not None
    assert count_macs_on_meta(recipe.model) / 1e9 == pytest.approx(float(said[1]), rel=0.05)


def count_macs_on_meta(config: ModelConfig) -> int:
    with torch.device("meta"):
        return count_macs(config)


def test_multiplications_are_counted_as_by_hand() -> None:
    config = ModelConfig(resolution=32, encoder=(2,), code_channels=1, code=3, decoder=(4,), residuals=0)
    half = 16 * 16
    encoder = half * 2 * 3 * 25 + 2 * (half * 2 * 2 * 9) + half * 1 * 2 + 2 * (half * 3)
    decoder = half * 4 * 1 * 9 + half * 16 * 4 * 9
    mask_head = half * 16 * 2 + half * 4 * 16 * 9
    assert count_macs(config) == encoder + decoder + mask_head


def test_parameters_are_counted() -> None:
    assert count_parameters(nn.Linear(3, 4)) == 16


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"encoder": (8, 16, 32)}, "3 halvings need as many doublings, got 2"),
        ({"encoder": (), "decoder": ()}, "at least one width"),
        ({"resolution": 34}, "34 is not a multiple of 4"),
        ({"resolution": 16}, "resolution is 32 to 1024, got 16"),
        ({"resolution": 0}, "resolution is 32 to 1024, got 0"),
        ({"code": 0}, "every width must be at least 1"),
        ({"encoder": (8, -1)}, "every width must be at least 1"),
        ({"residuals": -1}, "every width must be at least 1"),
        ({"code": 10**9}, "no width is above 16384"),
        ({"residuals": 10**9}, "at most 16384 residual blocks"),
    ],
)
def test_sizes_that_make_no_model_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(TINY.model, **changes)  # type: ignore[arg-type]  # on purpose


def test_the_running_statistics_come_to_know_both_clouds_of_codes() -> None:
    statistics, draw = CodeStatistics(3), torch.Generator().manual_seed(0)
    mix = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    for _ in range(600):
        statistics.update(torch.randn(16, 3, generator=draw) @ mix.T + 5, "performer")
        statistics.update(torch.randn(16, 3, generator=draw), "identity")
    torch.testing.assert_close(statistics.mean[1], torch.full((3,), 5.0), atol=0.3, rtol=0)
    torch.testing.assert_close(statistics.covariance[1], mix @ mix.T, atol=0.6, rtol=0)
    torch.testing.assert_close(statistics.mean[0], torch.zeros(3), atol=0.15, rtol=0)
    torch.testing.assert_close(statistics.covariance[0], torch.eye(3), atol=0.3, rtol=0)
    assert statistics.updates.tolist() == [600, 600]


def test_the_start_values_of_the_statistics_are_soon_forgotten() -> None:
    statistics = CodeStatistics(2)
    statistics.update(torch.tensor([[7.0, -3.0], [9.0, -3.0]]), "identity")
    torch.testing.assert_close(statistics.mean[0], torch.tensor([8.0, -3.0]))
    torch.testing.assert_close(statistics.covariance[0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert statistics.trust() == 0


GROWING = ModelConfig(resolution=32, encoder=(8, 16), code_channels=8, code=16, decoder=(16, 8), grows=True)
GROWN_TOLERANCE = 0.06
"""The finest level starts with a second leaky slope on what it takes over, a tenth of what is negative."""


def test_a_growing_model_paints_half_pictures_and_shows_them_enlarged() -> None:
    model, faces = FaceAutoencoder(GROWING).eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        half, half_mask, _ = model.paint(F.avg_pool2d(faces, 2), "identity")
        full, full_mask = model(faces, "identity")
    assert half.face.shape == (2, 3, 16, 16)
    assert half_mask.shape == (2, 1, 16, 16)
    assert full.face.shape == (2, 3, 32, 32)
    assert full_mask.shape == (2, 1, 32, 32)


def test_the_first_full_picture_of_a_grown_model_is_the_half_one() -> None:
    torch.manual_seed(0)
    model, half = FaceAutoencoder(GROWING).eval(), torch.rand(2, 3, 16, 16)
    full = F.interpolate(half, scale_factor=2.0)
    with torch.no_grad():
        before, mask_before, _ = model.paint(half, "performer")
        model.grow()
        after, mask_after, _ = model.paint(full, "performer")
    assert not model.small
    torch.testing.assert_close(F.avg_pool2d(after.face, 2), before.face, atol=GROWN_TOLERANCE, rtol=0)
    torch.testing.assert_close(F.avg_pool2d(mask_after, 2), mask_before, atol=ROUNDING, rtol=0)


def test_whether_a_model_has_grown_travels_with_its_weights() -> None:
    grown, fresh = FaceAutoencoder(GROWING), FaceAutoencoder(GROWING)
    grown.grow()
    fresh.load_state_dict(grown.state_dict())
    assert not fresh.small


def test_the_performers_decoder_is_told_whom_it_paints_and_the_identitys_is_not() -> None:
    torch.manual_seed(0)
    model, faces = FaceAutoencoder(replace(GROWING, grows=False, people=3)).eval(), torch.rand(1, 3, 32, 32)
    sides: tuple[tuple[Side, bool], ...] = (("performer", True), ("identity", False))
    with torch.no_grad():
        for side, differs in sides:
            (first, _, code), (second, _, same) = (model.paint(faces, side, torch.tensor([who])) for who in (0, 2))
            assert code is not None
            assert same is not None
            assert torch.equal(code, same)  # the code does not say it
            assert torch.equal(first.face, second.face) is not differs


def test_peers_networks_neither_grow_nor_tell_people_apart() -> None:
    with pytest.raises(ValueError, match="neither grow nor tell people apart"):
        ModelConfig(family="df-ud", people=2)
