"""The database of a study: tables, transactions, and what is refused.

SQLite in a file by default, PostgreSQL by URL, both through SQLAlchemy. Every change is one transaction that first takes the
study's own row, so that writers queue; every row has a primary key, so that nothing is there twice. A process that is killed
leaves what it committed and nothing of what it had not.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

try:
    import sqlalchemy as sa
    from sqlalchemy import event, exc
except ImportError:
    from camel_jax.runtime import require

    require("study", "sqlalchemy", "a study")
    raise

VERSION = 1  # of the tables
WAIT = 60.0  # seconds to wait for another writer
UNDER_WAY, FINISHED, DROPPED = "under way", "finished", "dropped"
_LOCK = 0x63616D65  # of PostgreSQL, while tables are made

METADATA = sa.MetaData()
STUDIES = sa.Table(
    "camel_jax_studies",
    METADATA,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("asks", sa.Integer, nullable=False),
)
RUNS = sa.Table(
    "camel_jax_runs",
    METADATA,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("run", sa.String(200), primary_key=True),
    sa.Column("ask", sa.Integer, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("n_total", sa.Double, nullable=False),
    sa.Column("n_active", sa.Double, nullable=False),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("weights", sa.Text, nullable=False),
    sa.Column("cost", sa.Double, nullable=False),
    sa.Column("replicates", sa.String(200), nullable=False),
    sa.Column("asked", sa.Double, nullable=False),
)
RESULTS = sa.Table(
    "camel_jax_results",
    METADATA,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("run", sa.String(200), primary_key=True),
    sa.Column("tokens", sa.Double, primary_key=True),
    sa.Column("n_total", sa.Double, nullable=False),
    sa.Column("n_active", sa.Double, nullable=False),
    sa.Column("weights", sa.Text, nullable=False),
    sa.Column("losses", sa.Text, nullable=False),
    sa.Column("accuracies", sa.Text, nullable=False),
    sa.Column("told", sa.Double, nullable=False),
)
DECISIONS = sa.Table(
    "camel_jax_decisions",
    METADATA,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("decided", sa.Double, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
)


class StudyError(ValueError):
    """A study cannot be opened, or what it is told does not belong to it, and why.

    >>> import camel_jax as cj
    >>> cj.Study("nothing.db")
    Traceback (most recent call last):
        ...
    camel_jax.study.store.StudyError: nothing.db: there is no study 'study'; to begin one, give domains, target and ladder
    """


class Asked(NamedTuple):
    """A run of a study.

    Attributes:
      run: its name. ask: the number of the ask that proposed it, 0 for a run that came with its result. place: within that ask.
      state: under way, finished or dropped. n_total, n_active, tokens: as asked. weights: (K,) shares. cost: in the study's unit.
      replicates: the run whose recipe it repeats, or "". asked: seconds since 1970.
    """

    run: str
    ask: int
    place: int
    state: str
    n_total: float
    n_active: float
    tokens: float
    weights: tuple[float, ...]
    cost: float
    replicates: str
    asked: float


class Told(NamedTuple):
    """A checkpoint of a run: what was trained, and what it gave.

    Attributes:
      run: its name. tokens, n_total, n_active: as trained. weights: (K,) shares as trained.
      losses: set -> nats. accuracies: task -> share. told: seconds since 1970.
    """

    run: str
    tokens: float
    n_total: float
    n_active: float
    weights: tuple[float, ...]
    losses: dict[str, float]
    accuracies: dict[str, float]
    told: float


class Snapshot(NamedTuple):
    """All that a study holds at one moment: settings as data, number of asks, runs in order, results, and decisions."""

    settings: dict[str, Any]
    asks: int
    runs: tuple[Asked, ...]
    results: tuple[Told, ...]
    decisions: tuple[dict[str, Any], ...]


class Store:
    """One study in a database.

    Args:
      where: path of an SQLite file, or a URL such as ``postgresql://user@host/database``.
      name: of the study within the database.
    """

    def __init__(self, where: str | os.PathLike[str], name: str):
        text = os.fspath(where)
        if not name or len(name) > 200:
            raise StudyError("the name of a study has 1 to 200 characters")
        self.name, self.path, self.place = name, None, text
        if "://" in text:
            url = _parse_url(text)
        else:
            self.path = pathlib.Path(text)
            if self.path.is_dir():
                raise StudyError(f"{text}: is a folder; a study is a file")
            if not self.path.absolute().parent.is_dir():
                raise StudyError(f"{text}: there is no folder {self.path.absolute().parent}")
            url = sa.URL.create("sqlite", database=str(self.path.absolute()))
        if url.get_backend_name() == "sqlite":
            self._engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": WAIT})
            event.listen(self._engine, "connect", _no_transactions_of_its_own)
            event.listen(self._engine, "begin", _begin)
        else:
            self.place = url.render_as_string(hide_password=True)
            self._engine = sa.create_engine(url, poolclass=sa.NullPool)

    def exists(self) -> bool:
        """Whether the study is there."""
        if self.path is not None and not self.path.exists():
            return False
        with self._transaction(writes=False) as connection:
            if not sa.inspect(connection).has_table(STUDIES.name):
                return False
            return connection.scalar(sa.select(STUDIES.c.study).where(STUDIES.c.study == self.name)) is not None

    def create(self, settings: Mapping[str, Any]) -> bool:
        """Begin the study; False if another process has begun it meanwhile."""
        with self._transaction(writes=True) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            elif foreign := set(sa.inspect(connection).get_table_names()) - set(METADATA.tables):
                raise StudyError(f"{self.place}: a database of something else (table {sorted(foreign)[0]})")
            METADATA.create_all(connection)
            if connection.scalar(sa.select(STUDIES.c.study).where(STUDIES.c.study == self.name)) is not None:
                return False
            row = {"study": self.name, "version": VERSION, "created": time.time(), "asks": 0}
            connection.execute(STUDIES.insert().values(settings=json.dumps(dict(settings)), **row))
        return True

    def read(self) -> Snapshot:
        """All that the study holds, as of one moment."""
        with self._transaction(writes=False) as connection:
            return self._snapshot(connection, self._own_row(connection))

    def add_runs(self, runs: Sequence[Asked], after: int) -> bool:
        """Note the runs of an ask that was made up when the study had ``after`` asks; False if it has more by now."""
        with self._transaction(writes=True) as connection:
            if self._own_row(connection).asks != after:
                return False
            rows = [self._row(run._replace(ask=after + 1)) for run in runs]
            if rows:
                connection.execute(RUNS.insert(), rows)
            self._of(connection, STUDIES.update().values(asks=after + 1), STUDIES)
        return True

    @contextlib.contextmanager
    def telling(self) -> Iterator[tuple[Snapshot, Any]]:
        """A transaction in which results are written: what the study holds, and a function that writes runs, results and states.

        The function takes ``(runs, results, states)``: new runs, results that are new or replace others, and name -> state.
        """
        with self._transaction(writes=True) as connection:
            now = self._snapshot(connection, self._own_row(connection))

            def write(runs: Sequence[Asked], results: Sequence[Told], states: Mapping[str, str]) -> None:
                if runs:
                    connection.execute(RUNS.insert(), [self._row(run) for run in runs])
                for one in results:
                    found = (RESULTS.c.run == one.run) & (RESULTS.c.tokens == one.tokens)
                    self._of(connection, RESULTS.delete().where(found), RESULTS)
                if results:
                    connection.execute(RESULTS.insert(), [self._row(one) for one in results])
                for run, state in states.items():
                    self._of(connection, RUNS.update().where(RUNS.c.run == run).values(state=state), RUNS)

            yield now, write

    def add_decision(self, runs: int, content: Mapping[str, Any]) -> None:
        """Keep a recommendation, made from so many finished runs."""
        with self._transaction(writes=True) as connection:
            self._own_row(connection)
            last = connection.scalar(sa.select(sa.func.max(DECISIONS.c.number)).where(DECISIONS.c.study == self.name))
            row = {"study": self.name, "number": (last or 0) + 1, "runs": runs, "decided": time.time()}
            connection.execute(DECISIONS.insert().values(content=json.dumps(dict(content)), **row))

    def _row(self, item: NamedTuple) -> dict[str, Any]:
        plain = {k: json.dumps(v) if isinstance(v, tuple | dict) else v for k, v in item._asdict().items()}
        return {"study": self.name, **plain}

    def _of(self, connection: sa.Connection, statement: Any, table: sa.Table) -> Any:
        return connection.execute(statement.where(table.c.study == self.name))

    def _own_row(self, connection: sa.Connection) -> Any:
        """The study's row; a writer holds it until the end of its transaction."""
        found = None
        if sa.inspect(connection).has_table(STUDIES.name):
            query = sa.select(STUDIES).where(STUDIES.c.study == self.name)
            writes = connection.get_execution_options().get("writes")
            found = connection.execute(query.with_for_update() if writes else query).one_or_none()
        if found is None:
            raise StudyError(f"{self.place}: there is no study {self.name!r} in it")
        if found.version != VERSION:
            raise StudyError(
                f"{self.place}: a study of version {found.version} of its tables; this package reads version {VERSION}"
            )
        return found

    def _snapshot(self, connection: sa.Connection, own: Any) -> Snapshot:
        runs = self._of(connection, sa.select(RUNS).order_by(RUNS.c.ask, RUNS.c.place, RUNS.c.run), RUNS)
        results = self._of(connection, sa.select(RESULTS).order_by(RESULTS.c.run, RESULTS.c.tokens), RESULTS)
        decisions = self._of(connection, sa.select(DECISIONS).order_by(DECISIONS.c.number), DECISIONS)
        return Snapshot(
            json.loads(own.settings),
            own.asks,
            tuple(Asked(**_without(row, weights=tuple(json.loads(row.weights)))) for row in runs),
            tuple(
                Told(
                    **_without(
                        row,
                        weights=tuple(json.loads(row.weights)),
                        losses=json.loads(row.losses),
                        accuracies=json.loads(row.accuracies),
                    )
                )
                for row in results
            ),
            tuple(json.loads(row.content) | {"runs": row.runs, "decided": row.decided} for row in decisions),
        )

    @contextlib.contextmanager
    def _transaction(self, writes: bool) -> Iterator[sa.Connection]:
        options: dict[str, Any] = {"writes": writes}
        if not writes and self._engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"  # several queries see one moment
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except exc.SQLAlchemyError as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StudyError(f"{self.place}: {reason:.300}") from error


def _without(row: Any, **others: Any) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "study"} | others


def _parse_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except exc.ArgumentError:
        raise StudyError("the URL of a study cannot be read; write it as postgresql://user@host/database") from None
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        from camel_jax.runtime import require

        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        require("postgres", "psycopg", "a study on PostgreSQL")
    elif backend != "sqlite":
        raise StudyError(f"a study is kept in SQLite or PostgreSQL, not in {backend}")
    return url


def _no_transactions_of_its_own(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins them, as ``_begin`` says


def _begin(connection: sa.Connection) -> None:
    """Writers of SQLite wait at the beginning of their transaction, not in its middle, where they would have to give up."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
