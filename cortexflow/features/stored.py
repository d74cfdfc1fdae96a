"""Features that stay on disk: rows are read when they are asked for, whatever they would weigh together."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features.table import rows_of
from cortexflow.storage import load_metadata

NEAR = 8  # rows apart that are read in one go


class StoredFeatures:
    """Levels of pictures by stimulus id, read from shards row by row: ``stored[ids]["layer3"]``.

    Token features of a whole study are 8 GB for 10,000 pictures × 257 × 768 numbers. A shard is compared with its
    checksum when it is first touched; memory holds one shard then, and afterwards only the rows that were asked for.

    Arguments:
        held: The ids in each shard.
        check: Raises where a shard is damaged; called once for each that is touched.
    """

    def __init__(self, held: Mapping[Path, Int[Tensor, " rows"]], check: Callable[[Path], object]) -> None:
        self._check, self._sound = check, set[Path]()
        self._paths = list(held)
        self._ids = torch.cat(list(held.values()))
        counts = [len(ids) for ids in held.values()]
        self._shard = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        self._row = torch.cat([torch.arange(count) for count in counts])

    def __len__(self) -> int:
        return len(self.stimuli)

    @property
    def stimuli(self) -> Int[Tensor, " stimuli"]:
        """Every id there is, sorted, each once."""
        return self._ids.unique()

    @property
    def levels(self) -> dict[str, int]:
        """Names of the levels and their columns, in the order in which the shards hold them."""
        order = load_metadata(self._paths[0])["levels"]
        with _opened(self._paths[0]) as file:
            return {name: file.get_slice(f"level.{name}").get_shape()[1] for name in order}

    def __getitem__(self, stimuli: Int[Tensor, " asked"]) -> dict[str, Float[Tensor, "asked _"]]:
        """The rows of these stimuli, in this order, repeats allowed.

        Raises:
            CortexflowError: A stimulus is not there.
            DamagedFileError: A shard that is needed does not match its checksum.
        """
        return self.read(stimuli)

    def read(self, stimuli: Int[Tensor, " asked"], level: str | None = None) -> dict[str, Float[Tensor, "asked _"]]:
        """As ``stored[stimuli]``, of one level alone where it is named.

        Raises:
            CortexflowError: A stimulus or the level is not there.
            DamagedFileError: A shard that is needed does not match its checksum.
        """
        sizes = self.levels
        if level is not None and level not in sizes:
            raise CortexflowError(f"there is no level {level!r}; choose one of {', '.join(sizes)}")
        where = rows_of(stimuli.cpu().long(), self._ids)
        if (where < 0).any():
            missing = stimuli[where < 0].unique().tolist()
            raise CortexflowError(f"no features for stimulus {missing[0]} ({len(missing)} of those asked); open them with every picture")
        wanted = list(sizes) if level is None else [level]
        result = {name: torch.empty(len(where), sizes[name]) for name in wanted}
        for shard in self._shard[where].unique().tolist():
            self._copy(self._paths[shard], self._shard[where] == shard, self._row[where], result)
        return result

    def batches(self, size: int, stimuli: Int[Tensor, " stimuli"] | None = None) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Ids and rows, ``size`` pictures at a time, each picture once and shard after shard where no order is given."""
        for ids in (self._ids if stimuli is None else stimuli).split(size):
            yield ids, self[ids]

    def _copy(self, path: Path, mine: Bool[Tensor, " asked"], rows: Int[Tensor, " asked"], result: dict[str, Tensor]) -> None:
        """The rows of one shard to their places."""
        if path not in self._sound:
            self._check(path)
            self._sound.add(path)
        with _opened(path) as file:
            for start, stop in _runs(rows[mine].unique().tolist()):
                here = mine & (rows >= start) & (rows < stop)
                for name, values in result.items():
                    values[here] = file.get_slice(f"level.{name}")[start:stop][rows[here] - start]


class StoredLevels(Mapping[str, Tensor]):
    """The levels of several extractors for some pictures, ``clip.layer3``; each is read when it is asked for and then let go.

    Arguments:
        stored: Features by extractor.
        stimuli: The pictures, in the order of the rows.
    """

    def __init__(self, stored: Mapping[str, StoredFeatures], stimuli: Int[Tensor, " stimuli"]) -> None:
        self._stored, self._stimuli = stored, stimuli
        self._names = {f"{name}.{level}": (name, level) for name, features in stored.items() for level in features.levels}

    def __getitem__(self, name: str) -> Float[Tensor, "stimuli _"]:
        extractor, level = self._names[name]
        return self._stored[extractor].read(self._stimuli, level)[level]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error}); open the features again, what is missing will be computed") from error


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Stretches of ascending rows with small gaps.

    Example:
        >>> list(_runs([0, 1, 3, 90]))
        [(0, 4), (90, 91)]
    """
    start = previous = rows[0]
    for row in rows[1:]:
        if row > previous + NEAR:
            yield start, previous + 1
            start = row
        previous = row
    yield start, previous + 1
