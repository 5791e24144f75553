"""Speed as ratios to named peers, measured in one interleaved run. Each script writes a table under results/."""
