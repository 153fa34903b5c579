"""``camel-jax demo``: the whole pipeline on the table that comes with the package."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from camel_jax.cli.console import as_json, print_evidence, print_json, print_lines, working
from camel_jax.cli.mix import print_outcome, print_shares
from camel_jax.cli.options import Json, Seed
from camel_jax.runtime import start_engine
from camel_jax.storage import check_target, replacing


def demo(
    out: Annotated[
        pathlib.Path,
        typer.Option(help="Folder to write the figure, the fit and the mixture to."),
    ] = pathlib.Path("demo_out"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Fit the package's table of tiny models, check it on its largest size, and recommend a mixture for a larger one."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file, not a folder")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}")
    out.mkdir(exist_ok=True)
    check_target(out / "demo.png")
    start_engine()
    from camel_jax.figures.style import save_figure
    from camel_jax.reports.card import evidence_card
    from camel_jax.reports.demo import NEAR, SIZE, TOKENS, demo_facts, demo_lines, draw_demo, run_demo

    made = run_demo(seed, working)
    facts = demo_facts(made)
    with working("drawing"):
        figure = draw_demo(made)
        with replacing(out / "demo.png") as part:
            save_figure(figure, part)
    made.fitted.save(out / "fit.npz")
    with replacing(out / "mixture.json") as part:
        part.write_text(as_json(facts["recommendation"]) + "\n")
    if json:
        print_json(facts)
        return
    print_lines([*demo_lines(made, facts), ""])
    title = f"Recommended mixture for {SIZE} on {TOKENS} tokens (reference: mean of the table)"
    print_shares(title, made.result, made.ranges, NEAR)
    print_outcome(made.result)
    print_evidence(evidence_card(made.fitted, SIZE, TOKENS, results=[made.result]))
    print_lines(
        [
            "",
            f"figure   {out / 'demo.png'}",
            f"fit      {out / 'fit.npz'}: try  camel-jax mix {out / 'fit.npz'} --size 1M --tokens 4M --max code=0.2",
            f"mixture  {out / 'mixture.json'}",
        ]
    )
