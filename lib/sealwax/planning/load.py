"""Planning a load: from what a checkpoint holds and what is wanted to a plan."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import Plan
from sealwax.errors import Difference, LeafError, SealwaxError
from sealwax.planning import composites, targets
from sealwax.planning.builder import Builder
from sealwax.planning.contents import Contents, StoredLeaf
from sealwax.planning.load_steps import Chosen, Found, add_load, load_budget
from sealwax.planning.load_steps import LoadRequest as LoadRequest
from sealwax.planning.pipeline import bind
from sealwax.planning.targets import Rules, Target
from sealwax.trees.build import grow
from sealwax.trees.match import Matching, Wanted, match
from sealwax.trees.report import unfit
from sealwax.trees.structure import PyTree


def plan_load(request: LoadRequest, contents: Contents) -> Result[Plan, SealwaxError]:
    """Plans a load.

    Args:
      request: What to load, and how.
      contents: What the checkpoint holds.

    Returns:
      The plan, whose result is the tree; an error when the template does not fit.
    """
    return choose(request, contents).map(functools.partial(_plan, request, contents))


def choose(request: LoadRequest, contents: Contents) -> Result[Chosen, SealwaxError]:
    """Chooses what of an item is read: all of it, or what the template asks for."""
    grouped: Result[Chosen, SealwaxError] = flow(
        composites.group(contents, request.options.pytree, request.template),
        bind(functools.partial(_choose, request)),
    )
    return grouped


def _choose(request: LoadRequest, contents: Contents) -> Result[Chosen, SealwaxError]:
    if request.template is None:
        assemble = composites.joining(contents.leaves, contents.tree)
        return _targets(contents, request).map(lambda found: Chosen(found, assemble))
    chosen: Result[Chosen, SealwaxError] = flow(
        match(
            request.template,
            contents.entries,
            partial=request.options.pytree.loading.partial_load,
            check=functools.partial(misfits, request, contents),
        ).alt(lambda error: error.located(path=request.path)),
        bind(functools.partial(_choose_matched, request, contents)),
    )
    return chosen


def by_entry(contents: Contents) -> dict[int, StoredLeaf]:
    """The leaves by the identity of their entries."""
    return {id(leaf.entry): leaf for leaf in contents.leaves}


def _targets(contents: Contents, request: LoadRequest) -> Result[Found, SealwaxError]:
    found: list[tuple[str, Target]] = []
    grown = grow(contents.entries) if contents.structure is None else None
    if isinstance(grown, Failure):
        # Before anything is read.
        return grown.alt(lambda error: error.located(path=request.path))
    for leaf in contents.leaves:
        try:
            name = leaf.entry.name
            if leaf.parts is None:
                found.append((name, targets.as_saved(leaf, request.devices, x64=request.x64)))
            else:
                made = composites.as_saved(leaf, request.devices, x64=request.x64)
                found += [(name, target) for target in made]
        except SealwaxError as error:
            return Failure(error.located(leaf=leaf.entry.name, path=request.path))
    return Success(found)


def misfits(request: LoadRequest, contents: Contents, wanted: Sequence[Wanted]) -> list[Difference]:
    """How stored leaves do not fit a template's."""
    leaves, rules = by_entry(contents), request.rules
    found = [_misfit(rules, leaves, each) for each in wanted]
    return [each for each in found if each is not None]


def _misfit(rules: Rules, leaves: dict[int, StoredLeaf], wanted: Wanted) -> Difference | None:
    """How one stored leaf does not fit the template's, if it does not."""
    leaf = leaves[id(wanted.entry)]
    try:
        _wanted(leaf, wanted.template, rules)
    except LeafError as error:
        return Difference(
            name=wanted.name,
            expected=error.expected or error.what,
            found=error.found or targets.describe(leaf),
        )
    except SealwaxError:
        return None  # It cannot be loaded at all, and no template can change that.
    return None


def plan_matched(
    request: LoadRequest, contents: Contents, matching: Matching
) -> Result[Plan, SealwaxError]:
    """Plans a load of what was matched; every leaf that does not fit is in the one error."""
    chosen = _choose_matched(request, contents, matching)
    return chosen.map(functools.partial(_plan, request, contents))


def _choose_matched(
    request: LoadRequest, contents: Contents, matching: Matching
) -> Result[Chosen, SealwaxError]:
    leaves, rules = by_entry(contents), request.rules
    aim = targets.aiming(rules)
    found: list[tuple[str, Target]] = []
    failures: list[LeafError] = []
    for wanted in matching.wanted:
        leaf = leaves[id(wanted.entry)]
        try:
            if leaf.parts is None:
                found.append((wanted.name, aim(leaf, wanted.template)))
            else:
                found += _wanted(leaf, wanted.template, rules)
        except LeafError as error:
            failures.append(error.located(leaf=leaf.entry.name))
        except SealwaxError as error:
            return Failure(error.located(leaf=leaf.entry.name, path=request.path))
    if failures:
        return Failure(unfit(failures).located(path=request.path))
    read = [leaves[id(wanted.entry)] for wanted in matching.wanted]
    return Success(Chosen(found, composites.joining(read, functools.partial(_fill, matching))))


def _wanted(leaf: StoredLeaf, template: Any, rules: Rules) -> Found:
    """The names and targets of what a leaf of a template asks for."""
    if leaf.parts is None:
        return [(leaf.entry.name, targets.target(leaf, template, rules))]
    return [(leaf.entry.name, made) for made in composites.targets_of(leaf, template, rules)]


def plan_leaves(request: LoadRequest, contents: Contents, found: Found) -> Plan:
    """Plans a load of some leaves, with their names and targets; the result is their list."""
    return _plan(request, contents, Chosen(found, Success))


def _fill(matching: Matching, values: Sequence[object]) -> Result[PyTree, SealwaxError]:
    return Success(matching.fill(values))


def _plan(request: LoadRequest, contents: Contents, chosen: Chosen) -> Plan:
    build = Builder()
    final = add_load(build, request, contents, chosen)
    return Plan(
        title="load",
        path=request.path,
        steps=tuple(build.steps),
        result=final,
        names=chosen.names,
        host_budget=load_budget(request.options),
    )
