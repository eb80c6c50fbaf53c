"""Clips of still images to look at before anything is packed: those that packing would write."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from stmdata.packing.clips import ClipJob, ClipMaker
from stmdata.packing.pack import SetPlan
from stmdata.synthesis.layers import Cutout
from stmtrain.errors import UsageError
from stmtrain.images.draw import ClipView
from stmtrain.preview.clips import Lazy
from stmtrain.preview.stored import origin_texts
from stmtrain.shards.arrays import decode_sample
from stmtrain.shards.sample import Sample, Skipped

_GREY = 60


def unpacked_clips(
    plans: Mapping[str, SetPlan], keys: Sequence[str] = ()
) -> Lazy[tuple[ClipView, ...]]:
    """Return the clips that sets would have, each made when it is asked for.

    Args:
        plans: By the name of their recipe, plans of clip sets which differ in the recipe alone; the
            same clip of each set is shown side by side.
        keys: Show only the clips with these sample keys, in this order.

    Returns:
        The clips in the order of the set. An image that gives no clip is a grey one, with the
        reason.

    Raises:
        UsageError: There is no clip with one of the keys.
    """
    makers = {name: _Maker(name, plan, alone=len(plans) == 1) for name, plan in plans.items()}
    first = next(iter(makers.values()))
    places = first.places(keys) if keys else range(len(first))
    return Lazy(len(places), lambda i: tuple(maker.view(places[i]) for maker in makers.values()))


class _Maker:
    """Makes clips of one plan in any order; the cut-outs of two shards stay in memory."""

    def __init__(self, name: str, plan: SetPlan, *, alone: bool) -> None:
        if not isinstance(plan.make, ClipMaker):
            raise TypeError(f"expected the plan of a clip set, found {type(plan.make).__name__}")
        self._name, self._make, self._alone = name, plan.make, alone
        self._shards: list[Sequence[ClipJob]] = [job.items for job in plan.jobs]
        self._cutouts = lru_cache(maxsize=2)(self._draw_cutouts)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def places(self, keys: Sequence[str]) -> list[int]:
        """Return the places of the clips with these keys."""
        known = {self._make.key(clip): i for i, clip in enumerate(self._clips())}
        for key in keys:
            if key not in known:
                example = next(iter(known), "of an empty set")
                raise UsageError(f"--key: no clip {key!r}; keys look like {example!r}")
        return [known[key] for key in keys]

    def view(self, place: int) -> ClipView:
        """Make the clip at a place of the set."""
        shard, inside = divmod(place, len(self._shards[0]))
        clip = self._shards[shard][inside]
        pool, lost = self._cutouts(shard)
        made, skipped = None, list(lost)
        for part in self._make.samples(clip, pool):
            if isinstance(part, Sample):
                made = part
            else:
                skipped.append(part)
        caption = self._make.key(clip) + ("" if self._alone else f" {self._name}")
        about = (f"seed {self._make.options.seed}", *_reasons(skipped))
        if made is None:
            name = self._make.source.name(clip.image)
            return self._no_clip(caption, (f"image {name}", f"recipe {self._name}", *about))
        arrays = decode_sample(made, caption)
        # Its own name says more than that of its family, which is stored.
        record = replace(made.record, origin={**made.record.origin, "recipe": self._name})
        return ClipView(
            caption,
            made.record.frames,
            list(arrays.frames),
            list(arrays.masks),
            made.record.object_ids,
            (*origin_texts(record), *about),
            list(made.frames.values()),
        )

    def _clips(self) -> Iterator[ClipJob]:
        for clips in self._shards:
            yield from clips

    def _draw_cutouts(self, shard: int) -> tuple[list[Cutout], list[Skipped]]:
        parts = list(self._make.cutouts(self._shards[shard]))
        cutouts = [part for part in parts if isinstance(part, Cutout)]
        return cutouts, [part for part in parts if isinstance(part, Skipped)]

    def _no_clip(self, caption: str, about: Sequence[str]) -> ClipView:
        options = self._make.options
        grey = np.full((options.size, options.size, 3), _GREY, np.uint8)
        names = [f"{t:05d}" for t in range(options.frames)]
        return ClipView(caption, names, [grey] * len(names), [None] * len(names), (), about)


def _reasons(skipped: Sequence[Skipped]) -> Iterator[str]:
    """Count what a clip does not show, by reason."""
    for reason, count in Counter(part.reason for part in skipped).items():
        yield f"skipped: {reason} ({count})"
