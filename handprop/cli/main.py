"""The command ``handprop``: parse the arguments, call the library, print the result.

The exit code is 0 for success, 1 if the gradient was refuted or the training failed, and 2 for bad input or if no
verdict could be reached.
"""

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

try:
    import rich  # noqa: F401
    import tyro
except ImportError:
    tyro = None

if TYPE_CHECKING:
    from rich.console import Console
    from tyro.conf import Positional

    from handprop.cli.fit import Epoch, Fit, Options
    from handprop.verifier.report.report import Report
else:
    Positional = tyro.conf.Positional if tyro else list  # tyro reads the annotations when it parses

__all__ = ["main"]

OK, FAILED, BAD_INPUT = 0, 1, 2


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _progress(console: "Console") -> Any:
    """Return a progress bar that is shown only on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _verdict(console: "Console", ok: bool, good: str, bad: str) -> bool:
    console.print(f"[{'green' if ok else 'red'}]{'ok' if ok else 'FAILED'}[/]  {good if ok else bad}\n")
    return ok


def demo(out: Path = Path("handprop-demo")) -> int:
    """Show hand-derived backpropagation in under half a minute: published digits, equal bits and real data.

    Args:
        out: folder for the four pictures.
    """
    from handprop.cli import demo as shown

    _check_folder(out)
    console = _console()
    console.print("[bold]1. The classic 3-4-1 network[/], four examples, float64, 60,000 iterations")
    classic = shown.run_classic()
    console.print(f"{'iteration':>10} {'mean |error|':>18} {'published':>18}")
    for step, published in shown.PUBLISHED.items():
        console.print(f"{step:>10,} {classic.errors[step]:>18.12g} {published:>18.12g}")
    oks = [_verdict(console, classic.ok, "all published digits match", "the published digits do not match")]

    console.print("[bold]2. The hand-written gradient against jax.grad[/]")
    for title, report in shown.verify().items():
        console.print(f"\n{title}")
        oks.append(_shown(console, report))

    console.print("[bold]3. Digits[/]: 1,797 real 8x8 images, 64-64-10, a fifth held out")
    with _progress(console) as progress:
        task = progress.add_task("training", total=60)
        digits = shown.learn_digits(epochs=60, on_epoch=lambda epoch, accuracy: progress.update(task, completed=epoch))
    wrong = int((digits.read != digits.labels).sum())
    said = f"test accuracy {digits.test_accuracy[-1]:.2%}, {wrong} of {len(digits.labels)} misread"
    oks.append(_verdict(console, digits.ok, said, f"{said}; expected at least {shown.ACCURACY:.0%}"))

    console.print("[bold]4. Pictures[/]")
    for path in shown.draw(out, classic, digits):
        console.print(str(path), markup=False)
    return OK if all(oks) else FAILED


def train(
    csv: Positional[Path],
    target: str,
    hidden: tuple[int, ...] = (32,),
    activation: Literal["sigmoid", "tanh", "relu", "identity"] = "sigmoid",
    output: Literal["softmax", "sigmoid", "identity"] = "softmax",
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adam",
    learning_rate: float = 0.01,
    epochs: int = 50,
    batch_size: int = 32,
    test_fraction: float = 0.2,
    seed: int = 0,
    metrics: Path | None = None,
    plot: Path | None = None,
    save: Path | None = None,
    check: bool = False,
) -> int:
    """Train a network on a CSV table.

    Args:
        csv: the table, with a header line; every column except the target is a feature and is standardized.
        target: the column to learn, by name or position (0 is the first, -1 the last).
        hidden: the number of units in each hidden layer.
        activation: the activation of the hidden layers.
        output: softmax or sigmoid for classification (cross-entropy), identity for regression (half squared error).
        optimizer: the optimizer; momentum is sgd with momentum 0.9.
        learning_rate: the optimizer's learning rate.
        epochs: the number of passes over the training examples.
        batch_size: the number of examples per step.
        test_fraction: the fraction of the examples to hold out.
        seed: determines the split, the initial weights and the batches.
        metrics: write one line of JSON per epoch to this file.
        plot: write the learning curve to this image file.
        save: write parameters and scaling to this .npz file, for `handprop predict`.
        check: verify the hand-written gradient on the first batch before training.
    """
    from handprop.cli import fit as fitting

    for path in (metrics, plot, save):
        if path is not None:
            _check_file(path)
    options = fitting.Options(
        target, hidden, activation, output, optimizer, learning_rate, epochs, batch_size, test_fraction, seed
    )
    console = _console()
    if check and not _checked(console, csv, options):
        return FAILED
    fitted = _fit(console, csv, options)
    result = fitted.result
    if result.detail:
        print(f"handprop: training failed: {result.detail}; try a smaller --learning-rate.", file=sys.stderr)
        return FAILED
    _final_table(console, fitted)
    _write(console, fitted, options, metrics, plot, save)
    return OK


def _checked(console: "Console", csv: Path, options: "Options") -> bool:
    from handprop.cli import fit as fitting

    report = fitting.check_first_batch(csv, options)
    console.print("The hand-written gradient against jax.grad on the first batch:")
    return _shown(console, report)


def _shown(console: "Console", report: "Report") -> bool:
    console.print(str(report), markup=False)
    return _verdict(console, report.ok, f"{report.verdict.name.lower()} right", "the gradient was not shown right")


def _fit(console: "Console", csv: Path, options: "Options") -> "Fit":
    from handprop.cli import fit as fitting

    what = "RMSE" if options.regression else "accuracy"
    with _progress(console) as progress:
        task = progress.add_task("training", total=options.epochs)

        def line(epoch: "Epoch") -> None:
            console.print(
                f"epoch {epoch.epoch:>4}  loss {epoch.loss:<10.4g} {what} train {epoch.train:.4f} test {epoch.test:.4f}"
            )
            progress.update(task, completed=epoch.epoch)

        return fitting.fit(csv, options, line)


def _final_table(console: "Console", fitted: "Fit") -> None:
    from rich.table import Table

    problem, last = fitted.problem, fitted.epochs[-1]
    what = "accuracy" if problem.outputs is None else "RMSE"
    best = (max if problem.outputs is None else min)(epoch.test for epoch in fitted.epochs)
    table = Table(show_header=False)
    rows = {
        "network": "-".join(map(str, problem.config["sizes"])),
        "examples": f"{len(problem.train.x)} to train on, {len(problem.test.x)} held out",
        "steps": f"{fitted.result.step:,} ({last.epoch} epochs)",
        f"train {what}": f"{last.train:.4f}",
        f"test {what}": f"{last.test:.4f} (best epoch {best:.4f})",
    }
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def _write(
    console: "Console",
    fitted: "Fit",
    options: "Options",
    metrics: Path | None,
    plot: Path | None,
    save: Path | None,
) -> None:
    from handprop._files import write_atomic
    from handprop.cli import fit as fitting
    from handprop.cli import plots

    if metrics:
        lines = "".join(json.dumps(epoch._asdict()) + "\n" for epoch in fitted.epochs)
        write_atomic(metrics, lines.encode())
    if plot:
        epochs, _, train, test = zip(*fitted.epochs, strict=True)
        plots.save(plots.accuracy_curve(epochs, train, test, "RMSE" if options.regression else "accuracy"), plot)
    if save:
        fitting.keep(save, fitted)
    for path in (metrics, plot, save):
        if path:
            console.print(f"wrote {path}", markup=False)


def predict(params: Positional[Path], csv: Positional[Path], out: Path | None = None) -> int:
    """Predict a CSV table's rows with parameters saved by `handprop train --save`.

    Args:
        params: the .npz file that `handprop train --save` wrote.
        csv: a table with the training table's feature columns, in any order.
        out: write the predictions to this CSV file instead of the terminal.
    """
    from handprop._files import write_atomic
    from handprop.cli import fit as fitting

    if out is not None:
        _check_file(out)
    header, rows = fitting.predict(params, csv)
    text = _csv_text(header, rows)
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomic(out, text.encode())
        print(f"wrote {out}")
    return OK


def verify(
    rule: Positional[str | None] = None,
    args: str | None = None,
    shapes: str | None = None,
    reference: str | None = None,
    satisfies: str | None = None,
    surrogate: str | None = None,
    loss: str | None = None,
    argnums: str | None = None,
    domain: str | None = None,
    accuracy: float | None = None,
    order: int | None = None,
    seed: int | None = None,
    budget: float | None = None,
    skip: str | None = None,
    json: Path | None = None,
    replay: Path | None = None,
) -> int:
    """Prove a hand-written gradient right, or show an input where it is wrong.

    The exit code is 0 if the gradient is proved or verified, 1 if it is refuted, and 2 if no verdict could be reached
    or the input is bad.

    Args:
        rule: the custom_vjp, custom_jvp or gradient function, as pkg.module:rule or path/to/file.py:rule.
        args: a function without parameters that returns a tuple of the arguments, as pkg.module:make_args.
        shapes: the arguments' shapes instead, such as "f32[32,784] f32[784,10]"; the values are then drawn at random.
        reference: a readable function with the right derivative, as pkg.module:f (default: the rule's own primal).
        satisfies: for the rule of a solver, a function F(y, *args) that is zero for its value y, as pkg.module:F.
        surrogate: the function whose derivative the gradient is meant to be, if it is not that of the rule's own value.
        loss: for a gradient function, the loss that it differentiates, as pkg.module:loss.
        argnums: positions of the differentiated arguments, such as 1 or 0,1 (default: 0 for a loss, all for a rule).
        domain: the values that arguments may take, such as "y=one_hot, w=interval(0, 1)"; "any" allows all numbers.
        accuracy: the relative error of a rule that is approximate on purpose (default 0).
        order: 2 also checks second derivatives (default 1).
        seed: determines every random draw (default 0).
        budget: how many seconds a report may take (default 30).
        skip: the checks to omit, such as "transformations,edge_cases".
        json: write the report to this file, a certificate for --replay.
        replay: repeat the verification that this certificate reports; options given with it take precedence.
    """
    return _judge("verify", rule, json, replay, {
        "args": args, "shapes": shapes, "reference": reference, "satisfies": satisfies, "surrogate": surrogate,
        "loss": loss, "argnums": argnums, "domain": domain, "accuracy": accuracy, "order": order, "seed": seed,
        "budget": budget, "skip": skip,
    })  # fmt: skip


def audit(
    step: Positional[str | None] = None,
    args: str | None = None,
    shapes: str | None = None,
    seed: int | None = None,
    budget: float | None = None,
    skip: str | None = None,
    json: Path | None = None,
    replay: Path | None = None,
) -> int:
    """Run a training step once and verify every custom rule that it calls, at the values that reached it.

    The exit code is 0 if all rules are proved or verified, 1 if one is refuted, and 2 if there is no verdict on one or
    the input is bad.

    Args:
        step: any function, as pkg.module:step or path/to/file.py:step.
        args: a function without parameters that returns a tuple of the arguments, as pkg.module:make_args.
        shapes: the arguments' shapes instead, such as "f32[32,784] f32[784,10]"; the values are then drawn at random.
        seed: determines every random draw (default 0).
        budget: how many seconds a report may take (default 30).
        skip: the checks to omit, such as "transformations,edge_cases".
        json: write the reports to this file, a certificate for --replay.
        replay: repeat the audit that this certificate reports; options given with it take precedence.
    """
    given = {"args": args, "shapes": shapes, "seed": seed, "budget": budget, "skip": skip}
    return _judge("audit", step, json, replay, given)


def _judge(entry: str, rule: str | None, json: Path | None, replay: Path | None, options: dict[str, Any]) -> int:
    from handprop._files import write_atomic
    from handprop.cli import verify as verifying

    if json is not None:
        _check_file(json)
    old = verifying.read_certificate(replay) if replay else None
    given = {name: value for name, value in options.items() if value is not None}
    command = verifying.merge_options(entry, rule, given, (replay, old) if replay and old else None)
    console = _console()
    try:
        report = verifying.run(command)
    except KeyboardInterrupt:
        print("handprop: interrupted; nothing was written.", file=sys.stderr)
        return BAD_INPUT
    if json is not None:
        write_atomic(json, report.to_json().encode())
    first, *rest = str(report).splitlines()
    refuted = report.verdict.name == "REFUTED"
    console.print(first, markup=False, style="green" if report.ok else "red" if refuted else "yellow")
    console.print("\n".join(rest), markup=False)
    for sentence in verifying.compare_reports(old, report) if old else ():
        console.print(sentence, markup=False)
    if json is not None:
        console.print(f"wrote {json}", markup=False)
    return OK if report.ok else FAILED if refuted else BAD_INPUT


def _csv_text(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder; give the path of a folder.")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written because the folder {path.parent} is missing; create it.")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    if tyro is None:
        print("handprop: the command needs rich and tyro: install handprop[cli].", file=sys.stderr)
        return BAD_INPUT
    commands = {"demo": demo, "train": train, "predict": predict, "verify": verify, "audit": audit}
    try:
        return tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="handprop", description="Backpropagation derived by hand, with the bits of jax.grad.", args=arguments,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("handprop: interrupted; nothing was written.", file=sys.stderr)
        return FAILED
    except (ImportError, OSError) as error:
        return _bad_input(error)
    except ValueError as error:
        from handprop import data
        from handprop.cli import fit
        from handprop.cli import verify as verifying
        from handprop.training import checkpoint

        known = (data.DataError, checkpoint.CheckpointError, fit.OptionError, verifying.CommandError)
        if isinstance(error, known):
            return _bad_input(error)
        raise


def _bad_input(error: Exception) -> int:
    print(f"handprop: {' '.join(str(error).split())}", file=sys.stderr)
    return BAD_INPUT
