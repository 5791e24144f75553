"""FrEIA's invertible networks as bijections: encode is their forward, data → latent."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.interop.exact import exactly
from geoflow.interop.rows import Foreign, Shape, dtype_of, is_a, joined, parted, per_row, refuse

Tensors = list[Tensor]

APPROXIMATE = {
    "IResNetLayer": "estimates its log-det by random probes, in evaluation too: pass exact=True for the Jacobian's own.",
    "OrthogonalTransform": "is orthogonal only after each of its projections, and neither inverts itself nor knows its "
    "volume between them: pass exact=True for those of its matrix, or use geoflow's own linear maps.",
    "InvAutoFC": "decodes by its transpose, which undoes encode only once a cost has taught it to: pass exact=True for "
    "the inverse of its matrix.",
    "InvAutoConv2D": "decodes by its transpose, which undoes encode only once a cost has taught it to: pass exact=True "
    "for its inverse, by the whole Jacobian.",
}
"""Blocks whose decode or log-det is not that of their encode, and what to do."""

REFUSED = {
    "GaussianMixtureModel": "takes weights, means and a whole number as conditions, and is no bijection without it: use "
    "geoflow.GaussianMixture, or Flow(bijection, geoflow.GaussianMixture(dim, components)).",
}
"""Blocks that cannot be a bijection here."""

_HINT = "Call lipschitz_correction() of each IResNetLayer after each training step, so that it stays a contraction."


def from_freia(inn: nn.Module, dims_c: Sequence[Sequence[int]] = (), exact: bool = False) -> "FreiaBijection":
    """A FrEIA network or block as a `Bijection`; the base is yours: ``Flow(from_freia(inn), StandardNormal(dim))``.

    encode is `inn`'s forward, as FrEIA means it. Points are flat: an image ``(3, 8, 8)`` is 192 numbers, several inputs or
    outputs stand side by side in the network's order, and so do its conditions, as one float context. Log-dets are
    collected block by block in the dtype of the points. What FrEIA itself gets wrong is put right on the way: inputs are
    never written to, the log-det of `LearnedElementwiseScaling` has its sign in decode, that of `InvertibleSigmoid` is
    summed over pixels, matrices that FrEIA keeps as float32 are as orthogonal as the dtype allows after ``.double()``, and
    an `ActNorm` takes its scale from the training rows in `prepare`, not from the first batch it meets. (Blocks hold
    lambdas: such a bijection can be deep-copied, but not pickled. A flow of it is saved as any other, and loaded by
    ``load(path, modules={"bijection": from_freia(inn)})``, with a network built as before.)

    Args:
        inn: a GraphINN, a SequenceINN or a single block.
        dims_c: shapes of the conditions, for a module of your own that does not keep them as `dims_c`.
        exact: take the log-det of blocks that only estimate theirs, and the inverse of those that only approximate it,
            from their whole Jacobian: `dim` backward passes through the block, thrice as many to decode.

    Raises:
        TypeError: `inn` is no FrEIA module.
        ValueError: a block cannot be a bijection, or only with `exact`, with what to do instead.

    >>> import FrEIA.framework as ff, FrEIA.modules as fm
    >>> inn = ff.SequenceINN(4)
    >>> for _ in range(3):
    ...     inn.append(fm.AllInOneBlock, subnet_constructor=lambda a, b: torch.nn.Linear(a, b))
    >>> bijection = from_freia(inn)
    >>> z, log_det = bijection.encode_and_log_det(torch.randn(2, 5, 4))
    >>> z.shape, log_det.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 5]))
    """
    return FreiaBijection(inn, dims_c, exact)


class FreiaBijection(Foreign):
    """What `from_freia` makes."""

    waiting: Tensor

    def __init__(self, inn: nn.Module, dims_c: Sequence[Sequence[int]] = (), exact: bool = False) -> None:
        from FrEIA.modules import InvertibleModule

        if not isinstance(inn, InvertibleModule):
            raise TypeError(
                f"from_freia expects a GraphINN, a SequenceINN or a block of FrEIA, got {type(inn).__name__}: "
                "from_normflows and from_zuko take theirs."
            )
        refuse(inn, REFUSED if exact else REFUSED | APPROXIMATE, "from_freia")
        for block in inn.modules():
            if is_a(block, "HouseholderPerm") and block.conditional:
                raise ValueError(
                    "from_freia: HouseholderPerm with a condition fails in FrEIA 0.2 (it multiplies by a batch of matrices as "
                    "if by one): leave the condition out."
                )
        given, made = _shapes(inn)
        if sum(map(prod, given)) != sum(map(prod, made)):
            raise ValueError(
                f"from_freia expects as many numbers out as in, got {given} to {made}: it is no bijection."
            )
        conditions = [tuple(s) for s in dims_c] or _conditions(inn)
        super().__init__(sum(map(prod, given)), sum(map(prod, conditions)))
        self.inn, self.dims_c, self.exact = inn, [list(s) for s in dims_c], exact
        self.shapes, self.latent_shapes, self.condition_shapes = given, made, conditions
        self.register_buffer("waiting", torch.tensor(any(norm.init_on_next_batch for norm in self._norms())))
        self._initialise(False)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let each `ActNorm` that has seen no data take scale and mean of these rows, all at once."""
        if bool(self.waiting):
            self._initialise(True)
            self._encode_and_log_det(x, context)
            self._initialise(False)
            self.waiting.fill_(False)

    def _there(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        found, log_det = _through(self.inn, parted(x, self.shapes), self._given(context), False)
        return joined(found), log_det

    def _back(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        found, log_det = _through(self.inn, parted(z, self.latent_shapes), self._given(context), True)
        return joined(found), log_det

    def _given(self, context: Tensor | None) -> Tensors:
        return [] if context is None else parted(context, self.condition_shapes)

    def _norms(self) -> Iterable[Any]:
        return (m for m in self.inn.modules() if hasattr(m, "init_on_next_batch"))

    def _initialise(self, on_next_batch: bool) -> None:
        for norm in self._norms():
            norm.init_on_next_batch = on_next_batch

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FreiaBijection":
        before = dtype_of(self)
        super()._apply(fn, recurse)
        if dtype_of(self) != before:
            for module in self.inn.modules():
                _renew(module)
        return self


def _through(module: Any, xs: Tensors, cs: Tensors, back: bool) -> tuple[Tensors, Tensor]:
    """Outputs of a network or block, and its log-det ``(n,)``."""
    if is_a(module, "GraphINN"):
        return _graph(module, xs, cs, back)
    if is_a(module, "SequenceINN"):
        return _sequence(module, xs, cs, back)
    return _block(module, xs, cs, back)


def _graph(inn: Any, xs: Tensors, cs: Tensors, back: bool) -> tuple[Tensors, Tensor]:
    starts, ends = (inn.out_nodes, inn.in_nodes) if back else (inn.in_nodes, inn.out_nodes)
    held = {
        (node, 0): t
        for nodes, ts in ((starts, xs), (inn.condition_nodes, cs))
        for node, t in zip(nodes, ts, strict=True)
    }
    total = per_row(0.0, xs[0])
    for node in reversed(inn.node_list) if back else inn.node_list:
        if node.module is None:  # where data and conditions enter and leave
            continue
        given = [held[place] for place in (node.outputs if back else node.inputs)]
        found, log_det = _through(node.module, given, [held[c, 0] for c in node.conditions], back)
        held |= {(node, i): t for i, t in enumerate(found)}
        total = total + log_det
    return [held[(node.outputs if back else node.inputs)[0]] for node in ends], total


def _sequence(inn: Any, xs: Tensors, cs: Tensors, back: bool) -> tuple[Tensors, Tensor]:
    total = per_row(0.0, xs[0])
    steps = list(zip(inn.module_list, inn.conditions, strict=True))
    for module, condition in reversed(steps) if back else steps:
        xs, log_det = _through(module, xs, [] if condition is None else [cs[condition]], back)
        total = total + log_det
    return xs, total


def _block(block: Any, xs: Tensors, cs: Tensors, back: bool) -> tuple[Tensors, Tensor]:
    """One block, with what FrEIA owes put right."""
    if is_a(block, *APPROXIMATE):
        return _exactly(block, xs[0], back)
    if is_a(block, "HaarDownsampling"):  # of which HaarUpsampling is one too; they write into what they are given
        xs = [x.clone() for x in xs]
    given = {"c": cs} if cs else {}
    found, log_det = block(xs, rev=back, jac=True, **given)
    if back and is_a(block, "LearnedElementwiseScaling"):  # which gives that of encode
        log_det = -log_det
    return list(found), per_row(log_det, xs[0])


def _exactly(block: Any, x: Tensor, back: bool) -> tuple[Tensors, Tensor]:
    """A block by its forward alone."""
    shape = x.shape

    def ahead(block: Any, rows: Tensor, rev: bool = False) -> Tensor:
        # not by a call, whose hooks project the matrix of OrthogonalTransform after some backward passes
        return block.forward([rows.reshape(-1, *shape[1:])], rev=rev, jac=False)[0][0].flatten(1)

    found, log_det = exactly(block, ahead, partial(ahead, rev=True), x.flatten(1), back, _HINT)
    return [found.reshape(shape)], log_det


def _shapes(inn: Any) -> tuple[list[Shape], list[Shape]]:
    """Shapes of what goes in and comes out of encode."""
    if is_a(inn, "GraphINN"):
        return [tuple(s) for s in inn.dims_in], [tuple(s) for s in inn.global_out_shapes]
    if is_a(inn, "SequenceINN"):
        return [tuple(inn.shapes[0])], [tuple(inn.shapes[-1])]
    dims = inn.dims_in
    given = [tuple(dims)] if isinstance(dims[0], int) else [tuple(s) for s in dims]
    if is_a(inn, "HaarUpsampling", "IRevNetUpsampling"):  # which keep the shape of what comes out
        ((c, h, w),) = given
        return [(4 * c, h // 2, w // 2)], given
    return given, [tuple(s) for s in inn.output_dims(given)]


def _conditions(inn: Any) -> list[Shape]:
    """Shapes of the conditions, in the order in which the network takes them."""
    if not is_a(inn, "SequenceINN"):
        return [tuple(s) for s in inn.dims_c]
    used = {c: tuple(m.dims_c[0]) for m, c in zip(inn.module_list, inn.conditions, strict=True) if c is not None}
    if sorted(used) != list(range(len(used))):
        raise ValueError(f"from_freia: the blocks use conditions {sorted(used)} and none between: number them from 0.")
    return [used[i] for i in range(len(used))]


@torch.no_grad()
def _renew(block: Any) -> None:
    """Bring what FrEIA computed once, in float32, to the dtype that a block has now."""
    if is_a(block, "AllInOneBlock"):
        if block.householder:
            block.w_0.copy_(_orthogonal(block.w_0))
        else:
            w = _orthogonal(block.w_perm.flatten(1))
            block.w_perm.copy_(w.view_as(block.w_perm))
            block.w_perm_inv.copy_(w.T.reshape(block.w_perm.shape))
    elif is_a(block, "HouseholderPerm") and block.fixed:
        block.W.copy_(_orthogonal(block.W))
    elif is_a(block, "FixedLinearTransform", "Fixed1x1Conv"):
        m = block.M.flatten(1).double()
        block.M_inv.copy_(m.inverse().view_as(block.M_inv))
        block.logDetM.copy_(torch.linalg.slogdet(m).logabsdet)


def _orthogonal(w: Tensor) -> Tensor:
    """The nearest orthogonal matrix."""
    u, _, v = torch.linalg.svd(w.double())
    return (u @ v).to(w.dtype)
