"""What an arm is made from and what it is: plain items in, ids and a manifest out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.errors import InputError

ARM_NAMES = ("flip", "same-difficulty-swap", "random-swap", "reverse-flip")
"""The arms of a reweighting experiment; ``same-difficulty-swap`` is the main control."""

DIRECTIONS: Mapping[str, str] = {"math": "harder", "code": "easier"}
"""The flip's direction in each domain: easy math out and hard math in, hard code out and easy code in."""


@dataclass(frozen=True, slots=True)
class ArmItem:
    """One training or pool example as an arm sees it. ``n_response_tokens`` counts tokens under the loss."""

    id: str
    domain: str
    difficulty: int | None
    n_response_tokens: int


@dataclass(frozen=True, slots=True)
class Arm:
    """A new training set made by swapping records.

    ``pairs[i] = (out_ids[i], in_ids[i])``: the record put in takes the place of the one taken out, so
    ``order`` (the ids of the whole new set) keeps every other record where it was. ``manifest`` is plain
    JSON: settings, and per domain the counts, levels and response tokens before and after, and one line per
    change with its reason.
    """

    name: str
    out_ids: tuple[str, ...]
    in_ids: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    order: list[str]
    manifest: dict[str, Any] = field(default_factory=dict)


def check_items(train: Sequence[ArmItem], pool: Sequence[ArmItem], domains: Mapping[str, str]) -> None:
    """Refuse what cannot be swapped.

    Raises:
        InputError: an empty set, a repeated id, a pool record already in training, a record of a swapped
        domain
            without level or length, an unknown direction, or a domain that is missing from a set.
    """
    for domain, direction in domains.items():
        if direction not in ("harder", "easier"):
            raise InputError(f"domain '{domain}': direction '{direction}' is unknown; use 'harder' or 'easier'.")
    if not domains:
        raise InputError("an arm needs at least one domain to swap in; `domains` is empty.")
    seen: dict[str, str] = {}
    for where, items in (("train", train), ("pool", pool)):
        present = {item.domain for item in items}
        for domain in domains:
            if domain not in present:
                raise InputError(
                    f"the {where} set has no record of domain '{domain}' (it has {sorted(present)}); "
                    f"add some or leave the domain out of `domains`."
                )
        for item in items:
            if item.id in seen:
                other = seen[item.id]
                what = "twice in " + where if other == where else f"in both {other} and {where}"
                raise InputError(f"record '{item.id}' is {what}; ids must be unique and pool records unseen.")
            seen[item.id] = where
            if item.domain in domains and item.difficulty is None:
                raise InputError(
                    f"{where} record '{item.id}' has no difficulty level; label it or drop it before a swap."
                )
            if item.domain in domains and item.n_response_tokens <= 0:
                raise InputError(
                    f"{where} record '{item.id}' has {item.n_response_tokens} response tokens; "
                    f"a record without tokens under the loss cannot be swapped."
                )


def build_arm(
    name: str,
    train: Sequence[ArmItem],
    pool: Sequence[ArmItem],
    pairs: Sequence[tuple[str, str]],
    manifest: dict[str, Any],
) -> Arm:
    """Put each pair's second record where its first one stood.

    Raises:
        InputError: a pair names an id that is not there, or uses one twice.
    """
    replacement = dict(pairs)
    train_ids = {item.id for item in train}
    pool_ids = {item.id for item in pool}
    if len(replacement) != len(pairs) or len(set(replacement.values())) != len(pairs):
        raise InputError(f"arm '{name}': a record is swapped twice; each may leave or enter once.")
    for out_id, in_id in pairs:
        if out_id not in train_ids:
            raise InputError(f"arm '{name}': record '{out_id}' is not in the training set, so it cannot be taken out.")
        if in_id not in pool_ids:
            raise InputError(f"arm '{name}': record '{in_id}' is not in the pool, so it cannot be put in.")
    order = [replacement.get(item.id, item.id) for item in train]
    return Arm(
        name=name,
        out_ids=tuple(out_id for out_id, _ in pairs),
        in_ids=tuple(in_id for _, in_id in pairs),
        pairs=tuple(pairs),
        order=order,
        manifest=manifest,
    )
