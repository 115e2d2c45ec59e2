"""Schemathesis asks the API what its own description allows, and what it forbids: no crash, no answer out of schema."""

import contextlib
import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.limits import Limits

EXAMPLES = int(os.environ.get("CUVEE_SCHEMA_EXAMPLES", "2"))
"""How many requests of each kind; more by hand."""

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database = open_database(sqlite_url(tmp_path_factory.mktemp("schema") / "competition.db"))
    for served in serve(database, Clock(), tiny_competition(), Limits(teams_per_hour=10**6, sends_per_hour=10**6)):
        served.send()
        served.judge_all()
        served.send(key="b")
        yield served
    database.close()


def test_the_api_answers_as_it_says(running: Served) -> None:
    described = schemathesis.openapi.from_asgi("/api/openapi.json", running.http.app)
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 35
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            ask_often(operation, mode, running)


def ask_often(operation, mode, running: Served) -> None:  # type: ignore[no-untyped-def]  # schemathesis' own types
    who = "organiser" if "/organiser/" in operation.path else "worker" if "/worker/" in operation.path else "team"
    headers = {"Authorization": f"Bearer {running.tokens[who]}"}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # a request without parameters cannot be wrong
        ask()
