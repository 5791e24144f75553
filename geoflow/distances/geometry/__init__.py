"""What makes it a Riemannian space: metric, curvature, exp and log, means, conjugate points."""
