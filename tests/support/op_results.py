"""What the operation computes on its way, for the tests of what it never builds."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Results(TorchDispatchMode):
    """Collects the shapes of all that is computed in the block, views aside."""

    def __enter__(self):
        self.shapes, self.reads = [], []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        self.reads.append((function, [x for x in args if isinstance(x, torch.Tensor)]))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.shapes.append(tuple(x.shape))
        return out

    @property
    def largest(self) -> int:
        return max(torch.Size(shape).numel() for shape in self.shapes)
