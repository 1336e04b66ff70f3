"""Curvature: an approximation of the Gauss-Newton (Fisher) matrix of the training loss, one block per weight.

    H = (1 / N) sum_n sum_t J_t^T (diag p_t - p_t p_t^T) J_t       mean over sequences, sum over response
    tokens

Blocks of different weights are taken as independent. All kinds share one form: an orthogonal basis on either
side of the weight and an eigenvalue for each entry of the rotated gradient, ``Q_S^T G Q_A``:

    ``ekfac``      eigenvectors of the Kronecker factors, eigenvalues measured in that basis (George et al.
    2018) ``kfac``       the same eigenvectors, eigenvalues the products of the factors' (Martens & Grosse
    2015) ``diagonal``   no rotation, eigenvalues the mean squared gradients ``identity``   no rotation,
    eigenvalues 1
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.errors import ArtifactError, InputError, ModelError
from infra.influence.damping import Damping
from infra.influence.directions import Direction
from infra.influence.engine.rotation import rotate, rotate_back
from infra.models.precision import products_in
from infra.models.tracked import Block, TrackedWeights
from infra.store import link

KINDS = ("ekfac", "kfac", "diagonal", "identity")
SIDES = ("eigenvalues", "outputs", "inputs")


@dataclass(frozen=True)
class Factor:
    """One block's curvature. ``eigenvalues [o, i (+ 1)]``; ``outputs [o, o]`` and ``inputs [i, i]`` are Q_S
    and Q_A, eigenvectors in columns, or diagonal blocks of them (:mod:`.engine.rotation`), or None where the basis is
    the standard one.
    """

    eigenvalues: Tensor
    outputs: Tensor | None = None
    inputs: Tensor | None = None

    @property
    def sides(self) -> tuple[str, ...]:
        """Which of the three tensors there are."""
        return tuple(side for side in SIDES if getattr(self, side) is not None)

    def rotate(self, matrix: Tensor) -> Tensor:
        """``Q_S^T G Q_A`` of ``[..., o, i]``."""
        outputs, inputs = self.outputs, self.inputs
        matrix = matrix if inputs is None else rotate(matrix, inputs.to(matrix))
        return matrix if outputs is None else rotate(matrix.mT, outputs.to(matrix)).mT

    def rotate_back(self, matrix: Tensor) -> Tensor:
        """``Q_S M Q_A^T``, the inverse of :meth:`rotate`."""
        outputs, inputs = self.outputs, self.inputs
        matrix = matrix if inputs is None else rotate_back(matrix, inputs.to(matrix))
        return matrix if outputs is None else rotate_back(matrix.mT, outputs.to(matrix)).mT


class StoredFactor(Factor):
    """A factor on disk: each tensor is read when it is asked for, and not kept.

    ``places``: the file of each tensor and its name there.
    """

    places: Mapping[str, tuple[Path, str]]

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        object.__setattr__(self, "places", places)

    @property
    def sides(self) -> tuple[str, ...]:
        return tuple(self.places)

    @property
    def eigenvalues(self) -> Tensor:
        return _read(*self.places["eigenvalues"])

    @property
    def outputs(self) -> Tensor | None:
        return _read(*self.places["outputs"]) if "outputs" in self.places else None

    @property
    def inputs(self) -> Tensor | None:
        return _read(*self.places["inputs"]) if "inputs" in self.places else None


def _read(file: Path, name: str) -> Tensor:
    from safetensors import safe_open

    try:
        with safe_open(str(file), "pt") as handle:
            tensor: Tensor = handle.get_tensor(name)
            return tensor
    except Exception as error:  # safetensors has errors of its own
        raise _unreadable(file.parent, error) from error


def _unreadable(folder: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{folder} holds no factors that can be read ({error})")


@dataclass(frozen=True)
class FitInfo:
    """How a curvature was made. ``positions``: token positions counted in the factors. ``available``: training
    examples that could have been used, of which ``n_examples`` were. ``agreement``: after each round of
    :func:`infra.influence.agreeing_sample`, (examples, rank agreement of the scores of their two halves).
    ``per_token_check``: scale and rank agreement of the per-token eigenvalues, where they were tried.
    """

    kind: str
    fisher: str = "true"
    eigenvalues: str = "per_sequence"
    include_prompt: bool = True
    seed: int = 0
    n_examples: int = 0
    positions: int = 0
    model_hash: str = ""
    coverage: float = 0.0
    warnings: tuple[str, ...] = ()
    block_size: int | None = None
    available: int = 0
    agreement: tuple[tuple[int, float], ...] = ()
    per_token_check: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curvature:
    """Factors of every block, by block key, and how they were made."""

    factors: dict[str, Factor] = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)
    info: FitInfo

    def dampings(self, damping: Damping) -> dict[str, float]:
        """The number added to each block's eigenvalues, by block key (:meth:`Damping.of_blocks`)."""
        if damping.scale == "absolute":  # eigenvalues on disk are not read
            return dict.fromkeys(self.factors, damping.amount)
        return damping.of_blocks({key: float(f.eigenvalues.double().mean()) for key, f in self.factors.items()})

    def mean_eigenvalue(self) -> float:
        """The mean over all tracked scalars: the trace of H over its size."""
        total = sum(float(f.eigenvalues.double().sum()) for f in self.factors.values())
        return total / sum(f.eigenvalues.numel() for f in self.factors.values())

    def inverse(self, damping: Damping | None = None) -> InverseCurvature:
        """``(H + lambda)^-1``, to be applied to gradients by ``@``; the default is ``Damping(0.1)``."""
        chosen = damping or Damping()
        return InverseCurvature(self, chosen, self.dampings(chosen))

    def noting(self, **changes: Any) -> Curvature:
        """The same factors, with more said in ``info``."""
        return replace(self, info=replace(self.info, **changes))

    def save(self, folder: str | Path) -> None:
        """Write ``factors.safetensors`` and ``factors.json``; bases that blocks share are stored once.

        Factors on disk are not read: their files get a second name (:func:`infra.store.link`) in the folder.
        """
        from safetensors.torch import save_file

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        places: dict[int, str] = {}
        linked: dict[Path, str] = {}

        def place_of(factor: Factor, block: Block, side: str) -> Any:
            if isinstance(factor, StoredFactor):
                source, name = factor.places[side]
                return linked.setdefault(source, f"factors-{len(linked):05d}.safetensors"), name
            tensor = getattr(factor, side)
            name = places.setdefault(id(tensor), f"{block.key}.{side}")
            tensors[name] = tensor.detach().cpu().contiguous()
            return name

        entries = []
        for block in self.blocks:
            factor = self.factors[block.key]
            named = {side: place_of(factor, block, side) for side in factor.sides}
            entries.append({"block": asdict(block), "tensors": named})
        for source, file in linked.items():
            link(source, path / file)
        if tensors:
            save_file(tensors, str(path / "factors.safetensors"))
        text = json.dumps({"info": asdict(self.info), "factors": entries}, indent=1, sort_keys=True)
        (path / "factors.json").write_text(text + "\n")

    @classmethod
    def open(cls, folder: str | Path, model_hash: str | None = None) -> Curvature:
        """What :meth:`save` wrote, with each tensor read from disk when it is asked for.

        Raises :class:`ArtifactError` when the files are missing or damaged, and :class:`ModelError` when
        ``model_hash`` is given and the factors were fitted on another model.
        """
        path = Path(folder)
        try:
            manifest = json.loads((path / "factors.json").read_text())
            info = _info(manifest["info"])
            blocks, factors = [], {}
            for entry in manifest["factors"]:
                block = Block(**{**entry["block"], "shape": tuple(entry["block"]["shape"])})
                blocks.append(block)
                places = {}
                for side, place in entry["tensors"].items():
                    file, name = ("factors.safetensors", place) if isinstance(place, str) else place
                    places[side] = (path / file, name)
                factors[block.key] = StoredFactor(places)
        except Exception as error:
            raise _unreadable(path, error) from error
        if model_hash is not None and info.model_hash and info.model_hash != model_hash:
            raise ModelError(
                f"the factors in {path} were fitted on a model with hash {info.model_hash[:12]}, this one has "
                f"{model_hash[:12]}; fit them again for this model"
            )
        return cls(dict(factors), tuple(blocks), info)

    @classmethod
    def load(cls, folder: str | Path, model_hash: str | None = None) -> Curvature:
        """:meth:`open` with everything read into memory; blocks that share a basis share the tensor. Raises as it."""
        opened = cls.open(folder, model_hash)
        read = cache(_read)
        factors = {
            key: Factor(**{side: read(*place) for side, place in factor.places.items()})
            for key, factor in opened.factors.items()
            if isinstance(factor, StoredFactor)
        }
        return replace(opened, factors=factors)


def _info(stored: dict[str, Any]) -> FitInfo:
    """A FitInfo from JSON, whose lists were tuples."""
    rounds = tuple((int(n), float(r)) for n, r in stored.get("agreement", ()))
    check = stored.get("per_token_check")
    return FitInfo(
        **{
            **stored,
            "warnings": tuple(stored["warnings"]),
            "agreement": rounds,
            "per_token_check": None if check is None else (float(check[0]), float(check[1])),
        }
    )


def identity(tracked: TrackedWeights) -> Curvature:
    """H = 1: influence becomes the inner product of gradients.

    Args:
        tracked: weights that count.
    """
    blocks = tracked.blocks
    factors = {b.key: Factor(torch.ones(b.shape[0], b.columns)) for b in blocks}
    return Curvature(factors, blocks, FitInfo("identity", coverage=tracked.coverage))


@dataclass(frozen=True)
class InverseCurvature:
    """``(H + lambda)^-1`` as a linear operator: ``curvature.inverse(Damping(0.1)) @ gradient`` is a direction.

    Block by block: rotate, divide by the damped eigenvalues, rotate back. Works for every kind of curvature.
    ``lambdas``: the number added to each block's eigenvalues.
    """

    curvature: Curvature
    damping: Damping
    lambdas: Mapping[str, float] = field(repr=False)

    def __matmul__(self, gradient: Direction) -> Direction:
        """``(H + lambda)^-1 gradient`` in the gradient's dtype, under its name. Raises as :meth:`apply`."""
        return self.apply([gradient])[0]

    def apply(self, gradients: Sequence[Direction]) -> list[Direction]:
        """The operator on several gradients, each block's factor read once for all of them.

        Raises :class:`InputError` when curvature and a gradient speak of different weights.
        """
        blocks = self.curvature.blocks
        wanted = {b.weight for b in blocks} | {b.bias for b in blocks if b.bias}
        for gradient in gradients:
            if wanted != set(gradient.tensors):
                odd = sorted(wanted ^ set(gradient.tensors))[0]
                raise InputError(f"the curvature and gradient {gradient.name!r} are over different weights, e.g. {odd}")
        results = [{key: torch.zeros_like(t) for key, t in g.tensors.items()} for g in gradients]
        for block in blocks if gradients else ():
            solved = self.solve(block, torch.stack([block.matrix(g.tensors) for g in gradients]))
            for result, matrix in zip(results, solved):
                block.store(matrix.to(result[block.weight].dtype), result)
        return [Direction(result, g.name) for result, g in zip(results, gradients)]

    def solve(self, block: Block, matrices: Tensor) -> Tensor:
        """One block's ``(H + lambda)^-1 G`` of each of ``matrices [K, o, i (+ 1)]``, in the dtype of the factors.

        Without damping everything is in float64, and eigenvalues that are zero to rounding are left out (the
        pseudo-inverse), with a warning that names the weight.
        """
        # small eigenvalues would blow up what rounding leaks into them
        with products_in("float32", str(matrices.device)):
            return self._solve(block, matrices)

    def _solve(self, block: Block, matrices: Tensor) -> Tensor:
        factor, lam = self.curvature.factors[block.key], self.lambdas[block.key]
        eigenvalues = factor.eigenvalues
        dtype = eigenvalues.dtype if lam > 0.0 else torch.float64
        dtype = torch.promote_types(dtype, matrices.dtype if matrices.dtype == torch.float64 else torch.float32)
        rotated = factor.rotate(matrices.to(dtype))
        damped = eigenvalues.to(rotated) + lam
        floor = 0.0
        if lam == 0.0:
            floor = float(damped.max()) * torch.finfo(eigenvalues.dtype).eps * max(damped.shape)
            _warn_of_singular(block.key, int((damped <= floor).sum()), damped.numel())
        inverse = torch.where(damped > floor, damped.clamp_min(torch.finfo(dtype).tiny).reciprocal(), 0.0)
        return factor.rotate_back(rotated.mul_(inverse))


def _warn_of_singular(key: str, zero: int, size: int) -> None:
    if zero:
        warnings.warn(
            f"the curvature of {key} is singular: {zero} of {size} eigenvalues are zero and are left out; "
            "set a damping above 0",
            RuntimeWarning,
            stacklevel=4,
        )
