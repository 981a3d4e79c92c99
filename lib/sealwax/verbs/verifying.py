"""Verifying: reading all of a checkpoint and holding it against its checksums."""

from __future__ import annotations

from sealwax.context import Context, resolve
from sealwax.effects import Plan
from sealwax.options import Options
from sealwax.planning.verification import Verification
from sealwax.planning.verify import plan_verify as plan_sealed
from sealwax.planning.verify_orbax import plan_verify_orbax
from sealwax.runtime import background, garbage
from sealwax.runtime.examine import examine
from sealwax.runtime.observe import Perform, undisturbed
from sealwax.runtime.operation import Operation
from sealwax.runtime.response import AsyncResponse
from sealwax.verbs.paths import absolute


class Verify:
    """One verification, captured."""

    def __init__(self, path: object, context: Context | Options | None) -> None:
        self.operation = Operation(title="verify", path=absolute(path), options=resolve(context))

    async def plan(self) -> Plan:
        """Observes and plans, and reads no array."""
        async with self.operation.performing() as perform:
            return await self._plan(perform)

    async def run(self) -> Verification:
        """Does it, and returns the report."""
        async with self.operation.performing() as perform:

            async def look() -> Verification:
                return await self.operation.execute(await self._plan(perform), perform)

            return await undisturbed(perform, self.operation.path, look)

    async def _plan(self, perform: Perform) -> Plan:
        census = await examine(perform, self.operation.path, self.operation.options)
        with garbage.paused():
            planned = plan_sealed if census.manifests else plan_verify_orbax
            return planned(census, self.operation.options)


def verify(path: object, *, context: Context | Options | None = None) -> Verification:
    """Reads every byte of a checkpoint and reports all that is wrong with it.

    Of a checkpoint that sealwax wrote every byte of every file is held against a checksum, and
    the sizes and names of the files against the manifests. Of Orbax's everything is read and
    decoded, and the report lists what no checksum covers.

    Args:
      path: Directory of the checkpoint.
      context: Settings to use instead of the current ones; ``memory.read_concurrent_bytes`` bounds
        what is read at a time.

    Returns:
      The report: true when nothing is wrong, and readable when it is printed.

    Raises:
      CheckpointNotFoundError: Nothing is at ``path``.
      InvalidLayoutError: What is there is not a checkpoint, or of a newer version of sealwax.
      StorageError: A directory could not be listed.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.arange(3.0)})
    >>> bool(ocp.verify(path))
    True
    >>> data = path / "state" / "d" / "00000000"
    >>> _ = data.write_bytes(bytes(24) + data.read_bytes()[24:])
    >>> problem, = ocp.verify(path).problems
    >>> problem.leaf, problem.file, problem.offset, problem.length
    ('w', 'state/d/00000000', 0, 28)
    """
    operation = Verify(path, context)
    return background.run(operation.run, "verify", operation.operation.watch)


def verify_async(
    path: object, *, context: Context | Options | None = None
) -> AsyncResponse[Verification]:
    """Verifies in the background; see ``verify``.

    Returns:
      A hold on the verification: ``result()`` waits for the report.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"step": 1})
    >>> ocp.verify_async(path).result().ok
    True
    """
    operation = Verify(path, context)
    name = f"verify_async of {operation.operation.path!r}"
    job = background.Job(operation.run, name, watch=operation.operation.watch)
    response = AsyncResponse(job)
    job.start()
    return response


def plan_verify(path: object, *, context: Context | Options | None = None) -> Plan:
    """The plan of what ``verify`` would do, without reading any array.

    Args:
      path: Directory of the checkpoint.
      context: Settings to use instead of the current ones.

    Returns:
      The plan: print it, or ask it for ``bytes`` and ``effects``.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.arange(3.0)})
    >>> ocp.plan_verify(path).effects
    1
    """
    operation = Verify(path, context)
    return background.run(operation.plan, "plan_verify")
