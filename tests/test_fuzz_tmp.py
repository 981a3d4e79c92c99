import itertools, shutil, warnings
import jax, numpy as np, pytest, sealwax
from hypothesis import given, settings, assume, HealthCheck, event
from orbax.checkpoint import v1 as orbax
from tests.strategies import *
from tests.interop.test_reads_orbax import LEAVES as L, is_savable
S=dict(max_examples=500, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    root, numbers = tmp_path_factory.mktemp("checkpoints"), itertools.count()
    return lambda: root / str(next(numbers))
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(**S)
@given(tree=trees(L))
def test_all(fresh, tree):
    ok=is_savable(tree)
    event(str(ok))
    assume(ok)
    p=fresh()
    orbax.save(p, tree)
    x=sealwax.load(p)
    assert_same(x, through_orbax(tree))
    assert_same(sealwax.load(p, sealwax.metadata(p)), x)
    l=sealwax.load(p,tree)
    assert_same(l, tree)
    assert_placed(l, tree)
    shutil.rmtree(p)
