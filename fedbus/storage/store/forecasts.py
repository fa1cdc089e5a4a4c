"""Forecasts as they were made: the newest for planning, older ones to hold against what came."""

from __future__ import annotations

import sqlalchemy as sa

from fedbus.control.forecast.protocol import Forecast
from fedbus.storage.store.database import Database, Packed, metadata, upsert

_forecasts = sa.Table(
    "forecasts",
    metadata,
    sa.Column("region", sa.String(64), primary_key=True),
    sa.Column("made_at_ns", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("forecast", Packed(Forecast), nullable=False),
)


class StoredForecasts:
    """The newest ``kept`` forecasts of each region."""

    def __init__(self, database: Database, kept: int) -> None:
        self._database = database
        self._kept = kept

    def record(self, forecast: Forecast) -> None:
        """Store a forecast, and forget the oldest beyond the bound."""
        table = _forecasts.c
        with self._database.writing() as connection:
            row = {"region": forecast.region, "made_at_ns": forecast.made_at_ns, "forecast": forecast}
            upsert(connection, _forecasts, [row])
            oldest = connection.execute(
                sa.select(table.made_at_ns)
                .where(table.region == forecast.region)
                .order_by(table.made_at_ns.desc())
                .offset(self._kept)
                .limit(1)
            ).scalar_one_or_none()
            if oldest is not None:
                connection.execute(
                    sa.delete(_forecasts).where(table.region == forecast.region, table.made_at_ns <= oldest)
                )

    def latest(self, region: str) -> Forecast | None:
        """The newest forecast of a region."""
        return next(iter(self.recent(region, 1)), None)

    def recent(self, region: str, count: int) -> list[Forecast]:
        """The newest ``count``, newest first."""
        statement = (
            sa.select(_forecasts.c.forecast)
            .where(_forecasts.c.region == region)
            .order_by(_forecasts.c.made_at_ns.desc())
            .limit(count)
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())
