"""What a target needs beside the shares: where the data lies, and how it is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of an export.

    Attributes:
      paths: domain -> where its data lies; a domain that is not named stands under its own name.
      sequence_length: tokens of a training sequence, or None.
      batch_tokens: tokens of a training step, or None.
      documents: domain -> documents in its supply; for targets that take whole documents.
      max_epochs: how often a source may be seen, or None.
    """

    paths: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    sequence_length: int | None = None
    batch_tokens: int | None = None
    documents: dict[str, int] = dataclasses.field(default_factory=dict)
    max_epochs: float | None = None

    def paths_of(self, domain: str) -> tuple[str, ...]:
        """Paths of a domain."""
        return self.paths.get(domain, (domain,))

    def path_of(self, domain: str, target: str) -> str:
        """The one path of a domain, for targets that take no more.

        Raises:
          ValueError: it has several.
        """
        paths = self.paths_of(domain)
        if len(paths) > 1:
            raise ValueError(f"--path {domain}: {target} takes one path a domain, and {len(paths)} are given")
        return next(iter(paths))


def split_evenly(count: int, parts: Sequence[str]) -> list[int]:
    """Whole parts of a count, one a path, as even as can be.

    >>> split_evenly(5, ["a", "b"])
    [3, 2]
    """
    whole, rest = divmod(count, len(parts))
    return [whole + (k < rest) for k in range(len(parts))]
