"""What the arrays of a snapshot are, beside their data, and whether a template asks for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax as _jax

from sealwax.arrays.prng import impl_of, is_key_dtype, key_words
from sealwax.errors import LeafMismatchError
from sealwax.planning.placements import of_key_data, sharding_of

jax: Any = _jax
_HINT = "A snapshot comes back as it was taken: change the template, and then what load returns."


class Form(NamedTuple):
    """An array without its data.

    Attributes:
      shape: Its shape; of typed keys, that of the keys.
      dtype: Its dtype; of typed keys, that of the keys.
      impl: The implementation of typed keys; ``None`` for other arrays.
    """

    shape: tuple[int, ...]
    dtype: Any
    impl: str | None = None

    @classmethod
    def of(cls, array: Any) -> Form:
        """The form of an array."""
        impl = impl_of(array.dtype) if is_key_dtype(array.dtype) else None
        return cls(tuple(array.shape), array.dtype, impl)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of the data, which typed keys have an axis more of."""
        return self.shape if self.impl is None else (*self.shape, *key_words(self.dtype))

    @property
    def data_dtype(self) -> Any:
        """The dtype of the data."""
        return self.dtype if self.impl is None else jax.numpy.uint32

    def bare(self, array: Any) -> Any:
        """The data of an array."""
        return array if self.impl is None else jax.random.key_data(array)

    def whole(self, data: Any) -> Any:
        """The array that has this data."""
        return data if self.impl is None else jax.random.wrap_key_data(data, impl=self.impl)

    def spread(self, sharding: Any) -> Any:
        """The sharding of the data of an array with this sharding."""
        return sharding if self.impl is None else of_key_data(sharding, len(self.data_shape))

    def check(self, name: str, wanted: Any) -> None:
        """Refuses a template's leaf of another shape or dtype.

        Raises:
          LeafMismatchError: It is one, or no array at all.
        """
        shape, dtype = getattr(wanted, "shape", None), getattr(wanted, "dtype", None)
        # As everywhere, the data of typed keys may stand for the keys.
        if self.impl is not None and (shape, dtype) == (self.data_shape, self.data_dtype):
            return
        if shape is None or tuple(shape) != self.shape or dtype != self.dtype:
            raise LeafMismatchError(
                "The template does not fit what is in the snapshot",
                leaf=name,
                expected=_told(shape, dtype) if shape is not None else type(wanted).__name__,
                found=_told(self.shape, self.dtype),
                hint=_HINT,
            )


def target_of(name: str, form: Form, wanted: Any) -> Any:
    """Where a template wants an array.

    Raises:
      LeafMismatchError: It is of another form, or does not say where.
    """
    form.check(name, wanted)
    try:
        sharding = sharding_of(wanted, _current_mesh())
    except LeafMismatchError as error:
        raise error.located(leaf=name) from error.__cause__
    if sharding is None and isinstance(wanted, jax.Array):
        sharding = wanted.sharding
    if sharding is None:
        raise LeafMismatchError(
            "The template does not say where the array is to be",
            leaf=name,
            expected="a leaf with a sharding",
            found=f"a {type(wanted).__name__} without one",
            hint="Pass jax.ShapeDtypeStruct(shape, dtype, sharding=...) on devices that live.",
        )
    bare = wanted.dtype != form.dtype
    return sharding if not bare or form.impl is None else _of_keys(sharding, len(form.shape))


def _of_keys(sharding: Any, rank: int) -> Any:
    """The sharding of typed keys whose data has this one."""
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return sharding
    spec = jax.sharding.PartitionSpec(*tuple(sharding.spec)[:rank])
    return jax.sharding.NamedSharding(sharding.mesh, spec)


def _current_mesh() -> Any:
    try:
        mesh = jax.sharding.get_mesh()
    except ValueError:  # Inside jit, where only an abstract mesh can be current.
        return None
    return None if mesh.empty else mesh


def _told(shape: Any, dtype: Any) -> str:
    name = f"PRNG keys of {impl_of(dtype)} " if is_key_dtype(dtype) else str(dtype)
    return f"{name}{list(shape)}"
