"""A swarm in two files, as olmix and RegMix write it: mixtures and metrics, joined by run id and never by position."""

from __future__ import annotations

from camel_jax.interop.tracked import Found, TrackedRun, as_number, is_measured

_IDS = ("run", "run_id", "runid", "id", "name", "run_name")
_NOT_SHARES = frozenset({*_IDS, "index", "seed", "step", "tokens", "size", "state", "status", "unnamed: 0", ""})
NEAR_ONE = 1e-2


def is_swarm(first: Found, second: Found) -> bool:
    """Whether two tables are a swarm: a common column of ids, and one of them holds nothing but shares beside it."""
    if not all(found.runs and found.runs[0].flat for found in (first, second)):
        return False
    return id_column(first, second) is not None and (is_ratios(first) != is_ratios(second))


def id_column(first: Found, second: Found) -> str | None:
    """The column of run ids that both tables have, or None where they name no run in common."""
    columns = [{key.lower(): key for key in found.runs[0].history[0]} for found in (first, second)]
    name = next((name for name in _IDS if all(name in known for known in columns)), None)
    if name is None:
        return None
    left, right = ({_id(run.history[0], name) for run in found.runs} for found in (first, second))
    return name if left & right else None


def is_ratios(found: Found) -> bool:
    """Whether every row of a table holds shares that sum to one, beside its ids."""
    names = [key for key in found.runs[0].history[0] if key.lower() not in _NOT_SHARES and not key.startswith("mix/")]
    if len(names) < 2:
        return False
    for run in found.runs:
        row = run.history[0]
        shares = [as_number(row.get(name)) for name in names if is_measured(row.get(name))]
        if any(share is None or not 0 <= share <= 1 for share in shares):
            return False
        if abs(sum(share for share in shares if share is not None) - 1) > NEAR_ONE:
            return False
    return True


def read_swarm(first: Found, second: Found) -> Found:
    """Metrics of a swarm with the mixture of the same run id beside them.

    Args:
      first, second: the two tables, in any order.

    Returns:
      ``Found`` whose rows are those of the metrics; domains are columns ``mix/<domain>``.

    Raises:
      ValueError: an id that has two mixtures, or a metric whose run has none.
    """
    ratios, metrics = (first, second) if is_ratios(first) else (second, first)
    column = id_column(first, second)
    assert column is not None
    mixtures: dict[str, dict[str, object]] = {}
    for run in ratios.runs:
        row = run.history[0]
        name = _id(row, column)
        if not name:
            raise ValueError(f"{run.place}: has no {column}")
        shares = {f"mix/{key}": value for key, value in row.items() if key.lower() not in _NOT_SHARES}
        if mixtures.setdefault(name, shares) != shares:
            raise ValueError(f"{run.place}: run {name!r} has another mixture here than above")
    rows, used = [], set()
    without = []
    for run in metrics.runs:
        row = run.history[0]
        name = _id(row, column)
        if name not in mixtures:
            without.append(f"{name!r} ({run.place.rpartition(', ')[2]})")
            continue
        used.add(name)
        mine = {key: value for key, value in row.items() if key.lower() not in _IDS}
        rows.append(
            TrackedRun(
                run.place,
                None,
                state=run.state,
                told=run.told,
                flat=True,
                history=[{"run": name} | mine | mixtures[name]],
            )
        )
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise ValueError(f"{metrics.source}: no mixture in {ratios.source} for run {', '.join(without[:3])}{more}")
    notes = [f"mixtures of {ratios.source} joined to {metrics.source} by column {column!r}: {len(used)} runs"]
    if unused := [name for name in mixtures if name not in used]:
        notes.append(f"{len(unused)} mixtures have no metrics and are left out: {', '.join(unused[:3])}")
    return Found(metrics.source, "swarm", rows, [*first.notes, *second.notes, *notes])


def _id(row: dict[str, object], column: str) -> str:
    value = next((value for key, value in row.items() if key.lower() == column), None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()
