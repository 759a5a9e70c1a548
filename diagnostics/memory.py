"""What a forward pass holds at least, by arithmetic, and what a machine has: too large an image is refused at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from diagnostics.layout import Layout, grid_of

if TYPE_CHECKING:
    from diagnostics.images.feed import ListedImage

FLOAT = 4  # bytes of a number in single precision
# Of a block's input, its norm, queries, keys and values, all of width D, every block holds each at one moment.
ROWS = 5
# Files in which Linux says what a group of processes may take: of cgroups v2 and v1.
GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class TokenModel(Protocol):
    """What arithmetic needs of a backbone, or of its outline."""

    @property
    def spec(self) -> str: ...
    @property
    def patch_size(self) -> tuple[int, int]: ...
    @property
    def prefix(self) -> int: ...
    @property
    def class_index(self) -> int | None: ...
    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...


@runtime_checkable
class HoldsPairs(Protocol):
    """A part that holds a number for every pair of tokens or patches, and so knows what it takes at least."""

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """Bytes that it holds at one moment for one image."""
        ...


def check_memory(
    model: TokenModel,
    listed: Iterable[ListedImage],
    parts: Sequence[Any] = (),
    *,
    device: str = "cpu",
    results: Callable[[Layout], int] | None = None,
    advice: str = "choose a smaller --size, such as short:336",
) -> None:
    """Refuses images that can't fit into the memory one at a time, in the size in which the network gets them.

    `parts` are what looks at the tokens; those that are HoldsPairs say what they hold. `results`: bytes of what is kept
    of an image. All are least numbers: an image that passes may still be too large.
    """
    sizes: dict[tuple[int, int], str] = {}
    for image in listed:
        if not image.reason:
            sizes.setdefault(image.size, image.name)
    largest = sorted(sizes, key=lambda size: -size[0] * size[1])
    memory = memory_of(device) if largest else 0
    for size in largest:
        layout = Layout(model.prefix, grid_of(size, model.patch_size), model.class_index)
        takes = {f"{type(part).__name__}": part.least_bytes(layout, model.heads) for part in _holders(parts)}
        takes["one block of the network"] = ROWS * layout.tokens * model.width * FLOAT
        if results is not None:
            takes["what is kept of the image"] = results(layout)
        worst = max(takes, key=lambda what: takes[what])
        if takes[worst] > memory:
            height, width = size
            raise ValueError(
                f"{sizes[size]}: at {width}x{height} pixels it is {layout.tokens:,} tokens of `{model.spec}`, for "
                f"which {worst} takes at least {readable_bytes(takes[worst])}; this {_place(device)} has "
                f"{readable_bytes(memory)}. Nothing was computed: {advice}."
            )


def _holders(parts: Sequence[Any]) -> list[HoldsPairs]:
    return [part for part in parts if isinstance(part, HoldsPairs)]


def _place(device: str) -> str:
    return "machine" if device == "cpu" else f"device ({device})"


def memory_of(device: str) -> int:
    """Bytes of memory of a GPU; on a CPU what the machine has, or this process may take of it."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[1])
    limits = [_physical()]
    with contextlib.suppress(ImportError, OSError):
        import resource

        limits += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    for file in GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    return min(limits)


def _physical() -> int:
    """Bytes of the machine; where it does not say, more than any has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**60


def readable_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it: `2.3 TB`, in powers of 1000."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB" if amount < 1000 else f"{amount:,.0f} TB"
