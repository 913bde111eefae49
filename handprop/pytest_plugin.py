"""The pytest plugin: fixtures ``verify_rule`` and ``verify_gradient``, and a line on all rules at the end of the run.

pytest loads this module in every run of every project in whose environment it is installed, so jax is imported only
when a fixture is used.
"""

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from handprop.verifier.report.report import Report

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_runtest_makereport",
    "verify_gradient",
    "verify_rule",
]

FORMAT = "handprop.reports.v1"


class Found(NamedTuple):
    """What one call of a fixture found; ``report`` is JSON text, and empty if no file was asked for."""

    test: str
    subject: str
    verdict: str
    reason: str
    seconds: float
    report: str


_FOUND = pytest.StashKey[list[Found]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("handprop", "hand-written gradients")
    group.addoption("--handprop-json", metavar="FILE", help="write the reports of all verified rules to this file")
    group.addoption("--handprop-seed", type=int, default=0, metavar="N", help="seed of every random draw (default: 0)")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--handprop-json")
    if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise pytest.UsageError(f"--handprop-json {path} cannot be written: give a file in a folder that exists.")
    seed: Any = config.getoption("--handprop-seed")
    if seed < 0:
        raise pytest.UsageError(f"--handprop-seed must not be negative; got {seed}.")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Run(path), "handprop-run")


@pytest.fixture
def verify_rule(request: pytest.FixtureRequest) -> Callable[..., "Report"]:
    """Run ``handprop.verify``, fail unless the rule is proved or verified, and return the report."""
    return _judge(request, "verify")


@pytest.fixture
def verify_gradient(request: pytest.FixtureRequest) -> Callable[..., "Report"]:
    """Run ``handprop.verify_gradient``, fail unless the gradient is proved or verified, and return the report."""
    return _judge(request, "verify_gradient")


def _judge(request: pytest.FixtureRequest, entry: str) -> Callable[..., "Report"]:
    def judge(*args: Any, **kwargs: Any) -> "Report":
        __tracebackhide__ = True
        entries = importlib.import_module("handprop.verifier")
        try:
            report = getattr(entries, entry)(*args, **{"key": request.config.getoption("--handprop-seed"), **kwargs})
        except entries.Unusable as error:
            pytest.fail(f"{entry}: {error}")
        _record(request, report)
        if not report.raise_if_refuted().ok:
            pytest.fail(str(report))
        return report

    return judge


def _record(request: pytest.FixtureRequest, report: "Report") -> None:
    text = report.to_json() if request.config.getoption("--handprop-json") else ""
    node = request.node
    found = Found(node.nodeid, report.subject, report.verdict.name, report.reason, report.seconds, text)
    node.stash.setdefault(_FOUND, []).append(found)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach what was found to the test's last report: xdist takes a report's attributes to the controller."""
    report = yield
    if call.when == "teardown":
        report.handprop = [list(found) for found in item.stash.get(_FOUND, [])]
    return report  # pyright: ignore[reportReturnType]


class _Run:
    """What the whole run found, in the process that reports it; under xdist that is the controller."""

    def __init__(self, path: str | None):
        self.path, self.found, self.written = path, list[Found](), ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.found += (Found(*found) for found in getattr(report, "handprop", ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.path or session.config.getoption("collectonly"):
            return
        from handprop._files import write_atomic

        reports = [{"test": found.test, "report": json.loads(found.report)} for found in self.found]
        try:
            write_atomic(self.path, json.dumps({"format": FORMAT, "reports": reports}, indent=1).encode())
            self.written = f"reports: {self.path}"
        except OSError as error:
            self.written = f"--handprop-json could not be written: {error}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.found and not self.written:
            return
        terminalreporter.section("handprop")
        for found in self.found:
            if found.verdict != "PROVED":
                terminalreporter.write_line(f"{found.verdict.lower()} {found.test}: {found.reason or found.subject}")
        terminalreporter.write_line(_tally(self.found))
        if self.written:
            terminalreporter.write_line(self.written)


def _tally(found: list[Found]) -> str:
    """``14 rules: 13 proved, 1 verified, 0 refuted; slowest 0.4 s``"""
    counts = {name: sum(f.verdict == name.upper() for f in found) for name in ("proved", "verified", "refuted")}
    if unjudged := len(found) - sum(counts.values()):
        counts["inconclusive"] = unjudged
    slowest = max((f.seconds for f in found), default=0.0)
    rules = f"{len(found)} rule{'' if len(found) == 1 else 's'}"
    return f"{rules}: {', '.join(f'{n} {name}' for name, n in counts.items())}; slowest {slowest:.1f} s"
