"""What stands in a compiled program for a hook: a call of a function on the host.

JAX's own ``io_callback`` makes JAX arrays of what the function is given. On CPU devices that takes
a thread of the pool in which the program itself runs, and a program on several devices whose
callbacks wait for it stands still for ever. Here the function gets NumPy views, as XLA gives them,
and no work of JAX is done in a callback.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax as _jax
import numpy as np
from jax._src import effects as _effects
from jax.extend import core as _core
from jax.interpreters import batching as _batching
from jax.interpreters import mlir as _mlir

from sealwax.errors import ArgumentTypeError, ArgumentValueError, HookError

jax: Any = _jax
effects: Any = _effects
batching: Any = _batching
mlir: Any = _mlir
Primitive: Any = _core.Primitive

_NUMBER: Any = jax.core.ShapedArray((), np.dtype(np.int32))


class _Calls(_effects.Effect):
    """The effect of a hook, which no transformation of JAX may drop or double.

    It is not ordered: what runs on one device is in order by itself, and an ordered effect outlives
    a failure, so that every later program that has it would fail too.
    """

    def __repr__(self) -> str:
        return "sealwax hook"


_EFFECT = _Calls()
for _registry in (
    "lowerable_effects",
    "control_flow_allowed_effects",
    "custom_derivatives_allowed_effects",
    # Without it, the gradient of a loop leaves out what only has effects.
    "partial_eval_kept_effects",
):
    getattr(effects, _registry).add_type(_Calls)

# Older versions of JAX tell it from there being no token.
_named = "returns_token" in inspect.signature(mlir.emit_python_callback).parameters
_UNORDERED = {"returns_token": False} if _named else {}

_mark: Any = Primitive("sealwax_hook")
_mark.multiple_results = True
_call: Any = Primitive("sealwax_call")
_call.multiple_results = True


@_mark.def_effectful_abstract_eval
def _abstract_mark() -> tuple[list[Any], set[Any]]:
    return [], {_EFFECT}


@_call.def_effectful_abstract_eval
def _abstract(*operands: Any, function: Any, numbers: int) -> tuple[list[Any], set[Any]]:
    return [_NUMBER] * numbers, {_EFFECT}


def _lower(ctx: Any, *operands: Any, function: Any, numbers: int) -> Any:
    place = ctx.module_context.axis_context
    if isinstance(place, mlir.ShardingContext) and place.num_devices > 1:
        raise HookError(
            "A hook that was made for a state on one device is in a program on several",
            found=f"{place.num_devices} devices",
            hint="Make it with the state as it is placed there, or with shardings in its "
            "jax.ShapeDtypeStruct leaves.",
        )

    def on_host(*arrays: np.ndarray[Any, Any]) -> tuple[np.int32, ...]:
        answer = function(*arrays)
        return (np.int32(answer),) if numbers else ()

    results, _, _ = mlir.emit_python_callback(
        ctx,
        on_host,
        None,
        list(operands),
        ctx.avals_in,
        ctx.avals_out,
        has_side_effect=True,
        **_UNORDERED,
    )
    return results


def _no_vmap(*_: Any, **__: Any) -> Any:
    raise HookError(
        "A hook cannot be under vmap: it would act once for each element of the batch, whether it "
        "was to or not",
        hint="Call it outside the function that vmap maps, with the whole batch.",
    )


_once: Any = Primitive("sealwax_once")


def _same(value: Any) -> Any:
    return value


def _no_results(*_: Any) -> list[Any]:
    return []


def _lower_once(ctx: Any, value: Any) -> list[Any]:
    return [value]


_mark.def_impl(_no_results)
_once.def_impl(_same)
_once.def_abstract_eval(_same)

mlir.register_lowering(_call, _lower, cacheable=False)
mlir.register_lowering(_mark, _no_results)
mlir.register_lowering(_once, _lower_once)
for _primitive in (_call, _once):
    batching.primitive_batchers[_primitive] = _no_vmap


def call(function: Callable[..., object], *operands: Any) -> None:
    """Calls a function with NumPy views of the operands; they are valid until it returns."""
    _call.bind(*operands, function=function, numbers=0)


def ask(function: Callable[..., int], *operands: Any) -> Any:
    """Does what ``call`` does, and gives the ``int32`` that the function answers."""
    (answer,) = _call.bind(*operands, function=function, numbers=1)
    return answer


def is_due(step: Any, every: int, when: Any) -> Any:
    """Whether a hook acts: ``when``, or where it is ``None`` at each multiple of ``every``.

    ``vmap`` over it is refused, which would make of a condition that both sides are done; and the
    effect keeps ``jax.checkpoint`` from doing twice what is beside it.
    """
    if when is None:
        # Of what its dtype can hold, a larger number divides none but zero.
        every = min(every, int(jax.numpy.iinfo(step.dtype).max))
        when = jax.lax.rem(step, jax.numpy.asarray(every, step.dtype)) == 0
    due = jax.numpy.asarray(when)
    if due.shape or due.dtype != np.bool_:
        raise HookError(
            "The argument 'when' of a hook is not one truth value",
            expected="a bool of shape ()",
            found=f"{due.dtype} of shape {due.shape}",
        )
    _mark.bind()
    return seen(due)


def seen(value: Any) -> Any:
    """The value as a hook sees it: it has no derivative, and ``vmap`` over it is refused."""
    return _once.bind(jax.lax.stop_gradient(value))


def as_step(step: Any) -> Any:
    """The number of a step, as an array.

    Raises:
      HookError: It is no integer.
    """
    try:
        number = jax.numpy.asarray(step)
    except OverflowError as error:
        raise HookError(
            "The argument 'step' of a hook is too large for JAX",
            found=str(step),
            hint="Pass an integer of 32 bits, or set jax_enable_x64.",
        ) from error
    if number.shape or not jax.numpy.issubdtype(number.dtype, np.integer):
        raise HookError(
            "The argument 'step' of a hook is not one integer",
            expected="an int, or an integer array of shape ()",
            found=f"{number.dtype} of shape {number.shape}",
        )
    return number


def as_metrics(metrics: Mapping[Any, Any]) -> dict[str, Any]:
    """Numbers to keep beside a state, as arrays.

    Raises:
      HookError: These are no numbers by name, or one of them is none that JSON has.
    """
    if not isinstance(cast("object", metrics), Mapping):
        raise HookError(
            "The metrics of a hook are not numbers by name",
            expected="a dict such as {'loss': loss}, or None",
            found=type(metrics).__name__,
        )
    kinds = (np.bool_, np.integer, np.floating)
    for name, value in metrics.items():
        try:
            dtype = jax.numpy.asarray(value).dtype
        except (TypeError, ValueError, OverflowError):
            dtype = None
        real = dtype is not None and any(jax.numpy.issubdtype(dtype, kind) for kind in kinds)
        if not (isinstance(name, str) and real):
            raise HookError(
                "A metric of a hook is not a real number by a name",
                expected="a str, and a number or an array of numbers",
                found=f"{name!r}: {type(value).__name__ if dtype is None else dtype}",
            )
    return {name: jax.numpy.asarray(metrics[name]) for name in sorted(metrics)}


def is_traced(values: Sequence[Any]) -> bool:
    """Whether one of these values is known only when a program runs."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def manual_axes() -> frozenset[str]:
    """The axes of the mesh over which the caller is mapped by ``shard_map``."""
    mesh = jax.sharding.get_abstract_mesh()
    manual = jax.sharding.AxisType.Manual
    pairs = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return frozenset(name for name, kind in pairs if kind == manual)


def varying_axes(value: Any) -> frozenset[str]:
    """The axes along which a value differs under ``shard_map``, as far as JAX keeps track of it."""
    kind = jax.typeof(value)
    # Since 0.10 it is a part of more than that.
    kept: Any = getattr(kind, "manual_axis_type", None)
    axes: Any = getattr(kind, "vma", ()) if kept is None else kept.varying
    return frozenset(axes)


def positive(name: str, value: object) -> int:
    """An argument of a hook that counts something.

    Raises:
      ArgumentTypeError: It is no integer.
      ArgumentValueError: It is less than one.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(
            f"The argument {name!r} of a hook is no integer", found=type(value).__name__
        )
    if value < 1:
        raise ArgumentValueError(
            f"The argument {name!r} of a hook is too small", expected="at least 1", found=str(value)
        )
    return value
