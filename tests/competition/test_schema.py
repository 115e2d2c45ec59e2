"""Schemathesis asks the API what its own description allows, and what it forbids: no crash, no answer out of schema."""

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.limits import Limits

EXAMPLES = int(os.environ.get("CUVEE_SCHEMA_EXAMPLES", "3"))
"""How many requests of each kind; more by hand."""

schema = schemathesis.pytest.from_fixture("described")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database = open_database(sqlite_url(tmp_path_factory.mktemp("schema") / "competition.db"))
    for served in serve(database, Clock(), tiny_competition(), Limits(teams_per_hour=10**6)):
        served.send()
        served.judge_all()
        served.send(key="b")
        yield served
    database.close()


@pytest.fixture(scope="module")
def described(running: Served):  # type: ignore[no-untyped-def]  # schemathesis' own types
    return schemathesis.openapi.from_asgi("/api/openapi.json", running.http.app)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_the_api_answers_as_it_says(running: Served, case: schemathesis.Case) -> None:
    who = "organiser" if "/organiser/" in case.path else "worker" if "/worker/" in case.path else "team"
    case.call_and_validate(
        headers={"Authorization": f"Bearer {running.tokens[who]}"},
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.status_code_conformance,
            schemathesis.checks.content_type_conformance,
            schemathesis.checks.response_schema_conformance,
        ],
    )
