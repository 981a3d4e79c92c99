"""A process that deletes in children, which are killed; run as a script by the test beside it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import sealwax
from sealwax.effect_handlers import inject
from tests.crash.driver import ending, fork
from tests.crash.states import changing


def at_every_effect(base: Path, source: str, item: str, subdir: str) -> None:
    """Kills a deletion at the first change, another at the second, and so on, before and after."""

    def killed(number: int, moment: str) -> tuple[int, Path]:
        directory = base / f"{number}-{moment}"
        shutil.copytree(source, directory / "c")
        context = sealwax.Context().replace({"deletion.todelete_subdir": subdir or None})

        def work() -> None:
            with inject(changing(number), kill=True, moment=moment):
                sealwax.delete(directory / "c", checkpointable_name=item or None, context=context)

        return fork(work), directory

    for number in itertools.count():
        children = [killed(number, moment) for moment in ("before", "after")]
        endings = [(ending(os.waitpid(child, 0)[1]), where) for child, where in children]
        for how, where in endings:
            print(json.dumps({"directory": str(where), "ending": how}), flush=True)
        if all(how == "exit 0" for how, _ in endings):
            return


if __name__ == "__main__":
    place, *rest = sys.argv[1:]
    at_every_effect(Path(place), *rest)
