"""An example of every command, as its ``--help`` shows it and tests run it through the parser."""

EXAMPLES = {
    "demo": ("camel-jax demo --out demo_out",),
    "example": ("camel-jax example play",),
    "fit": (
        "camel-jax fit runs.csv --out fit.npz",
        "camel-jax fit runs.csv --law camel --skills 6 --resamples 64 --out fit.npz",
        "camel-jax fit tables/*.csv --out-dir fits",
    ),
    "predict": ("camel-jax predict fit.npz --recipes recipes.csv --out predictions.csv",),
    "mix": (
        "camel-jax mix fit.npz --size 7B --tokens 1T --max code=0.3",
        "camel-jax mix fit.npz --size 55B-A1.2B --tokens 1T --limits limits.toml",
    ),
    "front": ("camel-jax front fit.npz --size 7B --tokens 1T --first web --second code",),
    "path": ("camel-jax path fit.npz --size 7B --tokens 140B --figure path.png",),
    "budget": ("camel-jax budget fit.npz --flops 1e20,1e21,1e22 --figure budget.png",),
    "design": ("camel-jax design runs.csv --budget 1e18 --target-size 7B --out next.csv",),
    "leaderboard": (
        "camel-jax leaderboard runs.csv --laws camel,dml --out board.csv",
        "camel-jax leaderboard runs.csv --holdout mixtures=0.25 --laws ridge,loglinear --out board.csv",
    ),
    "report": (
        "camel-jax report fit.npz --from mixture.json --runs runs.csv --out report.html",
        "camel-jax report fit.npz --size 7B --tokens 1T --max code=0.3 --out report.html",
    ),
    "explore": ("camel-jax explore fit.npz --size 7B --tokens 1T",),
    "import": (
        "camel-jax import wandb/ --domain-column corpus --out runs.csv",
        "camel-jax import ratios.csv metrics.csv --yes --out runs.csv",
    ),
    "export": ("camel-jax export mixture.json --to olmo-core --tokens 1T --out data.yaml",),
    "study new": (
        "camel-jax study new study.db --domains web,code,books --target-size 7B --ladder 30M,100M,300M --max code=0.3",
    ),
    "study ask": ("camel-jax study ask study.db --budget 1e19 --out next.csv",),
    "study tell": (
        "camel-jax study tell study.db runs.csv",
        "camel-jax study tell study.db --run next-001-30M --loss web=3.12 --loss code=2.41",
    ),
    "study recommend": ("camel-jax study recommend study.db --out mixture.json",),
    "study show": ("camel-jax study show study.db --out history.csv",),
    "sweep": ("camel-jax sweep recipes.csv --out runs.csv",),
}


def epilog(name: str) -> str:
    """What stands below the options of a command.

    >>> epilog("demo")
    'Example: camel-jax demo --out demo_out'
    """
    lines = EXAMPLES[name]
    return f"Example: {lines[0]}" if len(lines) == 1 else "Examples:\n" + "\n".join(lines)
