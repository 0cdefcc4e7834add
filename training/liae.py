"""The autoencoder with one decoder for both people. Batches in, pictures out.

Note [Two inters]
    After DeepFaceLab's LIAE: two dense bottlenecks, called inters, sit between the encoder and a single decoder that
    reads two code maps. The identity is painted from [AB, AB], the performer from [B, AB]. Inter AB sees both people,
    so it learns what they have in common; inter B sees the performer alone and may keep what is only theirs. A swap
    feeds AB twice. All features of a face are learned from both people's pictures, which one decoder for each person
    does not do; but what tells the two apart has to pass through the codes, so less of the performer's own shape is
    kept out of the swap. Blocks, sizes, grey world, cloud of codes and mask head are those of training.model.

Everything is NCHW, BGR, [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import SLOPE, CodeStatistics, Decoder, Encoder, MaskHead, ModelConfig, Painted, Side, SwapModel


class Inter(nn.Module):
    """The coarsest map of the encoder (N, C, r, r) -> a dense code -> the (N, code_channels, r, r) map of it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.side = config.bottleneck
        flat = config.code_channels * self.side**2
        self.squeeze = nn.Conv2d(config.encoder[-1], config.code_channels, 1)
        self.to_code, self.from_code = nn.Linear(flat, config.code), nn.Linear(config.code, flat)

    def forward(self, x: Tensor) -> Tensor:
        code = self.to_code(self.squeeze(x).flatten(1))
        unfolded: Tensor = F.leaky_relu(self.from_code(code), SLOPE)
        return unfolded.view(-1, self.squeeze.out_channels, self.side, self.side)


class LiaeAutoencoder(SwapModel):
    """Family `liae`, see Note [Two inters]. The encoder's own code is inter AB's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.inter_b = Inter(config)
        self.decoder = Decoder(replace(config, code_channels=2 * config.code_channels))
        self.mask_head = MaskHead(config)
        self.statistics = CodeStatistics(config.code)

    def paint(self, faces: Tensor, side: Side, people: Tensor | None = None) -> tuple[Painted, Tensor, Tensor | None]:
        maps, code = self.encoder.encode(faces)
        common = self.encoder.unfold(code)
        own = common if side == "identity" else self.inter_b(maps[-1])
        painted: Painted = self.decoder(torch.cat([own, common], dim=1))
        return painted, self.mask_head(maps), code
