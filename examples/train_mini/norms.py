"""Group normalisation that learns faster on a processor: the same numbers, a gradient written for channels that lie last in memory.

torch's own gradient took two fifths of a step of the autoencoder.
"""

import torch
from torch import Tensor, nn


def quicken(network: nn.Module) -> None:
    """Give every group normalisation of the network the quick gradient; nothing that is saved changes."""
    for part in network.modules():
        if type(part) is nn.GroupNorm:
            part.__class__ = QuickNorm


class QuickNorm(nn.GroupNorm):
    """Takes what ``nn.GroupNorm`` takes, of four dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        return _Normalise.apply(input, self.weight, self.bias, self.num_groups, self.eps)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        x = x.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = x.shape
        y, mean, scale = torch.native_group_norm(x, weight.to(x.dtype), bias.to(x.dtype), count, channels, height * width, groups, eps)
        ctx.save_for_backward(x, mean, scale, weight)
        return y

    @staticmethod
    def backward(ctx, slope):
        r"""With :math:`\hat x = (x - m) s` and slope :math:`g`: :math:`s (w g - \overline{w g} - \hat x \overline{w g \hat x})`, means over a group.

        That is one multiple of the slope, one of x and a constant for each channel, so two passes over the picture do.
        """
        x, mean, scale, weight = ctx.saved_tensors
        count, channels, height, width = x.shape
        repeats = channels // mean.shape[1]
        rows, slopes = _rows(x), _rows(slope.contiguous(memory_format=torch.channels_last))
        mean, scale = mean.float().repeat_interleave(repeats, 1), scale.float().repeat_interleave(repeats, 1)
        plain = _over_places(slopes, channels)
        along = (_over_places(slopes * rows, channels) - plain * mean) * scale

        def grouped(sums):
            return ((sums * weight).unflatten(1, (-1, repeats)).sum(2) / (height * width * repeats)).repeat_interleave(repeats, 1)

        def row(factors):  # one factor per channel, as long as a row: long runs of memory are what is fast
            return factors.to(x.dtype).repeat(1, width)[:, None]

        of_x = -scale.square() * grouped(along)
        constant = -scale * grouped(plain) - of_x * mean
        found = torch.addcmul(row(constant), slopes, row(scale * weight)).addcmul_(rows, row(of_x))
        return found.view(count, height, width, channels).permute(0, 3, 1, 2), along.sum(0), plain.sum(0), None, None


def _rows(x: Tensor) -> Tensor:
    """Pictures × rows × (places × channels), without copying."""
    count, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(count, height, width * channels)


def _over_places(rows: Tensor, channels: int) -> Tensor:
    return rows.sum(1).unflatten(1, (-1, channels)).sum(1, dtype=torch.float32)
