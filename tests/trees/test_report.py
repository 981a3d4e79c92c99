import inspect

import pytest

from sealwax.trees.match import match
from sealwax.trees.report import LIMIT, Gap, difference
from tests.trees.strategies import Layer, entries_of


def text(template, stored, *, partial=False):
    error = match(template, entries_of(stored), partial=partial).failure()
    return str(error.located(path="/checkpoint"))


GOLDEN = [
    (
        {"params": {"kernl": 1, "bias": 1}},
        {"params": {"kernel": 1, "bias": 1}},
        """\
        The template does not fit the checkpoint: 1 missing, 1 unexpected (path '/checkpoint')
          missing (in the template, not in the checkpoint):
            params.kernl; the checkpoint has 'params.kernel'
          unexpected (in the checkpoint, not in the template):
            params.kernel
        Rename what is missing to what the checkpoint has.""",
    ),
    (
        {"params": 1},
        {"params": 1, "opt": {"mu": Layer(1, 1), "nu": Layer(1, 1)}, "step": 1},
        """\
        The template does not fit the checkpoint: 5 unexpected (path '/checkpoint')
          unexpected (in the checkpoint, not in the template):
            opt (4 leaves)
            step
        Set ctx.pytree.loading.partial_load = True to load only what the template asks for.""",
    ),
    (
        {"params": 1, "opt_state": [{"mu": 1, "nu": 1}]},
        {"params": 1, "opt_state": [{"trace": 1}]},
        """\
        The template does not fit the checkpoint: 2 missing, 1 unexpected (path '/checkpoint')
          missing (in the template, not in the checkpoint):
            opt_state.0.mu
            opt_state.0.nu
          unexpected (in the checkpoint, not in the template):
            opt_state.0.trace
        Make the template with the optimizer that was used when saving, or leave opt_state out of \
it and set ctx.pytree.loading.partial_load = True.""",
    ),
    (
        {"layers": [1, 2]},
        {"layers": [1, 2, 3]},
        """\
        The template does not fit the checkpoint: 1 different (path '/checkpoint')
          different:
            layers: the template has a list of 2, the checkpoint a list of 3
        Lists must be of one length: put PLACEHOLDER (...) for items to be skipped.""",
    ),
    (
        {"w": None, "b": 1},
        {"w": 1, "b": 1},
        """\
        The template does not fit the checkpoint: 1 different (path '/checkpoint')
          different:
            w: the template has None, the checkpoint a leaf (scalar)
        Put PLACEHOLDER (...) where a leaf is to be skipped, or leave its key out and set \
ctx.pytree.loading.partial_load = True.""",
    ),
    (
        {"w": 1, "ema": {"w": 1, "b": 1}},
        {"w": 1},
        """\
        The template does not fit the checkpoint: 2 missing (path '/checkpoint')
          missing (in the template, not in the checkpoint):
            ema (2 leaves)
        Leave out what is missing, and add it after loading with tree.merge.""",
    ),
    (
        {f"layer_{index}": Layer(1, 1) for index in range(16)} | {"head": {"w": 1}},
        {f"layer_{index}": Layer(1, 1) for index in range(4)} | {"head": [1]},
        """\
        The template does not fit the checkpoint: 24 missing, 1 different (path '/checkpoint')
          missing (in the template, not in the checkpoint):
            layer_* (2 leaves), 12 of them
          different:
            head: the template has a dict with key 'w', the checkpoint a list of 1
        Compare the template with sealwax.metadata(path).""",
    ),
]


@pytest.mark.parametrize(("template", "stored", "expected"), GOLDEN)
def test_texts(template, stored, expected):
    assert text(template, stored) == inspect.cleandoc(expected)


def test_a_misspelt_key_is_recognised_when_partial():
    shown = text({"params": {"kernl": 1}}, {"params": {"kernel": 1}, "step": 1}, partial=True)
    assert "kernl; the checkpoint has 'params.kernel'" in shown
    assert "step" not in shown


@pytest.mark.parametrize(
    ("template", "stored", "near"),
    [
        ({"deep": {"er": {"mu": 1}}}, {"deep": {"er": {"trace": 1}}}, None),
        ({"deep": {"er": {"weight": 1}}}, {"deep": {"er": {"weights": 1}}}, "deep.er.weights"),
        ({"encoder": {"w": 1}, "b": 1}, {"encoders": {"w": 1}, "b": 1}, "encoders"),
        ({"params_encoder": 1}, {"params.encoder": 1}, "params.encoder"),
        ({"a": {"encoder": 1}, "b": {}}, {"a": {"x": 1}, "b": {"encoder": 1}}, "b.encoder"),
    ],
)
def test_near_names(template, stored, near):
    shown = text(template, stored)
    assert ("; the checkpoint has" in shown) is (near is not None)
    assert near is None or f"; the checkpoint has {near!r}" in shown


def test_lists_are_cut_and_counted():
    gaps = [Gap(f"leaf_{'x' * index}", (f"leaf_{'x' * index}",)) for index in range(LIMIT + 7)]
    error = difference([], gaps, [])
    assert len(error.unexpected) == LIMIT + 7
    assert len(error.lines) == LIMIT + 2
    assert error.lines[-1].strip() == "and 7 more"
