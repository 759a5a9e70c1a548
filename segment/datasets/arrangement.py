"""How a data set lies on disk: images and label maps that belong together by name, found below a root."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from diagnostics.below import leads_out
from diagnostics.images import FileError
from diagnostics.images.file_names import plain_name, spellings
from segment.datasets.codes import Codes

# Ends of names that conversion scripts add to a label map's own: with the plain suffix `.png` these are not meant.
# Sources: cityscapesScripts; mmsegmentation's converters; GroupViT's for COCO-Object.
DERIVED = ("TrainIds", "_labelIds", "_instanceIds", "_color")


class DatasetError(FileError):
    """A folder that does not hold the data set, or not all of it."""


class LabeledImage(NamedTuple):
    """An image and the place of its label map, which may turn out to be empty."""

    name: str
    image: str
    mask: str


@dataclass(frozen=True)
class Listing:
    """The pairs of a data set, how their label maps are to be read, and label maps whose image is missing."""

    pairs: tuple[LabeledImage, ...]
    codes: Codes
    complete: int  # images that have their label map
    orphans: tuple[str, ...] = ()
    variable: str = ""
    base: Path = Path()
    arrangement: Arrangement | None = None


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """One way in which a data set may lie on disk: IMAGES/id.jpg belongs to MASKS/id.png.

    Folders are relative to the root. `deep`: ids have sub-folders in them, `city/city_000000`. `listed_by`: what says
    which ids there are: a file with one a line, found under the first of `lists` that exists, or the images or label
    maps that are there. `variable` is the array's name where label maps are .mat files.
    """

    images: str
    masks: str
    codes: Codes
    image_suffix: str = ".jpg"
    mask_suffix: str = ".png"
    lists: tuple[str, ...] = ()
    listed_by: Literal["list", "images", "masks"] = "images"
    deep: bool = False
    variable: str = ""

    def __str__(self) -> str:
        below = "*/" if self.deep else ""
        places = [f"{self.images}/{below}*{self.image_suffix}", f"{self.masks}/{below}*{self.mask_suffix}"]
        return " + ".join(places + list(self.lists[:1]))

    def same_masks(self, other: Arrangement) -> bool:
        """Whether both have their label maps in the same places."""
        return (self.masks, self.mask_suffix) == (other.masks, other.mask_suffix)

    def at(self, base: Path) -> Listing:
        """What is there below `base`.

        DatasetError for a list that is missing or empty, names an id twice, or one that leads out of the folders.
        """
        masks_at, images_at = base / self.masks, base / self.images
        masks = set(self._ids(masks_at, self.mask_suffix))
        images = set(self._ids(images_at, self.image_suffix))
        if self.listed_by == "list":
            ids = self._listed(base)
        else:
            ids = sorted(images if self.listed_by == "images" else masks)
        pairs = tuple(
            LabeledImage(
                name,
                f"{images_at}/{_spelled(name, images)}{self.image_suffix}",
                f"{masks_at}/{_spelled(name, masks)}{self.mask_suffix}",
            )
            for name in ids
        )
        alone = sorted(name for name in masks if _spelled(name, images) not in images)
        orphans = tuple(f"{masks_at}/{name}{self.mask_suffix}" for name in alone)
        complete = sum(_spelled(name, masks) in masks for name in ids)
        return Listing(pairs, self.codes, complete, orphans, self.variable, base, self)

    def _ids(self, folder: Path, suffix: str) -> Iterator[str]:
        """Names of the files that end in `suffix`, without it; hidden ones are left out."""
        walk = os.walk(folder, followlinks=True) if self.deep else list(os.walk(folder, followlinks=True))[:1]
        for place, _, files in walk:
            below = Path(place).relative_to(folder).as_posix()
            start = "" if below == "." else f"{below}/"
            for file in files:
                stem = file.removesuffix(suffix)
                if stem != file and not file.startswith(".") and not stem.endswith(DERIVED):
                    yield start + stem

    def _listed(self, base: Path) -> list[str]:
        path = next((base / name for name in self.lists if (base / name).is_file()), base / self.lists[0])
        if not path.is_file():
            advice = "Unpack the data set again, or write the ids into it, one a line, without suffix"
            raise DatasetError(path, "is missing; it says which images are to be scored", advice)
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DatasetError(path, f"is no text in UTF-8 ({error})", "Write it again in UTF-8") from error
        ids = [line.split()[0] for line in lines if line.strip()]
        if not ids:
            raise DatasetError(path, "is empty; it should name the images, one a line", "Fetch it again")
        for name in ids:
            if reason := leads_out(name):
                advice = "Take it out: the list names images below the folders of the data set, without suffix"
                raise DatasetError(path, f"names `{name}`, which {reason}", advice)
        plain = [plain_name(name) for name in ids]
        if len(set(plain)) < len(ids):
            twice = next(name for number, name in enumerate(ids) if plain[number] in plain[:number])
            raise DatasetError(path, f"names `{twice}` twice", "Take one out: an image counts once")
        return ids


def _spelled(name: str, files: Set[str]) -> str:
    """The name with composed or decomposed letters, as the one of `files` has it; as it is where none has."""
    return next((spelling for spelling in spellings(name) if spelling in files), name)


def find(root: str | Path, arrangements: Sequence[Arrangement], *, title: str, below: Sequence[str] = ("",)) -> Listing:
    """The arrangement that is there, below `root` or one of its sub-folders `below`.

    Of several, the one with the most label maps; of equals, the first. DatasetError for a root that is not a
    directory, one without any of them, and images none of which has its label map.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DatasetError(
            root, "is not a directory", f"Give with root the folder that holds {title}: {arrangements[0]}"
        )
    listings: list[Listing] = []
    troubles: list[DatasetError] = []
    for base in (root / name for name in below):
        for arrangement in arrangements:
            if (base / arrangement.images).is_dir() and (base / arrangement.masks).is_dir():
                try:
                    listings.append(arrangement.at(base))
                except DatasetError as trouble:
                    troubles.append(trouble)
    listings = [listing for listing in listings if listing.pairs]
    if not listings and troubles:
        raise troubles[0]
    if not listings:
        entries = sorted(entry.name for entry in root.iterdir())
        contents = ", ".join(entries[:6]) + (", …" if len(entries) > 6 else "") if entries else "nothing"
        ways = "; or ".join(dict.fromkeys(map(str, arrangements)))
        inside = f" (or in it: {', '.join(name for name in below if name)})" if any(below) else ""
        half = _half(root, arrangements, below)
        raise DatasetError(
            root,
            f"does not hold {title}: it holds {contents}{half}",
            f"Give the folder{inside} that has {ways}",
        )
    best = max(listings, key=lambda listing: listing.complete)
    if not best.complete:
        raise DatasetError(
            Path(best.pairs[0].mask).parent,
            f"has no label map for any of the {len(best.pairs)} images of {title}; the first should be "
            f"{best.pairs[0].mask}",
            "Unpack the annotations there, or give the root that holds both",
        )
    return best


def _half(root: Path, arrangements: Sequence[Arrangement], below: Sequence[str]) -> str:
    """Says so where only the images or only the label maps are there."""
    for base in (root / name for name in below):
        for arrangement in arrangements:
            places = {"images": base / arrangement.images, "label maps": base / arrangement.masks}
            existing = [what for what, place in places.items() if place.is_dir()]
            if len(existing) == 1:
                missing = next(place for what, place in places.items() if what not in existing)
                return f"; the {existing[0]} are there, but {missing} is not"
            if existing and arrangement.listed_by != "list":
                return f"; {places['images']} has no *{arrangement.image_suffix}"
    return ""
