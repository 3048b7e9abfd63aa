"""How long a model takes to read: the one place that says it, from what the model was timed at.

Reading costs operations for each token and, in layers that see everything, for each pair of a query and a key that it
sees. How many they are the model's sizes say; how long one takes, of each kind, is fitted to the pieces of texts that
were read.
"""

from dca_hub.memory import Architecture
from dca_hub.modeling.dual_chunk_selection import SparseAttention

_KNOWN, _PIECES = 512, 3  # tokens and pieces that must have been timed before anything is said
_LEAST = 64  # tokens of a piece that is worth timing
_KEEPS = 0.95  # of what earlier pieces say, with each further one
# Until pieces tell, an operation of attention is taken for as quick as others. That weighs as a piece does that spends
# this part of its operations on attention.
_ALIKE = 0.3
_SWEEPS = 200

_TOKENS, _DENSE, _SPARSE = range(3)


class Pace:
    """Learns how quickly a model reads, and says how long it will. Times are relative: the first pieces, in which
    kernels are compiled, count little."""

    def __init__(self, architecture: Architecture):
        self._per_token, self._per_pair = architecture.operations_per_token, architecture.operations_per_pair
        self._tokens = self._pieces = 0
        self._weight = 0.0  # of the pieces, each as much as it still counts
        # The normal equations of least squares: rows of operations of each kind a second, each of which gives 1.
        self._products = [[0.0] * 3 for _ in range(3)]
        self._sums = [0.0] * 3

    def learn(self, begin: int, end: int, seconds: float, sparse: SparseAttention | None = None) -> None:
        """Tokens [begin, end) of a text were read in so many seconds, with sparse attention where that is on."""
        if end - begin < _LEAST or seconds <= 0:
            return
        row = [count / seconds for count in self._operations(begin, end, sparse)]
        for i in range(3):
            self._products[i] = [_KEEPS * old + row[i] * row[j] for j, old in enumerate(self._products[i])]
            self._sums[i] = _KEEPS * self._sums[i] + row[i]
        self._tokens, self._pieces = self._tokens + end - begin, self._pieces + 1
        self._weight = _KEEPS * self._weight + 1

    def seconds(self, begin: int, end: int, sparse: SparseAttention | None = None) -> float | None:
        """How long reading tokens [begin, end) of a text takes; None before enough was read to say it."""
        if self._tokens < _KNOWN or self._pieces < _PIECES:
            return None
        return sum(count * each for count, each in zip(self._operations(begin, end, sparse), self._fit()))

    @property
    def has_timed_sparse(self) -> bool:
        """Whether sparse attention was timed; until then it is taken to be as slow as dense attention."""
        return self._sums[_SPARSE] > 0

    def _operations(self, begin: int, end: int, sparse: SparseAttention | None) -> list[float]:
        """Of each kind; those of sparse attention as if every block were kept."""
        border = max(begin, min(end, sparse.least_keys)) if sparse else end
        pairs = ((border**2 - begin**2) / 2, (end**2 - border**2) / 2)
        return [float(self._per_token * (end - begin)), *(self._per_pair * count for count in pairs)]

    def _fit(self) -> list[float]:
        """Seconds of an operation of each kind, none below 0: the least squares, a coordinate at a time."""
        products = [list(row) for row in self._products]
        alike = _ALIKE**2 * sum(map(sum, products)) / self._weight
        for i, j in ((_TOKENS, _DENSE), (_DENSE, _TOKENS)):
            products[i][i] += alike
            products[i][j] -= alike
        kinds = (_TOKENS, _DENSE, _SPARSE) if self.has_timed_sparse else (_TOKENS, _DENSE)
        each = [sum(self._sums) / sum(map(sum, self._products))] * 3
        for _ in range(_SWEEPS):
            for i in kinds:
                rest = sum(products[i][j] * each[j] for j in kinds if j != i)
                each[i] = max(0.0, (self._sums[i] - rest) / products[i][i])
        return each if self.has_timed_sparse else [each[_TOKENS], each[_DENSE], each[_DENSE]]
