"""The tables of a competition's database. The migrations make them; a test holds the two together.

What a private part of a task found lives in `private_results` alone, and no other table repeats it before the organiser
publishes the final ranking: `final_scores` and `track_places` are filled by that act.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """An aware time, kept in UTC by every database, also by one that knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        found: datetime = value
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


teams = Table(
    "teams",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False),
    Column("key", String(200), nullable=False, unique=True),
    Column("kind", String(20), nullable=False, server_default="participant"),
    Column("members", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("hidden", Boolean, nullable=False, server_default=false()),
    Column("note", Text, nullable=False, server_default=""),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("team_id", ForeignKey("teams.id"), nullable=True),
    Column("parent_id", ForeignKey("tokens.id"), nullable=True, index=True),
    Column("label", String(80), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=True),
    Column("revoked_at", Moment, nullable=True),
)

archives = Table(
    "archives",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("received_at", Moment, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("team_id", ForeignKey("teams.id"), nullable=False, index=True),
    Column("phase", String(80), nullable=False),
    Column("title", String(120), nullable=False),
    Column("archive_digest", ForeignKey("archives.digest"), nullable=False),
    Column("request_key", String(80), nullable=False),
    Column("recipe", Text, nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("submitted_at", Moment, nullable=False),
    Column("given_back", Boolean, nullable=False, server_default=false()),
    Column("hidden", Boolean, nullable=False, server_default=false()),
    Column("selected", Boolean, nullable=False, server_default=false()),
    Column("note", Text, nullable=False, server_default=""),
    UniqueConstraint("team_id", "request_key"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("submission_id", ForeignKey("submissions.id"), nullable=False),
    Column("purpose", String(10), nullable=False),
    Column("state", String(12), nullable=False),
    Column("reason_code", String(40), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("worker", String(80), nullable=True),
    Column("after_test", Integer, nullable=True),
    Column("lease_until", Moment, nullable=True),
    Column("overdue", Boolean, nullable=False, server_default=false()),
    Column("queued_at", Moment, nullable=False),
    Column("not_before", Moment, nullable=False),
    Column("started_at", Moment, nullable=True),
    Column("finished_at", Moment, nullable=True),
    Column("progress", String(200), nullable=False, server_default=""),
    Column("result_key", String(64), nullable=False, server_default=""),
    UniqueConstraint("submission_id", "purpose"),
    Index("ix_runs_queue", "state", "not_before", "queued_at"),
)

moves = Table(
    "moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("start", String(12), nullable=False),
    Column("end", String(12), nullable=False),
    Column("by", String(80), nullable=False),
    Column("reason", Text, nullable=False),
)

public_results = Table(
    "public_results",
    metadata,
    Column("submission_id", ForeignKey("submissions.id"), primary_key=True),
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("tasks", JSON, nullable=False),
    Column("item_scores", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=True),
    Column("memory_bytes", BigInteger, nullable=True),
    Column("tokens", BigInteger, nullable=False),
    Column("tuning_tokens", BigInteger, nullable=False, server_default="0"),
    Column("parameters", BigInteger, nullable=False),
    Column("weights_digest", String(128), nullable=False),
    Column("predictions_digest", String(128), nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("submission_id", ForeignKey("submissions.id"), primary_key=True),
    Column("purpose", String(10), primary_key=True),
    Column("content", JSON, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("signed", JSON, nullable=True),
    Column("salt", String(32), nullable=False, server_default=""),
)

likenesses = Table(
    "likenesses",
    metadata,
    Column("submission_id", ForeignKey("submissions.id"), primary_key=True),
    Column("content", JSON, nullable=False),
)

private_results = Table(
    "private_results",
    metadata,
    Column("submission_id", ForeignKey("submissions.id"), primary_key=True),
    Column("purpose", String(10), primary_key=True),
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("tasks", JSON, nullable=False),
    Column("item_scores", JSON, nullable=False),
    Column("controls", JSON(none_as_null=True), nullable=True),
    Column("received_at", Moment, nullable=False),
)

final_scores = Table(
    "final_scores",
    metadata,
    Column("submission_id", ForeignKey("submissions.id"), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("rank_low", Integer, nullable=False),
    Column("rank_high", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("public_value", Float, nullable=False),
    Column("tasks", JSON, nullable=False),
    Column("controls", JSON(none_as_null=True), nullable=True),
)

ratings = Table(
    "ratings",
    metadata,
    Column("track", String(100), primary_key=True),
    Column("team_id", ForeignKey("teams.id"), primary_key=True),
    Column("rater", String(80), primary_key=True),
    Column("value", Float, nullable=False),
    Column("at", Moment, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("track", String(100), primary_key=True),
    Column("team_id", ForeignKey("teams.id"), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("sent_at", Moment, nullable=False),
)

track_places = Table(
    "track_places",
    metadata,
    Column("track", String(100), primary_key=True),
    Column("team_id", ForeignKey("teams.id"), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("rank_low", Integer, nullable=False),
    Column("rank_high", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=True),
    Column("high", Float, nullable=True),
    Column("submission_id", ForeignKey("submissions.id"), nullable=True),
    Column("score", Float, nullable=True),
    Column("tokens", BigInteger, nullable=True),
    Column("cpu_seconds", Float, nullable=True),
    Column("tuning_tokens", BigInteger, nullable=True),
    Column("raters", Integer, nullable=False, server_default="0"),
)

logs = Table(
    "logs",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("text", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("ready", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("judged", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("tests_passed", Integer, nullable=False, server_default="0"),
    Column("hardware", JSON, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("worker", String(80), nullable=False),
    Column("reason", Text, nullable=False),
    Column("queued", Integer, nullable=False),
    Column("suspect", Integer, nullable=False),
    Column("standing", Integer, nullable=False),
    Column("closed_at", Moment, nullable=True),
)

worker_keys = Table(
    "worker_keys",
    metadata,
    Column("public_key", String(60), primary_key=True),
    Column("worker", String(80), nullable=False, index=True),
    Column("registered_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=True),
)

facts = Table(
    "facts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", JSON, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Integer, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("role", String(20), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("details", JSON, nullable=False),
    Column("digest", String(64), nullable=False, server_default=""),
)
