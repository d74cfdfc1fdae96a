"""Pictures to look at: scenes, what the autoencoder and the VDVAE make of them, and what the UNet draws.

python gallery.py --out-file gallery.png
"""

import argparse
from pathlib import Path

import torch
from figures import World, samples
from PIL import Image
from scenes import Scenes
from torch import Tensor

from cortexflow.nn import pretrained
from cortexflow.nn.pixels import resize

COLUMNS = 12


@torch.no_grad()
def rows(world: World) -> list[Tensor]:
    """A row of pictures each: scenes, autoencoder, VDVAE with all and with half of its latents, then the UNet."""
    numbers = world.alone[:COLUMNS]
    images = world.scenes.pictures(numbers)
    found = [images]
    if (world.folder / "vdvae" / "config.json").is_file():
        network = world.load("vdvae")
        latents = network.encode(resize(images, (32, 32)))
        draw = torch.Generator().manual_seed(0)
        found += [resize(network.decode(latents[:count], generator=draw), (64, 64)) for count in (len(latents), len(latents) // 2)]
    drawn = samples(world, numbers)
    return [*found, drawn.pop("the scenes through the autoencoder"), *drawn.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--out", type=Path, default=pretrained.MINI, help="where the networks are")
    parser.add_argument("--out-file", type=Path, default=Path("gallery.png"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sheet = torch.cat([torch.cat(list(row), 2) for row in rows(World(Scenes(asked.work), asked.out))], 1)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(asked.out_file)


if __name__ == "__main__":
    main()
