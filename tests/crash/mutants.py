"""Handlers that do a step of the protocol wrongly, as somebody might who changes it."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from sealwax import effects as e
from sealwax.effect_handlers import Handler

Fits: TypeAlias = Callable[[e.Effect], bool]
_TOKEN = re.compile(r"[0-9a-f]{32}")


def label(effect: e.Effect) -> str:
    """What an effect does, the same in every run."""
    where = getattr(effect, "path", None) or getattr(effect, "directory", "")
    return f"{type(effect).__name__} {_TOKEN.sub('*', where)}"


def numbered(effects: Iterable[e.Effect]) -> list[tuple[str, int]]:
    """The labels of effects, each with how often it came before."""
    seen: collections.Counter[str] = collections.Counter()
    found: list[tuple[str, int]] = []
    for effect in effects:
        found.append((label(effect), seen[label(effect)]))
        seen[label(effect)] += 1
    return found


def only(name: str, number: int) -> Fits:
    """Fits the effect of this label that has so many of it before it."""
    left = itertools.count()
    return lambda effect: label(effect) == name and next(left) == number


def is_sync(effect: e.Effect) -> bool:
    return isinstance(effect, (e.SyncDirectory, e.SyncTree)) or getattr(effect, "sync", False)


def is_seal(effect: e.Effect) -> bool:
    return isinstance(effect, (e.Rename, e.Exchange))


class Mutant(Handler):
    """A handler that counts how often it struck: one that never does shows nothing."""

    hits = 0


class Unsynced(Mutant):
    """Leaves out the sync of the effects that fit; or does it late, after another effect."""

    def __init__(self, fits: Fits, until: Fits | None = None) -> None:
        self.fits, self.until = fits, until
        self.root = ""

    async def perform(self, effect, forward) -> Any:
        match effect:
            case e.MakeDirectory(lease=True):
                self.root = effect.path
            case e.Rename(target=path) | e.Exchange(second=path):
                self.root = path
            case _ if is_sync(effect) and self.fits(effect):
                self.hits += 1
                if isinstance(effect, (e.SyncDirectory, e.SyncTree)):
                    return None
                return await forward(dataclasses.replace(effect, sync=False))
        answer = await forward(effect)
        if self.until is not None and self.until(effect):
            await forward(e.DigestTree(path=self.root, sync=True))
        return answer


class Late(Mutant):
    """Does what fits only after another effect."""

    def __init__(self, fits: Fits, until: Fits) -> None:
        self.fits, self.until = fits, until
        self.late: list[e.Effect] = []

    async def perform(self, effect, forward) -> Any:
        if self.fits(effect):
            self.late.append(effect)
            return None
        answer = await forward(effect)
        if self.until(effect):
            for one in self.late:
                self.hits += 1
                await forward(one)
        return answer


class Instead(Mutant):
    """Does other effects in place of those that fit."""

    def __init__(self, fits: Fits, others: Callable[[Any], Sequence[e.Effect]]) -> None:
        self.fits, self.others = fits, others

    async def perform(self, effect, forward) -> Any:
        if not self.fits(effect):
            return await forward(effect)
        self.hits += 1
        for other in self.others(effect):
            await forward(other)
        return None
