"""What `import geoflow` costs on top of `import torch`: fresh processes in turn."""

import subprocess
import sys

from tests.bench.timing import interleaved, ratio, write


def imported(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)


def main() -> None:
    names = ("torch", "geoflow", "manifolds")
    seconds = interleaved({name: lambda name=name: imported(name) for name in names}, rounds=11, warmup=2)
    medians = {name: sorted(s)[len(s) // 2] for name, s in seconds.items()}
    lines = ["| import | seconds, median | / import torch |", "|---|---|---|"]
    for name in names:
        middle, low, high = ratio(seconds[name], seconds["torch"])
        lines.append(f"| {name} | {medians[name]:.2f} | {middle:.2f} [{low:.2f}, {high:.2f}] |")
    bound = 1.15 * medians["torch"] + 0.1
    verdict = "within" if medians["geoflow"] <= bound else "beyond"
    body = "\n".join(lines) + f"\n\n`import geoflow` is {verdict} 1.15 × `import torch` + 0.1 s = {bound:.2f} s."
    write("import.md", "Import time", "nox -s bench -- import", body)


if __name__ == "__main__":
    main()
