"""The command line: `quarterdeck COMMAND`, one command per stage and one per question.

Source: contract.md section 2. Results go to stdout, progress and errors to stderr; exit code 0 is done, 1 the job
failed, 2 the words or settings are wrong. Each command imports what it needs when it runs, so that questions are
answered without waiting for Dagster, Polars or SciPy.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from analytics.errors import LakeError, QuarterdeckError, SettingsError, SourceError, UsageError
from analytics.faults import in_words, is_interruption
from analytics.periods import Quarter
from analytics.settings import Settings, load_settings
from reports.progress import shown_progress
from reports.tables import printable

Callback = TypeVar("Callback", bound=Callable[..., Any])

INTERRUPTED = 130


@dataclass
class Invocation:
    """What `--settings` and `--debug` said, before or after the command's name."""

    settings_file: Path = Path("quarterdeck.yaml")
    debug: bool = False

    def settings(self) -> Settings:
        """The settings, read and checked."""
        return load_settings(self.settings_file)


class FrontDoor(click.Group):
    """Turns every error into one that a person can act on, with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a traceback is shown only with --debug."""
        signals = ReceivedSignals()
        try:
            with terminable(signals):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (KeyboardInterrupt, TerminatedError):
            self._end_interrupted(ctx, signals)
        except QuarterdeckError as error:
            self._trace(ctx)
            complain(f"error: {error}")
            ctx.exit(error.exit_code)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader has seen enough; click ends quietly
            if is_interruption(error):
                self._end_interrupted(ctx, signals)
            self._trace(ctx)
            fault = in_words(error)
            if fault is not None:
                complain(f"error: {fault}")
                ctx.exit(fault.exit_code)
            first = (str(error).splitlines() or [""])[0][:500]
            complain(f"error: unexpected {type(error).__name__}: {first}")
            if not _invocation(ctx).debug:
                complain("  Run it again with --debug to see where, and report it.")
            ctx.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order in which one needs them."""
        return list(self.commands)

    @staticmethod
    def _end_interrupted(ctx: click.Context, signals: ReceivedSignals) -> NoReturn:
        # Dagster makes one of the other.
        if signal.SIGTERM in signals:
            complain("ended by SIGTERM; what was finished is kept. Run the same command again to go on.")
            ctx.exit(1)
        complain("interrupted; what was finished is kept. Run the same command again to go on.")
        ctx.exit(INTERRUPTED)

    @staticmethod
    def _trace(ctx: click.Context) -> None:
        if _invocation(ctx).debug:
            complain(traceback.format_exc().rstrip())


class TerminatedError(BaseException):
    """SIGTERM came; no handler of errors may keep it."""


class ReceivedSignals(set[int]):
    """The signals that came, whoever handled them."""


@contextmanager
def terminable(signals: ReceivedSignals) -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: what is half written is removed, and a person is told."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise TerminatedError

    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(woken)
        with suppress(BlockingIOError):
            signals.update(os.read(reading, 4096))
        os.close(reading)
        os.close(writing)


def complain(text: str) -> None:
    """Say something on stderr, with what a terminal would obey written out."""
    click.echo(printable(text, keep="\n"), err=True)


def _invocation(ctx: click.Context) -> Invocation:
    return ctx.find_root().ensure_object(Invocation)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        setattr(_invocation(ctx), str(param.name), value)


def _quarter(ctx: click.Context, param: click.Parameter, value: str | None) -> Quarter | None:
    return None if value is None else Quarter.parse(value)


def everywhere(function: Callback) -> Callback:
    """Add the options that every command takes."""
    settings = click.option(
        "--settings",
        "settings_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_remember,
        help="The settings file.  [default: ./quarterdeck.yaml]",
    )
    debug = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_remember, help="Show tracebacks and every progress line."
    )
    return settings(debug(function))


def quarter_option(
    help_text: str = "The quarter, such as 2026-Q3.  [default: the last complete]",
) -> Callable[[Callback], Callback]:
    """Add `--quarter`, None when it is not given."""
    return click.option("--quarter", callback=_quarter, metavar="Q", help=help_text)


def format_option(*formats: str) -> Callable[[Callback], Callback]:
    """Add `--format`; the first one is the default."""
    return click.option(
        "--format", "form", type=click.Choice(formats), default=formats[0], show_default=True, help="How to print it."
    )


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def chosen_quarter(settings: Settings, quarter: Quarter | None) -> Quarter:
    """The quarter asked for, else the last complete one; raises UsageError for one that has not begun."""
    current = settings.calendar.quarter_of(settings.now())
    if quarter is None:
        return current.plus(-1)
    if quarter > current:
        raise UsageError(
            f"{quarter} has not begun at the cut-off, {settings.now():%Y-%m-%d %H:%M} UTC",
            fix=f"The latest quarter with any data is {current}.",
        )
    return quarter


def terminal_width() -> int | None:
    """The width to fold tables into, None where stdout is no terminal."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@click.group(
    cls=FrontDoor,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `quarterdeck sample DIR`, or with `quarterdeck init` in an empty folder.",
)
@click.version_option(package_name="quarterdeck")
@everywhere
def main() -> None:
    """Measure delivery by quarter, from git, CI and incident facts, down to the rows behind each number."""


@main.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path, file_okay=False))
@everywhere
def init(directory: Path) -> None:
    """Write a commented quarterdeck.yaml and catalog.yaml.

    Existing files are never overwritten.
    """
    from analytics.starter import write_starter

    for path in write_starter(directory):
        click.echo(printable(path))
    complain("Edit both files, put feed files into feeds, then run `quarterdeck doctor` and `quarterdeck run`.")


@main.command()
@everywhere
@pass_invocation
def doctor(invocation: Invocation) -> None:
    """Check settings, catalog, sources, storage and programs.

    Exits with 2 when what was written is wrong, with 1 when something else is.
    """
    from analytics.doctor import examine

    exit_code = 0
    for finding in examine(invocation.settings_file):
        if finding.state == "fail":
            exit_code = max(exit_code, 2 if finding.is_wording else 1)
        fix = f" → {finding.fix}" if finding.fix else ""
        click.echo(printable(f"{finding.state:<4}  {finding.subject}: {finding.detail}{fix}"))
    if exit_code:
        click.get_current_context().exit(exit_code)


@main.command()
@quarter_option()
@everywhere
@pass_invocation
def run(invocation: Invocation, quarter: Quarter | None) -> None:
    """Run every stage for one quarter.

    Prints the pack's folder last. Runs the same Dagster assets as the UI and is listed there.
    """
    settings = invocation.settings()
    chosen = chosen_quarter(settings, quarter)
    if not settings.sources:
        raise SettingsError("no source is declared", where=str(settings.settings_path), fix="Add one under `sources`.")
    with shown_progress(debug=invocation.debug):
        from dagster import in_process_executor

        from quarterdeck.definitions import build_definitions
        from sensors.running import run_quarter

        # In this process, whatever the settings say of runs that Dagster starts.
        definitions = build_definitions(settings, including=[chosen], executor=in_process_executor)
        outcome = run_quarter(definitions, settings, chosen)
    for problem in outcome.problems:
        complain(f"error: {problem}")
    if invocation.debug:
        for trace in outcome.traces:
            complain(trace)
    if outcome.pack_path is not None:
        click.echo(outcome.pack_path)
    if outcome.problems:
        click.get_current_context().exit(1)


@main.command()
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only this source; may be repeated.")
@click.option(
    "--shard", type=click.IntRange(min=1), metavar="K", help="Only this shard of the source, beside other processes."
)
@everywhere
@pass_invocation
def pull(invocation: Invocation, sources: tuple[str, ...], shard: int | None) -> None:
    """Land what is new in every source.

    A source whose repositories are cut into `shards` is pulled shard by shard; with --shard, each by a process of its
    own.
    """
    settings = invocation.settings()
    with shown_progress(debug=invocation.debug):
        from analytics.landing.pull import pull as pull_sources
        from reports.listings import pulled_lines

        results = pull_sources(settings, only=list(sources) or None, shard=shard)
    click.echo(pulled_lines(results, terminal_width()))
    failed = [result for result in results if result.error is not None]
    for result in failed:
        complain(f"error: source {result.source}: {result.error}")
    if failed:
        click.get_current_context().exit(1)


@main.command()
@click.option("--full", is_flag=True, help="Make everything anew, whatever the last build left.")
@everywhere
@pass_invocation
def build(invocation: Invocation, full: bool) -> None:
    """Build tables and facts from what is landed.

    What new records do not touch is kept from the last build, unless the code, the settings, the catalog or what was
    landed before have changed: then everything is made anew.
    """
    settings = invocation.settings()
    with shown_progress(debug=invocation.debug):
        from analytics.delivery.build import build as build_tables
        from reports.listings import built_lines

        summary = build_tables(settings, full=full)
    click.echo(built_lines(summary, terminal_width()))


@main.command()
@everywhere
@pass_invocation
def verify(invocation: Invocation) -> None:
    """Judge what was shipped: signatures, provenance, SBOMs.

    Needs no network. Bundles and SBOMs that are known are not judged again; policies and waivers are
    applied anew to every deployment.
    """
    settings = invocation.settings()
    with shown_progress(debug=invocation.debug):
        from analytics.supply_chain.verify import verify as verify_shipped
        from reports.supply_chain_listings import verified_lines

        summary = verify_shipped(settings)
    click.echo(verified_lines(summary, terminal_width()))


@main.command()
@quarter_option("This quarter too, though it has no data.  [default: every quarter with data]")
@everywhere
@pass_invocation
def measure(invocation: Invocation, quarter: Quarter | None) -> None:
    """Measure each quarter and publish the values."""
    settings = invocation.settings()
    also = None if quarter is None else [chosen_quarter(settings, quarter)]
    with shown_progress(debug=invocation.debug):
        from analytics.metrics.measure import measure as measure_quarters

        summary = measure_quarters(settings, also)
    click.echo(f"values: {summary.values:,}; quarters: {', '.join(map(str, summary.quarters)) or 'none'}")
    click.echo(settings.published_path)


@main.command()
@quarter_option()
@everywhere
@pass_invocation
def pack(invocation: Invocation, quarter: Quarter | None) -> None:
    """Make the report pack of a quarter.

    Prints its folder. A pack is never overwritten: one with other contents is published as the next revision.
    """
    settings = invocation.settings()
    chosen = chosen_quarter(settings, quarter)
    with shown_progress(debug=invocation.debug):
        from reports.pack import make_pack

        made = make_pack(settings, chosen)
    if made.unchanged:
        complain("Nothing changed since this pack was made.")
    click.echo(made.path)


@main.command()
@quarter_option()
@click.option("--again", is_flag=True, help="Also where an earlier attempt may have arrived.")
@everywhere
@pass_invocation
def deliver(invocation: Invocation, quarter: Quarter | None, again: bool) -> None:
    """Deliver the newest pack of a quarter.

    To every destination of the settings that does not have it yet: each gets a pack once.
    """
    from reports.delivery.deliver import deliver_pack, newest_pack

    settings = invocation.settings()
    if not settings.reports.delivery:
        raise SettingsError(
            "no delivery is declared", where=str(settings.settings_path), fix="Add one under `reports.delivery`."
        )
    with shown_progress(debug=invocation.debug):
        done = deliver_pack(settings, newest_pack(settings, chosen_quarter(settings, quarter)), again=again)
    for one in done:
        click.echo(printable(f"{'ok' if one.sent else 'fail':<4}  {one.delivery}: {one.words}"))
    if not all(one.sent for one in done):
        click.get_current_context().exit(1)


@main.command()
@quarter_option()
@click.option("--scope", type=click.Choice(["service", "team", "organization"]), help="Only this scope.")
@format_option("table", "json", "csv")
@everywhere
@pass_invocation
def metrics(invocation: Invocation, quarter: Quarter | None, scope: str | None, form: str) -> None:
    """Print the values of a quarter."""
    from analytics.metrics.values import metric_values
    from reports.listings import metrics_csv, metrics_table
    from reports.tables import as_json

    settings = invocation.settings()
    values = metric_values(settings, chosen_quarter(settings, quarter), scope)
    if form == "json":
        click.echo(as_json(values))
    elif form == "csv":
        click.echo(metrics_csv(values), nl=False)
    else:
        click.echo(metrics_table(values, terminal_width()))


@main.command()
@click.argument("metric")
@quarter_option()
@click.option("--service", metavar="S", help="Explain a service's value.")
@click.option("--team", metavar="T", help="Explain a team's value.")
@click.option("--series", metavar="NAME", help="Explain this series, such as all; the headline unless named.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Rows per group in a table; 0 prints all.",
)
@format_option("table", "json")
@everywhere
@pass_invocation
def explain(
    invocation: Invocation,
    metric: str,
    quarter: Quarter | None,
    service: str | None,
    team: str | None,
    series: str | None,
    limit: int,
    form: str,
) -> None:
    """Print the rows behind one value.

    Rows that were left out follow, with the reason. Without --service or --team it is the
    organization's value.
    """
    from analytics.metrics.explaining import explain as explain_value
    from reports.listings import explanation_json, explanation_text
    from reports.tables import as_json

    if service is not None and team is not None:
        raise UsageError("--service and --team exclude each other", fix="Give one of them.")
    settings = invocation.settings()
    chosen = chosen_quarter(settings, quarter)
    explanation = explain_value(settings, metric, chosen, service=service, team=team, series=series)
    if form == "json":
        click.echo(as_json(explanation_json(explanation)))
    else:
        click.echo(explanation_text(explanation, limit, terminal_width()))


@main.command()
@quarter_option("Only of what was deployed in this quarter.  [default: all]")
@format_option("table", "json", "sarif", "vsa")
@everywhere
@pass_invocation
def findings(invocation: Invocation, quarter: Quarter | None, form: str) -> None:
    """Print supply-chain findings, open ones first.

    As the last `quarterdeck verify` left them; waived and fixed ones are listed too. `sarif` is for
    code-scanning services; `vsa` prints each artifact's verdict as an in-toto verification summary.
    """
    from analytics.supply_chain.listing import findings_list, provenance_list
    from reports.supply_chain_listings import findings_text
    from reports.tables import as_json

    settings = invocation.settings()
    chosen = None if quarter is None else chosen_quarter(settings, quarter)
    if form == "vsa":
        from reports.verification_summaries import as_lines, verification_summaries

        click.echo(as_lines(verification_summaries(*provenance_list(settings, chosen))), nl=False)
        return
    found = findings_list(settings, chosen)
    if form == "sarif":
        from reports.sarif import sarif_log

        click.echo(as_json(sarif_log(found, settings)))
    elif form == "json":
        click.echo(as_json(found))
    else:
        click.echo(findings_text(found, terminal_width()))


@main.command()
@click.argument("finding")
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Save the bytes there.")
@format_option("table", "json")
@everywhere
@pass_invocation
def evidence(invocation: Invocation, finding: str, save: Path | None, form: str) -> None:
    """Print what one finding rests on.

    The bundle and where it was found, its certificate, every check, the policy's line. FINDING is an
    id that `quarterdeck findings` prints, or its beginning.
    """
    from analytics.supply_chain.evidence import evidence as evidence_of
    from analytics.supply_chain.evidence import save_evidence
    from reports.supply_chain_listings import evidence_text
    from reports.tables import as_json

    settings = invocation.settings()
    found = evidence_of(settings, finding)
    click.echo(as_json(found) if form == "json" else evidence_text(found, terminal_width()))
    if save is not None:
        for path in save_evidence(settings, found, save):
            complain(f"saved {path}")


@main.command()
@click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option("--digest", metavar="sha256:…", help="The artifact's digest, which a bundle must have as a subject.")
@click.option(
    "--trusted-root",
    "root_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge under this root instead of Sigstore's public instance; may be repeated.",
)
@click.option(
    "--require", "required", metavar="VERDICT", multiple=True, help="Exit 1 for another verdict; may be repeated."
)
@format_option("table", "json")
@everywhere
def inspect(
    paths: tuple[Path, ...], digest: str | None, root_files: tuple[Path, ...], required: tuple[str, ...], form: str
) -> None:
    """Judge bundle or SBOM files by themselves, offline.

    Says verdict and reason, who signed what, or the SBOM's format and components. Reads no settings
    and no network; FILE may be - for stdin.
    """
    from analytics.supply_chain.inspection import MOST_BYTES, inspect_file, inspection_roots, known_verdict
    from analytics.supply_chain.statements import parse_digest
    from reports.supply_chain_listings import inspections_text
    from reports.tables import as_json

    wanted = [known_verdict(word) for word in required]
    if digest is not None:
        digest = str(parse_digest(digest))
    roots = inspection_roots(root_files)
    objects: list[dict[str, Any]] = []
    unread: list[QuarterdeckError] = []
    for path in paths:
        try:
            source = sys.stdin.buffer.read(MOST_BYTES + 1) if str(path) == "-" else path
            objects.append(inspect_file(source, roots, digest=digest) | {"path": str(path)})
        except SourceError as error:
            unread.append(error)
    if form == "json":
        click.echo(as_json(objects))
    elif objects:
        click.echo(inspections_text(objects, terminal_width()))
    for problem in unread:
        complain(f"error: {problem}")
    others = [one for one in objects if wanted and one["verdict"] not in wanted]
    for one in others:
        complain(f"error: {one['path']}: the verdict is {one['verdict']}, not {' or '.join(wanted)}")
    if unread or others:
        click.get_current_context().exit(1)


@main.command()
@format_option("table", "json")
@everywhere
@pass_invocation
def coverage(invocation: Invocation, form: str) -> None:
    """Print what was collected and refused.

    And what no catalog entry claims, as the last `quarterdeck measure` found it.
    """
    from analytics.landing.coverage import collection, completeness, quarantined, windows
    from analytics.metrics.quality import undeclared
    from reports.listings import coverage_json, coverage_text
    from reports.tables import as_json

    settings = invocation.settings()
    landed = collection(settings), windows(settings), quarantined(settings), completeness(settings)
    try:
        unmapped = undeclared(settings)
    except LakeError as error:
        # What is landed can be told all the same.
        unmapped = []
        complain(f"error: what nobody declared is not known: {error}")
    if form == "json":
        click.echo(as_json(coverage_json(*landed, unmapped)))
    else:
        click.echo(coverage_text(*landed, unmapped, width=terminal_width()))


@main.command()
@everywhere
@pass_invocation
def reprocess(invocation: Invocation) -> None:
    """Rebuild every table without reading a source.

    For a rule, the catalog or the time zone that changed: only what is landed is read.
    """
    settings = invocation.settings()
    with shown_progress(debug=invocation.debug):
        from analytics.delivery.build import build as build_tables
        from analytics.landing.reprocess import reprocess as reprocess_landed
        from reports.listings import built_lines, reprocessed_lines

        judged = reprocess_landed(settings)
        summary = build_tables(settings, full=True)
    if judged:
        click.echo(reprocessed_lines(judged, terminal_width()))
        click.echo()
    click.echo(built_lines(summary, terminal_width()))


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=int, default=2026, show_default=True, help="The same seed writes the same organization.")
@click.option("--services", type=click.IntRange(min=1), default=12, show_default=True, help="How many services.")
@click.option("--quarters", type=click.IntRange(min=1), default=8, show_default=True, help="How many quarters.")
@everywhere
@pass_invocation
def sample(invocation: Invocation, directory: Path, seed: int, services: int, quarters: int) -> None:
    """Write a sample organization to try things on.

    Makes settings, a catalog, feeds and clones in DIR.
    """
    with shown_progress(debug=invocation.debug):
        from analytics.sample.writing import write_sample

        write_sample(directory, seed, services, quarters)
    click.echo(printable(directory / "quarterdeck.yaml"))
    complain(f"Now run `quarterdeck run --settings {directory / 'quarterdeck.yaml'}`.")


@main.command("verify-pack")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The public key (PEM) that must have signed it.  [default: that of the settings, if there are any]",
)
@everywhere
@pass_invocation
def verify_pack(invocation: Invocation, directory: Path, key: Path | None) -> None:
    """Check that a pack is as it was made.

    Looks at its manifest, the checksum of each file, and the signature. Without a trusted key, the one that came with
    the pack shows only that the manifest is what was signed.
    """
    from reports.manifest import verify_pack as verify
    from reports.signing import BUNDLE_NAME, MAX_SIGNATURE_BYTES, load_private_key, load_public_key

    # A pack is checked anywhere; where there are settings, their key and trusted roots count.
    settings = invocation.settings() if invocation.settings_file.exists() else None
    trusted = None
    if key is not None:
        with key.open("rb") as file:
            trusted = load_public_key(file.read(MAX_SIGNATURE_BYTES), str(key))
    elif settings is not None and settings.reports.signing_key is not None:
        trusted = load_private_key(settings.reports.signing_key).public_key()
    roots: tuple[Any, ...] = ()
    if (directory / BUNDLE_NAME).exists():
        # Imported here: Sigstore takes a second, which a pack without a bundle need not wait for.
        from analytics.supply_chain.judging import trusted_roots

        roots = trusted_roots(settings.supply_chain.trusted_roots if settings else [])
    result = verify(directory, trusted, roots)
    for problem in result.problems:
        click.echo(printable(problem))
    if not result.ok:
        complain(f"error: {directory}: the pack does not verify")
        click.get_current_context().exit(1)
    click.echo(printable(f"ok: pack {result.pack_id}; files: {result.files}; signature: {result.signature}"))


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Listen on this port.")
@everywhere
@pass_invocation
def ui(invocation: Invocation, port: int) -> None:
    """Serve the Dagster UI of this workspace.

    Listens on 127.0.0.1 only; Ctrl-C ends it.
    """
    settings = invocation.settings()
    from sensors.instance import serve_ui

    complain("Starting the UI, which takes some seconds.")
    code = serve_ui(settings, port, lambda: complain(f"The UI is at http://127.0.0.1:{port}; Ctrl-C ends it."))
    if code:
        raise QuarterdeckError(f"the UI ended with exit code {code}", fix="Look at the lines above.")


if __name__ == "__main__":
    main()
