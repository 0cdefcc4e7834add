"""The peers' networks have the published sizes, keep the promises of a SwapModel, and learn."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from training.config import load_recipe
from training.model import SIDES, ModelConfig, SwapModel
from training.models import build_model, count_parameters
from training.peer_models import SubPixels, pixel_norm

SMALL = {
    "df-ud": ModelConfig("df-ud", 32, (4, 8, 8), code_channels=6, code=12, decoder=(6, 16, 8), mask_width=2),
    "faceswap-lightweight": ModelConfig("faceswap-lightweight", 32, (4, 8, 8), 6, 12, (16, 8, 4)),
    "faceswap-original": ModelConfig("faceswap-original", 32, (4, 8, 8, 8), 6, 12, (8, 8, 8, 4)),
}
FLOAT32 = 1e-6
"""Norms of a dozen numbers near 1."""


def small(family: str) -> SwapModel:
    torch.manual_seed(0)
    return build_model(SMALL[family])


def on_paper(preset: str) -> SwapModel:
    """The model of a recipe without memory for its weights."""
    with torch.device("meta"):
        return build_model(load_recipe(preset).model)


def faces(count: int = 2, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("df-ud-256", 82.8), ("df-ud-128", 54.5), ("faceswap-lightweight", 51.1), ("faceswap-original", 82.1)],
)
def test_recipes_have_the_published_number_of_parameters(preset: str, millions: float) -> None:
    assert round(count_parameters(on_paper(preset)) / 1e6, 1) == millions


@pytest.mark.parametrize(("part", "millions"), [("encoder", 4.31), ("inter", 40.13), ("decoders", 2 * 19.1813)])
def test_df_ud_256_has_the_published_parts(part: str, millions: float) -> None:
    module = on_paper("df-ud-256").get_submodule(part)
    assert count_parameters(module) / 1e6 == pytest.approx(millions, abs=0.005)


def test_original_has_the_published_parts() -> None:
    model = on_paper("faceswap-original")
    decoders = count_parameters(model.get_submodule("decoders"))
    assert round(decoders / 2e6, 1) == 6.2
    assert round((count_parameters(model) - decoders) / 1e6, 1) == 69.7


@pytest.mark.parametrize("family", SMALL)
def test_both_sides_paint_in_range_and_differ(family: str) -> None:
    model = small(family)
    pictures = []
    for side in SIDES:
        painted, mask = model(faces(), side)
        assert painted.face.shape == (2, 3, 32, 32)
        assert painted.mask.shape == mask.shape == (2, 1, 32, 32)
        assert 0 <= painted.face.min() <= painted.face.max() <= 1
        pictures.append(painted.face)
    assert not torch.equal(*pictures)


@pytest.mark.parametrize("family", SMALL)
def test_painting_teaches_the_shared_half_and_the_own_decoder_only(family: str) -> None:
    model = small(family)
    painted, mask, code = model.paint(faces(), "identity")
    (painted.face.square().mean() + mask.mean() + painted.mask.mean()).backward()  # type: ignore[no-untyped-call]
    taught = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert code is None
    assert taught == {name for name, _ in model.named_parameters() if ".performer." not in f".{name}"}


def test_the_mask_of_a_df_ud_swap_is_the_performers() -> None:
    model = small("df-ud")
    swapped, mask = model(faces(), "identity")
    assert torch.equal(mask, model(faces(), "performer")[0].mask)
    assert not torch.equal(mask, swapped.mask)


def test_df_ud_trains_each_decoder_on_its_own_mask() -> None:
    model = small("df-ud")
    painted, mask, _ = model.paint(faces(), "identity")
    assert mask is painted.mask
    assert torch.equal(mask, model(faces(), "identity")[0].mask)


@pytest.mark.parametrize("family", ["faceswap-lightweight", "faceswap-original"])
def test_faceswap_masks_nothing(family: str) -> None:
    painted, mask = small(family)(faces(), "identity")
    assert bool((mask == 1).all())
    assert bool((painted.mask == 1).all())


def test_pixel_norm_leaves_direction_and_brings_the_mean_square_to_one() -> None:
    code = torch.tensor([[3.0, 4.0, 0.0], [1e-2, 0.0, 0.0]])
    normal = pixel_norm(code)
    assert normal.square().mean(dim=1).tolist() == pytest.approx([1.0, 1e-4 / (1e-4 + 3e-6)], rel=FLOAT32)
    assert float(normal[0, 1] / normal[0, 0]) == pytest.approx(4 / 3)


def test_each_sub_pixel_convolution_paints_one_of_four_pixels() -> None:
    exit_ = SubPixels(2)
    phases = cast("list[nn.Conv2d]", list(exit_.phases))
    with torch.no_grad():
        for value, phase in enumerate(phases):
            phase.weight.zero_()
            assert phase.bias is not None
            phase.bias.copy_(torch.arange(3) * 10 + value)
    picture = exit_(torch.zeros(1, 2, 3, 3))
    assert picture[0, :, :2, :2].tolist() == [[[c, c + 1], [c + 2, c + 3]] for c in (0, 10, 20)]
    assert torch.equal(picture[..., 2:, 2:], picture[..., :-2, :-2])
    assert [phase.kernel_size for phase in phases] == [(1, 1), (3, 3), (3, 3), (3, 3)]


def test_weights_start_within_the_bounds_of_glorot_and_he() -> None:
    layer = small("df-ud").get_submodule("decoders.identity.ups.0.conv").weight
    glorot = (6 / (9 * (6 + 64))) ** 0.5
    assert isinstance(layer, Tensor)
    assert 0.95 * glorot < float(layer.detach().abs().max()) <= glorot
    layer = small("faceswap-lightweight").get_submodule("decoders.identity.0.conv").weight
    he = (6 / (9 * 6)) ** 0.5
    assert isinstance(layer, Tensor)
    assert 0.95 * he < float(layer.detach().abs().max()) <= he


@pytest.mark.parametrize("family", ["df-ud", "faceswap-lightweight"])
def test_a_resolution_without_a_map_below_the_bottleneck_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match="is not a multiple of 64"):
        build_model(ModelConfig(family, 32, (4,) * 5, 6, 12, (4,) * 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", SMALL)
def test_they_learn_a_picture(family: str) -> None:
    model = small(family)
    wanted = faces()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = (model.paint(wanted, "performer")[0].face - wanted).abs().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
