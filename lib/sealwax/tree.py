"""Trees: merging them, and the types that stand for them."""

from sealwax.trees.merge import merge as merge
from sealwax.trees.structure import PyTree as PyTree
