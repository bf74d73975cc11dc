"""`agent-telemetry tail`.

Prints records as `operations.follow` and `operations.follow_service` read them; no database is opened.
"""

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import Utc, invocation_of
from otel_agent_telemetry.cli.output import print_line, print_stderr, width_of_stdout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agent_telemetry.operations.follow import Follower


def tail(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing records as they are appended, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=1_000_000, help="Number of records to print first.")
    ] = 10,
    run: Annotated[str, typer.Option(help="Only records of runs whose run id or event id begins with this.")] = "",
    here: Annotated[
        bool, typer.Option("--here", help="The journal of this host, also where runs go to a service.")
    ] = False,
    utc: Utc = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each record as one line of JSON, as it was written.")
    ] = False,
) -> ExitCode:
    """Print the latest records.

    Of the journal one line for each run state, event and step, of every process. Where runs go
    to a service, its newest runs; with --run also the events and steps of that run.
    """
    from contextlib import closing

    from otel_agent_telemetry.operations.follow import JournalFollower, RunFilter, open_follower
    from otel_agent_telemetry.storage.pricing import use_own_prices

    config = invocation_of(context).config
    use_own_prices(config.prices)
    try:
        with closing(open_follower(config, RunFilter(run), here=here)) as follower:
            _print(follower.last(lines), as_json=as_json, utc=utc)
            if follow:
                follow_records(follower, as_json=as_json, utc=utc)
    # Ctrl-C is the way to end `--follow`, so it is a success.
    except KeyboardInterrupt:
        return ExitCode.OK
    if not config.ndjson_dir.is_dir() and isinstance(follower, JournalFollower):
        print_stderr(f"There is no journal at {config.ndjson_dir} yet.")
    if follower.torn:
        print_stderr(f"{follower.torn} lines were torn; `agent-telemetry verify` reports what is missing.")
    return ExitCode.OK


def follow_records(follower: "Follower", *, as_json: bool, utc: bool) -> None:
    """Print what is new until interrupted. A service that is away is named once, and asked again until it is back."""
    import time

    from otel_agent_telemetry.errors import StorageError

    is_away = False
    while True:
        try:
            _print(follower.read_new(), as_json=as_json, utc=utc)
            is_away = False
        except StorageError as problem:
            if not is_away:
                print_stderr(f"agent-telemetry: {problem}; asked again until it answers")
            is_away = True
        time.sleep(follower.poll_s)


def _print(records: "Iterable[dict[str, Any]]", *, as_json: bool, utc: bool) -> None:
    """Print each record on a line of its own, at once also into a pipe."""
    width = width_of_stdout()  # asked for each time: the window of a terminal that follows changes
    for record in records:
        if as_json:
            print(json.dumps(record, default=str))
        else:
            # Here, since a look at a journal without a new record needs nothing of it.
            from otel_agent_telemetry.cli.tail_lines import line_of

            print_line(*line_of(record, width=width, utc=utc, now=datetime.now(UTC)))
    # A pipe is block-buffered, and the next record can be hours away.
    sys.stdout.flush()
