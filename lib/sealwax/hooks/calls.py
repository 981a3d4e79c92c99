"""What stands in a compiled program for a hook: a call of a function on the host.

JAX's own ``io_callback`` makes JAX arrays of what the function is given. On CPU devices that takes
a thread of the pool in which the program itself runs, and a program on several devices whose
callbacks wait for it stands still for ever. Here the function gets NumPy views, as XLA gives them,
and no work of JAX is done in a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax as _jax
import numpy as np
from jax.experimental import io_callback as _io_callback
from jax.extend import core as _core
from jax.interpreters import batching as _batching
from jax.interpreters import mlir as _mlir

from sealwax.errors import ArgumentTypeError, ArgumentValueError, HookError

jax: Any = _jax
io_callback: Any = _io_callback
batching: Any = _batching
mlir: Any = _mlir
Primitive: Any = _core.Primitive

_NUMBER: Any = jax.core.ShapedArray((), np.dtype(np.int32))


def _effect() -> Any:
    """The effect of an unordered ``io_callback``, which everything in JAX knows.

    A program on one device is in order by itself. An ordered effect would outlive a failure: every
    later program that has it would fail too.
    """
    (effect,) = jax.make_jaxpr(lambda: io_callback(lambda: None, None))().effects
    return effect


_EFFECT = _effect()

_call: Any = Primitive("sealwax_call")
_call.multiple_results = True


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
        returns_token=False,
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


def _lower_once(ctx: Any, value: Any) -> list[Any]:
    return [value]


_once.def_impl(_same)
_once.def_abstract_eval(_same)

mlir.register_lowering(_call, _lower, cacheable=False)
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

    ``vmap`` over it is refused, which would make of a condition that both sides are done.
    """
    due = step % jax.numpy.asarray(every, step.dtype) == 0 if when is None else when
    due = jax.numpy.asarray(due)
    if due.shape or due.dtype != np.bool_:
        raise HookError(
            "The argument 'when' of a hook is not one truth value",
            expected="a bool of shape ()",
            found=f"{due.dtype} of shape {due.shape}",
        )
    return once(due)


def once(value: Any) -> Any:
    """The value, which ``vmap`` over refuses."""
    return _once.bind(value)


def as_step(step: Any) -> Any:
    """The number of a step, as an array.

    Raises:
      HookError: It is no integer.
    """
    number = jax.numpy.asarray(step)
    if number.shape or not jax.numpy.issubdtype(number.dtype, np.integer):
        raise HookError(
            "The argument 'step' of a hook is not one integer",
            expected="an int, or an integer array of shape ()",
            found=f"{number.dtype} of shape {number.shape}",
        )
    return number


def is_traced(values: Sequence[Any]) -> bool:
    """Whether one of these values is known only when a program runs."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def manual_axes() -> frozenset[str]:
    """The axes of the mesh over which the caller is mapped by ``shard_map``."""
    mesh = jax.sharding.get_abstract_mesh()
    manual = jax.sharding.AxisType.Manual
    pairs = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return frozenset(name for name, kind in pairs if kind == manual)


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
