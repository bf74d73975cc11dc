"""`agent-telemetry alerts`: what is open, whether the file of rules is right, and a dry run of it over the past."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode, with_exit_status
from otel_agent_telemetry.cli.invocation import (
    AsJson,
    Invocation,
    invocation_of,
    note_missing_database,
    now_ns,
    parse_time,
)
from otel_agent_telemetry.cli.output import (
    format_time,
    print_json,
    print_line,
    print_stderr,
    print_table,
    printable,
    progress_bar,
)

alerts = typer.Typer(help="Show, check and try the rules of budgets and alerts.", no_args_is_help=True)
_HEADINGS = ("STATE", "OPENED (UTC)", "RESOLVED (UTC)", "VALUE", "LIMIT", "RULE", "SUBJECT")


def show_alerts(context: typer.Context, as_json: AsJson = False) -> ExitCode:
    """List the rules, the alerts that are open, and the last that were."""
    report = _report(invocation_of(context))
    if as_json:
        print_json(report)
        return ExitCode.OK
    _print_problems(report)
    for rule in report["rules"]:
        print_line(f"{printable(rule['name'])}: {printable(rule['about'])}")
    found = [*report["open"], *report["past"]]
    if found:
        print_line()
        print_table(_HEADINGS, [_row(one) for one in found], status_column=0)
    else:
        print_line("No alert is open, and none was.")
    return ExitCode.OK


def check(context: typer.Context, as_json: AsJson = False) -> ExitCode:
    """Check the file of rules on this host, and print what each rule means.

    Exit status 1 when the file, or a rule, cannot be used.
    """
    from otel_agent_telemetry.operations.alert_report import report_without_database

    config = invocation_of(context).config
    report = report_without_database(config).to_json()
    if as_json:
        print_json({name: report[name] for name in ("file", "problems", "refused", "rules")})
    else:
        _print_problems(report)
        for rule in report["rules"]:
            print_line(f"line {rule['line']}: [{printable(rule['name'])}] {printable(rule['about'])}")
        if not report["problems"]:
            print_line(f"{_counted(len(report['rules']), 'rule')} in {printable(report['file'])}")
        if report["rules"] and config.alerts_url is None:
            print_stderr("TELEMETRY_ALERTS_URL is not set: alerts are shown on the page and by this command only.")
    return ExitCode.PROBLEM if report["problems"] or report["refused"] else ExitCode.OK


def try_rules(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="Since when: an ISO 8601 time, or an age such as 12h or 30d.")] = "30d",
    as_json: AsJson = False,
) -> ExitCode:
    """Print when each rule would have opened an alert in the past, and when it would have been resolved.

    The rules are those of the place that has the runs. Sends nothing and changes nothing.
    """
    invocation = invocation_of(context)
    began = parse_time(since, now_ns())
    found = _dry_run(invocation, began)
    if found is None:
        return ExitCode.PROBLEM
    if as_json:
        print_json({"since": began, **found})
        return ExitCode.OK
    rules = {rule["name"]: rule for rule in found["rules"]}
    rows = [_row({**one, "measure": rules[one["rule"]]["measure"]}) for one in found["alerts"]]
    if rows:
        print_table(_HEADINGS, rows, status_column=0)
        print_line()
    for name, rule in rules.items():
        times = sum(one["rule"] == name for one in found["alerts"])
        print_line(
            f"{printable(name)}: {_counted(times, 'alert')} since {format_time(began)} UTC ({printable(rule['about'])})"
        )
    if not rules:
        print_line("There are no rules.")
    return ExitCode.OK


def _report(invocation: Invocation) -> dict[str, Any]:
    """Return the report of the place that has the runs. Raises StorageError, ConfigurationError."""
    from otel_agent_telemetry.alert_file import read_alert_file
    from otel_agent_telemetry.delivery.http_calls import read_json
    from otel_agent_telemetry.delivery.stats import service_with_runs
    from otel_agent_telemetry.operations.alert_report import alert_report, report_without_database
    from otel_agent_telemetry.storage.store import reading_database

    config = invocation.config
    if (url := service_with_runs(config)) is not None:
        report: dict[str, Any] = read_json(url, config, "/api/v1/alerts")
        return report
    with reading_database(config) as connection:
        if connection is not None:
            return alert_report(connection, read_alert_file(config)).to_json()
    note_missing_database(invocation)
    return report_without_database(config).to_json()


def _dry_run(invocation: Invocation, began: str) -> dict[str, Any] | None:
    """Return the rules and the alerts that would have been; None where the file of rules cannot be used."""
    from otel_agent_telemetry.alert_file import read_alert_file
    from otel_agent_telemetry.clock import parse_iso
    from otel_agent_telemetry.delivery.http_calls import read_json
    from otel_agent_telemetry.delivery.stats import service_with_runs
    from otel_agent_telemetry.operations.alert_history import alerts_of_past
    from otel_agent_telemetry.operations.alert_report import past_json, rule_json
    from otel_agent_telemetry.storage.pricing import use_own_prices
    from otel_agent_telemetry.storage.store import reading_database

    config = invocation.config
    if (url := service_with_runs(config)) is not None:
        found: dict[str, Any] = read_json(url, config, "/api/v1/alerts/test", {"since": began})
        return found
    # The rules of this host: no service has others for this database.
    file = read_alert_file(config)
    for problem in file.problems:
        print_stderr(f"{file.path} {problem}")
    if file.problems:
        return None
    use_own_prices(config.prices)
    alerts = []
    with reading_database(config) as connection, progress_bar("playing the past", unit="rows") as progress:
        if connection is not None:
            alerts = alerts_of_past(
                connection,
                file.rules.rules,
                since_ns=parse_iso(began),
                now_ns=now_ns(),
                progress=lambda number: progress(number, None) if number % 1000 == 0 else None,
            )
    return {"rules": [rule_json(rule) for rule in file.rules.rules], "alerts": [past_json(one) for one in alerts]}


def _print_problems(report: dict[str, Any]) -> None:
    """Print what is wrong with the file of rules, and which rules are refused."""
    from otel_agent_telemetry.alert_rules import Problem

    for problem in report["problems"]:
        print_stderr(f"{report['file']} {Problem(**problem)}")
    for problem in report["refused"]:
        print_stderr(f"{report['file']} {Problem(**problem)} The rule is not used.")


def _counted(number: int, noun: str) -> str:
    """Return a number of things: `1 rule`, `2 rules`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _row(alert: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of an alert."""
    from otel_agent_telemetry.alert_rules import amount_text

    resolved = alert["resolved_at"]
    amounts = (amount_text(alert["measure"], alert[name]) for name in ("value", "threshold"))
    subject = alert.get("run_id") or alert["subject"] or "all runs"
    times = (format_time(alert["opened_at"]), format_time(resolved))
    return ("resolved" if resolved else "open", *times, *amounts, printable(alert["rule"]), printable(subject))


_COMMANDS: dict[str, Callable[..., ExitCode]] = {"list": show_alerts, "check": check, "test": try_rules}
for name, command in _COMMANDS.items():
    alerts.command(name)(with_exit_status(command))
