"""An orthogonal basis for one side of a weight, whole or in blocks along the diagonal.

A side of width d has eigenvectors ``[d, d]``: memory d^2, decomposition d^3. Where d is wider than ``block_size``, only
the blocks of b <= block_size consecutive coordinates are kept, as one tensor ``[ceil(d / b), b, b]``: memory d b,
decomposition d b^2. The rest of the method is unchanged, since corrected eigenvalues may be measured in any orthogonal
basis. In the last block, coordinates beyond d are padding and carry the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STRIPS = 16
"""Strips in which a Gram matrix is added up; the upper triangle is left out, which saves 15 / 32 of the work."""


def empty_gram(width: int, block_size: int | None, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Zeros ``[d, d]``, or the diagonal blocks ``[n, b, b]`` when d > ``block_size``."""
    if block_size is None or width <= block_size:
        return torch.zeros(width, width, dtype=dtype, device=device)
    return torch.zeros(-(-width // block_size), block_size, block_size, dtype=dtype, device=device)


def add_gram_(total: Tensor, rows: Tensor) -> None:
    """Add ``rows^T rows`` of ``rows [R, d]`` to ``total``, as :func:`empty_gram` makes it: what lies on and below the
    diagonal. What lies above it means nothing.
    """
    if total.ndim == 3:
        size = total.shape[1]
        for i, block in enumerate(total):
            part = rows[:, i * size : (i + 1) * size]
            add_gram_(block[: part.shape[1], : part.shape[1]], part)
        return
    width = rows.shape[1]
    step = max(-(-width // STRIPS), min(width, 256))
    for start in range(0, width, step):
        stop = min(start + step, width)
        total[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])


def rotate(rows: Tensor, basis: Tensor) -> Tensor:
    """``rows Q`` of ``rows [..., d]``, Q in either form."""
    if basis.ndim == 2:
        return rows @ basis
    parts = _cut(rows.reshape(-1, rows.shape[-1]), basis.shape[1]) @ basis
    return parts.transpose(0, 1).flatten(1)[:, : rows.shape[-1]].reshape(rows.shape)


def rotate_back(rows: Tensor, basis: Tensor) -> Tensor:
    """``rows Q^T``, the inverse of :func:`rotate`."""
    return rotate(rows, basis.transpose(-1, -2))


def eigenbasis(total: Tensor, width: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Eigenvalues float64 ``[width]``, not negative, and eigenvectors in the form and dtype of ``total``, a symmetric
    sum as :func:`add_gram_` makes it. The decomposition is computed in the wider of ``dtype`` and that of the sum, or
    in float64 where float32 finds none. Raises :class:`RuntimeError` when there is no decomposition.
    """
    dtype = torch.promote_types(dtype, total.dtype)
    if total.ndim == 2:
        values, vectors = _eigh(total, dtype)
        return values, vectors.to(total.dtype)
    size = total.shape[1]
    basis = torch.eye(size, dtype=total.dtype, device=total.device).repeat(len(total), 1, 1)
    found = []
    for i, block in enumerate(total):
        inside = min(size, width - i * size)
        values, vectors = _eigh(block[:inside, :inside], dtype)
        basis[i, :inside, :inside] = vectors.to(total.dtype)
        found.append(values)
    return torch.cat(found), basis


def standard_basis(total: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The diagonal of a sum, float64 ``[width]``, and the identity in its form."""
    diagonal = total.double().diagonal(dim1=-2, dim2=-1).flatten()[:width]
    identity = torch.eye(total.shape[-1], dtype=total.dtype, device=total.device)
    return torch.nan_to_num(diagonal).clamp_min(0.0), identity.expand_as(total).clone()


def _eigh(total: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    try:
        values, vectors = torch.linalg.eigh(total.to(dtype), UPLO="L")
        if not bool(torch.isfinite(vectors).all()):
            raise RuntimeError("eigenvectors are not finite")
    except RuntimeError:
        if dtype == torch.float64:
            raise
        return _eigh(total, torch.float64)
    return values.double().clamp_min(0.0), vectors


def _cut(rows: Tensor, size: int) -> Tensor:
    """``[R, d]`` to ``[n, R, size]``, padded with zeros."""
    short = -rows.shape[1] % size
    rows = F.pad(rows, (0, short)) if short else rows
    return rows.unflatten(1, (-1, size)).transpose(0, 1)
