"""Size and time of one fit as a stored .npz, as a compressed one, and as an archive of this package with its checksum.

python benchmarks/archive_formats.py
"""

import pathlib
import tempfile
import time

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from camel_jax.storage import read_archive, write_archive  # noqa: E402


def main():
    rng = np.random.default_rng(0)
    leaves = {"transfer": (7, 16), "coefficients": (7, 16), "sodm.mixture_scale": (7, 7), "amplitudes": (16,)}
    arrays = {f"raw/{name}": rng.standard_normal((4, *shape)) for name, shape in leaves.items()}
    arrays |= {f"resampled/{name}": rng.standard_normal((32, *shape)) for name, shape in leaves.items()}
    arrays |= {"field/coefficients": rng.standard_normal((256, 7)), "field/weights": rng.random((256, 7))}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "fit.npz"

        def load():
            with np.load(path) as file:
                return {name: file[name] for name in file.files}

        ways = {
            "stored .npz": (lambda: np.savez(path, **arrays), load),
            "compressed .npz": (lambda: np.savez_compressed(path, **arrays), load),
            "archive": (lambda: write_archive(path, "saved fit", {}, arrays), lambda: read_archive(path, "saved fit")),
        }
        for name, steps in ways.items():
            best = []
            for step in steps:
                seconds = []
                for _ in range(50):
                    began = time.perf_counter()
                    step()
                    seconds.append(time.perf_counter() - began)
                best.append(1e3 * min(seconds))
            print(f"{name:16s} {path.stat().st_size / 1e3:7.1f} kB, write {best[0]:.2f} ms, read {best[1]:.2f} ms")


if __name__ == "__main__":
    main()
