"""Taking what a selection asks for: out of a checkpoint, and into a state that is there already."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace
from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import Plan
from sealwax.errors import NameCollisionError, OptionTypeError, SealwaxError, TreeMismatchError
from sealwax.planning.composites import group
from sealwax.planning.contents import Contents, StoredLeaf
from sealwax.planning.load import LoadRequest, misfits, plan_load, plan_matched
from sealwax.planning.pipeline import bind, lift
from sealwax.planning.selection import Selection, matches, under
from sealwax.trees.flatten import Flat, flatten
from sealwax.trees.match import Kept, Matching, Source, Wanted
from sealwax.trees.registry import treedef
from sealwax.trees.renames import moved, prune, settle
from sealwax.trees.report import Gap, Sides, difference
from sealwax.trees.structure import EmptyKind

About: TypeAlias = Callable[[StoredLeaf], object]
_SHOWN = 3
_LISTED = 10
_SIDES = Sides(
    first="the state",
    second="the selection",
    headline="what was selected does not fit the state",
)


class Chosen(NamedTuple):
    """What a selection takes: the leaves under their new names, and the names of the others."""

    contents: Contents
    left: tuple[str, ...]


def choose(selection: Selection, contents: Contents, about: About) -> Result[Chosen, SealwaxError]:
    """Takes what a selection asks for.

    Args:
      selection: What to take.
      contents: What the checkpoint holds.
      about: Gives what the functions among the patterns are called with, for one leaf.

    Returns:
      What is taken and what is left; an error for a pattern that matches nothing, and for two
      leaves that would have one name.
    """
    asks = any(map(callable, selection.patterns))
    told = [about(leaf) if asks and leaf.entry.empty is None else None for leaf in contents.leaves]
    pairs = [(leaf.entry.name, each) for leaf, each in zip(contents.leaves, told, strict=True)]
    kept = [selection.takes(name, each) for name, each in pairs]
    taken = [leaf for leaf, keep in zip(contents.leaves, kept, strict=True) if keep]
    unused = _unused(selection, pairs)
    if unused or not taken:
        return Failure(_nothing(unused, [name for name, _ in pairs]))
    try:
        new = [selection.renamed(leaf.entry.name) for leaf in taken]
    except OptionTypeError as error:
        return Failure(error)
    clash = _clash([leaf.entry.name for leaf in taken], new)
    if clash is not None:
        return Failure(clash)
    left = [
        leaf.entry.name
        for leaf, keep in zip(contents.leaves, kept, strict=True)
        if not keep and leaf.entry.empty is None
    ]
    return Success(Chosen(_under(contents, taken, new, kept), tuple(left)))


def _under(
    contents: Contents, taken: Sequence[StoredLeaf], new: Sequence[str], kept: Sequence[bool]
) -> Contents:
    """The leaves that are taken, under their new names."""
    paths = [moved(leaf.entry.path, name) for leaf, name in zip(taken, new, strict=True)]
    same = all(path == leaf.entry.path for path, leaf in zip(paths, taken, strict=True))
    # A recorded structure says nothing of where leaves are moved to.
    structure = contents.structure if same else None
    leaves = [
        replace(leaf, entry=replace(leaf.entry, path=path))
        for leaf, path in zip(taken, settle(paths), strict=True)
    ]
    return dataclasses.replace(
        contents,
        leaves=tuple(leaves),
        structure=None if structure is None else prune(structure, kept),
    )


def _unused(selection: Selection, pairs: Sequence[tuple[str, object]]) -> str | None:
    """The first pattern, or old name of a subtree, that no leaf of the checkpoint has."""
    for pattern in selection.included:
        if not any(matches(pattern, name, leaf) for name, leaf in pairs):
            return pattern if isinstance(pattern, str) else getattr(pattern, "pattern", "")
    for old, _ in selection.moves:
        if not any(under(name, old) for name, _ in pairs):
            return old
    return None


def _nothing(unused: str | None, names: Sequence[str]) -> TreeMismatchError:
    subtrees = {".".join(parts[:n]) for parts in (name.split(".") for name in names)
                for n in range(1, len(parts) + 1)}  # fmt: skip
    near = (
        difflib.get_close_matches(unused, sorted(subtrees), n=_SHOWN, cutoff=0.6) if unused else []
    )
    top = sorted({name.split(".")[0] for name in names})[:_LISTED]
    return TreeMismatchError(
        f"Nothing in the checkpoint is named {unused!r}"
        if unused
        else "The selection takes nothing of the checkpoint",
        missing=(unused,) if unused else (),
        hint=f"Did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"The checkpoint has {', '.join(map(repr, top))} at the top.",
    )


def _clash(old: Sequence[str], new: Sequence[str]) -> NameCollisionError | None:
    """The error for two leaves of one new name, or for a leaf where a subtree goes."""
    seen: dict[str, str] = {}
    inner = {name[:at] for name in new for at, char in enumerate(name) if char == "."}
    for before, after in zip(old, new, strict=True):
        other = seen.setdefault(after, before)
        if other is before and after not in inner:
            continue
        pair = (other, before) if other is not before else (before,)
        both = " and ".join([*map(repr, pair), "a subtree"][:2])
        return NameCollisionError(
            f"{both} would both be called {after!r}",
            leaf=before,
            hint="Exclude one of them from the selection, or rename it to something else.",
        )
    return None


def plan_selected(
    request: LoadRequest, contents: Contents, selection: Selection, about: About
) -> Result[Plan, SealwaxError]:
    """Plans a load of what a selection takes: as it was saved, or as the template asks."""
    planned: Result[Plan, SealwaxError] = flow(
        group(contents, request.options.pytree, request.template),
        bind(functools.partial(choose, selection, about=about)),
        bind(functools.partial(_load_chosen, request)),
    )
    return planned.alt(lambda error: error.located(path=request.path))


def _load_chosen(request: LoadRequest, chosen: Chosen) -> Result[Plan, SealwaxError]:
    return plan_load(request, chosen.contents)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of every leaf when a selection was put into a state.

    Attributes:
      taken: Names, in the state, of the leaves that came from the checkpoint.
      left: Names, in the checkpoint, of the leaves that were not taken.
      missing: Names, in the state, of leaves that were asked for and kept their value, because
        the checkpoint does not have them.

    >>> print(Report(taken=("encoder.w",), left=("head.w", "head.b"), missing=()))
    1 taken, 2 left, 0 missing
      taken from the checkpoint:
        encoder.w
      left in the checkpoint:
        head.w
        head.b
    """

    taken: tuple[str, ...]
    left: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} taken, {len(self.left)} left, {len(self.missing)} missing"]
        for title, names in (
            ("taken from the checkpoint:", self.taken),
            ("left in the checkpoint:", self.left),
            ("missing in the checkpoint:", self.missing),
        ):
            more = len(names) - _LISTED
            lines += [f"  {title}"] if names else []
            lines += [f"    {name or 'the root'}" for name in names[:_LISTED]]
            lines += [f"    and {more} more"] if more > 0 else []
        return "\n".join(lines)


class Into(NamedTuple):
    """The plan of a load into a state, and the report that goes with its result."""

    plan: Plan
    report: Report


def plan_into(
    request: LoadRequest,
    contents: Contents,
    *,
    selection: Selection,
    about: About,
    keep_missing: bool,
) -> Result[Into, SealwaxError]:
    """Plans to put what a selection takes into a state, the request's template.

    Args:
      request: What to load, and how.
      contents: What the checkpoint holds.
      selection: What to take.
      about: Gives what the functions among the patterns are called with, for one leaf.
      keep_missing: Whether leaves of the state that the selection asks for and the checkpoint
        does not have keep their value.

    Returns:
      The plan and the report; an error for what was asked for and is not there, and for what was
      taken and has no place.
    """
    flat = flatten(request.template)
    chosen: Result[Chosen, SealwaxError] = flow(
        group(contents, request.options.pytree, request.template),
        bind(functools.partial(choose, selection, about=about)),
    )
    if isinstance(flat, Failure):
        return flat
    if isinstance(chosen, Failure):
        return chosen.alt(lambda error: error.located(path=request.path))
    return _put(request, flat.unwrap(), selection, keep_missing, chosen.unwrap())


def _put(
    request: LoadRequest, flat: Flat, selection: Selection, keep: bool, chosen: Chosen
) -> Result[Into, SealwaxError]:
    stored = {
        leaf.entry.name: leaf.entry for leaf in chosen.contents.leaves if not leaf.entry.empty
    }
    root = None if selection.moves or not callable(selection.rename) else _common(stored)
    sources: list[Source] = []
    taken: list[str] = []
    missing: list[str] = []
    for leaf in flat.leaves:
        if isinstance(leaf.value, EmptyKind):
            continue
        entry = stored.get(leaf.name) if leaf.value is not ... else None
        if entry is not None:
            taken.append(leaf.name)
            sources.append(Wanted(entry, leaf.value, leaf.name))
            continue
        sources.append(Kept(leaf.value))
        if leaf.value is not ... and _asked(selection, root, leaf.name, leaf.value):
            missing.append(leaf.name)
    unplaced = [name for name in stored if name not in set(taken)]
    lenient = request.options.pytree.loading.partial_load
    if (missing and not keep) or (unplaced and not lenient):
        wanted = [source for source in sources if isinstance(source, Wanted)]
        names = [leaf.name for leaf in flat.leaves]
        error = difference(
            [] if keep else _gaps(missing, names),
            [] if lenient else _gaps(unplaced, list(stored)),
            misfits(request, chosen.contents, wanted),
            near=unplaced if lenient else (),
            sides=_SIDES,
            hint=_hint(missing and not keep, unplaced and not lenient),
        )
        return Failure(error.located(path=request.path))
    matching = Matching(
        treedef=treedef(request.template), sources=tuple(sources), skipped=chosen.left
    )
    left = (*chosen.left, *unplaced)
    report = Report(taken=tuple(taken), left=left, missing=tuple(missing))
    planned: Result[Into, SealwaxError] = flow(
        plan_matched(request, chosen.contents, matching),
        lift(functools.partial(Into, report=report)),
    )
    return planned


def _hint(missing: object, unplaced: object) -> str:
    parts = ['pass missing="keep" to leave such leaves as they are'] if missing else []
    parts += ["exclude from the selection what has no place"] if unplaced else []
    text = ", and ".join(["rename what is called otherwise", *parts])
    return f"{text[0].upper()}{text[1:]}."


def _asked(selection: Selection, root: str | None, name: str, leaf: Any) -> bool:
    """Whether a selection asks for a leaf of the state that the checkpoint does not have."""
    if root is not None:
        return under(name, root)
    return any(selection.takes(origin, leaf) for origin in selection.origins(name))


def _common(names: Iterable[str]) -> str:
    """The smallest subtree that has all names: what a function that renames is taken to ask for."""
    first, *others = [name.split(".")[:-1] for name in names]
    for other in others:
        size = next((n for n, (a, b) in enumerate(zip(first, other, strict=False)) if a != b),
                    min(len(first), len(other)))  # fmt: skip
        first = first[:size]
    return ".".join(first)


def _gaps(missing: Sequence[str], names: Sequence[str]) -> list[Gap]:
    """The subtrees that are missing as a whole, and the single leaves beside them."""
    gone = set(missing)
    there = {""} | {name[:at] for name in names if name not in gone for at in _ends(name)}
    groups: dict[str, list[str]] = {}
    for name in missing:
        root = next((name[:at] for at in _ends(name) if name[:at] not in there), name)
        groups.setdefault(root, []).append(name)
    return [Gap(root, tuple(inner)) for root, inner in groups.items()]


def _ends(name: str) -> list[int]:
    """Where each part of a name ends."""
    return [at for at, char in enumerate(name) if char == "."] + [len(name)]
