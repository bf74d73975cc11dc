"""The service sums runs again in the background, the newest day first, and older days in between."""

from __future__ import annotations

from tests.on_disk import eventually
from tests.service.service_cases import at, post_states, state

DAYS = range(8)


def write_again(service) -> None:
    """Let the run of the newest day change once more."""
    write_again.updates += 1
    post_states(service, state(1, updated=write_again.updates))


write_again.updates = 0


def waiting_days(service) -> int:
    backend = service.app.state.backend
    with backend._store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT DISTINCT substr(hour, 1, 10) FROM changed_hours")
        return len(rows.all())


def test_days_that_wait_are_summed_while_runs_keep_arriving(service) -> None:
    """The newest day changes before each refresh, and the others are done after as many turns as there are days."""
    created = [at(n - day * 86_400) for n, day in enumerate(DAYS, start=1)]
    post_states(service, *(state(n, created_at=time, start_time=time) for n, time in enumerate(created, start=1)))
    for _ in range(2 * len(DAYS)):
        write_again(service)
        service.app.state.backend.figures.refresh()
    assert waiting_days(service) <= 1


def test_the_service_sums_runs_by_itself(service) -> None:
    """Without being asked: the page shows a run soon after it was stored."""
    post_states(service, state())
    eventually(lambda: waiting_days(service) == 0)
    assert ">agent<" in service.client.get("/agents", headers={"Accept": "text/html"}).text
